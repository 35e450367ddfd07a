//! Requests and responses as the columns have them: one document each, without secrets.
//!
//! What the old messages say is written like the commands that took their place.

use std::borrow::Cow;

use super::bson::{Document, Element, Reader, Stop, Value, elements};
use super::json::{Hidden, PROOFS, write_document, write_members};
use super::packed::packed;
use super::parse::{Message, Msg, Query, Reply, message};
use super::types::{
    Answer, Asked, COMMAND_BYTES_MAX, HEAD_BYTES, Head, MORE_STRUCTURE_BYTES, OP_COMPRESSED,
    REPLY_FAILED,
};
use crate::Config;
use crate::cursor::Cursor;
use crate::json_text::{JsonText, cut};
use crate::redact::{REDACTED, Text};

const OK: &str = "ok";
const ERROR: &str = "error";
/// A collection that takes commands.
const COMMANDS: &[u8] = b"$cmd";
/// A query in a wrapper that says how it is to be done.
const WRAPPER: &[u8] = b"$query";
/// Commands that hold what proves who somebody is.
const LOGINS: [&[u8]; 7] = [
    b"saslStart",
    b"saslContinue",
    b"authenticate",
    b"createUser",
    b"updateUser",
    b"copydb",
    b"copydbsaslstart",
];
/// Only steps of a login are answered with it.
const LOGIN_STEP: &[u8] = b"conversationId";

/// What columns are made with.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) config: &'a Config,
}

/// A message's kind, its bytes behind the head as far as they are there, and how many it has. `None`: it
/// cannot be unpacked.
fn opened<'a>(head: &Head, frame: &'a [u8]) -> Option<(u32, Cow<'a, [u8]>, usize)> {
    let behind_head = frame.get(HEAD_BYTES..)?;
    if head.op_code == OP_COMPRESSED {
        let packed = packed(behind_head)?;
        return Some((packed.op_code, Cow::Owned(packed.unpack()), packed.total_bytes()));
    }
    let total = usize::try_from(head.total_bytes).ok()?.checked_sub(HEAD_BYTES)?;
    Some((head.op_code, Cow::Borrowed(behind_head), total))
}

/// Database and collection.
fn namespace(name: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'.', name) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (name, &[]),
    }
}

fn first_name<'a>(document: &Document<'a>) -> Option<&'a [u8]> {
    let mut cursor = Cursor::new(document.inside);
    cursor.skip(1)?;
    cursor.until_zero()
}

