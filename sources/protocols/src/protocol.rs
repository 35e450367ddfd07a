//! The seam between connections and protocols: what a protocol declares, and what a parser is given.
//!
//! A protocol is a folder with a [`ProtocolDef`], and a line in [`crate::PROTOCOLS`]. Whoever tracks
//! connections asks each `recognise` what the first bytes are, makes a [`Parser`] for the connection,
//! feeds it, and gets rows. It names no protocol; a parser names no connection: who talks to whom is
//! filled in behind [`Rows`].
//!
//! What is called once an event goes through a table of functions; nothing is once a byte, and
//! nothing is allocated an event.

use std::any::Any;
use std::fmt::Debug;
use std::net::SocketAddr;

use weir_types::BatchBuilder;

use crate::counters::Counters;
use crate::redact::Redactor;
use crate::stream::StreamBuffer;
use crate::{Recognised, Side};

/// A message whose other half has not come, and a hole that has not been filled, are given so long:
/// events of two CPUs overtake each other by microseconds, a drain of the ring takes ≤ 20 ms.
pub const REORDER_GRACE_NS: i64 = 100_000_000;

/// What to keep, for all protocols alike.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of a body that a row shows; the rest is `... [TRUNCATED]`.
    pub body_bytes_max: usize,
    /// What is not kept of what is shown.
    pub redactor: Redactor,
    /// A parser panics at a request that holds this: a test that the rest goes on.
    pub panics_at: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Config {
        Config { body_bytes_max: 512, redactor: Redactor::default(), panics_at: None }
    }
}

impl Config {
    /// Panics if a test has asked for it.
    pub(crate) fn check_fault(&self, text: &[u8]) {
        if let Some(token) = self.panics_at
            && memchr::memmem::find(text, token.as_bytes()).is_some()
        {
            // Asked for by --test-faults, to prove that a parser's panic is contained.
            panic!("injected by a test");
        }
    }
}

/// One protocol.
pub struct ProtocolDef {
    pub name: &'static str,
    /// As `conn_stats.protocol` has it: known to scripts, never changed.
    pub number: u8,
    /// Where its rows go; a parser names them by their place here.
    pub tables: &'static [&'static str],
    /// It comes in datagrams (too).
    pub has_datagrams: bool,
    /// Whether bytes are its: looked at until one protocol says yes.
    pub recognise: fn(&Beginning<'_>) -> Verdict,
    /// `None`: its connections are told apart, and nothing of them is read.
    pub parsing: Option<Parsing>,
}

/// How a protocol is read.
pub struct Parsing {
    pub new: fn(&Opening) -> Box<dyn Parser>,
    /// What all its parsers on a thread share.
    pub shared: fn() -> Box<dyn Shared>,
    /// What one parser may hold; above, it is told to give up what waits.
    pub parser_bytes_max: usize,
}

/// Bytes of which nobody knows yet what they are.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    pub bytes: &'a [u8],
    /// They are the first unread ones of their direction, not just of a call.
    pub at_start: bool,
    /// The connection was watched from its first byte on.
    pub opened: bool,
    /// They are one datagram, not a part of a stream.
    pub is_datagram: bool,
    /// Of both ends; 0 where not known.
    pub ports: [u16; 2],
}

/// What a protocol says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its own, and which side sent them.
    Is(Side),
    IsNot,
    /// What is there fits so far; it is too short to tell.
    Unsure,
}

impl Verdict {
    /// By what each side's recogniser says.
    #[must_use]
    pub fn of(request: Recognised, response: Recognised) -> Verdict {
        match (request, response) {
            (Recognised::Yes, _) => Verdict::Is(Side::Request),
            (_, Recognised::Yes) => Verdict::Is(Side::Response),
            (Recognised::No, Recognised::No) => Verdict::IsNot,
            _ => Verdict::Unsure,
        }
    }
}

/// What a parser begins with.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The streams begin with the connection's first bytes, and these are a message.
    pub from_start: bool,
}

