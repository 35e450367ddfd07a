//! Which reply answers which command: the first one the first, but for what the server says of its own
//! accord.
//!
//! Subscribing is answered by a confirmation for each channel; `CLIENT REPLY` turns answers off. Messages
//! of channels are pushes: with RESP3 by their type, with RESP2 by their shape, as long as the connection
//! is subscribed to something.

mod ahead;

use self::ahead::LostReplies;
use super::fits::commands_missing;
use super::parse::{Opening, Read, opening};
use super::read::{Missing, Next, Reader};
use super::table::{write_push, write_row};
use super::types::{Command, CommandKind, Reply};
use crate::in_order::{self, Asked, InOrder, Owner};
use crate::protocol::{Context, Parser, Shared, Streams};
use crate::stream::StreamBuffer;
use crate::turns::{settle, settle_first_holes};
use crate::{Counters, REORDER_GRACE_NS, Side};

/// Confirmations' text that a row shows at the most.
const CONFIRMATIONS_BYTES_MAX: usize = 16 * 1024;

/// What a message of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Reply,
    /// Of a channel that is subscribed to, or that it no longer is.
    Confirmation {
        of: Channels,
    },
    Push,
    /// It looks like a push, and may be a reply: which one it is depends on what is missing.
    Unsure,
    /// Too little of it is there.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channels {
    Plain,
    Patterns,
    Shards,
}

/// Confirmations of the front command, so far.
#[derive(Debug, Default)]
struct Confirming {
    count: u64,
    text: Vec<u8>,
    begin_ns: i64,
}

#[derive(Debug)]
pub(super) struct Redis {
    commands: Reader,
    replies: Reader,
    queue: InOrder<Command>,
    confirming: Confirming,
    /// What the message being read is, and that it is nobody's.
    reading: Option<(What, Owner)>,
    /// Channels that are subscribed to: plain, patterns, shards.
    channels: [u64; 3],
    is_resp3: bool,
    monitors: bool,
    replies_off: bool,
    skips_next: bool,
    is_replica: bool,
    from_start: bool,
    has_subscribed: bool,
    /// No command is missing that decides what the server says of its own accord.
    is_known: bool,
    /// Replies that are missing before the next one.
    lost_replies: Option<LostReplies>,
    /// Where looking ahead has come to.
    looked_to: u64,
    /// Parts of the last reply that was shown are told from others.
    has_known_parts: bool,
    /// It has none.
    is_plain: bool,
    closes: bool,
    counters: Counters,
}

impl Redis {
    pub(super) fn new(from_start: bool) -> Redis {
        Redis {
            commands: Reader::new(Side::Request, from_start),
            replies: Reader::new(Side::Response, from_start),
            queue: InOrder::new(from_start),
            confirming: Confirming::default(),
            reading: None,
            channels: [0; 3],
            is_resp3: false,
            monitors: false,
            replies_off: false,
            skips_next: false,
            is_replica: false,
            from_start,
            has_subscribed: false,
            is_known: from_start,
            lost_replies: None,
            looked_to: 0,
            has_known_parts: true,
            is_plain: true,
            closes: false,
            counters: Counters::default(),
        }
    }

    fn read_commands(&mut self, stream: &mut StreamBuffer, ctx: &Context<'_>) {
        loop {
            settle(stream, ctx.now_unix_ns);
            match self.commands.next(stream, ctx.config, ctx.now_unix_ns) {
                Next::Command(command) => self.command(*command),
                Next::Lost(Missing { loss, .. }) => {
                    self.is_known = false;
                    self.queue.requests_lost(loss);
                }
                Next::Reply(_) | Next::Wait => return,
            }
        }
    }

    fn command(&mut self, command: Command) {
        let before = self.commands.before();
        if before.bytes > 0 {
            let has_lines = self.commands.has_lines();
            let (least, most) = commands_missing(before.bytes, has_lines, before.is_rest);
            self.queue.requests_missing(in_order::Missing { least, most, bytes: before.bytes });
        }
        let (kind, begin_ns) = (command.kind, command.begin_ns);
        let was_off = std::mem::take(&mut self.skips_next) || self.replies_off;
        match kind {
            CommandKind::ReplyOff => self.replies_off = true,
            CommandKind::ReplySkip => self.skips_next = !self.replies_off,
            CommandKind::ReplyOn => self.replies_off = false,
            _ => {}
        }
        let is_answered = match kind {
            CommandKind::ReplyOff | CommandKind::ReplySkip => false,
            CommandKind::ReplyOn | CommandKind::Subscribe | CommandKind::Unsubscribe => true,
            _ => !was_off,
        };
        self.has_subscribed |= kind == CommandKind::Subscribe;
        if is_answered {
            self.queue.push(command, begin_ns);
        } else {
            self.counters.unanswered += 1;
        }
    }

