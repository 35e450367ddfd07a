//! Words of a template: texts between actions, and tokens inside of them.

use super::TemplateError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `if`, `humanize`, `true`, ….
    Word(String),
    /// `$x` or `$`.
    Variable(String),
    /// `.x`; empty for a lone dot.
    Field(String),
    Text(String),
    Int(i64),
    Float(f64),
    /// `:=`, `=`, `|`, `(`, `)`, `,`.
    Sign(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: usize,
    /// Stands right after the token before.
    pub(super) joined: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    Action { line: usize, tokens: Vec<Placed> },
}

/// Blanks of Go's templates.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

pub(super) fn lex(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut pieces = Vec::new();
    let mut trims_left = false;
    loop {
        let start = lexer.rest.find("{{");
        let (before, trims) = match start {
            None => (lexer.rest, false),
            Some(start) => {
                let after = &lexer.rest[start + 2..];
                let trims = after.starts_with('-') && after[1..].starts_with(BLANKS);
                (&lexer.rest[..start], trims)
            }
        };
        let text = if trims_left { before.trim_start_matches(BLANKS) } else { before };
        let text = if trims { text.trim_end_matches(BLANKS) } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_string()));
        }
        if start.is_none() {
            return Ok(pieces);
        }
        lexer.skip(before.len() + 2 + if trims { 2 } else { 0 });
        trims_left = lexer.action(&mut pieces)?;
    }
}