impl Maker<'_> {
    /// A request. `None`: the message is none.
    pub(super) fn request(self, head: &Head, frame: &[u8]) -> Option<Asked> {
        let unread = Asked { is_unread: true, ..Asked::default() };
        let Some((op_code, bytes, total)) = opened(head, frame) else { return Some(unread) };
        let message = match message(op_code, &bytes, total) {
            Ok(message) => message,
            Err(Stop::Invalid) if head.op_code != OP_COMPRESSED => return None,
            Err(_) => return Some(unread),
        };
        Some(match message {
            Message::Msg(msg) => self.msg_request(&msg),
            Message::Query(query) => self.query(&query),
            Message::Reply(_) | Message::Other => unread,
            old => self.old(&old),
        })
    }

    fn json(self) -> JsonText {
        let mut json = JsonText::new(Vec::new(), self.config.body_bytes_max)
            .with_more_structure(MORE_STRUCTURE_BYTES);
        json.raw("{");
        json
    }

    fn finish(self, mut json: JsonText) -> Vec<u8> {
        json.raw("}");
        let mut text = json.finish();
        self.config.redactor.redact_body(&mut text, 0, Text::Json);
        text.shrink_to_fit();
        text
    }

    /// What of a document is hidden.
    fn hidden(self, is_login: bool) -> Hidden {
        let redactor = &self.config.redactor;
        match is_login {
            _ if redactor.hides_bodies() => Hidden::All,
            _ if redactor.hides_nothing() => Hidden::Nothing,
            true => Hidden::Named(PROOFS),
            false => Hidden::Named(&[]),
        }
    }

    /// Begins a member. False if its value is hidden.
    fn begins(self, json: &mut JsonText, name: &[u8]) -> bool {
        json.comma().whole(name).raw(":");
        let shows = !self.config.redactor.hides_bodies();
        if !shows {
            json.whole(REDACTED.as_bytes());
        }
        shows
    }

    fn text(self, json: &mut JsonText, name: &str, text: &[u8]) {
        if self.begins(json, name.as_bytes()) {
            json.string(text);
        }
    }

    fn int(self, json: &mut JsonText, name: &str, number: i64) {
        if self.begins(json, name.as_bytes()) {
            json.int(number);
        }
    }

    fn documents(self, json: &mut JsonText, name: &[u8], mut documents: Reader<'_>) {
        if !self.begins(json, name) {
            return;
        }
        json.raw("[");
        while !documents.is_empty() && !json.is_full() {
            let Ok(document) = documents.document() else { break };
            write_document(json, document, Hidden::Nothing);
        }
        json.raw("]");
    }

    /// The body and the sequences of an OP_MSG as one object.
    fn msg(self, msg: &Msg<'_>, body: Document<'_>, hidden: Hidden) -> Vec<u8> {
        let mut json = self.json();
        write_members(&mut json, body, hidden);
        for sequence in &msg.sequences {
            self.documents(&mut json, sequence.name, sequence.documents);
        }
        self.finish(json)
    }

    fn msg_request(self, msg: &Msg<'_>) -> Asked {
        let is_one_way = msg.has_more();
        let body = msg.body.and_then(|body| Some((body, first_name(&body)?)));
        let Some((body, command)) = body else {
            return Asked { is_unread: true, is_one_way, ..Asked::default() };
        };
        let hidden = self.hidden(LOGINS.contains(&command));
        Asked {
            command: cut(command, COMMAND_BYTES_MAX).to_vec(),
            body: self.msg(msg, body, hidden),
            is_one_way,
            ..Asked::default()
        }
    }

    fn query(self, query: &Query<'_>) -> Asked {
        let (database, collection) = namespace(query.of);
        let is_command = collection == COMMANDS;
        let mut json = self.json();
        let command = if is_command {
            let Some(command) = first_name(&query.query) else {
                return Asked { is_unread: true, ..Asked::default() };
            };
            self.command(&mut json, &query.query, command);
            command
        } else {
            self.text(&mut json, "query", collection);
            self.document(&mut json, "filter", query.query);
            if let Some(fields) = query.fields {
                self.document(&mut json, "projection", fields);
            }
            self.int(&mut json, "skip", i64::from(query.skip));
            self.int(&mut json, "batchSize", i64::from(query.count));
            b"query"
        };
        let has_database = || elements(query.query).any(|element| element.name == b"$db");
        if !is_command || !has_database() {
            self.text(&mut json, "$db", database);
        }
        Asked {
            command: cut(command, COMMAND_BYTES_MAX).to_vec(),
            body: self.finish(json),
            is_exhaust: query.is_exhaust(),
            is_command,
            ..Asked::default()
        }
    }

    /// The members of a command that is sent as a query.
    fn command(self, json: &mut JsonText, query: &Document<'_>, command: &[u8]) {
        let wrapped = elements(*query).find_map(|element| match element.value {
            Value::Document(inner) if element.name == WRAPPER => first_name(&inner),
            _ => None,
        });
        let hidden = match wrapped {
            Some(inner) if LOGINS.contains(&inner) => match self.hidden(true) {
                Hidden::Named(_) => Hidden::Named(&[WRAPPER]),
                other => other,
            },
            _ => self.hidden(LOGINS.contains(&command)),
        };
        write_members(json, *query, hidden);
    }

    fn document(self, json: &mut JsonText, name: &str, document: Document<'_>) {
        if self.begins(json, name.as_bytes()) {
            write_document(json, document, Hidden::Nothing);
        }
    }

    /// What nothing answers, but for OP_GET_MORE.
    fn old(self, message: &Message<'_>) -> Asked {
        let mut json = self.json();
        let (command, to) = match message {
            Message::Insert { to, documents } => {
                self.text(&mut json, "insert", namespace(to).1);
                self.documents(&mut json, b"documents", *documents);
                ("insert", *to)
            }
            Message::Update { to, flags, which, change } => {
                self.text(&mut json, "update", namespace(to).1);
                if self.begins(&mut json, b"updates") {
                    json.raw("[{");
                    self.document(&mut json, "q", *which);
                    if let Some(change) = change {
                        self.document(&mut json, "u", *change);
                    }
                    json.key("upsert").bool(flags & 1 != 0).key("multi").bool(flags & 2 != 0);
                    json.raw("}]");
                }
                ("update", *to)
            }
            Message::Delete { to, flags, which } => {
                self.text(&mut json, "delete", namespace(to).1);
                if self.begins(&mut json, b"deletes") {
                    json.raw("[{");
                    self.document(&mut json, "q", *which);
                    json.key("limit").int(flags & 1).raw("}]");
                }
                ("delete", *to)
            }
            Message::GetMore { of, count, cursor } => {
                self.int(&mut json, "getMore", *cursor);
                self.text(&mut json, "collection", namespace(of).1);
                self.int(&mut json, "batchSize", i64::from(*count));
                ("getMore", *of)
            }
            Message::KillCursors { cursors } => {
                self.cursors(&mut json, *cursors);
                ("killCursors", &[][..])
            }
            Message::Msg(_) | Message::Reply(_) | Message::Query(_) | Message::Other => {
                ("", &[][..])
            }
        };
        if !to.is_empty() {
            self.text(&mut json, "$db", namespace(to).0);
        }
        Asked {
            command: command.as_bytes().to_vec(),
            body: self.finish(json),
            is_one_way: !matches!(message, Message::GetMore { .. }),
            ..Asked::default()
        }
    }

    /// They are of no database: the message names none.
    fn cursors(self, json: &mut JsonText, mut cursors: Reader<'_>) {
        if self.begins(json, b"killCursors") {
            json.raw("[");
            while !json.is_full()
                && let Ok(cursor) = cursors.u64()
            {
                json.comma().int(cursor as i64);
            }
            json.raw("]");
        }
    }

    /// A response to what was asked, if that is known. `None`: the message is none.
    pub(super) fn response(
        self,
        head: &Head,
        frame: &[u8],
        asked: Option<&Asked>,
    ) -> Option<Answer> {
        let request_id = head.request_id;
        let unread = Answer { request_id, is_unread: true, ..Answer::default() };
        let Some((op_code, bytes, total)) = opened(head, frame) else { return Some(unread) };
        let message = match message(op_code, &bytes, total) {
            Ok(message) => message,
            Err(Stop::Invalid) if head.op_code != OP_COMPRESSED => return None,
            Err(_) => return Some(unread),
        };
        let answer = match message {
            Message::Msg(msg) => self.msg_response(&msg),
            Message::Reply(reply) => self.reply(&reply, asked),
            _ => None,
        };
        Some(answer.map_or(unread, |answer| Answer { request_id, ..answer }))
    }

    fn answered(self, document: Document<'_>) -> Hidden {
        self.hidden(elements(document).any(|element| element.name == LOGIN_STEP))
    }

    fn msg_response(self, msg: &Msg<'_>) -> Option<Answer> {
        let body = msg.body?;
        Some(Answer {
            status: status(body),
            body: self.msg(msg, body, self.answered(body)),
            has_more: msg.has_more(),
            ..Answer::default()
        })
    }

    fn reply(self, reply: &Reply<'_>, asked: Option<&Asked>) -> Option<Answer> {
        let mut json = self.json();
        let mut documents = reply.documents;
        let first = if documents.is_empty() { None } else { Some(documents.document().ok()?) };
        let is_command = asked.is_none_or(|asked| asked.is_command);
        let mut found = OK;
        match first {
            Some(document) if is_command => {
                found = status(document);
                write_members(&mut json, document, self.answered(document));
            }
            _ => {
                let is_error = |document| elements(document).any(|element| element.name == b"$err");
                if first.is_some_and(is_error) {
                    found = ERROR;
                }
                self.int(&mut json, "cursorId", reply.cursor);
                self.int(&mut json, "startingFrom", i64::from(reply.from));
                self.documents(&mut json, b"documents", reply.documents);
            }
        }
        Some(Answer {
            status: if reply.flags & REPLY_FAILED != 0 { ERROR } else { found },
            body: self.finish(json),
            has_more: reply.cursor != 0 && asked.is_some_and(|asked| asked.is_exhaust),
            ..Answer::default()
        })
    }
}

/// What a response says of itself; nothing, if that part of it is not here.
fn status(document: Document<'_>) -> &'static str {
    let (mut ok, mut has_cursor) = (None, false);
    for Element { name, value } in elements(document) {
        match (name, value) {
            (b"errmsg" | b"$err", _) => return ERROR,
            (b"writeErrors", Value::Array(errors)) if !errors.inside.is_empty() => return ERROR,
            (b"ok", value) => ok = Some(is_one(value)),
            (b"cursor", _) => has_cursor = true,
            _ => {}
        }
    }
    match ok {
        Some(true) => OK,
        Some(false) => ERROR,
        // What failed has no cursor.
        None if has_cursor => OK,
        None if document.is_whole => ERROR,
        None => "",
    }
}

fn is_one(value: Value<'_>) -> bool {
    match value {
        Value::Double(number) => number == 1.0,
        Value::Int(number) => number == 1,
        Value::Bool(value) => value,
        _ => false,
    }
}
