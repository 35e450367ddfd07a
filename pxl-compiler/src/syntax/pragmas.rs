//! `#px:set key=value` lines: settings of a query, read from comments.

use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::hint;

const PREFIX: &str = "#px:set ";
const KEYS: [&str; 3] = ["explain", "analyze", "max_output_rows_per_table"];

/// What a script sets for its own run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pragmas {
    pub explain: bool,
    pub analyze: bool,
    /// Rows shown per output; `None`: all of them.
    pub max_output_rows_per_table: Option<u64>,
}

pub(crate) fn read(text: &str, findings: &Findings) -> Pragmas {
    let mut pragmas = Pragmas::default();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(pair) = line.strip_prefix(PREFIX) {
            let end = at + line.trim_end().len();
            let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            let span = Span { source: SourceId::Script, start: offset(at), end: offset(end) };
            if let Err(diag) = set(&mut pragmas, pair.trim_end_matches(['\r', '\n']), span) {
                findings.push(diag);
            }
        }
        at += line.len();
    }
    pragmas
}

fn set(pragmas: &mut Pragmas, pair: &str, span: Span) -> Result<(), Diag> {
    let malformed = || {
        let hint = format!("write `{PREFIX}key=value` without further blanks");
        Diag::error(Code::Pragma, span, format!("malformed pragma '{pair}'")).hint(hint)
    };
    let (key, value) = pair.split_once('=').ok_or_else(malformed)?;
    if pair.contains(' ') {
        return Err(malformed());
    }
    let flag = || value.parse::<bool>().map_err(|_| malformed());
    match key {
        "explain" => pragmas.explain = flag()?,
        "analyze" => pragmas.analyze = flag()?,
        "max_output_rows_per_table" => {
            pragmas.max_output_rows_per_table = Some(value.parse().map_err(|_| malformed())?);
        }
        _ => {
            let all = format!("the keys are {}", KEYS.join(", "));
            let hint = hint::did_you_mean(key, KEYS, &all);
            return Err(
                Diag::error(Code::Pragma, span, format!("unknown pragma '{key}'")).hint(hint)
            );
        }
    }
    Ok(())
}
