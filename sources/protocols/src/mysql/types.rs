//! Commands and responses as rows show them, and the bytes that stand for their kinds.

use crate::in_order::Asked;

/// Commands, by the first byte of their packet.
pub(super) mod command {
    pub(crate) const SLEEP: u8 = 0x00;
    pub(crate) const QUIT: u8 = 0x01;
    pub(crate) const INIT_DB: u8 = 0x02;
    pub(crate) const QUERY: u8 = 0x03;
    pub(crate) const FIELD_LIST: u8 = 0x04;
    pub(crate) const CREATE_DB: u8 = 0x05;
    pub(crate) const DROP_DB: u8 = 0x06;
    pub(crate) const STATISTICS: u8 = 0x09;
    pub(crate) const PROCESS_INFO: u8 = 0x0a;
    /// Not sent as a command: stands for a login.
    pub(crate) const CONNECT: u8 = 0x0b;
    pub(crate) const PING: u8 = 0x0e;
    pub(crate) const CHANGE_USER: u8 = 0x11;
    pub(crate) const BINLOG_DUMP: u8 = 0x12;
    pub(crate) const TABLE_DUMP: u8 = 0x13;
    pub(crate) const STMT_PREPARE: u8 = 0x16;
    pub(crate) const STMT_EXECUTE: u8 = 0x17;
    pub(crate) const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub(crate) const STMT_CLOSE: u8 = 0x19;
    pub(crate) const STMT_RESET: u8 = 0x1a;
    pub(crate) const STMT_FETCH: u8 = 0x1c;
    pub(crate) const BINLOG_DUMP_GTID: u8 = 0x1e;
    pub(crate) const RESET_CONNECTION: u8 = 0x1f;
    /// MariaDB's.
    pub(crate) const STMT_BULK_EXECUTE: u8 = 0xfa;
}

/// Whether it is a command that a client sends.
pub(super) fn is_command(byte: u8) -> bool {
    matches!(byte, 0x01..=0x0a | 0x0c..=0x0e | 0x11..=0x1f | command::STMT_BULK_EXECUTE)
}

/// Whether a command is never answered.
pub(super) fn is_one_way(byte: u8) -> bool {
    matches!(byte, command::QUIT | command::STMT_CLOSE | command::STMT_SEND_LONG_DATA)
}

/// Whether a command is answered by a stream without an end, or refused.
pub(super) fn is_stream(byte: u8) -> bool {
    matches!(byte, command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::TABLE_DUMP)
}

/// First bytes of a response's packets.
pub(super) const OK: u8 = 0x00;
pub(super) const ERR: u8 = 0xff;
pub(super) const EOF: u8 = 0xfe;
pub(super) const LOCAL_INFILE: u8 = 0xfb;

/// Bits of the server's status.
pub(super) const MORE_RESULTS: u16 = 0x08;
pub(super) const CURSOR_EXISTS: u16 = 0x40;

/// `resp_status` of a row.
pub(super) mod status {
    pub(crate) const UNKNOWN: i64 = 0;
    pub(crate) const NONE: i64 = 1;
    pub(crate) const OK: i64 = 2;
    pub(crate) const ERROR: i64 = 3;
}

/// A command that waits for its response.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) code: u8,
    pub(super) body: Vec<u8>,
    /// There was no room for its text: it gets no row.
    pub(super) is_given_up: bool,
    /// It may be a part of a file: so it gets none, and nobody knows whether it has a response.
    pub(super) may_be_none: bool,
    pub(super) begin_ns: i64,
    /// Number of the last packet, or pack, of the client's that belongs to it.
    pub(super) last_number: u8,
}

impl Asked for Command {
    type Shape = ();

    fn held_bytes(&self) -> usize {
        self.body.capacity()
    }

    fn forget_text(&mut self) {
        self.is_given_up = true;
        self.body = Vec::new();
    }

    fn is_owed(&self) -> bool {
        !self.is_given_up && !self.may_be_none
    }

    fn responses(&self) -> Option<u64> {
        (!self.may_be_none).then_some(1)
    }

    /// Where a part could be taken for a response, that is said ([`super::place::Behind`]).
    fn is_plain(&self) -> bool {
        true
    }
}
