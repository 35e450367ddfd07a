//! Text of messages as columns show it: cut where the limit is, without secrets.

use crate::Config;
use crate::json_text::cut;
use crate::redact::{REDACTED, Text};

impl Config {
    /// Appends a text as a column shows it; nothing of it where bodies are hidden.
    pub(crate) fn push_shown(&self, out: &mut Vec<u8>, text: &[u8]) {
        if self.redactor.hides_bodies() && !text.is_empty() {
            out.extend_from_slice(REDACTED.as_bytes());
            return;
        }
        let from = out.len();
        out.extend_from_slice(cut(text, self.body_bytes_max));
        self.redactor.redact_pii(out, from);
    }

    /// A text that was cut, as a column shows it.
    pub(crate) fn shown(&self, text: &[u8]) -> Vec<u8> {
        if self.redactor.hides_bodies() && !text.is_empty() {
            return REDACTED.as_bytes().to_vec();
        }
        let mut shown = text.to_vec();
        self.redactor.redact_pii(&mut shown, 0);
        shown
    }

    /// Ends JSON that was written from `from` on: without secrets by their names.
    pub(crate) fn end_json(&self, out: &mut Vec<u8>, from: usize) {
        self.redactor.redact_body(out, from, Text::Json);
    }
}
