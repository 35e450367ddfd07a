//! What was lost with connections, by what it concerns: a loss on a connection of a known protocol is that
//! protocol's, one on a connection that nobody can tell may be any's.
//!
//! Exchanges that a parser had to give up are counted by the parser.

use weir_protocols::PROTOCOLS;

use super::connection::Connection;
use super::infer::ProtocolIdx;
use crate::capture::{LostCounts, SocketType};

/// What was lost with some connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped while open, for room.
    pub connections_evicted: u64,
    /// Payload bytes that did not fit a stream.
    pub stream_overflow_bytes: u64,
    /// Times that a connection's bytes were forgotten for room.
    pub bytes_forgotten: u64,
    /// Connections dropped because their parser panicked.
    pub parser_panics: u64,
    /// By the source, before it became events.
    pub before: LostCounts,
}

impl Losses {
    fn add(&mut self, other: &Losses) {
        self.connections_evicted += other.connections_evicted;
        self.stream_overflow_bytes += other.stream_overflow_bytes;
        self.bytes_forgotten += other.bytes_forgotten;
        self.parser_panics += other.parser_panics;
        self.before.add(other.before);
    }
}

/// Losses on streams, and on sockets for datagrams.
#[derive(Clone, Copy, Debug, Default)]
struct ByType {
    streams: Losses,
    datagrams: Losses,
}

impl ByType {
    fn of(&mut self, socket_type: SocketType) -> &mut Losses {
        match socket_type {
            SocketType::Stream => &mut self.streams,
            SocketType::Datagram => &mut self.datagrams,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LossBook {
    known: Vec<ByType>,
    unknown: ByType,
}

impl Default for LossBook {
    fn default() -> LossBook {
        LossBook { known: vec![ByType::default(); PROTOCOLS.len()], unknown: ByType::default() }
    }
}

impl LossBook {
    /// Where what a connection loses is counted.
    pub(super) fn of(&mut self, conn: &Connection) -> &mut Losses {
        let entry = match conn.speaks() {
            Some(protocol) => &mut self.known[protocol],
            None => &mut self.unknown,
        };
        entry.of(conn.ends.socket.socket_type)
    }

    /// The same for a connection that nobody knows.
    pub(super) fn of_nobody(&mut self, socket_type: SocketType) -> &mut Losses {
        self.unknown.of(socket_type)
    }

    /// What a table of these protocols lacks: what was lost with their connections, and what may have been
    /// theirs, once.
    #[must_use]
    pub fn concerning(&self, protocols: &[ProtocolIdx]) -> Losses {
        let mut all = self.unknown.streams;
        if protocols.iter().any(|protocol| PROTOCOLS[*protocol].has_datagrams) {
            all.add(&self.unknown.datagrams);
        }
        for protocol in protocols {
            all.add(&self.known[*protocol].streams);
            all.add(&self.known[*protocol].datagrams);
        }
        all
    }

    /// What was lost with streams, whatever they spoke.
    #[must_use]
    pub fn of_streams(&self) -> Losses {
        let mut all = self.unknown.streams;
        self.known.iter().for_each(|known| all.add(&known.streams));
        all
    }
}
