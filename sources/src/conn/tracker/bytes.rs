//! Bytes of connections, from whichever layer they are told.

use super::Tracker;
use crate::capture::{DataEvent, Direction, SocketEvent, SocketType};
use crate::conn::connection::{Emit, Outcome};

impl Tracker {
    pub(super) fn data(&mut self, event: &DataEvent<'_>, emit: &mut Emit<'_>) {
        let slot = self.slot_of(&event.socket, event.process, event.time_unix_ns);
        self.look(slot, emit, |conn, look| conn.socket_data(event, look));
    }

    pub(super) fn plain(&mut self, event: &DataEvent<'_>, emit: &mut Emit<'_>) {
        let slot = self.slot_of(&event.socket, event.process, event.time_unix_ns);
        let is_first = self.conn_mut(slot).is_some_and(|conn| !conn.is_encrypted);
        if is_first {
            // The handshake was a message of its own, or there were others before it.
            self.look(slot, emit, |conn, look| {
                conn.finish(look);
                Outcome::Tracked
            });
        }
        self.look(slot, emit, |conn, look| {
            if is_first {
                conn.begin_plain();
            }
            conn.data(event, look)
        });
    }

    pub(super) fn memo(
        &mut self,
        at: &SocketEvent,
        direction: Direction,
        position: u64,
        bytes: &[u8],
        emit: &mut Emit<'_>,
    ) {
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        self.look(slot, emit, |conn, look| {
            conn.remember(direction, position, bytes);
            conn.advance(look)
        });
    }

    pub(super) fn gap(
        &mut self,
        at: &SocketEvent,
        direction: Direction,
        position: u64,
        bytes: u64,
        emit: &mut Emit<'_>,
    ) {
        if at.socket.socket_type == SocketType::Datagram {
            return;
        }
        let slot = self.slot_of(&at.socket, at.process, at.time_unix_ns);
        self.look(slot, emit, |conn, look| {
            conn.seen(&at.socket, at.process, at.time_unix_ns);
            conn.gap(direction, position, bytes, at.time_unix_ns);
            conn.advance(look)
        });
    }
}
