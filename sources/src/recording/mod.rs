//! Recordings: captured events in a file, with everything that decides what rows come of them, so that they
//! give the same rows again anywhere.
//!
//! ```text
//!  magic │ length kind body │ length kind body │ … │ end
//! ```
//!
//! Beside events it holds what the source lost, the times at which rows were asked for, and what the kernel
//! answered when it was asked about sockets. It does *not* hold rows, nor starts of programs.

mod format;
mod mask;
mod play;
mod record;
#[cfg(test)]
mod tests;

pub use play::{Recording, is_recording};
pub use record::{RecordCounts, Recorder, RecorderConfig};

use crate::capture::{CaptureEvent, ConnKey, Liveness, SocketLoss};

/// What a recording begins with; the last byte is its version.
const MAGIC: [u8; 8] = *b"WEIRREC\x01";
/// Longest entry: an event has 30 KiB of bytes at the most; a tick asks about some thousand sockets.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Answers that a tick holds; of more the rest counts as not known, then and when it is played.
const ANSWERS_MAX: usize = 16_384;

/// What stands in a recording.
#[derive(Debug, PartialEq)]
enum Entry<'a> {
    Event(CaptureEvent<'a>),
    Lost(SocketLoss),
    /// Rows were asked for, and the kernel was asked whether these sockets are still held.
    Tick {
        now_unix_ns: i64,
        answers: Vec<(ConnKey, Liveness)>,
    },
    /// It is whole.
    End,
}
