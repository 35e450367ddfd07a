//! What the parser of a connection writes its rows to: whose they are is filled in here.

use weir_protocols::protocol::{RowOf, Rows, Way};
use weir_types::BatchBuilder;

use super::connection::{Emit, Role, RowEnds, role_by_requests};
use super::ends::Ends;
use super::infer::ProtocolIdx;
use crate::capture::{Direction, Opened, Socket, SocketType};

/// What a parser writes its rows to.
pub(super) struct ConnectionRows<'a, 'e> {
    pub(super) protocol: ProtocolIdx,
    pub(super) ends: &'a Ends,
    pub(super) requests: Direction,
    pub(super) emit: &'a mut Emit<'e>,
}

impl ConnectionRows<'_, '_> {
    fn emit(&mut self, of: &RowOf, role: Role, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let ConnectionRows { protocol, ends, .. } = *self;
        let Socket { opened, socket_type, .. } = ends.socket;
        let end_role = match (socket_type, opened) {
            (SocketType::Datagram, _) => role,
            (_, Opened::Accepted) => Role::Server,
            (_, Opened::Connected) => Role::Client,
            (_, Opened::Unknown) => role_by_requests(self.requests),
        };
        (self.emit)(&RowEnds { protocol, of: *of, ends, role, end_role }, write);
    }
}

impl Rows for ConnectionRows<'_, '_> {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let role = match of.requests {
            Some(Way::In) => Role::Server,
            Some(Way::Out) => Role::Client,
            None => role_by_requests(self.requests),
        };
        self.emit(of, role, write);
    }

    fn push_row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let role = match role_by_requests(self.requests) {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        self.emit(of, role, write);
    }
}
