//! What is read of a handshake.

/// Longest hello that is read; with large keys and many extensions they have some kilobytes.
pub(super) const HELLO_BYTES_MAX: usize = 64 * 1024;
/// Names or numbers that are read of a list; programs send up to ten.
pub(super) const LIST_MAX: usize = 64;

/// Kinds of records.
pub(super) const CHANGE_CIPHER: u8 = 0x14;
pub(super) const ALERT: u8 = 0x15;
pub(super) const HANDSHAKE: u8 = 0x16;
pub(super) const APPLICATION: u8 = 0x17;
pub(super) const HEARTBEAT: u8 = 0x18;

/// Kinds of handshake messages.
pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientHello<'a> {
    /// As its fixed field has it; newer ones are in `versions`.
    pub(super) version: u16,
    pub(super) sni: Option<&'a [u8]>,
    pub(super) alpn: Vec<&'a [u8]>,
    pub(super) versions: Vec<u16>,
}

/// What a server chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerHello<'a> {
    pub(super) version: u16,
    pub(super) cipher: u16,
    pub(super) alpn: Option<&'a [u8]>,
    /// It asks for another hello.
    pub(super) is_retry: bool,
}

/// A row's request: rendered, and when its first byte was moved.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) body: Vec<u8>,
    pub(super) begin_ns: i64,
}

/// A row's response.
#[derive(Debug)]
pub(super) struct Response {
    /// Members of its object, without braces; nothing if there was no hello.
    pub(super) members: Vec<u8>,
    pub(super) alert: Option<u8>,
    pub(super) begin_ns: i64,
}
