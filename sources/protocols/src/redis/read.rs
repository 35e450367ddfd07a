//! One direction of a connection, token by token: messages of any size, split or cut anywhere.
//!
//! What a row shows is written while tokens come; nothing else of a message is kept.

mod building;

use self::building::Building;
use super::parse::{Read, Token, is_reply, is_request, line, opening, token};
use super::types::{Command, DEPTH_MAX, Reply};
use crate::frames::{Doubt, Found, Loss, Place, hunt};
use crate::stream::StreamBuffer;
use crate::{Config, Side};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Token,
    /// So many bytes of a string, its line end included, are still to be stepped over.
    Skipping(u64),
    /// Within a message that was given as far as it was seen.
    Broken,
    Hunting,
}

/// What came of a look at the stream.
#[derive(Debug)]
pub(super) enum Next {
    Wait,
    Command(Box<Command>),
    Reply(Reply),
    Lost(Missing),
}

/// Messages are missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) loss: Loss,
    /// At least so many; `None`: what is there was not understood, and may be anything.
    pub(super) at_least: Option<u64>,
    /// They begin within one that was given.
    pub(super) is_within: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    at: At,
    building: Option<Box<Building>>,
    doubt: Doubt,
    /// Where the last message ended, or what is known of it.
    ended_at: u64,
    /// Its end is missing.
    is_broken: bool,
    /// What is missing in front of the present one.
    before: Before,
    /// Commands were written as lines.
    has_lines: bool,
}

/// What is missing in front of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    pub(super) bytes: u64,
    /// They begin with the rest of the message before.
    pub(super) is_rest: bool,
}

impl Reader {
    pub(super) fn new(side: Side, from_start: bool) -> Reader {
        let at = if from_start { At::Token } else { At::Hunting };
        let doubt = Doubt::new(from_start);
        Reader {
            side,
            at,
            building: None,
            doubt,
            ended_at: 0,
            is_broken: false,
            before: Before::default(),
            has_lines: false,
        }
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.doubt.is_wrong()
    }

    /// What is missing in front of the message that was given last.
    pub(super) fn before(&self) -> Before {
        self.before
    }

    /// Where the last message ended, or what is known of it.
    pub(super) fn ended_at(&self) -> u64 {
        self.ended_at
    }

    /// What is missing in front of the message that begins in front of the stream.
    fn before_next(&self, stream: &StreamBuffer) -> Before {
        let bytes = stream.position().saturating_sub(self.ended_at);
        Before { bytes, is_rest: self.is_broken }
    }

    pub(super) fn has_lines(&self) -> bool {
        self.has_lines
    }

    fn ends(&mut self, stream: &StreamBuffer, is_broken: bool) {
        (self.ended_at, self.is_broken) = (stream.position(), is_broken);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.building.as_ref().map_or(0, |building| building.held_bytes())
    }

    /// Whether a message begins in front of the stream. `false`: it is within one, or nothing is there.
    pub(super) fn is_at_message(&self, stream: &StreamBuffer) -> bool {
        self.building.is_none() && self.at == At::Token && !stream.unread().is_empty()
    }

    /// Steps on to where a message begins, if the stream is not within one; what is lost by that.
    pub(super) fn find_message(
        &mut self,
        stream: &mut StreamBuffer,
        now_unix_ns: i64,
    ) -> Option<Missing> {
        match self.at {
            At::Hunting => self.hunt(stream, now_unix_ns),
            At::Broken => Some(self.step_out(stream, now_unix_ns)),
            At::Token | At::Skipping(_) => None,
        }
    }

