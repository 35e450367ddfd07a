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

/// By what an answer finds its request: the answer's type, and the packet's id (0 where there is none).
pub(super) type Key = (u8, u16);

/// What a packet is to the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    Request(Key),
    /// Nothing answers it.
    OneWay,
    Answer(Key),
}

/// A packet as a row shows it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: u8,
    pub(super) role: Role,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// The protocol level that a `CONNECT` asks for.
    pub(super) level: Option<u8>,
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