    fn read_replies(&mut self, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        loop {
            settle(stream, ctx.now_unix_ns);
            if let Some(missing) = self.replies.find_message(stream, ctx.now_unix_ns) {
                self.replies_lost(missing);
            }
            if self.reading.is_none() && self.replies.is_at_message(stream) {
                let what = self.what(stream);
                let begin_ns = stream.unread_since_ns().unwrap_or(ctx.now_unix_ns);
                let owner = match what {
                    What::Unknown => return,
                    What::Push => Owner::Nobody,
                    What::Unsure => {
                        self.lost_replies = None;
                        self.queue.look_no_further();
                        self.queue.is_unsure();
                        Owner::Nobody
                    }
                    What::Reply | What::Confirmation { .. } => {
                        let owner = self.look_ahead(what, stream, ctx.now_unix_ns);
                        owner.unwrap_or_else(|| self.queue.owner(begin_ns, ctx.now_unix_ns))
                    }
                };
                if owner == Owner::Wait {
                    return;
                }
                self.reading = Some((what, owner));
            }
            match self.replies.next(stream, ctx.config, ctx.now_unix_ns) {
                Next::Reply(reply) => {
                    let (what, owner) = self.reading.take().unwrap_or((What::Reply, Owner::Nobody));
                    self.reply(what, owner, &reply, ctx);
                    if self.is_replica {
                        return;
                    }
                }
                Next::Lost(missing) => self.replies_lost(missing),
                Next::Command(_) | Next::Wait => return,
            }
        }
    }

    fn replies_lost(&mut self, missing: Missing) {
        self.reading = None;
        // Of which channels the server speaks may have been said there.
        self.is_known &= self.is_resp3 || !self.has_subscribed;
        // Where it speaks of its own accord, what is missing may be just that.
        let is_quiet = self.is_known && self.channels == [0; 3] && !self.is_resp3 && !self.monitors;
        let confirms = std::mem::take(&mut self.confirming).count > 0;
        let at_least = missing.at_least.map(|count| if is_quiet { count } else { 0 });
        self.count_lost(missing, at_least);
        self.queue.responses_lost(missing.loss, at_least.filter(|_| !confirms));
        if missing.is_within {
            self.queue.has_parts();
        }
    }

    /// The front command is one that is confirmed.
    fn asks(&self) -> bool {
        self.queue.front().is_some_and(|front| {
            matches!(front.kind, CommandKind::Subscribe | CommandKind::Unsubscribe)
        })
    }

    /// What begins here, by its type and first word.
    fn what(&self, stream: &StreamBuffer) -> What {
        let bytes = stream.unread();
        let is_push = bytes.first() == Some(&b'>');
        let asks = self.asks();
        let is_joined = !self.from_start && !self.queue.is_waiting();
        let may_be = self.channels != [0; 3] || asks || is_joined;
        let can_be = may_be || !self.is_known;
        if !is_push && (bytes.first() != Some(&b'*') || self.is_resp3 || !can_be) {
            return What::Reply;
        }
        let (elements, word) = match opening(bytes) {
            Read::Is(Opening { elements, word, .. }, _) => (elements, word),
            Read::Short if stream.lost_bytes() == 0 => return What::Unknown,
            Read::Short | Read::Invalid if is_push => return What::Push,
            Read::Short | Read::Invalid => return What::Reply,
        };
        let what = match (elements, word) {
            (3, b"subscribe" | b"unsubscribe") if asks || !is_push => {
                What::Confirmation { of: Channels::Plain }
            }
            (3, b"psubscribe" | b"punsubscribe") if asks || !is_push => {
                What::Confirmation { of: Channels::Patterns }
            }
            (3, b"ssubscribe" | b"sunsubscribe") if asks || !is_push => {
                What::Confirmation { of: Channels::Shards }
            }
            (3, b"message" | b"smessage") | (4, b"pmessage") => What::Push,
            _ if is_push => What::Push,
            _ => What::Reply,
        };
        if what == What::Reply || is_push || may_be { what } else { What::Unsure }
    }

