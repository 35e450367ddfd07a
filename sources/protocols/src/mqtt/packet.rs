//! Packets as rows show them: JSON of what they ask for or answer, and what they are to the other side.

use super::parse::{NoPacket, split};
use super::properties::{if_any, properties, string};
use super::recognise::{level, topics_level};
use super::session::Session;
use super::types::*;
use crate::cursor::Cursor;
use crate::json_text::{JsonText, cut};
use crate::redact::{REDACTED, Text};
use crate::{Config, Side};

/// Topics that a subscription's row shows at the most; the length of JSON bounds it as well.
const TOPICS_MAX: usize = 1_024;
/// Reason codes shown.
const REASONS_MAX: usize = 1_024;

/// Reads the packet of a side of which so many bytes are there.
pub(super) fn packet(
    bytes: &[u8],
    side: Side,
    session: &mut Session,
    config: &Config,
) -> Result<Packet, NoPacket> {
    let (fixed, body, _) = split(bytes)?;
    let is_whole = body.len() as u64 == fixed.body_bytes;
    if let Some(level) = told_level(fixed, body, is_whole, session.level()) {
        session.has_level(level);
    }
    let mut json = JsonText::new(Vec::new(), 0);
    json.raw("{");
    let cursor = Cursor::new(body);
    let mut reader = Reader { fixed, side, cursor, is_whole, session, config, json };
    let role = reader.read();
    let mut json = reader.json;
    json.raw("}");
    let mut body = json.finish();
    config.redactor.redact_pii(&mut body, 0);
    match role {
        Some(role) => Ok(Packet { kind: fixed.kind, role, body }),
        None if is_whole => Err(NoPacket::Invalid),
        None => Err(NoPacket::Cut),
    }
}

/// The protocol level that a packet says, or that it has to be of if none is known.
fn told_level(fixed: Fixed, body: &[u8], is_whole: bool, known: Option<u8>) -> Option<u8> {
    let by = |is_5: bool| Some(if is_5 { LEVEL_5 } else { LEVEL_4 });
    match fixed.kind {
        CONNECT => level(body),
        _ if known.is_some() => None,
        CONNACK | UNSUBACK => by(fixed.body_bytes > 2),
        PUBACK | PUBREC | PUBREL | PUBCOMP if fixed.body_bytes > 2 => Some(LEVEL_5),
        DISCONNECT if fixed.body_bytes > 0 => Some(LEVEL_5),
        AUTH => Some(LEVEL_5),
        SUBSCRIBE | UNSUBSCRIBE if is_whole => topics_level(fixed.kind, body.get(2..)?, None),
        PUBLISH if is_whole => {
            let mut cursor = Cursor::new(body);
            string(&mut cursor)?;
            cursor.skip(if fixed.qos() > 0 { 2 } else { 0 })?;
            // What looks like properties may be a payload.
            properties(PUBLISH, &mut cursor).is_none().then_some(LEVEL_4)
        }
        _ => None,
    }
}

struct Reader<'a> {
    fixed: Fixed,
    side: Side,
    cursor: Cursor<'a>,
    is_whole: bool,
    session: &'a mut Session,
    config: &'a Config,
    json: JsonText,
}

