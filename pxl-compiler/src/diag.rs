//! Findings while they are made: a code, a span, a message, a label and a hint. They become
//! [`Diagnostic`]s with lines and columns at the very end, when the texts are at hand.

use std::cell::{Cell, RefCell};

use ruff_text_size::TextRange;
use weir_types::{Diagnostic, Severity};

use crate::codes::Code;
use crate::limits::{ERRORS_MAX, MESSAGE_BYTES_MAX, WARNINGS_MAX};
use crate::syntax::lines::LineIndex;

/// Which of the texts of a compile a span points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SourceId {
    Script,
    Vis,
    /// A bundled PxL module.
    Views,
    /// The text of a recorded view, by its number in the compile.
    Named(u8),
    /// A value given from outside (script argument): nothing to point at.
    Outside,
}

/// A place in one of the texts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) source: SourceId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) const NONE: Span = Span { source: SourceId::Outside, start: 0, end: 0 };

    pub(crate) fn new(source: SourceId, range: TextRange) -> Span {
        Span { source, start: range.start().to_u32(), end: range.end().to_u32() }
    }
}

/// One finding.
#[derive(Clone, Debug)]
pub(crate) struct Diag {
    pub(crate) code: Code,
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) hint: String,
}

impl Diag {
    pub(crate) fn error(code: Code, span: Span, message: impl Into<String>) -> Diag {
        Diag {
            code,
            severity: Severity::Error,
            span,
            message: message.into(),
            label: String::new(),
            hint: String::new(),
        }
    }
    pub(crate) fn warning(code: Code, span: Span, message: impl Into<String>) -> Diag {
        Diag { severity: Severity::Warning, ..Diag::error(code, span, message) }
    }
    pub(crate) fn label(mut self, label: impl Into<String>) -> Diag {
        self.label = label.into();
        self
    }
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Diag {
        self.hint = hint.into();
        self
    }
}

/// Why an evaluation stopped.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Finding(Box<Diag>),
    /// It depends on something that was already reported.
    Poisoned,
}

impl From<Diag> for Stop {
    fn from(diag: Diag) -> Stop {
        Stop::Finding(Box::new(diag))
    }
}

pub(crate) type Res<T> = Result<T, Stop>;

/// Shorthand for the most frequent thing to do with a finding.
pub(crate) fn fail<T>(code: Code, span: Span, message: impl Into<String>) -> Res<T> {
    Err(Diag::error(code, span, message).into())
}

/// All findings of a compile. Shared by reference: evaluation, typing and passes all report.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: RefCell<Vec<Diag>>,
    errors: Cell<usize>,
    /// Those that are not kept.
    more: Cell<usize>,
}

impl Findings {
    pub(crate) fn push(&self, mut diag: Diag) {
        let mut all = self.all.borrow_mut();
        let errors = self.errors.get();
        let is_error = diag.severity == Severity::Error;
        let room = match is_error {
            true => errors < ERRORS_MAX,
            false => all.len() - errors < WARNINGS_MAX,
        };
        if !room {
            self.more.set(self.more.get() + 1);
            return;
        }
        for text in [&mut diag.message, &mut diag.label, &mut diag.hint] {
            cut(text);
        }
        let seen = all.iter().any(|have| {
            have.span == diag.span && have.code == diag.code && have.message == diag.message
        });
        if !seen {
            self.errors.set(errors + usize::from(is_error));
            all.push(diag);
        }
    }
    /// Reports why something stopped; what was reported before stays silent.
    pub(crate) fn stop(&self, stop: Stop) {
        if let Stop::Finding(diag) = stop {
            self.push(*diag);
        }
    }
    pub(crate) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }
    /// No further error would be kept: there is no use in looking for more.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.get() >= ERRORS_MAX
    }
    /// The same for warnings.
    pub(crate) fn has_all_warnings(&self) -> bool {
        self.all.borrow().len() - self.errors.get() >= WARNINGS_MAX
    }
    pub(crate) fn take(&self) -> Vec<Diag> {
        let (full, errors) = (self.is_full(), self.errors.replace(0));
        let mut all = self.all.take();
        all.sort_by_key(|diag| (diag.severity, diag.span));
        let more = self.more.replace(0);
        if more > 0 || full {
            let message = match full {
                true => format!("there may be more: compiling ended at {errors} errors"),
                false => format!("there are {more} more warnings"),
            };
            let hint = "mend these first";
            all.push(Diag::warning(Code::MoreFindings, Span::NONE, message).hint(hint));
        }
        all
    }
}

/// Long texts of scripts in messages help nobody.
fn cut(text: &mut String) {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
}

/// The texts of a compile, to turn spans into lines and columns.
pub(crate) struct Texts<'a> {
    pub(crate) file: &'a str,
    pub(crate) script: LineIndex<'a>,
    pub(crate) vis: Option<LineIndex<'a>>,
    /// Names of recorded views.
    pub(crate) named: Vec<&'a str>,
}

impl Texts<'_> {
    pub(crate) fn diagnostic(&self, diag: &Diag) -> Diagnostic {
        let (index, file) = match diag.span.source {
            SourceId::Script => (Some(&self.script), self.file.to_string()),
            SourceId::Vis => (self.vis.as_ref(), vis_name(self.file)),
            SourceId::Views => (None, "pxviews".to_string()),
            SourceId::Named(idx) => {
                (None, self.named.get(usize::from(idx)).copied().unwrap_or_default().to_string())
            }
            SourceId::Outside => (None, self.file.to_string()),
        };
        let at = |offset: u32| index.map_or((0, 0), |index| index.line_column(offset));
        let (line, column) = at(diag.span.start);
        let (end_line, end_column) = at(diag.span.end);
        Diagnostic {
            code: diag.code.name().to_string(),
            severity: diag.severity,
            message: diag.message.clone(),
            file,
            line,
            column,
            end_line,
            end_column,
            label: diag.label.clone(),
            hint: diag.hint.clone(),
        }
    }
}

/// The name under which findings in a script's vis.json are reported.
fn vis_name(file: &str) -> String {
    match file.rsplit_once('/') {
        Some((folder, last)) if last.ends_with(".pxl") => format!("{folder}/vis.json"),
        _ if file.ends_with(".pxl") => "vis.json".to_string(),
        _ => format!("{file}/vis.json"),
    }
}
