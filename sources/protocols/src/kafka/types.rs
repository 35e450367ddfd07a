//! What Kafka's frames are made of, and what a row is made of.

use crate::by_id::Held;

/// Before each frame.
pub(super) const LENGTH_BYTES: usize = 4;
/// Behind it: api key, version, correlation id, and the length of a client id.
pub(super) const REQUEST_HEAD_BYTES: usize = 10;
/// The correlation id.
pub(super) const RESPONSE_HEAD_BYTES: usize = 4;
/// Brokers refuse more than 100 MiB (`socket.request.max.bytes`); responses may be larger, by what one
/// batch is above what was asked for.
pub(super) const FRAME_BYTES_MAX: u64 = 256 << 20;
/// Longest client id; brokers accept 32,767, people write names.
pub(super) const CLIENT_ID_BYTES_MAX: usize = 1024;
/// Keys and versions beyond these are none: Kafka 4.4 has keys up to 94 and versions up to 18.
pub(super) const API_KEY_MAX: i16 = 255;
pub(super) const API_VERSION_MAX: i16 = 63;
/// Text of strings that a column shows, and as much of structure.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) const PRODUCE: i16 = 0;
pub(super) const METADATA: i16 = 3;
pub(super) const API_VERSIONS: i16 = 18;

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) api_key: i16,
    pub(super) api_version: i16,
    pub(super) correlation_id: i32,
    pub(super) client_id: &'a [u8],
}

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) api_key: i16,
    pub(super) api_version: i16,
    pub(super) client_id: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Held for Asked {
    fn held_bytes(&self) -> usize {
        self.client_id.capacity() + self.body.capacity()
    }
}
