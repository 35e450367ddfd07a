//! Bodies: the first bytes are kept for showing, the rest is only counted.
//!
//! What a row shows follows Pixie: text and JSON as they are, gzip decoded, cut at a limit with a
//! suffix; anything else is named instead of shown. The size is that of the body as transferred
//! (after de-chunking, before decoding), however little of it was kept.

use std::io::Read;

use crate::json_text::character_start;
use crate::redact::{REDACTED, Redactor, Text};

/// Follows a body that was cut, or of which bytes are missing.
pub const TRUNCATED_SUFFIX: &str = "... [TRUNCATED]";
/// Stands for a body whose content type is no text.
pub const NON_TEXT: &str = "<removed: non-text content-type>";
/// Stands for a body without a content type.
pub const UNKNOWN_TYPE: &str = "<removed: unknown content-type>";
/// Stands for a body whose encoding is not decoded here, or that does not decode.
pub const NOT_DECODED: &str = "<removed: content-encoding not decoded>";

/// Bytes kept beyond the limit: a gzip header and its first block's tables.
const COMPRESSED_EXTRA_BYTES: usize = 512;

/// What the Content-Type header says, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentKind {
    #[default]
    Missing,
    Json,
    Text,
    Other,
}

impl ContentKind {
    /// By the header's value.
    #[must_use]
    pub fn of(value: &[u8]) -> ContentKind {
        let has = |word: &str| contains_ignore_case(value, word.as_bytes());
        if has("json") {
            return ContentKind::Json;
        }
        let texts = ["text/", "xml", "x-www-form-urlencoded", "javascript", "yaml", "graphql"];
        if texts.iter().any(|word| has(word)) { ContentKind::Text } else { ContentKind::Other }
    }
}

fn contains_ignore_case(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Identity,
    Gzip,
    Other,
}

impl Encoding {
    pub(crate) fn of(value: &[u8]) -> Encoding {
        let value = value.trim_ascii();
        let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
        if value.is_empty() || is("identity") {
            Encoding::Identity
        } else if is("gzip") || is("x-gzip") {
            Encoding::Gzip
        } else {
            Encoding::Other
        }
    }
}

/// A body as far as it is kept.
#[derive(Debug, Default)]
pub struct Body {
    kept: Vec<u8>,
    size_bytes: u64,
    /// Something before the end of `size_bytes` is not in `kept`.
    cut: bool,
    kind: ContentKind,
    encoding: Encoding,
    shown_bytes_max: usize,
}

impl Body {
    /// Begins a body of which at most `shown_bytes_max` bytes are shown.
    pub(crate) fn begin(&mut self, kind: ContentKind, encoding: Encoding, shown_bytes_max: usize) {
        self.clear();
        self.kind = kind;
        self.encoding = encoding;
        self.shown_bytes_max = shown_bytes_max;
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.size_bytes = 0;
        self.cut = false;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    pub(super) fn shrink(&mut self) {
        self.kept.shrink_to_fit();
    }

    /// Its end was not seen.
    pub(crate) fn mark_cut(&mut self) {
        self.cut = true;
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        let kept_bytes_max = self.shown_bytes_max + COMPRESSED_EXTRA_BYTES;
        let room = if self.cut { 0 } else { kept_bytes_max.saturating_sub(self.kept.len()) };
        let kept = bytes.len().min(room);
        self.kept.extend_from_slice(&bytes[..kept]);
        self.cut |= kept < bytes.len();
    }

    /// `count` bytes of the body are missing.
    pub(crate) fn push_gap(&mut self, count: u64) {
        self.size_bytes += count;
        self.cut |= count > 0;
    }

    /// Size as transferred, without chunk framing, before decoding.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Something of it is missing or was not kept.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    #[must_use]
    pub fn kind(&self) -> ContentKind {
        self.kind
    }

    /// Appends what a row shows.
    pub fn show(&self, redactor: &Redactor, out: &mut Vec<u8>) {
        let from = out.len();
        self.show_as_sent(redactor, out);
        match self.kind {
            ContentKind::Json => redactor.redact_body(out, from, Text::Json),
            ContentKind::Text => redactor.redact_body(out, from, Text::Other),
            ContentKind::Missing | ContentKind::Other => {}
        }
    }

    fn show_as_sent(&self, redactor: &Redactor, out: &mut Vec<u8>) {
        match (self.size_bytes, self.kind, self.encoding) {
            (0, _, _) => {}
            _ if redactor.hides_bodies() => out.extend_from_slice(REDACTED.as_bytes()),
            (_, ContentKind::Missing, _) => out.extend_from_slice(UNKNOWN_TYPE.as_bytes()),
            (_, ContentKind::Other, _) => out.extend_from_slice(NON_TEXT.as_bytes()),
            (_, _, Encoding::Other) => out.extend_from_slice(NOT_DECODED.as_bytes()),
            (_, _, Encoding::Identity) => self.show_text(&self.kept, self.cut, out),
            (_, _, Encoding::Gzip) => self.show_gzip(out),
        }
    }

    fn show_text(&self, text: &[u8], cut: bool, out: &mut Vec<u8>) {
        let shown = text.len().min(self.shown_bytes_max);
        let whole = shown == text.len() && !cut;
        let shown = if whole { shown } else { character_start(text, shown) };
        out.extend_from_slice(&text[..shown]);
        if !whole {
            out.extend_from_slice(TRUNCATED_SUFFIX.as_bytes());
        }
    }

    fn show_gzip(&self, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(self.kept.as_slice());
        // One byte more than is shown tells whether there is more.
        let mut limited = (&mut decoder).take(self.shown_bytes_max as u64 + 1);
        let ended = limited.read_to_end(&mut text).is_ok();
        if text.is_empty() && !ended {
            out.extend_from_slice(NOT_DECODED.as_bytes());
            return;
        }
        self.show_text(&text, !ended, out);
    }
}
