//! What messages hold, from `schemas.txt`: its first lines say how it is written.

use std::sync::LazyLock;

/// The newest version that anything is known of; no version has this number.
const NEWEST: i16 = i16::MAX;

/// One kind of request, and its response.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) newest_version: i16,
    /// From this version on lengths are short and tagged fields follow each structure.
    pub(super) flexible_from: i16,
    pub(super) request: Vec<Field>,
    pub(super) response: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    from_version: i16,
    to_version: i16,
}

impl Field {
    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.from_version..=self.to_version).contains(&version)
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    Float64,
    String,
    Uuid,
    Bytes,
    Records,
    Array(Box<Kind>),
    Structure { fields: Vec<Field>, may_be_missing: bool },
}

/// The kind of requests with this key, if it is known.
pub(super) fn api(key: i16) -> Option<&'static Api> {
    static APIS: LazyLock<Vec<Option<Api>>> = LazyLock::new(|| {
        parse(include_str!("schemas.txt")).expect("the file is a part of the program, and tested")
    });
    APIS.get(usize::try_from(key).ok()?)?.as_ref()
}

fn parse(text: &'static str) -> Option<Vec<Option<Api>>> {
    let mut apis: Vec<Option<Api>> = Vec::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        let key: usize = words.next()?.parse().ok()?;
        let newest_version = words.nth(1)?.parse().ok()?;
        let flexible_from = match words.next()? {
            "-" => NEWEST,
            version => version.parse().ok()?,
        };
        let request = fields(&mut Text(lines.next()?.strip_prefix('>')?))?;
        let response = fields(&mut Text(lines.next()?.strip_prefix('<')?))?;
        apis.resize_with(apis.len().max(key + 1), || None);
        apis[key] = Some(Api { newest_version, flexible_from, request, response });
    }
    Some(apis)
}

/// What is left of a line.
struct Text(&'static str);

impl Text {
    fn take(&mut self, prefix: char) -> bool {
        let rest = self.0.strip_prefix(prefix);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Up to the first character that is no part of a word.
    fn word(&mut self) -> &'static str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start();
    }
}

/// Fields up to the end of a line or of a structure.
fn fields(text: &mut Text) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    loop {
        text.skip_blanks();
        if text.0.is_empty() || text.0.starts_with(['}', ']']) {
            return Some(fields);
        }
        let name = text.word();
        if name.is_empty() || !text.take(':') {
            return None;
        }
        let kind = kind(text)?;
        let (from_version, to_version) = if text.take('@') { versions(text)? } else { (0, NEWEST) };
        fields.push(Field { name, kind, from_version, to_version });
    }
}

fn versions(text: &mut Text) -> Option<(i16, i16)> {
    let from = text.word().parse().ok()?;
    if text.take('+') {
        return Some((from, NEWEST));
    }
    let to = if text.take('-') { text.word().parse().ok()? } else { from };
    Some((from, to))
}

fn kind(text: &mut Text) -> Option<Kind> {
    if text.take('{') {
        let fields = fields(text)?;
        if !text.take('}') {
            return None;
        }
        return Some(Kind::Structure { fields, may_be_missing: text.take('?') });
    }
    if text.take('[') {
        // A name is followed by a colon, a value's type by the end.
        let before = text.0;
        text.word();
        let is_structure = text.0.starts_with(':');
        text.0 = before;
        let element = match is_structure {
            true => Kind::Structure { fields: fields(text)?, may_be_missing: false },
            false => kind(text)?,
        };
        return text.take(']').then(|| Kind::Array(Box::new(element)));
    }
    Some(match text.word() {
        "b" => Kind::Bool,
        "i8" => Kind::Int8,
        "i16" => Kind::Int16,
        "u16" => Kind::UInt16,
        "i32" => Kind::Int32,
        "u32" => Kind::UInt32,
        "i64" => Kind::Int64,
        "f64" => Kind::Float64,
        "s" => Kind::String,
        "u" => Kind::Uuid,
        "y" => Kind::Bytes,
        "r" => Kind::Records,
        _ => return None,
    })
}
