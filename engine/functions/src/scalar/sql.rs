//! SQL with its literals taken out, so that statements that differ in values only are the same.
//!
//! The statement is parsed; each literal's place becomes a placeholder and its text, as written, a
//! parameter. What does not parse is an error text in the result, never an error of the query.

use std::ops::ControlFlow;

use arrow_array::ArrayRef;
use sqlparser::ast::{Value as SqlValue, ValueWithSpan, Visit, Visitor};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{ScalarDef, def, overloads};
use crate::cuts::{self, Cut};
use crate::json;
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "normalize_pgsql",
        overloads![S S => S, normalize_pgsql],
        &["sql", "command"],
        "JSON with the PostgreSQL statement, its literals replaced by $1, $2 …, and the literals; \
         the command is Query or Execute",
        "df.query = px.pluck(px.normalize_pgsql(df.req, df.req_cmd), 'query')",
    )
    .reads(READS),
    def(
        "normalize_mysql",
        overloads![S I => S, normalize_mysql],
        &["sql", "command"],
        "JSON with the MySQL statement, its literals replaced by ?, and the literals; the command \
         is 3 (Query) or 23 (StmtExecute)",
        "df.query = px.pluck(px.normalize_mysql(df.req_body, df.req_cmd), 'query')",
    )
    .reads(READS),
];

/// A statement is taken apart into tokens, and these into a tree.
const READS: u64 = 64;

const MYSQL_QUERY: i64 = 0x03;
const MYSQL_STMT_EXECUTE: i64 = 0x17;
/// Statements with more operators and keywords are refused: the parser nests a tree level per
/// operator of a chain, and walking and dropping the tree recurses.
const OPERATORS_MAX: usize = 500;

/// The parser reads what follows POSITION twice, so that nesting doubles the work each time.
const POSITIONS_MAX: usize = 8;

/// Longest statement: its tree takes a hundred times the room, and no protocol parser keeps as much.
const STATEMENT_BYTES_MAX: usize = 128 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Postgres,
    MySql,
}

fn normalize_pgsql(call: &Call<'_>) -> ArrayRef {
    let (sql, command) = (call.str(0), call.str(1));
    output::strings(call.rows, |row, out| {
        let sql = sql.get(row);
        let result = match command.get(row) {
            b"Query" => normalize(sql, false, Flavor::Postgres),
            b"Execute" => normalize(sql, true, Flavor::Postgres),
            _ => Err("cmd_code must be one of 'Query' or 'Execute'".to_string()),
        };
        push_result(out, &result);
    })
}

fn normalize_mysql(call: &Call<'_>) -> ArrayRef {
    let (sql, command) = (call.str(0), call.int(1));
    output::strings(call.rows, |row, out| {
        let sql = sql.get(row);
        let result = match command.get(row) {
            MYSQL_QUERY => normalize(sql, false, Flavor::MySql),
            MYSQL_STMT_EXECUTE => normalize(sql, true, Flavor::MySql),
            _ => Err(format!("cmd_code must be one of '{MYSQL_QUERY}' or '{MYSQL_STMT_EXECUTE}'")),
        };
        push_result(out, &result);
    })
}

struct Normalized {
    query: String,
    params: Vec<String>,
}

