//! A message that is being read, as its row will show it.

use super::Next;
use crate::json_text::{JsonText, cut};
use crate::redis::table::Secrets;
use crate::redis::types::{Command, CommandKind, NAME_BYTES_MAX, Reply};
use crate::{Config, Side};

/// An array that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    elements_left: u64,
    is_shown: bool,
    /// It says something about what follows, and is none of its elements.
    is_attribute: bool,
}

/// A message that is being read.
#[derive(Debug, Default)]
pub(super) struct Building {
    open: Vec<Open>,
    json: JsonText,
    /// Of a reply that is no array.
    text: Vec<u8>,
    is_array: bool,
    is_push: bool,
    is_simple: bool,
    has_element: bool,
    pub(super) begin_ns: i64,
    number: u64,
    // Of commands.
    name: Vec<u8>,
    words: u64,
    first: Vec<u8>,
    kind: CommandKind,
    secrets: Secrets,
}

impl Building {
    pub(super) fn command(begin_ns: i64, words: u64, config: &Config) -> Box<Building> {
        let mut json = JsonText::new(Vec::new(), config.body_bytes_max);
        json.raw("[");
        Box::new(Building {
            open: vec![Open { elements_left: words, is_shown: true, is_attribute: false }],
            json,
            is_array: true,
            begin_ns,
            ..Building::default()
        })
    }

    pub(super) fn reply(begin_ns: i64, config: &Config) -> Box<Building> {
        let json = JsonText::new(Vec::new(), config.body_bytes_max);
        Box::new(Building { json, begin_ns, ..Building::default() })
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Building>()
            + self.json.held_bytes()
            + self.text.capacity()
            + self.first.capacity()
            + self.open.capacity() * size_of::<Open>()
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Whether a row can show anything of it.
    pub(super) fn is_seen(&self) -> bool {
        self.words > 0 || self.has_element
    }

    fn shows(&self) -> bool {
        self.open.last().is_none_or(|open| open.is_shown) && !self.json.is_full()
    }

    /// How many of a string's bytes have to be there to be shown.
    pub(super) fn wanted_bytes(&self, config: &Config) -> usize {
        match self.words {
            // What kind of reply a command has is told by these.
            0..=2 => config.body_bytes_max.max(NAME_BYTES_MAX),
            _ => self.json.string_bytes_left().max(NAME_BYTES_MAX),
        }
    }

    pub(super) fn open(&mut self, kind: u8, elements: u64) {
        let is_attribute = kind == b'|';
        self.is_push |= kind == b'>';
        let is_shown = !is_attribute && self.shows();
        if is_shown {
            self.is_array = true;
            self.json.comma().raw("[");
        }
        self.open.push(Open { elements_left: elements, is_shown, is_attribute });
    }

    /// Closes the innermost array. False if that was an attribute: what it belongs to follows.
    pub(super) fn close(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return true };
        if open.is_shown {
            self.json.raw("]");
        }
        !open.is_attribute
    }

    /// Counts an element, and closes what ends with it. True if the message does.
    pub(super) fn element_ends(&mut self) -> bool {
        while let Some(open) = self.open.last_mut() {
            open.elements_left = open.elements_left.saturating_sub(1);
            if open.elements_left > 0 || !self.close() {
                return false;
            }
        }
        true
    }

    pub(super) fn scalar(&mut self, text: &[u8], config: &Config) {
        self.has_element = true;
        if !self.open.is_empty() {
            if self.shows() {
                self.json.comma().string(text);
            }
        } else {
            let left = config.body_bytes_max.saturating_sub(self.text.len());
            self.text.extend_from_slice(cut(text, left));
        }
    }

    /// A string's first bytes.
    pub(super) fn string(&mut self, kind: u8, seen: &[u8], config: &Config) {
        match kind {
            b'!' => self.error(seen, config),
            // Its format, three letters and a colon, is not its text.
            b'=' if seen.get(3) == Some(&b':') => self.scalar(&seen[4..], config),
            _ => self.scalar(seen, config),
        }
    }

    fn error(&mut self, text: &[u8], config: &Config) {
        let shown = [b"-", &text[..text.len().min(config.body_bytes_max)]].concat();
        self.scalar(&shown, config);
    }

    pub(super) fn simple(&mut self, kind: u8, text: &[u8], config: &Config) {
        match (kind, text) {
            (b'-', text) => self.error(text, config),
            (b'#', b"t") => self.scalar(b"true", config),
            (b'#', _) => self.scalar(b"false", config),
            (b':', text) => {
                self.number = crate::redis::parse::number(text).unwrap_or_default();
                self.scalar(text, config);
            }
            (_, text) => {
                self.is_simple = kind == b'+';
                self.scalar(text, config);
            }
        }
    }

    /// A word of a command, of which the first bytes were seen.
    pub(super) fn word(&mut self, seen: &[u8], config: &Config) {
        let idx = self.words;
        self.words += 1;
        if idx == 0 {
            self.name = seen[..seen.len().min(NAME_BYTES_MAX)].to_ascii_uppercase();
            self.secrets = Secrets::of(&self.name, config);
            self.kind = CommandKind::of(&self.name, b"", b"");
            return;
        }
        if idx == 1 {
            self.first = seen[..seen.len().min(NAME_BYTES_MAX)].to_vec();
            self.kind = CommandKind::of(&self.name, &self.first, b"");
        } else if idx == 2 {
            self.kind = CommandKind::of(&self.name, &self.first, seen);
        }
        if self.shows() {
            self.secrets.write(&mut self.json, seen);
        }
    }

    pub(super) fn message(mut self, side: Side, end_ns: i64) -> Next {
        while !self.open.is_empty() {
            self.close();
        }
        let json = std::mem::take(&mut self.json).finish();
        match side {
            Side::Request => Next::Command(Box::new(Command {
                name: std::mem::take(&mut self.name),
                args: if json == b"[" { b"[]".to_vec() } else { json },
                args_count: self.words.saturating_sub(1),
                kind: self.kind,
                begin_ns: self.begin_ns,
                is_given_up: false,
            })),
            Side::Response => Next::Reply(Reply {
                text: if self.is_array { json } else { std::mem::take(&mut self.text) },
                begin_ns: self.begin_ns,
                end_ns,
                is_simple: self.is_simple && !self.is_array,
                is_push3: self.is_push,
                number: self.number,
            }),
        }
    }
}
