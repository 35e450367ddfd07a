//! Numbers of HTTP/2, and the bounds of what is kept.

/// What a client begins with.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const FRAME_HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x01;
pub(super) const ACK: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// Longest header block as sent, continuations included; servers refuse more than 8 to 64 KiB. Of a longer
/// one nothing is read, and what it would have put into the table is unknown.
pub(super) const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Longest text of all fields of a message: a block can name a long field again and again.
pub(super) const FIELDS_BYTES_MAX: usize = 64 * 1024;
/// Fields of a message.
pub(super) const FIELDS_MAX: usize = 1_024;
/// Bytes of a table of fields, as the protocol counts them. 4 KiB unless the peers agree on more; where
/// they agree on more than this, older fields are unknown.
pub(super) const TABLE_BYTES_MAX: usize = 64 * 1024;
/// Streams of a connection that have begun and not ended; servers allow some hundred. Beyond it the oldest
/// is given up.
pub(super) const STREAMS_MAX: usize = 4_096;
/// What they hold together.
pub(super) const STREAMS_BYTES_MAX: usize = 2 << 20;

/// Stands for a name or a value that was sent when nobody watched.
pub(super) const UNKNOWN: &[u8] = b"<unknown>";
