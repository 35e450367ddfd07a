//! What tests show to parsers, kept as inputs of the fuzz targets: where `WEIR_FUZZ_CORPUS` names a directory,
//! each conversation becomes a file in its protocol's folder there. `scripts/fuzz` fills its corpora so.
//!
//! The form is that of `weir_protocols_fuzz::drive`: a byte of flags, a byte of length, the bytes. Losses have fewer
//! sizes there: what is kept is a beginning for the fuzzer, not a recording.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use crate::Side;

/// Larger ones teach little, and make a fuzzer slow.
const INPUT_BYTES_MAX: usize = 4_096;
const PIECE_BYTES_MAX: usize = u8::MAX as usize;
/// Flags of an event.
const RESPONSE: u8 = 1;
const CUT: u8 = 2;
const LATE: u8 = 8;
const BEHIND_LOSS: u8 = 16;
const DATAGRAM: u8 = 32;

/// One conversation.
pub(crate) struct Conversation {
    dir: Option<PathBuf>,
    input: Vec<u8>,
    is_late: bool,
    has_lost: [bool; 2],
}

impl Conversation {
    pub(crate) fn new(protocol: &str, from_start: bool) -> Conversation {
        let dir = std::env::var_os("WEIR_FUZZ_CORPUS").map(|dir| PathBuf::from(dir).join(protocol));
        Conversation {
            dir,
            input: vec![u8::from(!from_start)],
            is_late: false,
            has_lost: [false; 2],
        }
    }

    /// Bytes of a call; `is_cut`: its end was not seen.
    pub(crate) fn call(&mut self, side: Side, seen: &[u8], is_cut: bool) {
        let mut pieces = seen.chunks(PIECE_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let cut = if is_cut && pieces.peek().is_none() { CUT } else { 0 };
            self.event(side, cut, piece);
        }
    }

    pub(crate) fn datagram(&mut self, is_request: bool, bytes: &[u8]) {
        let side = if is_request { Side::Request } else { Side::Response };
        self.event(side, DATAGRAM, bytes.get(..PIECE_BYTES_MAX).unwrap_or(bytes));
    }

    /// Bytes of which none were seen.
    pub(crate) fn lost(&mut self, side: Side) {
        self.has_lost[side as usize] = true;
    }

    /// What is old enough by now will not come.
    pub(crate) fn waited(&mut self) {
        self.is_late = true;
    }

    fn event(&mut self, side: Side, flags: u8, bytes: &[u8]) {
        if self.dir.is_none() {
            return;
        }
        let late = if std::mem::take(&mut self.is_late) { LATE } else { 0 };
        let behind = std::mem::take(&mut self.has_lost[side as usize]);
        let behind = if behind { BEHIND_LOSS } else { 0 };
        let side = if side == Side::Response { RESPONSE } else { 0 };
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.input.extend([side | flags | late | behind, length]);
        self.input.extend(bytes);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        if self.input.len() == 1 || self.input.len() > INPUT_BYTES_MAX {
            return;
        }
        let mut hasher = DefaultHasher::new();
        self.input.hash(&mut hasher);
        let written = std::fs::create_dir_all(&dir).and_then(|()| {
            std::fs::write(dir.join(format!("{:016x}", hasher.finish())), &self.input)
        });
        // Two panics at once would end all tests.
        assert!(std::thread::panicking() || written.is_ok(), "{}: {written:?}", dir.display());
    }
}
