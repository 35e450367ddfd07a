//! BSON, as far as it is there: documents as a series of named values, read front to back.
//!
//! It does *not* build trees and does not go into documents by itself: whoever reads keeps the documents
//! that are open in a list of bounded length.

use super::types::DEPTH_MAX;
use crate::cursor::Cursor;

/// A document or an array without its length and its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a> {
    pub(super) inside: &'a [u8],
    /// None of it is missing.
    pub(super) is_whole: bool,
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What comes is not here.
    Cut,
    Invalid,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: Value<'a>,
}

/// A value; texts and bytes as far as they are there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Double(f64),
    Text(&'a [u8]),
    Document(Document<'a>),
    Array(Document<'a>),
    Binary { subtype: u8, bytes: &'a [u8] },
    Undefined,
    ObjectId(&'a [u8]),
    Bool(bool),
    DateMs(i64),
    Null,
    Regex { pattern: &'a [u8], options: &'a [u8] },
    Pointer { to: &'a [u8], id: &'a [u8] },
    Code(&'a [u8]),
    Symbol(&'a [u8]),
    ScopedCode { code: &'a [u8], scope: Document<'a> },
    Int(i64),
    Timestamp { seconds: u32, count: u32 },
    Decimal(u128),
    MinKey,
    MaxKey,
}

/// What is read front to back: the inside of a document, or what else holds documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) cursor: Cursor<'a>,
    /// Nothing is missing at its end.
    is_whole: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], is_whole: bool) -> Reader<'a> {
        Reader { cursor: Cursor::new(bytes), is_whole }
    }

    pub(super) fn inside(document: Document<'a>) -> Reader<'a> {
        Reader::new(document.inside, document.is_whole)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cursor.is_empty()
    }

    /// Everything that should be here was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_whole && self.is_empty()
    }

    /// What came of reading so far as bytes go.
    fn there<T>(&self, value: Option<T>) -> Result<T, Stop> {
        value.ok_or(if self.is_whole { Stop::Invalid } else { Stop::Cut })
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        let value = self.cursor.u32_le();
        self.there(value)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        let value = self.cursor.u64_le();
        self.there(value)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Stop> {
        let value = self.cursor.u8();
        self.there(value)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let bytes = self.cursor.bytes(count);
        self.there(bytes)
    }

    pub(super) fn until_zero(&mut self) -> Result<&'a [u8], Stop> {
        let text = self.cursor.until_zero();
        self.there(text)
    }

    /// A length of at least so much.
    fn length(&mut self, least: usize) -> Result<usize, Stop> {
        let length = self.u32()?;
        if i32::try_from(length).is_err() || (length as usize) < least {
            return Err(Stop::Invalid);
        }
        Ok(length as usize)
    }

    /// The next bytes, as far as they are here, and whether they are.
    fn up_to(&mut self, count: usize) -> Result<(&'a [u8], bool), Stop> {
        let bytes = self.cursor.up_to(count);
        match bytes.len() == count {
            false if self.is_whole => Err(Stop::Invalid),
            is_there => Ok((bytes, is_there)),
        }
    }

    /// The bytes behind a length that counts itself, as far as they are here, and whether they are.
    pub(super) fn counted(&mut self, least: usize) -> Result<(&'a [u8], bool), Stop> {
        let length = self.length(least)?;
        self.up_to(length - 4)
    }

    /// The next document of a series.
    pub(super) fn document(&mut self) -> Result<Document<'a>, Stop> {
        // There is a zero byte at its end.
        match self.counted(5)? {
            (inside, false) => Ok(Document { inside, is_whole: false }),
            ([inside @ .., 0], true) => Ok(Document { inside, is_whole: true }),
            _ => Err(Stop::Invalid),
        }
    }

    /// A text with its length in front.
    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.length(1)?;
        match self.up_to(length)? {
            (text, false) => Ok(whole_characters(text)),
            ([text @ .., 0], true) => Ok(text),
            _ => Err(Stop::Invalid),
        }
    }

    fn binary(&mut self) -> Result<Value<'a>, Stop> {
        let mut length = self.length(0)?;
        let subtype = self.u8()?;
        if subtype == 2 {
            // The old form has its length once more.
            length = length.checked_sub(4).ok_or(Stop::Invalid)?;
            self.u32()?;
        }
        let (bytes, _) = self.up_to(length)?;
        Ok(Value::Binary { subtype, bytes })
    }

    /// The next value of a document, which is not at its end.
    pub(super) fn element(&mut self) -> Result<Element<'a>, Stop> {
        let kind = self.u8()?;
        if !matches!(kind, 0x01..=0x13 | 0x7f | 0xff) {
            return Err(Stop::Invalid);
        }
        let name = self.until_zero()?;
        Ok(Element { name, value: self.value(kind)? })
    }

    fn value(&mut self, kind: u8) -> Result<Value<'a>, Stop> {
        Ok(match kind {
            0x01 => Value::Double(f64::from_bits(self.u64()?)),
            0x02 => Value::Text(self.text()?),
            0x03 => Value::Document(self.document()?),
            0x04 => Value::Array(self.document()?),
            0x05 => self.binary()?,
            0x06 => Value::Undefined,
            0x07 => Value::ObjectId(self.bytes(12)?),
            0x08 => match self.u8()? {
                byte @ 0..=1 => Value::Bool(byte == 1),
                _ => return Err(Stop::Invalid),
            },
            0x09 => Value::DateMs(self.u64()? as i64),
            0x0a => Value::Null,
            0x0b => Value::Regex { pattern: self.until_zero()?, options: self.until_zero()? },
            0x0c => Value::Pointer { to: self.text()?, id: self.bytes(12)? },
            0x0d => Value::Code(self.text()?),
            0x0e => Value::Symbol(self.text()?),
            0x0f => {
                self.length(14)?;
                Value::ScopedCode { code: self.text()?, scope: self.document()? }
            }
            0x10 => Value::Int(i64::from(self.u32()? as i32)),
            0x11 => {
                let count = self.u32()?;
                Value::Timestamp { seconds: self.u32()?, count }
            }
            0x12 => Value::Int(self.u64()? as i64),
            0x13 => {
                let low = u128::from(self.u64()?);
                Value::Decimal(low | u128::from(self.u64()?) << 64)
            }
            0x7f => Value::MaxKey,
            _ => Value::MinKey,
        })
    }
}

