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

/// What the value of a header is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    Secret,
    /// It holds neither a secret nor a URL.
    Plain,
    /// It may hold a URL with credentials.
    Other,
}

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

    /// What the value of a header is.
    #[must_use]
    pub fn header(&self, name: &[u8]) -> HeaderKind {
        match self.is_off() || (self.names.is_empty() && names::is_common(name)) {
            true => HeaderKind::Plain,
            false if names::is_secret(name, &self.names) => HeaderKind::Secret,
            false => HeaderKind::Other,
        }
    }

    /// Appends a URL, or text that holds some, without credentials.
    pub fn push_url(&self, out: &mut Vec<u8>, text: &[u8]) {
        let from = out.len();
        let redacted = if self.is_off() { None } else { url::redacted(text, false, &self.names) };
        out.extend_from_slice(redacted.as_deref().unwrap_or(text));
        self.redact_pii(out, from);
    }

    /// A header's value without credentials in the URLs that it holds; `None` if there are none.
    #[must_use]
    pub fn url_redacted(&self, value: &[u8]) -> Option<Vec<u8>> {
        if self.is_off() { None } else { url::redacted(value, false, &self.names) }
    }

    /// Replaces what looks like personal data in what was appended from `from` on.
    pub fn redact_pii(&self, out: &mut Vec<u8>, from: usize) {
        if let Some(pii) = self.pii() {
            let text = out.split_off(from);
            pii(out, &text);
        }
    }

    /// Whether everything is shown as it is.
    #[must_use]
    pub fn hides_nothing(&self) -> bool {
        self.is_off()
    }

    /// Whether bodies are not shown at all.
    #[must_use]
    pub fn hides_bodies(&self) -> bool {
        self.mode == Mode::Bodies
    }

    /// Overwrites the values of secrets in text with `*`, as far as they are words: nothing moves, and what
    /// was JSON stays JSON but for numbers.
    pub fn mask(&self, text: &mut [u8]) {
        if self.is_off() {
            return;
        }
        let mut places = url::places(text, &self.names);
        places.append(&mut json::places(text, &self.names));
        let is_word = |byte: u8| !b"\"\\{}[],: \r\n\t".contains(&byte);
        for place in places {
            text[place].iter_mut().filter(|byte| is_word(**byte)).for_each(|byte| *byte = b'*');
        }
    }

    /// Replaces the secrets in a body's text, which is `out` from `from` on and may have been cut.
    pub fn redact_body(&self, out: &mut Vec<u8>, from: usize, kind: Text) {
        let text = &out[from..];
        let is_json =
            kind == Text::Json || matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
        let redacted = match is_json {
            _ if self.is_off() => None,
            true => json::redacted(text, &self.names),
            false => url::redacted(text, true, &self.names),
        };
        if let Some(redacted) = redacted {
            out.truncate(from);
            out.extend_from_slice(&redacted);
        }
        self.redact_pii(out, from);
    }
}

/// A text of which parts are replaced; it is copied only if there are any.
struct Replaced<'t> {
    text: &'t [u8],
    /// How much of it has been taken over.
    to: usize,
    out: Option<Vec<u8>>,
    /// Where something is to be replaced, if only that is asked for.
    places: Option<Vec<std::ops::Range<usize>>>,
}

impl<'t> Replaced<'t> {
    fn new(text: &'t [u8]) -> Replaced<'t> {
        Replaced { text, to: 0, out: None, places: None }
    }

    fn places_in(text: &'t [u8]) -> Replaced<'t> {
        Replaced { places: Some(Vec::new()), ..Replaced::new(text) }
    }

    /// The end of the last part that was replaced.
    fn to(&self) -> usize {
        self.to
    }

    /// Parts come in their order.
    fn replace(&mut self, from: usize, to: usize, with: &[u8]) {
        if let Some(places) = &mut self.places {
            places.push(from..to);
            self.to = to;
            return;
        }
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(self.text.len()));
        out.extend_from_slice(&self.text[self.to..from]);
        out.extend_from_slice(with);
        self.to = to;
    }

    fn finish(self) -> Option<Vec<u8>> {
        let mut out = self.out?;
        out.extend_from_slice(&self.text[self.to..]);
        Some(out)
    }
}
