//! HTTP/1.0 and HTTP/1.1.
//!
//! Not here: HTTP/2 (another protocol, in its own folder), WebSocket frames (after a 101 the
//! connection is opaque), TLS.
//!
//! ```text
//!   two streams ── read ──▶ messages ── stitch ──▶ exchanges ── table ──▶ rows
//!                  (parse: heads, chunks; body: what is kept of a body)
//! ```

mod body;
mod certain;
mod chunks;
mod headers;
mod message;
mod parse;
mod protocol;
mod read;
mod stitch;
mod table;
mod types;

pub(crate) use body::Encoding;
pub use body::{Body, ContentKind, NON_TEXT, NOT_DECODED, TRUNCATED_SUFFIX, UNKNOWN_TYPE};
pub use chunks::{ChunkStep, ChunkedDecoder};
pub(crate) use headers::write_headers;
pub use parse::{
    HeaderLine, RequestLine, StatusLine, recognise, recognise_first, without_proxy_header,
};
pub(crate) use protocol::PROTOCOL;
pub use stitch::{Context, Http1};
pub use table::append_row;
pub use types::{Exchange, HEAD_BYTES_MAX, Message, Method, Pool};

pub use crate::{Config, Counters, REORDER_GRACE_NS};

#[cfg(test)]
mod tests;
