//! Frames and methods.

/// In front of a payload: type, channel, size.
pub(super) const HEAD_BYTES: usize = 7;
/// Behind it.
pub(super) const END: u8 = 0xce;
/// What a client that speaks this version begins with.
pub(super) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Longest payload: ends agree upon 128 KiB, unless they are told otherwise.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// Levels of tables within tables.
pub(super) const DEPTH_MAX: u32 = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    /// The eight bytes in front of all frames.
    ProtocolHeader,
    Method,
    ContentHeader,
    ContentBody,
    Heartbeat,
}

/// As the column has it: rows are of methods.
pub(super) const METHOD_FRAME: i64 = 1;

/// Who sends a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Client,
    Server,
    Both,
}

/// A method as the protocol declares it.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) class_id: u16,
    pub(super) method_id: u16,
    pub(super) by: By,
    /// Methods of its class that answer it; empty if nothing does.
    pub(super) answers: &'static [u16],
    /// It is followed by a header and a body.
    pub(super) has_content: bool,
    /// `name:type …`; types: o octet, h short, l long, q long long, s short string, S long string,
    /// X long string that proves who somebody is, b bit, t table. `_` is reserved.
    pub(super) arguments: &'static str,
}

/// A method that was sent, without its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) time_unix_ns: i64,
    pub(super) channel: u16,
    pub(super) method: &'static Method,
}

/// The same as a row shows it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) said: Said,
    /// JSON, to which the content's size is still to be added if there is one.
    pub(super) text: Vec<u8>,
    /// Whoever sent it wants no answer; `None`: it is cut before it says so.
    pub(super) no_wait: Option<bool>,
}
