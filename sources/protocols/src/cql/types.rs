//! Frames' heads, opcodes, and what a row is made of.

use crate::Side;
use crate::by_id::Held;

/// Version, flags, stream, opcode, length of the body.
pub(super) const HEAD_BYTES: usize = 9;
/// Servers refuse longer ones (`native_transport_max_frame_size` is 256 MiB in old versions).
pub(super) const BODY_BYTES_MAX: u32 = 256 << 20;
/// Stands in a version for the direction.
pub(super) const RESPONSE_BIT: u8 = 0x80;

pub(super) mod opcode {
    pub(crate) const ERROR: u8 = 0x00;
    pub(crate) const STARTUP: u8 = 0x01;
    pub(crate) const READY: u8 = 0x02;
    pub(crate) const AUTHENTICATE: u8 = 0x03;
    pub(crate) const OPTIONS: u8 = 0x05;
    pub(crate) const SUPPORTED: u8 = 0x06;
    pub(crate) const QUERY: u8 = 0x07;
    pub(crate) const RESULT: u8 = 0x08;
    pub(crate) const PREPARE: u8 = 0x09;
    pub(crate) const EXECUTE: u8 = 0x0a;
    pub(crate) const REGISTER: u8 = 0x0b;
    pub(crate) const EVENT: u8 = 0x0c;
    pub(crate) const BATCH: u8 = 0x0d;
    pub(crate) const AUTH_CHALLENGE: u8 = 0x0e;
    pub(crate) const AUTH_RESPONSE: u8 = 0x0f;
    pub(crate) const AUTH_SUCCESS: u8 = 0x10;
}

/// Flags of a frame.
pub(super) mod flag {
    pub(crate) const PACKED: u8 = 0x01;
    pub(crate) const TRACING: u8 = 0x02;
    pub(crate) const PAYLOAD: u8 = 0x04;
    pub(crate) const WARNING: u8 = 0x08;
    /// These, and the one for versions that are not finished.
    pub(crate) const ALL: u8 = 0x1f;
}

/// Who sends frames of this opcode.
pub(super) fn side_of(code: u8) -> Option<Side> {
    match code {
        opcode::STARTUP | opcode::OPTIONS | opcode::QUERY | opcode::PREPARE | opcode::EXECUTE => {
            Some(Side::Request)
        }
        opcode::REGISTER | opcode::BATCH | opcode::AUTH_RESPONSE => Some(Side::Request),
        opcode::ERROR | opcode::READY | opcode::AUTHENTICATE | opcode::SUPPORTED => {
            Some(Side::Response)
        }
        opcode::RESULT | opcode::EVENT | opcode::AUTH_CHALLENGE | opcode::AUTH_SUCCESS => {
            Some(Side::Response)
        }
        _ => None,
    }
}

/// A version of the protocol, without the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u8);

/// DataStax' own: the first is like version 4, the second like version 5 without segments.
const DSE_V1: u8 = 0x41;
const DSE_V2: u8 = 0x42;

impl Version {
    pub(super) fn of(byte: u8) -> Option<Version> {
        matches!(byte, 3..=5 | DSE_V1 | DSE_V2).then_some(Version(byte))
    }

    pub(super) fn is_dse(self) -> bool {
        self.0 >= DSE_V1
    }

    /// Once a connection has started, frames come in segments.
    pub(super) fn may_have_segments(self) -> bool {
        self.0 == 5
    }

    /// Flags of queries have four bytes.
    pub(super) fn has_long_flags(self) -> bool {
        self.0 >= 5
    }

    /// Results of prepared statements have ids, and preparing has flags.
    pub(super) fn has_result_ids(self) -> bool {
        matches!(self.0, 5 | DSE_V2)
    }

    /// Prepared statements say which of their parameters are the key.
    pub(super) fn has_keys(self) -> bool {
        self.0 >= 4
    }
}

/// What a frame's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) side: Side,
    pub(super) version: Version,
    pub(super) flags: u8,
    pub(super) stream: i16,
    pub(super) opcode: u8,
    pub(super) body_bytes: u32,
}

impl Head {
    pub(super) fn total_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.body_bytes)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// One half of a row: what was asked, or what was answered.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) opcode: u8,
    pub(super) text: Vec<u8>,
}

impl Held for Said {
    fn held_bytes(&self) -> usize {
        self.text.capacity()
    }
}