/// A text that was cut, without a part of a character at its end.
fn whole_characters(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => &text[..error.valid_up_to()],
        _ => text,
    }
}

/// The values of a document, as far as they can be read.
pub(super) fn elements(document: Document<'_>) -> impl Iterator<Item = Element<'_>> {
    let mut reader = Some(Reader::inside(document));
    std::iter::from_fn(move || {
        let inside = reader.as_mut().filter(|inside| !inside.is_empty())?;
        let found = inside.element().ok();
        if found.is_none() {
            reader = None;
        }
        found
    })
}

/// Whether bytes are documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Whole,
    /// What is there of them is.
    SoFar,
    No,
}

/// Whether this is a document to its end, with names that are text.
pub(super) fn fit(document: Document<'_>) -> Fit {
    let mut open = vec![Reader::inside(document)];
    let mut seen = Fit::Whole;
    while let Some(reader) = open.last_mut() {
        if reader.is_empty() {
            if !reader.is_whole {
                seen = Fit::SoFar;
            }
            open.pop();
            continue;
        }
        let Element { name, value } = match reader.element() {
            Ok(element) => element,
            Err(Stop::Cut) => return Fit::SoFar,
            Err(Stop::Invalid) => return Fit::No,
        };
        if name.iter().any(u8::is_ascii_control) || std::str::from_utf8(name).is_err() {
            return Fit::No;
        }
        let inner = match value {
            Value::Document(inner) | Value::Array(inner) => inner,
            Value::ScopedCode { scope, .. } => scope,
            _ => continue,
        };
        if open.len() > DEPTH_MAX {
            return Fit::No;
        }
        open.push(Reader::inside(inner));
    }
    seen
}
