//! JSON in columns: taking values out, splitting text into arrays, and the links that
//! `px.script_reference` makes.

use arrow_array::ArrayRef;
use memchr::memmem;
use weir_types::SemanticType;

use super::{ScalarDef, def, overloads};
use crate::json::{self, Token};
use crate::operand::{Call, StrCol};
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "pluck",
        overloads![S S => S, pluck],
        &["json", "key"],
        "The member of a JSON object: texts as they are, other values as compact JSON; empty if \
         there is none",
        "df.type = px.pluck(df.req_headers, 'Content-Type')",
    )
    .reads(READS),
    def(
        "pluck_int64",
        overloads![S S => I, pluck_int64],
        &["json", "key"],
        "The member of a JSON object if it is written as an integer, else 0",
        "df.rcode = px.pluck_int64(df.resp_header, 'rcode')",
    )
    .reads(READS),
    def(
        "pluck_float64",
        overloads![S S => F, pluck_float64],
        &["json", "key"],
        "The member of a JSON object if it is written as a double (5.0, not 5), else 0.0",
        "df.p99 = px.pluck_float64(df.latency_quantiles, 'p99')",
    )
    .reads(READS),
    def(
        "pluck_array",
        overloads![S I => S, pluck_array],
        &["json", "index"],
        "The element of a JSON array, counted from 0, in the form that `pluck` gives",
        "df.first = px.pluck_array(px.split(df.path, '/'), 0)",
    )
    .reads(READS),
    def(
        "split",
        overloads![S S => S, split],
        &["text", "delimiter"],
        "The parts of the text between delimiters as a JSON array",
        "df.parts = px.split(df.pod, '/')",
    )
    .reads(READS),
    def(
        "_script_reference",
        overloads![
            S S => S, script_reference;
            S S S S => S, script_reference;
            S S S S S S => S, script_reference;
            S S S S S S S S => S, script_reference;
            S S S S S S S S S S => S, script_reference;
            S S S S S S S S S S S S => S, script_reference;
            S S S S S S S S S S S S S S => S, script_reference;
            S S S S S S S S S S S S S S S S => S, script_reference;
            S S S S S S S S S S S S S S S S S S => S, script_reference
        ],
        &["label", "script", "key", "value"],
        "JSON of a link to a script with arguments; what `px.script_reference` compiles to",
        "df.link = px.script_reference(df.pod, 'px/pod', {'pod': df.pod})",
    )
    .tag(SemanticType::ScriptReference),
];

/// A text is checked as a whole, whatever is taken out of it; a copy may be escaped.
const READS: u64 = 4;

fn pluck(call: &Call<'_>) -> ArrayRef {
    let (text, key) = (call.str(0), call.str(1));
    output::strings(call.rows, |row, out| {
        if let Some(token) = json::member(text.get(row), key.get(row)) {
            json::push_plucked(out, token);
        }
    })
}

fn pluck_int64(call: &Call<'_>) -> ArrayRef {
    let (text, key) = (call.str(0), call.str(1));
    let value = |row| {
        json::member(text.get(row), key.get(row)).as_ref().and_then(Token::int64).unwrap_or(0)
    };
    output::ints((0..call.rows).map(value).collect())
}

fn pluck_float64(call: &Call<'_>) -> ArrayRef {
    let (text, key) = (call.str(0), call.str(1));
    let value = |row| {
        json::member(text.get(row), key.get(row)).as_ref().and_then(Token::double).unwrap_or(0.0)
    };
    output::floats((0..call.rows).map(value).collect())
}

fn pluck_array(call: &Call<'_>) -> ArrayRef {
    let (text, index) = (call.str(0), call.int(1));
    output::strings(call.rows, |row, out| {
        let wanted = index.get(row);
        let (mut at, mut found) = (0, None);
        let read = json::for_elements(text.get(row), |token| {
            if at == wanted {
                found = Some(token);
            }
            at += 1;
        });
        if let (Some(()), Some(token)) = (read, found) {
            json::push_plucked(out, token);
        }
    })
}

fn split(call: &Call<'_>) -> ArrayRef {
    let (text, delimiter) = (call.str(0), call.str(1));
    output::strings(call.rows, |row, out| {
        out.push(b'[');
        let mut first = true;
        for_parts(text.get(row), delimiter.get(row), |part| {
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            json::push_quoted(out, part);
        });
        out.push(b']');
    })
}

/// An empty delimiter cuts between any two bytes.
fn for_parts(text: &[u8], delimiter: &[u8], mut visit: impl FnMut(&[u8])) {
    if delimiter.is_empty() && !text.is_empty() {
        text.chunks(1).for_each(visit);
        return;
    }
    let mut rest = text;
    while !delimiter.is_empty()
        && let Some(at) = memmem::find(rest, delimiter)
    {
        visit(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    visit(rest);
}

/// What a link is made of: text that is the same in all rows, and columns.
enum Piece<'a> {
    Fixed(Vec<u8>),
    Quoted(StrCol<'a>),
}

struct Pieces<'a>(Vec<Piece<'a>>);

impl<'a> Pieces<'a> {
    fn fixed(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Piece::Fixed(text)) = self.0.last_mut() {
            write(text);
        } else {
            let mut text = Vec::new();
            write(&mut text);
            self.0.push(Piece::Fixed(text));
        }
    }
    fn quoted(&mut self, column: StrCol<'a>) {
        match column.constant() {
            Some(text) => self.fixed(|out| json::push_quoted(out, text)),
            None => self.0.push(Piece::Quoted(column)),
        }
    }
}

fn script_reference(call: &Call<'_>) -> ArrayRef {
    let mut pieces = Pieces(Vec::new());
    pieces.fixed(|out| out.extend_from_slice(b"{\"label\":"));
    pieces.quoted(call.str(0));
    pieces.fixed(|out| out.extend_from_slice(b",\"script\":"));
    pieces.quoted(call.str(1));
    pieces.fixed(|out| out.extend_from_slice(b",\"args\":{"));
    for key in (2..call.args.len()).step_by(2) {
        if key > 2 {
            pieces.fixed(|out| out.push(b','));
        }
        pieces.quoted(call.str(key));
        pieces.fixed(|out| out.push(b':'));
        pieces.quoted(call.str(key + 1));
    }
    pieces.fixed(|out| out.extend_from_slice(b"}}"));
    output::strings(call.rows, |row, out| {
        for piece in &pieces.0 {
            match piece {
                Piece::Fixed(text) => out.extend_from_slice(text),
                Piece::Quoted(column) => json::push_quoted(out, column.get(row)),
            }
        }
    })
}
