//! JSON text, read and written without building a tree.
//!
//! A text is checked as a whole (what is not JSON has no members), but only the value that is asked
//! for is decoded. Numbers keep the difference between integers and doubles; of duplicate members
//! the first counts. Depth is bounded by the text only: nothing recurses.

mod double;

pub(crate) use double::push_double;

/// What a value is; numbers and texts are decoded on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonKind {
    Null,
    True,
    False,
    /// With escapes in it or not.
    Text {
        escaped: bool,
    },
    /// Written without point and exponent.
    Integer,
    Double,
    Array,
    Object,
}

/// A value's place in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: JsonKind,
    /// The value as written, quotes and brackets included.
    pub(crate) raw: &'a [u8],
}

/// The first member of that name, if the text is an object.
pub(crate) fn member<'a>(text: &'a [u8], key: &[u8]) -> Option<Token<'a>> {
    let mut found = None;
    for_members(text, |name, token| {
        if found.is_none() && text_is(name, key) {
            found = Some(token);
        }
    })?;
    found
}

/// Calls `visit` with name and value of each member; `None` if the text is no object.
pub(crate) fn for_members<'a>(
    text: &'a [u8],
    mut visit: impl FnMut(Token<'a>, Token<'a>),
) -> Option<()> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.open(b'{')?;
    let mut first = true;
    while scanner.more(b'}', &mut first)? {
        let name = scanner.text()?;
        scanner.blank();
        scanner.expect(b':')?;
        scanner.blank();
        let token = scanner.value()?;
        visit(name, token);
    }
    scanner.end()
}