impl Reader<'_> {
    /// Writes what a packet says. `None`: too little of it is there, or it is none.
    fn read(&mut self) -> Option<Role> {
        let kind = self.fixed.kind;
        Some(match kind {
            CONNECT => return self.connect(),
            CONNACK => {
                self.cursor.skip(1)?;
                let code = self.cursor.u8()?;
                self.json.key("reason_code").int(code);
                Role::Answer((CONNACK, 0))
            }
            PUBLISH => return self.publish(),
            SUBSCRIBE | UNSUBSCRIBE => return self.topics(),
            PUBREL => Role::Request((PUBCOMP, self.packet_id()?)),
            PUBACK | PUBREC | PUBCOMP => {
                let id = self.packet_id()?;
                self.reason();
                Role::Answer((kind, id))
            }
            SUBACK | UNSUBACK => return self.reasons(),
            PINGREQ => Role::Ping,
            PINGRESP => Role::Pong,
            DISCONNECT => {
                // Why, if it is not the usual.
                if let Some(code) = self.cursor.u8().filter(|code| *code > 0) {
                    self.json.key("reason_code").int(code);
                }
                Role::OneWay
            }
            AUTH => {
                self.reason();
                Role::Auth
            }
            _ => return None,
        })
    }

    fn connect(&mut self) -> Option<Role> {
        let level = level(self.cursor.rest())?;
        string(&mut self.cursor)?;
        // Level, flags, and how long a client may be silent.
        self.cursor.skip(4)?;
        if level == LEVEL_5 {
            properties(CONNECT, &mut self.cursor)?;
        }
        // A will, a name and a password follow.
        let client_id = string(&mut self.cursor)?;
        self.json.key("client_id").whole(client_id);
        Some(Role::Request((CONNACK, 0)))
    }

    fn packet_id(&mut self) -> Option<u16> {
        let id = self.cursor.u16_be().filter(|id| *id > 0)?;
        self.json.key("packet_id").int(id);
        Some(id)
    }

    /// Version 5 leaves out the code of success; what was before has none.
    fn reason(&mut self) {
        match self.cursor.u8() {
            Some(code) => drop(self.json.key("reason_code").int(code)),
            None if self.is_whole && self.session.level() == Some(LEVEL_5) => {
                self.json.key("reason_code").int(0u8);
            }
            None => {}
        }
    }

    fn reasons(&mut self) -> Option<Role> {
        let id = self.packet_id()?;
        let found = if_any(self.fixed.kind, &mut self.cursor, self.session.level());
        if found.is_none() && self.is_whole {
            return None;
        }
        let codes = if found.is_some() { self.cursor.rest() } else { &[] };
        if !codes.is_empty() {
            self.json.key("reason_codes").raw("[");
            for code in codes.iter().take(REASONS_MAX) {
                self.json.comma().int(*code);
            }
            self.json.raw("]");
        }
        Some(Role::Answer((self.fixed.kind, id)))
    }

    fn publish(&mut self) -> Option<Role> {
        let fixed = self.fixed;
        let topic = string(&mut self.cursor)?;
        let (qos, mut id) = (fixed.qos(), 0);
        if qos > 0 {
            id = self.cursor.u16_be().filter(|id| *id > 0)?;
        }
        let found = if_any(PUBLISH, &mut self.cursor, self.session.level());
        let topic = match found {
            None if self.is_whole => return None,
            None => topic,
            Some(found) => match found.topic_alias {
                Some(alias) => self.session.topic(self.side, alias, topic),
                None => topic,
            },
        };
        self.json.key("topic").whole(topic).key("qos").int(qos);
        self.json.key("dup").bool(fixed.is_dup()).key("retain").bool(fixed.is_retained());
        if qos > 0 {
            self.json.key("packet_id").int(id);
        }
        // Where properties are cut, the payload is as well.
        let payload = if found.is_some() { self.cursor.rest() } else { &[] };
        self.payload(payload);
        Some(match qos {
            0 => Role::OneWay,
            1 => Role::Request((PUBACK, id)),
            _ => Role::Request((PUBREC, id)),
        })
    }

    fn payload(&mut self, payload: &[u8]) {
        self.json.key("payload");
        if self.config.redactor.hides_bodies() {
            self.json.whole(REDACTED.as_bytes());
            return;
        }
        let mut shown = cut(payload, self.config.body_bytes_max).to_vec();
        self.config.redactor.redact_body(&mut shown, 0, Text::Other);
        self.json.whole(&shown);
    }

    fn topics(&mut self) -> Option<Role> {
        let kind = self.fixed.kind;
        let id = self.cursor.u16_be().filter(|id| *id > 0)?;
        let found = if_any(kind, &mut self.cursor, self.session.level());
        if found.is_none() && self.is_whole {
            return None;
        }
        let mut qos = Vec::new();
        self.json.key("topics").raw("[");
        while found.is_some() && qos.len() < TOPICS_MAX && !self.json.is_full() {
            let Some(topic) = string(&mut self.cursor) else { break };
            self.json.comma().whole(topic);
            let options = if kind == SUBSCRIBE { self.cursor.u8() } else { None };
            qos.push(options.unwrap_or(0) & 3);
        }
        self.json.raw("]");
        if kind == SUBSCRIBE {
            self.json.key("qos").raw("[");
            for qos in qos {
                self.json.comma().int(qos);
            }
            self.json.raw("]");
        }
        self.json.key("packet_id").int(id);
        Some(Role::Request((kind + 1, id)))
    }
}
