//! Columns of a row, and which words of a command are secrets.

use weir_types::BatchBuilder;
use weir_types::tables::RedisEventsRow;

use super::types::Command;
use crate::Config;
use crate::json_text::JsonText;
use crate::protocol::{RowOf, Rows};
use crate::redact::REDACTED;

/// What the words of a command are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Secrets {
    #[default]
    None,
    /// All are hidden, and stand as one.
    All { is_written: bool },
    /// The one behind `AUTH` is a password, or the two behind it are a user and one.
    BehindAuth { left: u8, with_user: bool },
    /// `CONFIG SET name value …`: the value of a name that is a secret's.
    Values { next_is_secret: bool },
    /// `ACL SETUSER`: rules that begin with a sign of passwords.
    Rules,
}

impl Secrets {
    pub(super) fn of(name: &[u8], config: &Config) -> Secrets {
        if config.redactor.hides_bodies() {
            return Secrets::All { is_written: false };
        }
        if config.redactor.hides_nothing() {
            return Secrets::None;
        }
        match name {
            b"AUTH" => Secrets::All { is_written: false },
            b"HELLO" => Secrets::BehindAuth { left: 0, with_user: true },
            b"MIGRATE" => Secrets::BehindAuth { left: 0, with_user: false },
            b"CONFIG" => Secrets::Values { next_is_secret: false },
            b"ACL" => Secrets::Rules,
            _ => Secrets::None,
        }
    }

    /// Appends a word, or what stands for it.
    pub(super) fn write(&mut self, json: &mut JsonText, word: &[u8]) {
        let hides = match self {
            Secrets::None => false,
            Secrets::All { is_written } => {
                if std::mem::replace(is_written, true) {
                    return;
                }
                true
            }
            Secrets::BehindAuth { left, with_user } => {
                let before = *left;
                *left = match before {
                    0 if word.eq_ignore_ascii_case(b"auth") => 1 + u8::from(*with_user),
                    0 if word.eq_ignore_ascii_case(b"auth2") => 2,
                    before => before.saturating_sub(1),
                };
                before == 1
            }
            Secrets::Values { next_is_secret } => {
                let hides = *next_is_secret;
                let is_secret = |part: &&[u8]| {
                    word.len() >= part.len()
                        && word.windows(part.len()).any(|at| at.eq_ignore_ascii_case(part))
                };
                let names: [&[u8]; 3] = [b"requirepass", b"masterauth", b"key-file-pass"];
                *next_is_secret = !hides && names.iter().any(is_secret);
                hides
            }
            Secrets::Rules => matches!(word.first(), Some(b'>' | b'<' | b'#' | b'!')),
        };
        json.comma();
        if hides {
            json.whole(REDACTED.as_bytes())
        } else {
            json.string(word)
        };
    }
}

/// The row of a command with its reply.
pub(super) fn write_row(
    rows: &mut dyn Rows,
    config: &Config,
    command: &Command,
    reply: &[u8],
    time_unix_ns: i64,
) {
    config.check_fault(&command.name);
    config.check_fault(&command.args);
    let latency = time_unix_ns.saturating_sub(command.begin_ns).max(0);
    let args = shown_args(config, command);
    let resp = config.shown(reply);
    rows.row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let row = RedisEventsRow { req_cmd: &command.name, req_args: &args, resp: &resp, latency };
        row.write(builder);
    });
}

/// The row of what the server sent of its own accord.
pub(super) fn write_push(rows: &mut dyn Rows, config: &Config, text: &[u8], time_unix_ns: i64) {
    let resp = config.shown(text);
    rows.push_row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let row = RedisEventsRow { req_cmd: b"PUSH", req_args: b"[]", resp: &resp, latency: 0 };
        row.write(builder);
    });
}

fn shown_args(config: &Config, command: &Command) -> Vec<u8> {
    let mut args = command.args.clone();
    config.redactor.redact_pii(&mut args, 0);
    args
}
