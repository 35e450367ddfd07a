//! What waits for one reader of a view. Rows wait as they are, shared with everybody else's; text is made
//! of them where they leave ([`Outgoing::live`]).

use std::borrow::Cow;
use std::sync::Arc;

use weir_sinks::delivery::{Delivery, OutputInfo};
use weir_sinks::json::live::{LiveText, end_text, error_text, schema_body};

/// What a waiting message costs beside what it holds.
const MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// Something that was refused or went wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorNote {
    pub code: String,
    pub message: String,
    /// Further members of the JSON object, as they are; may be empty.
    pub members: String,
}

/// One message for a reader.
#[derive(Clone)]
pub enum Outgoing {
    /// An output, before its first rows. Readers of one view may have different descriptions of it.
    Schema(Arc<OutputInfo>),
    Delivery(Arc<Delivery>),
    Error(Arc<ErrorNote>),
    /// What something of the server is, as JSON; a later one takes its place.
    Status {
        of: &'static str,
        value: Arc<str>,
    },
    /// Nothing follows.
    End(Cow<'static, str>),
}

impl Outgoing {
    /// `members` are appended as they are.
    #[must_use]
    pub fn error(code: &str, message: &str, members: &str) -> Outgoing {
        Outgoing::Error(Arc::new(ErrorNote {
            code: code.to_string(),
            message: message.to_string(),
            members: members.to_string(),
        }))
    }

    /// What it costs while it waits.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let held = match self {
            Outgoing::Schema(info) => info.relation.columns.len() as u64 * 64,
            Outgoing::Delivery(delivery) => delivery.bytes(),
            Outgoing::Error(note) => (note.message.len() + note.members.len()) as u64,
            Outgoing::Status { value, .. } => 2 * value.len() as u64,
            Outgoing::End(reason) => reason.len() as u64,
        };
        held + MESSAGE_OVERHEAD_BYTES
    }

    /// Its messages of the live protocol.
    #[must_use]
    pub fn live(&self) -> Cow<'_, [LiveText]> {
        let one = |text: LiveText| Cow::Owned(vec![text]);
        match self {
            Outgoing::Schema(info) => one(LiveText::new("schema", schema_body(info))),
            Outgoing::Delivery(delivery) => Cow::Borrowed(delivery.live()),
            Outgoing::Error(note) => one(error_text(&note.code, &note.message, &note.members)),
            Outgoing::Status { of, value } => {
                one(LiveText::new("status", format!("\"status\":\"{of}\",\"value\":{value}}}")))
            }
            Outgoing::End(reason) => one(end_text(reason)),
        }
    }
}
