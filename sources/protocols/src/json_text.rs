//! JSON text of bounded size: strings are cut where there is no room, structure stays whole.
//!
//! A column shows so many bytes of strings in all. What comes then is there with empty strings, so
//! that elements can be counted, until structure alone has [`STRUCTURE_BYTES_MAX`].

/// Longest text beside strings' bytes; behind it elements are left out.
pub(crate) const STRUCTURE_BYTES_MAX: usize = 16 * 1024;

/// Writes JSON to the end of a buffer.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    out: Vec<u8>,
    from: usize,
    string_bytes: usize,
    string_bytes_left: usize,
    more_structure_bytes: usize,
}

impl JsonText {
    /// `string_bytes_max`: for all strings together.
    pub(crate) fn new(out: Vec<u8>, string_bytes_max: usize) -> JsonText {
        let from = out.len();
        let string_bytes_left = string_bytes_max;
        JsonText { out, from, string_bytes: 0, string_bytes_left, more_structure_bytes: 0 }
    }

    /// For columns that are longer than others.
    pub(crate) fn with_more_structure(mut self, bytes: usize) -> JsonText {
        self.more_structure_bytes = bytes;
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn string_bytes_left(&self) -> usize {
        self.string_bytes_left
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// No more elements: those that were begun are to be ended.
    pub(crate) fn is_full(&self) -> bool {
        (self.out.len() - self.from).saturating_sub(self.string_bytes)
            > STRUCTURE_BYTES_MAX.saturating_add(self.more_structure_bytes)
    }

    /// Structure, or a number: as it is.
    pub(crate) fn raw(&mut self, text: &str) -> &mut JsonText {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// A comma, unless an array, an object or the text begins here.
    pub(crate) fn comma(&mut self) -> &mut JsonText {
        let begins = self.out.len() == self.from
            || matches!(self.out.last(), Some(b'[' | b'{' | b':' | b','));
        self.raw(if begins { "" } else { "," })
    }

    /// A member's name, which is ours: short and plain.
    pub(crate) fn key(&mut self, name: &str) -> &mut JsonText {
        self.comma().raw("\"").raw(name).raw("\":")
    }

    pub(crate) fn int(&mut self, value: impl itoa::Integer) -> &mut JsonText {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut JsonText {
        self.raw(if value { "true" } else { "false" })
    }

    /// Text of others as a string, cut where there is no room.
    pub(crate) fn string(&mut self, text: &[u8]) -> &mut JsonText {
        let shown = cut(text, self.string_bytes_left);
        self.string_bytes_left -= shown.len();
        self.whole(shown)
    }

    /// The same, never cut: for what is short by its protocol.
    pub(crate) fn whole(&mut self, text: &[u8]) -> &mut JsonText {
        self.raw("\"");
        let from = self.out.len();
        push_json_text(&mut self.out, text);
        self.string_bytes += self.out.len() - from;
        self.raw("\"")
    }
}

/// The first bytes of a text, at most `bytes_max`, without a part of a character at the end.
pub(crate) fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    if text.len() <= bytes_max {
        return text;
    }
    &text[..character_start(text, bytes_max)]
}

/// The last position up to `at` that does not split a character.
pub(crate) fn character_start(text: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (at.saturating_sub(3)..=at).rev().find(is_start).unwrap_or(at)
}

/// Appends text as the inside of a JSON string; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn push_json_text(out: &mut Vec<u8>, bytes: &[u8]) {
    // Looks at all bytes whatever it finds: so it looks at many at once.
    let is_plain = bytes.iter().fold(true, |plain, &byte| {
        plain & (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
    });
    if is_plain {
        out.extend_from_slice(bytes);
        return;
    }
    for character in String::from_utf8_lossy(bytes).chars() {
        let escaped: &[u8] = match character {
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\n' => b"\\n",
            '\r' => b"\\r",
            '\t' => b"\\t",
            control if u32::from(control) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
                continue;
            }
            other => {
                out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        out.extend_from_slice(escaped);
    }
}

/// Appends bytes as base64, with its `=`.
pub(crate) fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - part.len()));
        for digit in 0..4 {
            match digit <= part.len() {
                true => out.push(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]),
                false => out.push(b'='),
            }
        }
    }
}