    /// Reads on until a message is complete or bytes are missing.
    pub(super) fn next(
        &mut self,
        stream: &mut StreamBuffer,
        config: &Config,
        now_unix_ns: i64,
    ) -> Next {
        loop {
            match self.at {
                At::Skipping(left) => {
                    if !self.skip(stream, left) {
                        return Next::Wait;
                    }
                    if let Some(message) = self.element_ends(stream) {
                        return message;
                    }
                }
                At::Broken => return Next::Lost(self.step_out(stream, now_unix_ns)),
                At::Hunting => match self.hunt(stream, now_unix_ns) {
                    Some(missing) => return Next::Lost(missing),
                    None if self.at == At::Hunting => return Next::Wait,
                    None => {}
                },
                At::Token => {
                    let step = match self.side {
                        Side::Request if self.building.is_none() => {
                            self.begin_command(stream, config)
                        }
                        _ => self.token(stream, config),
                    };
                    match step {
                        Step::On => {}
                        Step::Message(message) => return message,
                        Step::Short if stream.lost_bytes() == 0 => return Next::Wait,
                        Step::Short => {
                            self.doubt.lost();
                            return self.lost(stream, now_unix_ns);
                        }
                        Step::Invalid => {
                            self.doubt.missed();
                            self.building = None;
                            return Next::Lost(self.step_on(stream, now_unix_ns, None));
                        }
                    }
                }
            }
        }
    }

    /// False if more is to come.
    fn skip(&mut self, stream: &mut StreamBuffer, mut left: u64) -> bool {
        while left > 0 {
            let there = left.min(stream.unread().len() as u64 + stream.lost_bytes());
            if there == 0 {
                self.at = At::Skipping(left);
                return false;
            }
            // What is behind a hole is there once that was stepped over.
            stream.skip(there);
            left -= there;
        }
        self.at = At::Token;
        true
    }