impl<'a> Lexer<'a> {
    fn error<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError { line: self.line, message: message.into() })
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        skipped
    }

    /// The end of an action, if it is here: how long it is, and whether it trims what follows.
    fn end(&self) -> Option<(usize, bool)> {
        if self.rest.starts_with("}}") {
            return Some((2, false));
        }
        let blank = self.rest.chars().next().filter(|c| BLANKS.contains(c))?;
        self.rest[blank.len_utf8()..].starts_with("-}}").then_some((4, true))
    }

    /// An action up to and with its end; says whether the text after it loses its blanks.
    fn action(&mut self, pieces: &mut Vec<Piece>) -> Result<bool, TemplateError> {
        let line = self.line;
        let blanks = self.rest.len() - self.rest.trim_start_matches(BLANKS).len();
        if self.rest[blanks..].starts_with("/*") {
            self.skip(blanks);
            let Some(end) = self.rest.find("*/") else { return self.error("unclosed comment") };
            self.skip(end + 2);
            // Go wants a comment to fill its action; blanks hurt nobody.
            let blanks = self.rest.len() - self.rest.trim_start_matches(BLANKS).len();
            if self.rest[blanks..].starts_with("}}") {
                self.skip(blanks);
            }
            let Some((bytes, trims)) = self.end() else {
                return self.error("comment ends before closing delimiter");
            };
            self.skip(bytes);
            return Ok(trims);
        }
        let mut tokens = Vec::new();
        let mut joined = false;
        loop {
            if let Some((bytes, trims)) = self.end() {
                self.skip(bytes);
                pieces.push(Piece::Action { line, tokens });
                return Ok(trims);
            }
            match self.rest.chars().next() {
                None => return Err(TemplateError { line, message: "unclosed action".to_string() }),
                Some(c) if BLANKS.contains(&c) => {
                    self.skip(1);
                    joined = false;
                }
                Some(c) => {
                    let line = self.line;
                    let token = self.token(c)?;
                    tokens.push(Placed { token, line, joined });
                    joined = true;
                }
            }
        }
    }

    fn token(&mut self, first: char) -> Result<Token, TemplateError> {
        for sign in [":=", "=", "|", "(", ")", ","] {
            if self.rest.starts_with(sign) {
                self.skip(sign.len());
                return Ok(Token::Sign(sign));
            }
        }
        let second = self.rest.chars().nth(1);
        match first {
            '"' => self.quoted(),
            '`' => {
                let Some(end) = self.rest[1..].find('`') else {
                    return self.error("unterminated raw quoted string");
                };
                let text = self.skip(end + 2);
                Ok(Token::Text(text[1..=end].to_string()))
            }
            '\'' => self.character(),
            '$' => {
                self.skip(1);
                Ok(Token::Variable(format!("${}", self.word())))
            }
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.skip(1);
                Ok(Token::Field(self.word().to_string()))
            }
            '0'..='9' | '+' | '-' => self.number(),
            c if c == '_' || c.is_alphabetic() => Ok(Token::Word(self.word().to_string())),
            c => self.error(format!("unexpected {c:?} in action")),
        }
    }

    /// Letters, digits and underscores; may be empty.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric());
        self.skip(end.unwrap_or(self.rest.len()))
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let mut end = 0;
        let mut before = ' ';
        for c in self.rest.chars() {
            // A sign stands at the start or after an exponent's letter.
            let hex = self.rest[..end].trim_start_matches(['+', '-']).starts_with("0x");
            let sign =
                matches!(c, '+' | '-') && (end == 0 || (matches!(before, 'e' | 'E') && !hex));
            if !(sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
                break;
            }
            before = c;
            end += c.len_utf8();
        }
        let written = self.skip(end);
        let text = written.replace('_', "");
        let (negative, digits) = match text.strip_prefix(['+', '-']) {
            Some(digits) => (text.starts_with('-'), digits),
            None => (false, text.as_str()),
        };
        let lower = digits.to_ascii_lowercase();
        let radix = |digits: &str, radix| i128::from_str_radix(digits, radix).ok();
        let whole = match lower.as_bytes() {
            [b'0', b'x', ..] => radix(&lower[2..], 16),
            [b'0', b'b', ..] => radix(&lower[2..], 2),
            [b'0', b'o', ..] => radix(&lower[2..], 8),
            [b'0', b'0'..=b'9', ..] => radix(&lower[1..], 8),
            _ => radix(&lower, 10),
        };
        let signed = whole.map(|whole| if negative { -whole } else { whole });
        if let Some(whole) = signed.and_then(|whole| i64::try_from(whole).ok()) {
            return Ok(Token::Int(whole));
        }
        let is_number = lower.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        match digits.parse::<f64>() {
            Ok(float) if is_number && float.is_finite() => {
                Ok(Token::Float(if negative { -float } else { float }))
            }
            _ => self.error(format!("bad number syntax: {written:?}")),
        }
    }

    fn character(&mut self) -> Result<Token, TemplateError> {
        let wrong = "malformed character constant";
        self.skip(1);
        let c = match self.rest.chars().next() {
            Some('\\') => match self.escape()? {
                Some(c) => c,
                None => return self.error(wrong),
            },
            Some(c) if c != '\'' && c != '\n' => {
                self.skip(c.len_utf8());
                c
            }
            _ => return self.error(wrong),
        };
        if !self.rest.starts_with('\'') {
            return self.error(wrong);
        }
        self.skip(1);
        Ok(Token::Int(i64::from(u32::from(c))))
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        self.skip(1);
        let mut text = String::new();
        loop {
            match self.rest.chars().next() {
                None | Some('\n') => return self.error("unterminated quoted string"),
                Some('"') => {
                    self.skip(1);
                    return Ok(Token::Text(text));
                }
                Some('\\') => match self.escape()? {
                    Some(c) => text.push(c),
                    None => return self.error("invalid syntax in a quoted string"),
                },
                Some(c) => {
                    self.skip(c.len_utf8());
                    text.push(c);
                }
            }
        }
    }

    /// An escape of Go's; none if there is no such one.
    fn escape(&mut self) -> Result<Option<char>, TemplateError> {
        self.skip(1);
        let Some(c) = self.rest.chars().next() else {
            return self.error("unterminated quoted string");
        };
        self.skip(c.len_utf8());
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                return Ok(match c {
                    'n' => Some('\n'),
                    't' => Some('\t'),
                    'r' => Some('\r'),
                    'a' => Some('\u{7}'),
                    'b' => Some('\u{8}'),
                    'f' => Some('\u{c}'),
                    'v' => Some('\u{b}'),
                    '\\' | '"' | '\'' => Some(c),
                    _ => None,
                });
            }
        };
        let Some(hex) = self.rest.get(..digits) else { return Ok(None) };
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        self.skip(digits);
        Ok(u32::from_str_radix(hex, 16).ok().and_then(char::from_u32))
    }
}
