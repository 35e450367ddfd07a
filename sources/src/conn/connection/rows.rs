//! Rows of a connection: whose they are, and in which role.

use weir_protocols::protocol::{RowOf, Rows, Way};
use weir_types::BatchBuilder;

use super::Role;
use crate::capture::{Direction, Opened, Socket, SocketType};
use crate::conn::ends::Ends;
use crate::conn::infer::ProtocolIdx;

/// A row of a connection, but for the columns that its protocol writes.
#[derive(Clone, Copy)]
pub struct RowEnds<'a> {
    pub protocol: ProtocolIdx,
    pub of: RowOf,
    pub ends: &'a Ends,
    /// Of the watched end in this exchange.
    pub role: Role,
    /// Of the watched end in the connection, whatever this exchange is; of datagrams the same.
    pub end_role: Role,
    /// It was said over TLS.
    pub encrypted: bool,
}

/// Where rows go: it gets each row with what writes its protocol's columns.
pub type Emit<'a> = dyn FnMut(&RowEnds<'_>, &mut dyn FnMut(&mut BatchBuilder)) + 'a;

/// What a parser writes its rows to.
pub(super) struct ConnectionRows<'a, 'e> {
    pub(super) protocol: ProtocolIdx,
    pub(super) ends: &'a Ends,
    pub(super) encrypted: bool,
    pub(super) requests: Direction,
    pub(super) emit: &'a mut Emit<'e>,
}

impl ConnectionRows<'_, '_> {
    fn emit(&mut self, of: &RowOf, role: Role, write: &mut dyn FnMut(&mut BatchBuilder)) {
        let ConnectionRows { protocol, ends, encrypted, .. } = *self;
        let Socket { opened, socket_type, .. } = ends.socket;
        let end_role = match (socket_type, opened) {
            (SocketType::Datagram, _) => role,
            (_, Opened::Accepted) => Role::Server,
            (_, Opened::Connected) => Role::Client,
            (_, Opened::Unknown) => role_by_requests(self.requests),
        };
        (self.emit)(&RowEnds { protocol, of: *of, ends, role, end_role, encrypted }, write);
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

pub(super) fn role_by_requests(requests: Direction) -> Role {
    match requests {
        Direction::Ingress => Role::Server,
        Direction::Egress => Role::Client,
    }
}