    /// A message that was begun is given as far as it was seen; the loss is told next.
    fn lost(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Next {
        if let Some(building) = self.building.take()
            && building.is_seen()
        {
            self.at = At::Broken;
            self.ends(stream, true);
            let end_ns = stream.last_read_ns().unwrap_or(building.begin_ns);
            return building.message(self.side, end_ns);
        }
        // What begins here is a message; of replies one that comes unasked is none.
        let may_be_push = stream.unread().first() == Some(&b'>');
        Next::Lost(self.step_on(stream, now_unix_ns, Some(u64::from(!may_be_push))))
    }

    /// Leaves a message that was given as far as it was seen.
    fn step_out(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Missing {
        Missing { is_within: true, ..self.step_on(stream, now_unix_ns, Some(0)) }
    }

    /// Leaves the place where nothing could be read.
    fn step_on(
        &mut self,
        stream: &mut StreamBuffer,
        now_unix_ns: i64,
        at_least: Option<u64>,
    ) -> Missing {
        self.at = At::Hunting;
        let loss = Loss::at(stream, now_unix_ns);
        stream.skip_to_event();
        Missing { loss, at_least, is_within: false }
    }

    /// Steps on to a call that begins with a message.
    fn hunt(&mut self, stream: &mut StreamBuffer, now_unix_ns: i64) -> Option<Missing> {
        let side = self.side;
        let hunt = hunt(stream, &mut self.doubt, now_unix_ns, |bytes, place| {
            let (is_message, is_short) = match side {
                Side::Request => {
                    (is_request(bytes), bytes[0] == b'*' && opening(bytes) == Read::Short)
                }
                Side::Response => (is_reply(bytes), token(bytes) == Read::Short),
            };
            match place {
                Place::Call if is_message => Found::At(0),
                Place::Call if is_short => Found::Unsure,
                Place::Call | Place::End => Found::Nothing,
            }
        });
        if hunt.is_found {
            self.at = At::Token;
        }
        // What was not understood may be the inside of a value, which looks like a message further on.
        let at_least = (!hunt.has_passed).then_some(0);
        hunt.lost.map(|loss| Missing { loss, at_least, is_within: false })
    }

    /// The array of a command, or an inline one.
    fn begin_command(&mut self, stream: &mut StreamBuffer, config: &Config) -> Step {
        let bytes = stream.unread();
        let Some(&first) = bytes.first() else { return Step::Short };
        let begin_ns = stream.unread_since_ns().unwrap_or(0);
        self.before = self.before_next(stream);
        if first == b'*' {
            let (count, used) = match token(bytes) {
                Read::Is(Token::Open { elements: count, .. }, used) => (count, used),
                Read::Is(Token::Null, used) => (0, used),
                Read::Short => return Step::Short,
                Read::Is(..) | Read::Invalid => return Step::Invalid,
            };
            stream.consume(used);
            // Servers pass over a command without words.
            if count == 0 {
                self.ends(stream, false);
            } else {
                self.building = Some(Building::command(begin_ns, count, config));
            }
            return Step::On;
        }
        let (text, used) = match line(bytes) {
            Read::Is(text, used) => (text, used),
            Read::Short => return Step::Short,
            Read::Invalid => match memchr::memchr(b'\n', bytes) {
                Some(end) => (&bytes[..end], end + 1),
                None => return Step::Invalid,
            },
        };
        let words: Vec<Vec<u8>> = inline_words(text);
        let is_text = text.iter().all(|byte| *byte >= b' ' || *byte == b'\t');
        if !is_text || words.first().is_some_and(|word| !word[0].is_ascii_alphabetic()) {
            return Step::Invalid;
        }
        let mut building = Building::command(begin_ns, words.len() as u64, config);
        words.iter().for_each(|word| building.word(word, config));
        let end_ns = stream.consume(used);
        self.ends(stream, false);
        self.has_lines = true;
        if words.is_empty() {
            return Step::On;
        }
        Step::Message(building.message(Side::Request, end_ns))
    }

    fn token(&mut self, stream: &mut StreamBuffer, config: &Config) -> Step {
        let bytes = stream.unread();
        if self.building.is_none() {
            if bytes.is_empty() {
                return Step::Short;
            }
            let begin_ns = stream.unread_since_ns().unwrap_or(0);
            self.building = Some(Building::reply(begin_ns, config));
        }
        let Some(building) = self.building.as_mut() else { return Step::Short };
        let (token, used) = match token(bytes) {
            Read::Is(token, used) => (token, used),
            Read::Short => return Step::Short,
            Read::Invalid => return Step::Invalid,
        };
        match token {
            Token::Open { .. } if self.side == Side::Request => return Step::Invalid,
            Token::Open { kind, elements } => {
                if building.depth() == DEPTH_MAX {
                    return Step::Invalid;
                }
                building.open(kind, elements);
                stream.consume(used);
                if elements > 0 || !building.close() {
                    return Step::On;
                }
            }
            Token::String { kind, bytes: length } => {
                let wanted = length.min(building.wanted_bytes(config) as u64) as usize;
                let there = bytes.len() - used;
                if there < wanted && stream.lost_bytes() == 0 {
                    return Step::Short;
                }
                let seen = &bytes[used..used + there.min(wanted)];
                match self.side {
                    Side::Request => building.word(seen, config),
                    Side::Response => building.string(kind, seen, config),
                }
                stream.consume(used);
                self.at = At::Skipping(length + 2);
                return Step::On;
            }
            Token::Null => {
                match self.side {
                    Side::Request => building.word(b"", config),
                    Side::Response => building.scalar(b"<NULL>", config),
                }
                stream.consume(used);
            }
            Token::Scalar { kind, text } => {
                building.simple(kind, text, config);
                stream.consume(used);
            }
        }
        self.element_ends(stream).map_or(Step::On, Step::Message)
    }

    /// An element is complete; the message too, if it was its last one.
    fn element_ends(&mut self, stream: &StreamBuffer) -> Option<Next> {
        let building = self.building.as_mut()?;
        if !building.element_ends() {
            return None;
        }
        self.doubt.message();
        self.ends(stream, false);
        let building = self.building.take()?;
        let end_ns = stream.last_read_ns().unwrap_or(building.begin_ns);
        Some(building.message(self.side, end_ns))
    }
}

enum Step {
    On,
    Short,
    Invalid,
    Message(Next),
}

/// Words of an inline command; quotes hold blanks together.
fn inline_words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (Vec::new(), None, false);
    for &byte in text {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (None, b'"' | b'\'') => (quote, begun) = (Some(byte), true),
            (None, b' ' | b'\t' | b'\r') => {
                if std::mem::take(&mut begun) || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, byte) => word.push(byte),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    // A name is needed; an empty one is none.
    if words.first().is_some_and(Vec::is_empty) { Vec::new() } else { words }
}