/// Which way bytes went at the end that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    In,
    Out,
}

/// The two streams of a connection.
pub struct Streams<'a> {
    pub requests: &'a mut StreamBuffer,
    pub responses: &'a mut StreamBuffer,
}

/// One datagram, or as much of it as was copied.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub way: Way,
    /// The other end, if it is known.
    pub peer: Option<SocketAddr>,
    pub time_unix_ns: i64,
    pub bytes: &'a [u8],
    /// Datagrams of this way may be missing before it.
    pub after_gap: bool,
}

/// Whose a row is.
#[derive(Clone, Copy, Debug)]
pub struct RowOf {
    /// Its place in [`ProtocolDef::tables`].
    pub table: usize,
    pub time_unix_ns: i64,
    /// Which way the request went; `None`: as the connection's do.
    pub requests: Option<Way>,
    /// The other end, where the socket has many.
    pub peer: Option<SocketAddr>,
}

impl RowOf {
    /// A row of a connection's, in its protocol's only table.
    #[must_use]
    pub fn at(time_unix_ns: i64) -> RowOf {
        RowOf { table: 0, time_unix_ns, requests: None, peer: None }
    }
}

/// Where finished rows go: it fills the columns about the ends and ends the row.
pub trait Rows {
    fn row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder));

    /// The same for what the answering side sent of its own accord: there roles are swapped.
    fn push_row(&mut self, of: &RowOf, write: &mut dyn FnMut(&mut BatchBuilder)) {
        self.row(of, write);
    }
}

/// What the parsers of a protocol on one thread share.
pub trait Shared: Any + Debug + Send {
    /// Memory held, for budgets.
    fn held_bytes(&self) -> usize;
}

impl Shared for () {
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What a call needs from outside.
pub struct Context<'a> {
    /// Of the newest event, or of the wall clock when that is later.
    pub now_unix_ns: i64,
    pub config: &'a Config,
    /// What [`Parsing::shared`] has made.
    pub shared: &'a mut dyn Shared,
    pub rows: &'a mut dyn Rows,
}

/// The shared part as the type that it was made as.
pub(crate) fn shared_as<T: Shared>(shared: &mut dyn Shared) -> &mut T {
    let any: &mut dyn Any = shared;
    any.downcast_mut().expect("a protocol gets what it has made")
}

/// The parser of one connection, or of one socket for datagrams. Bounded, and without panic on any
/// bytes; should it panic all the same, the caller gives up the connection.
pub trait Parser: Debug + Send {
    /// Reads what the streams have, gaps included, and writes the rows that are complete. Also called
    /// when only time has passed.
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>);

    /// Reads a datagram.
    fn datagram(&mut self, _datagram: &Datagram<'_>, _ctx: &mut Context<'_>) {}

    /// What the program whose connection it is remembers of a stream, as it was at this position, for parsers that have
    /// not seen all of it; not to be believed. No bytes: it is about to be told.
    fn memo(&mut self, _side: Side, _position: u64, _bytes: &[u8]) {}

    /// The connection is closed: finishes what can be, drops and counts the rest.
    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>);

    /// The bytes are no longer its protocol's: nothing more will come of them.
    fn is_done(&self) -> bool {
        false
    }

    /// It is done because another protocol has taken over, as TLS does after a question for it: what the bytes that it
    /// has left are, is to be looked at.
    fn is_handed_over(&self) -> bool {
        false
    }

    /// The bytes never were its protocol's: the guess was wrong, and what they are is to be looked at
    /// again.
    fn is_wrong(&self) -> bool {
        false
    }

    /// Whether time alone can change anything.
    fn is_waiting(&self) -> bool;

    /// Counted since it was made.
    fn counters(&self) -> Counters;

    /// Memory held beside itself, for budgets.
    fn held_bytes(&self) -> usize;

    /// Forgets what waits, for room, and counts it.
    fn give_up(&mut self, shared: &mut dyn Shared);
}
