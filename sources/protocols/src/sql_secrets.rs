//! Passwords within SQL statements, which nobody shall keep.
//!
//! A literal behind `PASSWORD` or `IDENTIFIED … BY` (or `AS`) is replaced, also one that was cut. It knows no grammar:
//! a column of that name that is set to a literal is hidden as well.

use crate::redact::REDACTED;

/// Words between the one that announces a password and its literal.
const WORDS_BETWEEN_MAX: usize = 6;

/// The statement without passwords; `None` if there are none.
pub(crate) fn redacted(statement: &[u8]) -> Option<Vec<u8>> {
    if !may_have(statement) {
        return None;
    }
    let mut out = Vec::with_capacity(statement.len());
    let (mut at, mut left, mut changed) = (0, 0, false);
    while at < statement.len() {
        let (kind, end) = token(statement, at);
        match kind {
            Kind::Word => {
                let word = &statement[at..end];
                left = match word {
                    _ if is(word, "identified") => WORDS_BETWEEN_MAX,
                    _ if is(word, "password") => 1,
                    _ if left == 1 && !is(word, "for") => 0,
                    _ => left.saturating_sub(usize::from(left > 1)),
                };
            }
            Kind::Literal if left > 0 => {
                out.push(statement[at]);
                out.extend_from_slice(REDACTED.as_bytes());
                out.push(statement[at]);
                (at, changed) = (end, true);
                continue;
            }
            // `PASSWORD = '…'`, `PASSWORD('…')`, `PASSWORD FOR name = '…'`.
            Kind::Other if b";,".contains(&statement[at]) => left = 0,
            Kind::Literal | Kind::Other | Kind::Blank => {}
        }
        out.extend_from_slice(&statement[at..end]);
        at = end;
    }
    changed.then_some(out)
}

fn is(word: &[u8], want: &str) -> bool {
    word.eq_ignore_ascii_case(want.as_bytes())
}

/// Whether one of the words is there: looks for rare letters first.
fn may_have(statement: &[u8]) -> bool {
    let has = |word: &[u8], first: [u8; 2]| {
        memchr::memchr2_iter(first[0], first[1], statement).any(|at| {
            statement.get(at..at + word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word))
        })
    };
    has(b"password", *b"pP") || has(b"identified", *b"iI")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Literal,
    Blank,
    Other,
}

/// What begins there, and where it ends.
fn token(text: &[u8], at: usize) -> (Kind, usize) {
    let run = |is: fn(&u8) -> bool| at + text[at..].iter().take_while(|byte| is(byte)).count();
    match text[at] {
        quote @ (b'\'' | b'"') => (Kind::Literal, literal_end(text, at + 1, quote)),
        b'$' => match dollar_end(text, at) {
            Some(end) => (Kind::Literal, end),
            None => (Kind::Other, at + 1),
        },
        byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
            (Kind::Word, run(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'))
        }
        byte if byte.is_ascii_whitespace() => (Kind::Blank, run(u8::is_ascii_whitespace)),
        _ => (Kind::Other, at + 1),
    }
}

/// A quote ends it, unless doubled or behind a backslash; or the text does.
fn literal_end(text: &[u8], mut at: usize, quote: u8) -> usize {
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `$tag$ … $tag$`.
fn dollar_end(text: &[u8], at: usize) -> Option<usize> {
    let is_tag = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    let tag_bytes = text[at + 1..].iter().take_while(is_tag).count();
    let tag = &text[at..at + 1 + tag_bytes];
    (text.get(at + 1 + tag_bytes) == Some(&b'$') && !tag.get(1).is_some_and(u8::is_ascii_digit))
        .then_some(())?;
    let from = at + tag_bytes + 2;
    let end = [tag, b"$"].concat();
    Some(
        memchr::memmem::find(&text[from..], &end)
            .map_or(text.len(), |found| from + found + end.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::redacted;

    /// Passwords of users are in no statement, however they are quoted or cut; other literals stay.
    #[test]
    fn passwords_of_users_are_hidden() {
        let cases = [
            ("ALTER USER a WITH PASSWORD 's3'", "ALTER USER a WITH PASSWORD '<REDACTED>'"),
            ("create role a password $x$s3$x$ login", "create role a password $<REDACTED>$ login"),
            ("SET PASSWORD FOR 'u'@'h' = PASSWORD('s3')", ""),
            ("CREATE USER 'u'@'h' IDENTIFIED BY 's3', v IDENTIFIED BY 's4'", ""),
            ("ALTER USER u IDENTIFIED WITH mysql_native_password AS 's3'", ""),
            ("ALTER USER u IDENTIFIED VIA ed25519 USING PASSWORD('s3')", ""),
            ("ALTER USER a PASSWORD 's3 and it is cut", "ALTER USER a PASSWORD '<REDACTED>'"),
            ("ALTER USER a PASSWORD 's3''s3\\'s3' VALID UNTIL '2030-01-01'", ""),
            ("CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'bob', password 's3')", ""),
        ];
        for (text, want) in cases {
            let shown = String::from_utf8(redacted(text.as_bytes()).unwrap()).unwrap();
            assert!(want.is_empty() || shown == want, "{shown}");
            assert!(
                shown.contains("<REDACTED>") && !shown.contains("s3") && !shown.contains("s4"),
                "{shown}"
            );
        }
        for text in [
            "SELECT 'password'",
            "SELECT password FROM t WHERE id = 's'",
            "INSERT INTO t VALUES ('a')",
        ] {
            assert_eq!(redacted(text.as_bytes()), None, "{text}");
        }
    }
}
