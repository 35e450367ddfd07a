//! What the compiler and the checks say about a user's text: code, span, label and hint. The JSON
//! form is the contract's.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding. Lines and columns count from 1, columns in characters; all four are 0 when there is
/// no place in the text to point at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable snake_case identifier, for example `column_not_found`.
    pub code: String,
    pub severity: Severity,
    pub message: String,
    #[serde(default)]
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
    /// What to write at the underlined place.
    #[serde(default)]
    pub label: String,
    /// What to do; may be empty.
    #[serde(default)]
    pub hint: String,
}

impl Diagnostic {
    /// An error about a file as a whole, at no place in it.
    #[must_use]
    pub fn of_file(code: &str, file: &str, message: String) -> Diagnostic {
        Diagnostic {
            code: code.to_string(),
            severity: Severity::Error,
            message,
            file: file.to_string(),
            line: 0,
            column: 0,
            end_line: 0,
            end_column: 0,
            label: String::new(),
            hint: String::new(),
        }
    }
}