fn push_result(out: &mut Vec<u8>, result: &Result<Normalized, String>) {
    match result {
        Err(error) => {
            out.extend_from_slice(b"{\"error\":");
            json::push_quoted(out, error.as_bytes());
        }
        Ok(Normalized { query, params }) => {
            out.extend_from_slice(b"{\"query\":");
            json::push_quoted(out, query.as_bytes());
            out.extend_from_slice(b",\"params\":[");
            for (idx, param) in params.iter().enumerate() {
                if idx > 0 {
                    out.push(b',');
                }
                json::push_quoted(out, param.as_bytes());
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// `query=[…] params=[…]`, as the protocol parsers write an execution: the statement and values.
fn split_execution(text: &str) -> (&str, Vec<&str>) {
    let text = text.strip_prefix("query=[").unwrap_or(text);
    let Some((query, params)) = text.rsplit_once("] params=[") else {
        return (text.strip_suffix(']').unwrap_or(text), Vec::new());
    };
    let params = params.rsplit_once(']').map_or(params, |(params, _)| params);
    (query, if params.is_empty() { Vec::new() } else { params.split(", ").collect() })
}

fn normalize(text: &[u8], execution: bool, flavor: Flavor) -> Result<Normalized, String> {
    let text = std::str::from_utf8(text)
        .map_err(|_| "Invalid UTF-8 byte sequence in SQL query".to_string())?;
    let (sql, values) = if execution { split_execution(text) } else { (text, Vec::new()) };
    if sql.len() > STATEMENT_BYTES_MAX {
        cuts::note(Cut::Statement, 1);
        return Err(format!("statement has more than {STATEMENT_BYTES_MAX} bytes"));
    }
    let spots = literals(sql, flavor)?;
    let mut normalized = Normalized { query: String::with_capacity(sql.len()), params: Vec::new() };
    let (mut copied, mut unnamed) = (0, 0);
    for Spot { start, end, placeholder } in spots {
        let text = &sql[start..end];
        let param = match placeholder {
            None => text,
            Some(name) if name.starts_with('@') => continue,
            Some(name) => {
                let idx = match name.strip_prefix('$') {
                    Some(number) => number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)),
                    None => {
                        unnamed += 1;
                        Some(unnamed - 1)
                    }
                };
                let idx = idx.ok_or_else(|| format!("Placeholder {name} invalid"))?;
                values.get(idx).ok_or_else(|| {
                    "Query has more parameter placeholders in it than parameter values were \
                     passed in"
                        .to_string()
                })?
            }
        };
        normalized.query.push_str(&sql[copied..start]);
        normalized.params.push(param.to_string());
        match flavor {
            Flavor::Postgres => normalized.query.push_str(&format!("${}", normalized.params.len())),
            Flavor::MySql => normalized.query.push('?'),
        }
        copied = end;
    }
    normalized.query.push_str(&sql[copied..]);
    Ok(normalized)
}

/// A literal or placeholder in the text, in bytes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    start: usize,
    end: usize,
    /// Its text; `None` for a literal.
    placeholder: Option<String>,
}

/// All literals and placeholders of the statement, in order.
fn literals(sql: &str, flavor: Flavor) -> Result<Vec<Spot>, String> {
    let dialect: &dyn Dialect = match flavor {
        Flavor::Postgres => &PostgreSqlDialect {},
        Flavor::MySql => &MySqlDialect {},
    };
    // Literals are kept as written: their places are what is wanted.
    let tokens = Tokenizer::new(dialect, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| error.to_string())?;
    if tokens.iter().filter(|token| may_nest(token)).count() > OPERATORS_MAX {
        cuts::note(Cut::Statement, 1);
        return Err(format!("statement has more than {OPERATORS_MAX} operators and keywords"));
    }
    if tokens.iter().filter(|token| is_position(token)).count() > POSITIONS_MAX {
        cuts::note(Cut::Statement, 1);
        return Err(format!("statement has POSITION more than {POSITIONS_MAX} times"));
    }
    let texts = text_tokens(&tokens, flavor);
    let statements = Parser::new(dialect)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| error.to_string())?;
    if statements.is_empty() {
        return Err("no statement".to_string());
    }
    let mut finder = Finder { lines: Lines::of(sql), spots: Vec::new() };
    if statements.visit(&mut finder).is_break() {
        return Err("a literal could not be located".to_string());
    }
    let Finder { lines, mut spots } = finder;
    spots.sort_unstable();
    spots.dedup_by_key(|spot| spot.start);
    add_unvisited(&mut spots, &texts, &lines);
    Ok(spots)
}

/// A quoted text in the statement, and what stands before it.
struct TextToken {
    start: Location,
    end: Location,
    /// Another such text: both are one literal.
    after_text: bool,
    after_like: bool,
}

fn text_tokens(tokens: &[TokenWithSpan], flavor: Flavor) -> Vec<TextToken> {
    let (mut found, mut after_text, mut after_like) = (Vec::new(), false, false);
    for TokenWithSpan { token, span } in tokens {
        let is_text = match token {
            Token::Whitespace(_) => continue,
            Token::SingleQuotedString(_) => true,
            // A name to PostgreSQL.
            Token::DoubleQuotedString(_) => flavor == Flavor::MySql,
            _ => false,
        };
        if is_text {
            found.push(TextToken { start: span.start, end: span.end, after_text, after_like });
        }
        after_text = is_text;
        after_like = matches!(token, Token::Word(word) if word.keyword == Keyword::LIKE);
    }
    found
}

/// Texts that the parser joins to the literal before them, and patterns of `SHOW … LIKE`, which it
/// keeps as plain strings.
fn add_unvisited(spots: &mut Vec<Spot>, texts: &[TextToken], lines: &Lines) {
    for text in texts.iter().filter(|text| text.after_text || text.after_like) {
        let (Some(start), Some(end)) = (lines.offset(text.start), lines.offset(text.end)) else {
            continue;
        };
        let next = spots.partition_point(|spot| spot.start <= start);
        match next.checked_sub(1).map(|before| &mut spots[before]) {
            Some(before) if before.end >= end => {}
            Some(before) if text.after_text && before.placeholder.is_none() => before.end = end,
            _ if text.after_like => spots.insert(next, Spot { start, end, placeholder: None }),
            _ => {}
        }
    }
}

/// Tokens that are no plain names, values or separators.
fn may_nest(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE | Keyword::DEFAULT
        ),
        Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen
        | Token::Placeholder(_) => false,
        _ => true,
    }
}

fn is_position(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == Keyword::POSITION)
}

struct Finder {
    lines: Lines,
    spots: Vec<Spot>,
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        let placeholder = match &value.value {
            SqlValue::Placeholder(name) => Some(name.clone()),
            _ => None,
        };
        let place = (self.lines.offset(value.span.start), self.lines.offset(value.span.end));
        match place {
            (Some(start), Some(end)) if start < end => {
                self.spots.push(Spot { start, end, placeholder });
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }
}

/// Byte offsets of characters by line and column, both from 1.
struct Lines(Vec<Vec<usize>>);

impl Lines {
    fn of(text: &str) -> Lines {
        let mut lines = vec![Vec::new()];
        for (offset, ch) in text.char_indices() {
            if let Some(line) = lines.last_mut() {
                line.push(offset);
            }
            if ch == '\n' {
                lines.push(Vec::new());
            }
        }
        if let Some(line) = lines.last_mut() {
            line.push(text.len());
        }
        Lines(lines)
    }
    fn offset(&self, at: Location) -> Option<usize> {
        let line = self.0.get(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
        line.get(usize::try_from(at.column).ok()?.checked_sub(1)?).copied()
    }
}
