//! Where each value of a JSON text stands. The text has been read by `serde_json` before, so it is
//! well formed and not nested deeper than that allows.

use serde_json::Value as Json;

use crate::diag::{SourceId, Span};

/// The place of a value, and of what it holds.
#[derive(Clone, Debug)]
struct Place {
    start: usize,
    end: usize,
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Plain,
    List(Vec<Place>),
    Object(Vec<Field>),
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    start: usize,
    end: usize,
    value: Place,
}

/// All places of a text.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    root: Place,
}

impl Places {
    pub(crate) fn of(text: &str) -> Places {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        Places { root: scanner.value() }
    }

    /// The whole value with its places.
    pub(crate) fn root<'a>(&'a self, json: &'a Json) -> At<'a> {
        At { json, place: &self.root }
    }
}

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) json: &'a Json,
    place: &'a Place,
}

impl<'a> At<'a> {
    pub(crate) fn span(self) -> Span {
        span(self.place.start, self.place.end)
    }

    /// A field, by its JSON name or by the name in the message's definition.
    pub(crate) fn get(self, name: &str) -> Option<At<'a>> {
        self.field(name).or_else(|| self.field(&snake_case(name)))
    }

    fn field(self, name: &str) -> Option<At<'a>> {
        let json = self.json.get(name)?;
        let Inner::Object(fields) = &self.place.inner else { return None };
        // Of two equal names the last one counts.
        let field = fields.iter().rev().find(|field| field.name == name)?;
        (!json.is_null()).then_some(At { json, place: &field.value })
    }

    pub(crate) fn items(self) -> impl Iterator<Item = At<'a>> {
        let places = match &self.place.inner {
            Inner::List(places) => places.as_slice(),
            _ => &[],
        };
        self.json
            .as_array()
            .into_iter()
            .flatten()
            .zip(places)
            .map(|(json, place)| At { json, place })
    }

    /// Name, where the name stands, and the value of each field.
    pub(crate) fn fields(self) -> impl Iterator<Item = (&'a str, Span, At<'a>)> {
        let places = match &self.place.inner {
            Inner::Object(fields) => fields.as_slice(),
            _ => &[],
        };
        places.iter().filter_map(move |field| {
            let json = self.json.get(&field.name)?;
            let value = At { json, place: &field.value };
            Some((field.name.as_str(), span(field.start, field.end), value))
        })
    }

    pub(crate) fn text(self) -> &'a str {
        self.json.as_str().unwrap_or("")
    }
}

fn span(start: usize, end: usize) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { source: SourceId::Vis, start: offset(start), end: offset(end) }
}

/// `outputName` → `output_name`
pub(crate) fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Skips blanks and the punctuation between values.
    fn skip(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Place {
        self.skip();
        let start = self.at;
        let inner = match self.peek() {
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                while self.more(b']') {
                    items.push(self.value());
                }
                Inner::List(items)
            }
            b'{' => {
                self.at += 1;
                let mut fields = Vec::new();
                while self.more(b'}') {
                    let Place { start, end, .. } = self.value();
                    let quoted = self.bytes.get(start..end).unwrap_or(&[]);
                    let name: String = serde_json::from_slice(quoted).unwrap_or_default();
                    fields.push(Field { name, start, end, value: self.value() });
                }
                Inner::Object(fields)
            }
            b'"' => {
                self.string();
                Inner::Plain
            }
            _ => {
                let rest = &self.bytes[self.at.min(self.bytes.len())..];
                let plain = rest.iter().take_while(|byte| !b",:]} \t\r\n".contains(byte)).count();
                self.at += plain.max(1);
                Inner::Plain
            }
        };
        Place { start, end: self.at, inner }
    }

    /// True if another value follows; takes the closing bracket otherwise.
    fn more(&mut self, close: u8) -> bool {
        self.skip();
        if self.at >= self.bytes.len() {
            return false;
        }
        let more = self.peek() != close;
        self.at += usize::from(!more);
        more
    }

    fn string(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.peek() {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places are those of the values: catches an escape or a nested bracket that is miscounted.
    #[test]
    fn places_of_values() {
        let text = r#" {"a\"b": [1, "x]", {"outputName": "é"}], "n": -1.5e3 , "snake_case": true}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        let places = Places::of(text);
        let root = places.root(&json);
        let slice = |at: At<'_>| &text[at.span().start as usize..at.span().end as usize];
        let list = root.get("a\"b").unwrap();
        let items: Vec<&str> = list.items().map(slice).collect();
        assert_eq!(items, ["1", "\"x]\"", "{\"outputName\": \"é\"}"]);
        let last = list.items().last().unwrap();
        assert_eq!(slice(last.get("outputName").unwrap()), "\"é\"");
        assert_eq!(slice(root.get("n").unwrap()), "-1.5e3");
        assert_eq!(slice(root.get("snakeCase").unwrap()), "true");
        assert_eq!(root.fields().count(), 3);
    }
}
