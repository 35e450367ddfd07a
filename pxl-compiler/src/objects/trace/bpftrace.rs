//! The columns that a bpftrace program prints. Only its printf calls are read; the rest is for the
//! tracer.

use weir_types::{Column, DataType, Relation, SemanticType};

use crate::limits::FRAME_COLUMNS_MAX;

/// The columns of the table that the program fills, or why there are none.
///
/// All formats must be the same; it is split at blanks, and each piece with a `%` is a column, named
/// by what stands before the colon. The conversion gives the type: bpftrace refuses a program whose
/// arguments do not fit theirs.
pub(super) fn columns(program: &str) -> Result<Relation, String> {
    let calls = printf_calls(program);
    let Some(first) = calls.first() else {
        return Err("the program has no printf that gives the table's columns".to_string());
    };
    if calls.iter().any(|call| call.format != first.format) {
        return Err("all printf statements of a program must have the same format".to_string());
    }
    let mut columns: Vec<Column> = Vec::new();
    for piece in first.format.split_whitespace().filter(|piece| piece.contains('%')) {
        let (name, conversion) = match piece.split_once(':') {
            Some((name, conversion)) if !name.is_empty() && !name.contains('%') => {
                (name.to_string(), conversion)
            }
            _ => (format!("Column_{}", columns.len()), piece),
        };
        let is_text = is_text(conversion);
        let data_type = match (name.as_str(), is_text) {
            ("time_", true) => {
                return Err("the column time_ must be printed as an integer".to_string());
            }
            ("time_", false) => DataType::Time64Ns,
            (_, true) => DataType::String,
            (_, false) => DataType::Int64,
        };
        if columns.len() >= FRAME_COLUMNS_MAX {
            return Err(format!("the program prints more than {FRAME_COLUMNS_MAX} columns"));
        }
        if columns.iter().any(|have| have.name == name) {
            return Err(format!("the program prints column '{name}' twice"));
        }
        columns.push(Column::new(name, data_type, SemanticType::None));
    }
    if columns.is_empty() {
        return Err("the program's printf prints no column".to_string());
    }
    for call in &calls {
        if call.arguments != columns.len() {
            return Err(format!(
                "printf has {} columns in its format but {} arguments",
                columns.len(),
                call.arguments
            ));
        }
    }
    Ok(Relation::new(columns))
}

/// `%s`, `%r` and their forms with flags, width and precision.
fn is_text(conversion: &str) -> bool {
    let Some((_, rest)) = conversion.split_once('%') else { return false };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || "-+ #.*".contains(c));
    rest.starts_with(['s', 'r'])
}

#[derive(Debug, PartialEq, Eq)]
struct Printf {
    format: String,
    arguments: usize,
}

/// All `printf(…)` calls, outside comments and strings.
fn printf_calls(program: &str) -> Vec<Printf> {
    let bytes = program.as_bytes();
    let mut calls = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let next = skip_trivia(bytes, at);
        if next != at {
            at = next;
            continue;
        }
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = bytes[at..].iter().take_while(|byte| is_word(byte)).count();
        if &bytes[at..at + length] == b"printf"
            && let Some((call, end)) = printf_at(bytes, at + length)
        {
            calls.push(call);
            at = end;
        } else {
            at += length.max(1);
        }
    }
    calls
}

/// The call whose `(` follows at `from`, and where it ends.
fn printf_at(bytes: &[u8], from: usize) -> Option<(Printf, usize)> {
    let mut at = skip_blanks(bytes, from);
    if bytes.get(at) != Some(&b'(') {
        return None;
    }
    at = skip_blanks(bytes, at + 1);
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let end = string_end(bytes, at);
    let format = unescaped(&bytes[at + 1..end.saturating_sub(1).max(at + 1)]);
    let (mut arguments, mut depth) = (0, 0_usize);
    at = end;
    while at < bytes.len() {
        let next = skip_trivia(bytes, at);
        if next != at {
            at = next;
            continue;
        }
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return Some((Printf { format, arguments }, at)),
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => arguments += 1,
            _ => {}
        }
        at += 1;
    }
    Some((Printf { format, arguments }, at))
}

fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The end of the comment or the string that begins at `from`, else `from`.
fn skip_trivia(bytes: &[u8], from: usize) -> usize {
    let rest = &bytes[from..];
    if rest.starts_with(b"//") {
        return from + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        let end = rest.windows(2).skip(2).position(|pair| pair == b"*/");
        return from + end.map_or(rest.len(), |end| end + 4);
    }
    if rest.starts_with(b"\"") { string_end(bytes, from) } else { from }
}

/// One beyond the closing quote of the string at `from`.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Blanks for `\n`, `\t` and `\r`, other escaped characters as they are.
fn unescaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 't' | 'r') | None => out.push(' '),
                Some(other) => out.push(other),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(program: &str) -> Result<Vec<(String, DataType)>, String> {
        let relation = columns(program)?;
        Ok(relation.columns.into_iter().map(|column| (column.name, column.data_type)).collect())
    }

    /// Columns and types of a program: catches string columns typed as integers, and printf in
    /// comments and strings.
    #[test]
    fn columns_of_a_program() {
        let text = r#"// printf("a:%d", 1)
            /* printf("b:%d", 2) */
            kprobe:x { @s = "printf(\"c:%d\", 3)"; my_printf("d:%d", 4);
              printf("time_:%llu pid:%u comm:%-16s %d\n", nsecs, pid, comm, f(1, (2, 3))); }"#;
        let wanted = [
            ("time_".to_string(), DataType::Time64Ns),
            ("pid".to_string(), DataType::Int64),
            ("comm".to_string(), DataType::String),
            ("Column_3".to_string(), DataType::Int64),
        ];
        assert_eq!(types(text).unwrap(), wanted);
    }

    /// What cannot be a table is refused with a reason.
    #[test]
    fn refused() {
        let reason = |text: &str| types(text).unwrap_err();
        assert!(reason("kprobe:x { @ = count(); }").contains("no printf"));
        assert!(reason(r#"printf("a:%d", 1); printf("b:%d", 1);"#).contains("same format"));
        assert!(reason(r#"printf("a:%d b:%d", 1);"#).contains("2 columns"));
        assert!(reason(r#"printf("a:%d a:%d", 1, 2);"#).contains("twice"));
        assert!(reason(r#"printf("time_:%s", strftime("%H", nsecs));"#).contains("integer"));
        assert!(reason(r#"printf("hello");"#).contains("no column"));
        for broken in ["printf(\"", "printf(\"\\", "printf(", "/*", "printf(\"%d\", (", "\""] {
            let _ = types(broken);
        }
    }
}
