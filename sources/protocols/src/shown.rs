//! Text of messages as columns show it: cut where the limit is, without secrets.

use crate::Config;
use crate::json_text::cut;
use crate::redact::REDACTED;

impl Config {
    /// Appends an SQL statement as a column shows it, without passwords.
    pub(crate) fn push_statement(&self, out: &mut Vec<u8>, statement: &[u8]) {
        let shown = cut(statement, self.body_bytes_max);
        let redacted = match self.redactor.hides_nothing() {
            true => None,
            false => crate::sql_secrets::redacted(shown),
        };
        out.extend_from_slice(redacted.as_deref().unwrap_or(shown));
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
}

/// Appends text as it is, or bytes that are none in hexadecimal digits.
pub(crate) fn push_text(out: &mut Vec<u8>, value: &[u8]) {
    let is_text = std::str::from_utf8(value).map_or_else(
        // One that was cut within a character.
        |error| error.error_len().is_none(),
        |text| text.chars().all(|c| !c.is_control() || "\t\r\n".contains(c)),
    );
    if is_text {
        out.extend_from_slice(value);
        return;
    }
    out.extend_from_slice(b"0x");
    for byte in value {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        out.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}
