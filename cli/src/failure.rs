//! How a command ends when it does not end well: what is printed and with which exit status.

use std::process::ExitCode;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is "no": script error, check failed, cannot trace. What there is to say has been
    /// said already where the text is empty.
    No(String),
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
            Failure::No(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Interrupted => 130,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    #[expect(clippy::print_stderr, reason = "a command's error goes to stderr")]
    pub(crate) fn print(&self) {
        match self {
            Failure::No(text) if text.is_empty() => {}
            Failure::Interrupted => {}
            Failure::No(text) | Failure::Usage(text) | Failure::Unreachable(text) => {
                eprintln!("weir: {text}");
            }
        }
    }
}

/// An error and its causes, outermost first, in one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::No(format!("{error:#}"))
    }
}
