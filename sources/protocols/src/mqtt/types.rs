//! Packets, and which of them answers which.

use crate::by_id::Held;

pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const PINGREQ: u8 = 12;
pub(super) const PINGRESP: u8 = 13;
pub(super) const DISCONNECT: u8 = 14;
pub(super) const AUTH: u8 = 15;

/// The protocol level of 3.1.1; what is said of it holds for 3.1 as well.
pub(super) const LEVEL_4: u8 = 4;
/// The protocol level of version 5; before it there are no properties and fewer reason codes.
pub(super) const LEVEL_5: u8 = 5;

/// What comes in front of a packet's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// How long it is itself.
    pub(super) bytes: usize,
    pub(super) body_bytes: u64,
}

impl Fixed {
    pub(super) fn qos(self) -> u8 {
        self.flags >> 1 & 3
    }

    pub(super) fn is_dup(self) -> bool {
        self.flags & 8 != 0
    }

    pub(super) fn is_retained(self) -> bool {
        self.flags & 1 != 0
    }

    pub(super) fn total_bytes(self) -> u64 {
        self.bytes as u64 + self.body_bytes
    }
}

/// By what an answer finds its request: the answer's type, and the packet's id (0 where there is none).
pub(super) type Key = (u8, u16);

/// What a packet is to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Request(Key),
    /// Nothing answers it.
    OneWay,
    Answer(Key),
    Ping,
    Pong,
    /// Who asks and who answers depends on where the connection is.
    Auth,
}

/// A packet as a row shows it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: u8,
    pub(super) role: Role,
    /// JSON.
    pub(super) body: Vec<u8>,
}

/// What is kept of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

impl Held for Kept {
    fn held_bytes(&self) -> usize {
        self.body.capacity()
    }
}