/// Calls `visit` with each element; `None` if the text is no array.
pub(crate) fn for_elements<'a>(text: &'a [u8], mut visit: impl FnMut(Token<'a>)) -> Option<()> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.open(b'[')?;
    let mut first = true;
    while scanner.more(b']', &mut first)? {
        visit(scanner.value()?);
    }
    scanner.end()
}

fn text_is(token: Token<'_>, key: &[u8]) -> bool {
    match token.kind {
        JsonKind::Text { escaped: false } => &token.raw[1..token.raw.len() - 1] == key,
        _ => {
            let mut decoded = Vec::new();
            push_text(&mut decoded, token);
            decoded == key
        }
    }
}

impl Token<'_> {
    /// The integer, if it is written as one and fits.
    pub(crate) fn int64(&self) -> Option<i64> {
        match self.kind {
            JsonKind::Integer => std::str::from_utf8(self.raw).ok()?.parse().ok(),
            _ => None,
        }
    }
    /// The double, if it is written as one; integers beyond 64 bits count as doubles.
    pub(crate) fn double(&self) -> Option<f64> {
        match self.kind {
            JsonKind::Double => std::str::from_utf8(self.raw).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// The decoded text of a `Text` token.
pub(crate) fn push_text(out: &mut Vec<u8>, token: Token<'_>) {
    let JsonKind::Text { escaped } = token.kind else { return };
    let body = &token.raw[1..token.raw.len() - 1];
    if !escaped {
        out.extend_from_slice(body);
        return;
    }
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (ch, length) = escape(&rest[at..]).expect("the scanner checked escapes");
        let mut utf8 = [0; 4];
        out.extend_from_slice(ch.encode_utf8(&mut utf8).as_bytes());
        rest = &rest[at + length..];
    }
    out.extend_from_slice(rest);
}

/// A value as other functions take it: texts decoded, null as nothing, the rest written compactly.
pub(crate) fn push_plucked(out: &mut Vec<u8>, token: Token<'_>) {
    match token.kind {
        JsonKind::Null => {}
        JsonKind::Text { .. } => push_text(out, token),
        _ => push_compact(out, token.raw),
    }
}

/// A checked value without blanks, numbers and escapes in their canonical form.
fn push_compact(out: &mut Vec<u8>, raw: &[u8]) {
    let mut scanner = Scanner { text: raw, at: 0 };
    while let Some(byte) = scanner.peek() {
        match byte {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                out.push(byte);
                scanner.at += 1;
            }
            b' ' | b'\t' | b'\n' | b'\r' => scanner.at += 1,
            _ => match scanner.scalar() {
                Some(token) => push_scalar(out, token),
                None => return debug_assert!(false, "the value was checked before"),
            },
        }
    }
}

fn push_scalar(out: &mut Vec<u8>, token: Token<'_>) {
    match token.kind {
        JsonKind::Text { escaped: false } => out.extend_from_slice(token.raw),
        JsonKind::Text { escaped: true } => {
            let mut decoded = Vec::with_capacity(token.raw.len());
            push_text(&mut decoded, token);
            push_quoted(out, &decoded);
        }
        // The only integer that is not canonical as written.
        JsonKind::Integer if token.raw == b"-0" => out.push(b'0'),
        JsonKind::Double => push_double(out, token.double().unwrap_or(0.0)),
        _ => out.extend_from_slice(token.raw),
    }
}

/// The text as a JSON string: quotes, backslash and control characters escaped, all else as it is.
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Most texts need no escape; without an early end this compares many bytes at once.
    if !text.iter().fold(false, |found, &byte| found | special(byte)) {
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
    let mut copied = 0;
    for (at, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\x08' => b'b',
            b'\x0c' => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            ..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[copied..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)]]);
            out.push(HEX[usize::from(byte & 15)]);
        }
        copied = at + 1;
    }
    out.extend_from_slice(&text[copied..]);
    out.push(b'"');
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    #[inline]
    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
    fn open(&mut self, bracket: u8) -> Option<()> {
        self.blank();
        self.expect(bracket)
    }
    /// Moves to the next member or element; false past the closing bracket.
    #[inline]
    fn more(&mut self, close: u8, first: &mut bool) -> Option<bool> {
        self.blank();
        if self.peek()? == close {
            self.at += 1;
            return Some(false);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',')?;
            self.blank();
        }
        Some(true)
    }
    fn end(&mut self) -> Option<()> {
        self.blank();
        (self.at == self.text.len()).then_some(())
    }

    fn value(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        let kind = match self.peek()? {
            b'{' => JsonKind::Object,
            b'[' => JsonKind::Array,
            _ => return self.scalar(),
        };
        self.container()?;
        Some(Token { kind, raw: &self.text[start..self.at] })
    }

    /// Walks over an object or array, however deep.
    fn container(&mut self) -> Option<()> {
        let mut open = Brackets::default();
        let mut first = true;
        open.push(self.peek()? == b'{');
        self.at += 1;
        loop {
            let is_object = open.top()?;
            if !self.more(if is_object { b'}' } else { b']' }, &mut first)? {
                open.pop();
                if open.is_empty() {
                    return Some(());
                }
                first = false;
                continue;
            }
            if is_object {
                self.text()?;
                self.blank();
                self.expect(b':')?;
                self.blank();
            }
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    open.push(bracket == b'{');
                    self.at += 1;
                    first = true;
                }
                _ => {
                    self.scalar()?;
                }
            }
        }
    }

    fn scalar(&mut self) -> Option<Token<'a>> {
        match self.peek()? {
            b'"' => self.text(),
            b't' => self.literal(b"true", JsonKind::True),
            b'f' => self.literal(b"false", JsonKind::False),
            b'n' => self.literal(b"null", JsonKind::Null),
            _ => self.number(),
        }
    }

    fn literal(&mut self, word: &[u8], kind: JsonKind) -> Option<Token<'a>> {
        let raw = self.text[self.at..].get(..word.len())?;
        self.at += word.len();
        (raw == word).then_some(Token { kind, raw })
    }

    fn text(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            let rest = &self.text[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest)?;
            // Without an early end the compiler compares many bytes at once.
            let control = rest[..plain].iter().fold(false, |found, &byte| found | (byte < 0x20));
            if control {
                return None;
            }
            self.at += plain;
            if rest[plain] == b'"' {
                break;
            }
            escaped = true;
            self.at += escape(&rest[plain..])?.1;
        }
        self.at += 1;
        Some(Token { kind: JsonKind::Text { escaped }, raw: &self.text[start..self.at] })
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut kind = JsonKind::Integer;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            kind = JsonKind::Double;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
            kind = JsonKind::Double;
        }
        let raw = &self.text[start..self.at];
        if kind == JsonKind::Integer && !fits_64_bits(raw) {
            kind = JsonKind::Double;
        }
        let token = Token { kind, raw };
        // What is too large for a double is no number; short texts without exponent never are.
        let may_overflow = kind == JsonKind::Double
            && (raw.len() > DOUBLE_DIGITS_MAX || memchr::memchr2(b'e', b'E', raw).is_some());
        (!may_overflow || token.double().is_some_and(f64::is_finite)).then_some(token)
    }
}

/// So many digits make a finite double for certain.
const DOUBLE_DIGITS_MAX: usize = 300;

fn fits_64_bits(raw: &[u8]) -> bool {
    // 18 digits always fit.
    raw.len() <= 18
        || std::str::from_utf8(raw)
            .is_ok_and(|text| text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
}

/// The character that the escape at the beginning of `text` stands for, and its length.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let ch = match text.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((ch, 2))
}

fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let hex = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        hex.iter().try_fold(0, |sum, &byte| Some(sum * 16 + char::from(byte).to_digit(16)?))
    };
    match unit(0)? {
        high @ 0xD800..0xDC00 => match unit(6)? {
            low @ 0xDC00..0xE000 => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                Some((char::from_u32(code)?, 12))
            }
            _ => None,
        },
        code => Some((char::from_u32(code)?, 6)),
    }
}

/// Open brackets, one bit each: set for an object.
#[derive(Default)]
struct Brackets {
    top: u64,
    depth: usize,
    /// Full words below.
    below: Vec<u64>,
}

impl Brackets {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(self.top);
            self.top = 0;
        }
        self.top = self.top << 1 | u64::from(is_object);
        self.depth += 1;
    }
    fn pop(&mut self) {
        self.depth -= 1;
        self.top >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.top = self.below.pop().unwrap_or(0);
        }
    }
    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.top & 1 == 1)
    }
    fn is_empty(&self) -> bool {
        self.depth == 0
    }
}
