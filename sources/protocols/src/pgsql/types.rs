//! Messages' tags, and requests as they wait for their responses.

use std::sync::Arc;

use crate::in_order::Asked;

/// What the client sends, by the first byte.
pub(super) mod request {
    pub(crate) const QUERY: u8 = b'Q';
    pub(crate) const PARSE: u8 = b'P';
    pub(crate) const BIND: u8 = b'B';
    pub(crate) const DESCRIBE: u8 = b'D';
    pub(crate) const EXECUTE: u8 = b'E';
    pub(crate) const CLOSE: u8 = b'C';
    pub(crate) const SYNC: u8 = b'S';
    pub(crate) const FLUSH: u8 = b'H';
    pub(crate) const FUNCTION_CALL: u8 = b'F';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const COPY_FAIL: u8 = b'f';
    pub(crate) const PASSWORD: u8 = b'p';
    pub(crate) const TERMINATE: u8 = b'X';
}

/// What the server sends.
pub(super) mod response {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const NEGOTIATE_VERSION: u8 = b'v';
    pub(crate) const READY: u8 = b'Z';
    pub(crate) const PARSE_COMPLETE: u8 = b'1';
    pub(crate) const BIND_COMPLETE: u8 = b'2';
    pub(crate) const CLOSE_COMPLETE: u8 = b'3';
    pub(crate) const PARAMETERS: u8 = b't';
    pub(crate) const COLUMNS: u8 = b'T';
    pub(crate) const NO_DATA: u8 = b'n';
    pub(crate) const ROW: u8 = b'D';
    pub(crate) const COMPLETE: u8 = b'C';
    pub(crate) const SUSPENDED: u8 = b's';
    pub(crate) const EMPTY_QUERY: u8 = b'I';
    pub(crate) const ERROR: u8 = b'E';
    pub(crate) const NOTICE: u8 = b'N';
    pub(crate) const NOTIFICATION: u8 = b'A';
    pub(crate) const COPY_IN: u8 = b'G';
    pub(crate) const COPY_OUT: u8 = b'H';
    pub(crate) const COPY_BOTH: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const FUNCTION_RESULT: u8 = b'V';
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Query,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    /// No row.
    Sync,
    /// No row.
    FunctionCall,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Startup,
        Kind::Query,
        Kind::Parse,
        Kind::Bind,
        Kind::Describe,
        Kind::Execute,
        Kind::Close,
        Kind::Sync,
        Kind::FunctionCall,
    ];

    fn mark(self) -> u32 {
        1 << self as u32
    }

    /// Whether a message can be one of a response to any of these.
    pub(super) fn is_any_of(marks: u32, tag: u8) -> bool {
        Kind::ALL.iter().any(|kind| marks & kind.mark() != 0 && kind.has(tag))
    }

    /// Whether its response can have this message.
    pub(super) fn has(self, tag: u8) -> bool {
        self.is_answered_by(tag) || self.goes_on_with(tag)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Query => "Query",
            Kind::Parse => "Parse",
            Kind::Bind => "Bind",
            Kind::Describe => "Describe",
            Kind::Execute => "Execute",
            Kind::Close => "Close",
            Kind::Sync => "Sync",
            Kind::FunctionCall => "FunctionCall",
        }
    }

    pub(super) fn has_row(self) -> bool {
        !matches!(self, Kind::Sync | Kind::FunctionCall)
    }

    /// It is answered by single messages, and after an error nothing is until the next Sync.
    pub(super) fn is_extended(self) -> bool {
        matches!(self, Kind::Parse | Kind::Bind | Kind::Describe | Kind::Execute | Kind::Close)
    }

    /// Whether its response can begin with this message.
    pub(super) fn is_answered_by(self, tag: u8) -> bool {
        use response as is;
        let begins: &[u8] = match self {
            Kind::Startup => &[is::AUTHENTICATION, is::ERROR],
            Kind::Query => &[
                is::COLUMNS,
                is::COMPLETE,
                is::EMPTY_QUERY,
                is::COPY_IN,
                is::COPY_OUT,
                is::COPY_BOTH,
                is::ERROR,
            ],
            Kind::Parse => &[is::PARSE_COMPLETE, is::ERROR],
            Kind::Bind => &[is::BIND_COMPLETE, is::ERROR],
            Kind::Describe => &[is::PARAMETERS, is::COLUMNS, is::NO_DATA, is::ERROR],
            Kind::Execute => &[
                is::ROW,
                is::COMPLETE,
                is::SUSPENDED,
                is::EMPTY_QUERY,
                is::COPY_IN,
                is::COPY_OUT,
                is::ERROR,
            ],
            Kind::Close => &[is::CLOSE_COMPLETE, is::ERROR],
            Kind::Sync => &[is::READY, is::ERROR],
            Kind::FunctionCall => &[is::FUNCTION_RESULT, is::ERROR],
        };
        begins.contains(&tag)
    }

    /// Whether its response, having begun, can go on with this message.
    pub(super) fn goes_on_with(self, tag: u8) -> bool {
        use response as is;
        match self {
            Kind::Query => {
                self.is_answered_by(tag)
                    || matches!(tag, is::ROW | is::COPY_DATA | is::COPY_DONE | is::READY)
            }
            Kind::Execute => {
                self.is_answered_by(tag) || matches!(tag, is::COPY_DATA | is::COPY_DONE)
            }
            Kind::Describe => matches!(tag, is::COLUMNS | is::NO_DATA | is::ERROR),
            Kind::Startup | Kind::Sync | Kind::FunctionCall => {
                self.is_answered_by(tag) || tag == is::READY
            }
            Kind::Parse | Kind::Bind | Kind::Close => false,
        }
    }
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    /// As its row shows it; shared by Bind and Execute.
    pub(super) text: Arc<[u8]>,
    /// There was no room for its text: it gets no row.
    pub(super) is_given_up: bool,
    /// The number of its statement; 0: none that is known.
    pub(super) statement: u64,
    /// Formats of the columns of its results.
    pub(super) formats: Arc<[u16]>,
    pub(super) begin_ns: i64,
    /// How many times a copy to the server was ended before it.
    pub(super) copies_ended: u32,
    /// A Sync: such a copy was ended behind it.
    pub(super) may_be_unheard: bool,
    /// A query: it is a single statement for certain.
    pub(super) is_single: bool,
}

impl Asked for Request {
    type Shape = ();

    fn held_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.formats)
    }

    fn forget_text(&mut self) {
        self.is_given_up = true;
        (self.text, self.formats) = ([].into(), [].into());
    }

    fn is_owed(&self) -> bool {
        self.kind.has_row() && !self.is_given_up
    }

    fn mark(&self) -> u32 {
        self.kind.mark()
    }

    fn is_plain(&self) -> bool {
        true
    }

    /// Counted is what ends with ReadyForQuery.
    fn responses(&self) -> Option<u64> {
        match self.kind {
            Kind::Sync if self.may_be_unheard => None,
            Kind::Sync | Kind::Query | Kind::Startup | Kind::FunctionCall => Some(1),
            Kind::Parse | Kind::Bind | Kind::Describe | Kind::Execute | Kind::Close => Some(0),
        }
    }
}

/// A column of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) type_id: u32,
    pub(super) is_binary: bool,
}
