//! What must not be stored: values that are secrets by their name, and what the user names besides.
//!
//! A value is replaced by [`REDACTED`], as a whole; names and structure stay, so that a row still
//! says that a token was sent. Names are compared without case, `-`, `_`, `.`, blanks and escapes.
//! Done where a row is made, so that nothing of it is kept anywhere. It does *not* find secrets by
//! their look, but for what the mode `pii` asks for with a function that the caller gives.
//!
//! Every scan goes over its text once; names are looked at no further than [`NAME_BYTES_MAX`].

mod json;
mod names;
mod url;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use names::NAME_BYTES_MAX;

/// Stands for a value that is not stored.
pub const REDACTED: &str = "<REDACTED>";

/// What is redacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: for machines without secrets.
    Off,
    /// What is a secret by its name.
    #[default]
    Secrets,
    /// That, and all bodies.
    Bodies,
    /// Secrets, and what looks like personal data.
    Pii,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "off" => Ok(Mode::Off),
            "secrets" => Ok(Mode::Secrets),
            "bodies" => Ok(Mode::Bodies),
            "pii" => Ok(Mode::Pii),
            _ => Err(format!("`{text}` is none of off, secrets, bodies, pii")),
        }
    }
}

/// Appends a text with what looks like personal data replaced.
pub type PiiFn = fn(out: &mut Vec<u8>, text: &[u8]);

/// What a text of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    Json,
    /// Forms, and lines of `name=value`.
    Other,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    mode: Mode,
    /// Further names, as [`names::plain`] writes them.
    names: Arc<[Vec<u8>]>,
    pii: Option<PiiFn>,
}

impl Redactor {
    /// `names` are secret as well, wherever they are a name or a part of one.
    #[must_use]
    pub fn new(mode: Mode, names: &[String], pii: Option<PiiFn>) -> Redactor {
        let plain = names.iter().map(|name| names::plain(name.as_bytes()));
        Redactor { mode, names: plain.filter(|name| !name.is_empty()).collect(), pii }
    }

    fn is_off(&self) -> bool {
        self.mode == Mode::Off
    }

    fn pii(&self) -> Option<PiiFn> {
        self.pii.filter(|_| self.mode == Mode::Pii)
    }

    /// Whether the value of a header is a secret.
    #[must_use]
    pub fn hides_header(&self, name: &[u8]) -> bool {
        !self.is_off() && names::is_secret(name, &self.names)
    }

    /// Appends a URL, or text that holds some, without credentials.
    pub fn push_url(&self, out: &mut Vec<u8>, text: &[u8]) {
        let from = out.len();
        if self.is_off() {
            out.extend_from_slice(text);
        } else {
            url::push(out, text, false, &self.names);
        }
        self.redact_pii(out, from);
    }

    /// Whether [`Redactor::push_url`] could change a header's value.
    #[must_use]
    pub fn looks_like_url(&self, value: &[u8]) -> bool {
        !self.is_off() && memchr::memchr3(b'?', b'@', b'=', value).is_some()
    }

    /// Replaces what looks like personal data in what was appended from `from` on.
    pub fn redact_pii(&self, out: &mut Vec<u8>, from: usize) {
        if let Some(pii) = self.pii() {
            let text = out.split_off(from);
            pii(out, &text);
        }
    }

    /// Whether texts are searched for personal data.
    #[must_use]
    pub fn finds_pii(&self) -> bool {
        self.pii().is_some()
    }

    /// The text with what looks like personal data replaced.
    #[must_use]
    pub fn text_without_pii(&self, text: &str) -> String {
        let mut out = text.as_bytes().to_vec();
        self.redact_pii(&mut out, 0);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether bodies are not shown at all.
    #[must_use]
    pub fn hides_bodies(&self) -> bool {
        self.mode == Mode::Bodies
    }

    /// Appends a body's text, which may have been cut.
    pub fn push_body(&self, out: &mut Vec<u8>, text: &[u8], kind: Text) {
        let from = out.len();
        match kind {
            _ if self.is_off() => out.extend_from_slice(text),
            Text::Json => json::push(out, text, &self.names),
            Text::Other if matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) => {
                json::push(out, text, &self.names);
            }
            Text::Other => url::push(out, text, true, &self.names),
        }
        self.redact_pii(out, from);
    }
}