    fn reply(&mut self, what: What, owner: Owner, reply: &Reply, ctx: &mut Context<'_>) {
        match (what, owner) {
            (What::Push, _) => {
                self.is_resp3 |= reply.is_push3;
                self.counters.exchanges += 1;
                write_push(ctx.rows, ctx.config, &reply.text, reply.begin_ns);
            }
            (_, Owner::Nobody | Owner::Wait) => {
                if !is_monitored(reply) {
                    self.queue.unowned(reply.begin_ns, reply.end_ns);
                }
            }
            (What::Confirmation { of }, Owner::Front) if self.asks() => {
                self.confirm(of, reply, ctx)
            }
            (What::Confirmation { .. }, Owner::Front) => {
                self.queue.unowned(reply.begin_ns, reply.end_ns);
            }
            (What::Reply | What::Unsure | What::Unknown, Owner::Front) => {
                if !is_monitored(reply) {
                    self.answer(&reply.text, reply.begin_ns, reply.end_ns, ctx);
                }
            }
        }
    }

    /// One of the confirmations that the front command waits for.
    fn confirm(&mut self, of: Channels, reply: &Reply, ctx: &mut Context<'_>) {
        self.is_resp3 |= reply.is_push3;
        let before = self.channels;
        let [plain, patterns, shards] = &mut self.channels;
        match of {
            // Plain channels and patterns are counted together.
            Channels::Plain => *plain = reply.number.saturating_sub(*patterns),
            Channels::Patterns => *patterns = reply.number.saturating_sub(*plain),
            Channels::Shards => *shards = reply.number,
        }
        let Some(front) = self.queue.front() else { return };
        let wanted = match front.args_count {
            0 => before[of as usize].max(1) + self.confirming.count,
            count => count,
        };
        let confirming = &mut self.confirming;
        if confirming.count == 0 {
            confirming.begin_ns = reply.begin_ns;
            confirming.text.push(b'[');
        }
        confirming.count += 1;
        if confirming.text.len() + reply.text.len() < CONFIRMATIONS_BYTES_MAX {
            confirming.text.extend_from_slice(if confirming.text.len() > 1 { b"," } else { b"" });
            confirming.text.extend_from_slice(&reply.text);
        }
        if confirming.count >= wanted {
            let Confirming { mut text, begin_ns, .. } = std::mem::take(&mut self.confirming);
            text.push(b']');
            self.answer(&text, begin_ns, reply.end_ns, ctx);
        }
    }

    fn answer(&mut self, text: &[u8], begin_ns: i64, end_ns: i64, ctx: &mut Context<'_>) {
        let Some(command) = self.queue.answered(begin_ns, end_ns) else { return };
        (self.has_known_parts, self.is_plain) = (command.has_known_parts(), command.is_plain());
        let is_error = text.first() == Some(&b'-');
        match command.kind {
            CommandKind::Monitor => self.monitors = !is_error,
            CommandKind::Replicate => self.is_replica = !is_error,
            CommandKind::Reset => {
                (self.monitors, self.is_resp3, self.channels) = (false, false, [0; 3]);
            }
            CommandKind::Hello { is_resp3 } if !is_error => self.is_resp3 = is_resp3,
            // Where the server speaks of channels without a sign of its own, it refuses these.
            CommandKind::Plain if !is_error && !self.is_resp3 && command.name != b"PING" => {
                (self.is_known, self.channels) = (true, [0; 3]);
            }
            _ => {}
        }
        if command.is_owed() {
            write_row(ctx.rows, ctx.config, &command, text, begin_ns);
        }
    }
}

/// A line of what `MONITOR` shows: the time, then the database and the client. No reply looks like that.
fn is_monitored(reply: &Reply) -> bool {
    let text = &reply.text;
    let time = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    reply.is_simple && time >= 10 && text[time..].starts_with(b" [")
}

impl Parser for Redis {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        if self.is_replica {
            return;
        }
        self.read_commands(streams.requests, ctx);
        self.read_replies(streams.responses, ctx);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        loop {
            self.advance(streams, ctx);
            if !settle_first_holes(streams) {
                break;
            }
        }
        ctx.now_unix_ns = ctx.now_unix_ns.saturating_add(REORDER_GRACE_NS);
        self.closes = true;
        self.advance(streams, ctx);
        self.queue.close();
    }

    fn is_done(&self) -> bool {
        self.is_replica
    }

    fn is_wrong(&self) -> bool {
        self.commands.is_wrong() || self.replies.is_wrong()
    }

    fn is_waiting(&self) -> bool {
        self.queue.is_waiting()
    }

    fn counters(&self) -> Counters {
        let mut counters = self.queue.counters;
        counters.add(self.counters);
        counters
    }

    fn held_bytes(&self) -> usize {
        self.queue.held_bytes()
            + self.commands.held_bytes()
            + self.replies.held_bytes()
            + self.confirming.text.capacity()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.queue.give_up();
        self.confirming = Confirming::default();
        // The command of the reply that is being read is gone.
        if let Some((_, owner)) = &mut self.reading {
            *owner = Owner::Nobody;
        }
    }
}
