//! Text of others on its way to somebody's terminal. Names, messages and captured bytes may hold what
//! a terminal obeys (escape sequences, control characters) or what makes a reader see another text
//! than is there (bidirectional overrides, invisible characters). One place decides what passes; JSON
//! is not text for people and has its own escapes.

use std::borrow::Cow;

/// An error and its causes in one line, each said once.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    causes_by(error, |text| text)
}

/// The same of errors whose further lines may show a part of what was read, and so a secret: the first line of each.
#[must_use]
pub fn first_lines(error: &dyn std::error::Error) -> String {
    causes_by(error, |text| text.lines().next().unwrap_or_default())
}

fn causes_by(error: &dyn std::error::Error, shown: fn(&str) -> &str) -> String {
    let mut text = shown(&error.to_string()).to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let below = error.to_string();
        let below = shown(&below);
        if !text.contains(below) {
            text.push_str(": ");
            text.push_str(below);
        }
        cause = error.source();
    }
    text
}

/// The text of a panic, as far as it has one.
#[must_use]
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
        .to_owned()
}

/// What stands for a character that would not be seen.
const REPLACEMENT: char = '\u{FFFD}';

/// The character, or what stands for it: a blank for controls and line ends, U+FFFD for what is
/// invisible or turns the direction. Always one for one, so that columns stay where they are.
#[must_use]
pub fn printable(c: char) -> char {
    match c {
        // C0, DEL and C1; line and paragraph separators.
        _ if c.is_control() => ' ',
        '\u{2028}' | '\u{2029}' => ' ',
        // Direction marks, embeddings, overrides and isolates.
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => REPLACEMENT,
        // Zero width and other format characters, interlinear annotations, tags.
        '\u{00AD}'
        | '\u{034F}'
        | '\u{115F}'
        | '\u{1160}'
        | '\u{17B4}'
        | '\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200D}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206A}'..='\u{206F}'
        | '\u{3164}'
        | '\u{FEFF}'
        | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}' => REPLACEMENT,
        _ => c,
    }
}

/// One line: nothing in it moves a cursor.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    map(text, printable)
}

/// Our own lines with others' words in them: line ends and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    map(text, |c| if matches!(c, '\n' | '\t') { c } else { printable(c) })
}

fn map(text: &str, each: impl Fn(char) -> char) -> Cow<'_, str> {
    if text.chars().all(|c| each(c) == c) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(each).collect())
}

/// The byte-order mark of UTF-8 text.
pub const BOM: char = '\u{FEFF}';

/// Text without the byte-order mark that some editors and exports put before it.
#[must_use]
pub fn without_bom(text: &str) -> &str {
    text.strip_prefix(BOM).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a terminal obeys or a reader does not see gets through, and columns do not move;
    /// catches C1 controls, which are two bytes of UTF-8, and marks beyond the common overrides.
    #[test]
    fn what_passes() {
        for (text, want) in [
            ("cart\u{1b}[2J", "cart [2J"),
            ("a\u{9b}31mb", "a 31mb"),
            ("a\r\nb\u{7f}\0", "a  b  "),
            ("x\u{202e}gpj.exe\u{2066}", "x\u{FFFD}gpj.exe\u{FFFD}"),
            ("a\u{200b}b\u{e0041}c\u{feff}", "a\u{FFFD}b\u{FFFD}c\u{FFFD}"),
            ("a\u{2028}b", "a b"),
            ("Très bien — 日本 \u{1F600} e\u{301}", "Très bien — 日本 \u{1F600} e\u{301}"),
        ] {
            assert_eq!(line(text), want);
            assert_eq!(line(text).chars().count(), text.chars().count());
        }
        assert_eq!(lines("a\n\tb\u{1b}c\r"), "a\n\tb c ");
        assert_eq!(without_bom("\u{feff}x\u{feff}"), "x\u{feff}");
    }
}
