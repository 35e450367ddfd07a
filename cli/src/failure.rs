//! How a command ends when it does not end well: what is printed and with which exit status.

use std::process::ExitCode;

use weir_types::Diagnostic;

use crate::output;
use crate::script::Source;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is "no": script error, check failed, cannot trace. What there is to say has been
    /// said already where the text is empty.
    No(String),
    /// The answer is "no" because of what is wrong with a script.
    Script {
        message: String,
        diagnostics: Vec<Diagnostic>,
    },
    /// Wrong usage.
    Usage(String),
    /// The server cannot be reached.
    Unreachable(String),
    Interrupted,
}

impl Failure {
    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::No(_) | Failure::Script { .. } => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Interrupted => 130,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    /// With snippets of the script where it is at hand.
    pub(crate) fn print(&self, script: Option<&Source>) {
        match self {
            Failure::No(text) if text.is_empty() => {}
            Failure::Interrupted => {}
            Failure::No(text) | Failure::Usage(text) | Failure::Unreachable(text) => {
                output::note(&format!("weir: {text}"));
            }
            Failure::Script { message, diagnostics } => {
                let unknown = Source::default();
                output::print_diagnostics(diagnostics, &script.unwrap_or(&unknown).script());
                output::note(&format!("weir: {message}"));
            }
        }
    }

    /// Says what is wrong with this script; what remains is that the answer is "no".
    pub(crate) fn told(self, script: &Source) -> Failure {
        match self {
            Failure::Script { .. } => {
                self.print(Some(script));
                Failure::No(String::new())
            }
            other => other,
        }
    }
}

/// An error and its causes, outermost first, in one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::No(format!("{error:#}"))
    }
}
