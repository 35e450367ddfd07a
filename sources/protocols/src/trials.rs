//! Conversations of many kinds of clients, captured with losses: is each row right, and how many are there?
//!
//! A client waits for each answer, sends batches, keeps a number of requests under way, or sends when it
//! likes; calls hold several messages or a part of one; calls are lost unseen, told as gaps, or cut;
//! events come late, those of either direction before the other's. What is right is known: both halves of
//! an exchange name it.

use weir_types::random::SplitMix;

use crate::Side;
use crate::protocol::ProtocolDef;
use crate::stream::Segment;
use crate::testing::{Row, Wire};

/// One exchange, and how many rows it is.
pub(crate) struct Exchange {
    pub(crate) asked: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    pub(crate) rows: usize,
}

/// When a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// One at a time.
    Waits,
    /// Some by one call, then it waits for all answers.
    Batches,
    /// So many are always under way: it looks as if it took turns.
    Keeps(usize),
    /// Whenever it likes.
    Anytime,
    /// One at a time, then as many as it likes, and again.
    Changes,
    /// So many threads share the connection, each of which waits for its answer and then thinks for so long,
    /// give or take; answers take as long as they take.
    Threads { count: usize, think_ns: u64, answer_ns: u64, jitter_ns: u64 },
}

pub(crate) const CLIENTS: [Client; 6] = [
    Client::Waits,
    Client::Batches,
    Client::Keeps(2),
    Client::Keeps(5),
    Client::Anytime,
    Client::Changes,
];

/// How time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Without a pause.
    Busy,
    /// Answers are prompt, and the client takes its time when it has them all.
    Prompt,
    /// Anything may take long.
    Any,
    /// The client rests for seconds now and then, when it has all answers.
    Rests,
}

pub(crate) const PACES: [Pace; 4] = [Pace::Busy, Pace::Prompt, Pace::Any, Pace::Rests];

/// Each client at each pace.
pub(crate) fn everybody() -> impl Iterator<Item = (Client, Pace)> {
    CLIENTS.into_iter().flat_map(|client| PACES.map(|pace| (client, pace)))
}

/// How many rows there are in so many trials, and how many there could be: the sums of what one says.
pub(crate) fn sum(seeds: u64, one: impl FnMut(u64) -> (usize, usize)) -> (usize, usize) {
    (0..seeds).map(one).fold((0, 0), |sum, of_one| (sum.0 + of_one.0, sum.1 + of_one.1))
}

/// What is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// One call in so many; 0: none.
    pub(crate) one_in: u64,
    pub(crate) requests: bool,
    pub(crate) responses: bool,
    /// Calls of more bytes than that are cut there; their last bytes are seen.
    pub(crate) copied_bytes_max: usize,
    pub(crate) has_tails: bool,
    /// Calls that went by before the connection was watched.
    pub(crate) joined_at: usize,
}

impl Faults {
    pub(crate) fn one_in(one_in: u64) -> Faults {
        Faults {
            one_in,
            requests: true,
            responses: true,
            copied_bytes_max: usize::MAX,
            has_tails: true,
            joined_at: 0,
        }
    }
}

struct Call {
    side: Side,
    time_ns: i64,
    bytes: Vec<u8>,
    /// Of which exchanges it has bytes.
    exchanges: std::ops::Range<usize>,
}

/// What came of a trial.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    /// Of which exchanges every byte was seen.
    pub(crate) seen: Vec<bool>,
    /// When each exchange's request began, and its response.
    pub(crate) begun_ns: Vec<[i64; 2]>,
    pub(crate) counters: crate::Counters,
}

impl Outcome {
    /// How many of the rows are of exchanges of which every byte was seen, and how many such there could
    /// be. A row that is wrong panics: `exchange` says of which exchange each half of it is, as far as it
    /// does.
    pub(crate) fn shown(
        &self,
        exchanges: &[Exchange],
        exchange: impl Fn(&Row) -> [Option<usize>; 2],
    ) -> (usize, usize) {
        let is_seen = |row: &&Row| {
            let [asked, answered] = exchange(row);
            assert!(asked.is_none() || answered.is_none() || asked == answered, "{row:?}");
            asked.or(answered).is_some_and(|idx| self.seen[idx])
        };
        let shown = self.rows.iter().filter(is_seen).count();
        let there = exchanges.iter().zip(&self.seen).filter(|(_, seen)| **seen);
        (shown, there.map(|(one, _)| one.rows).sum())
    }
}

/// The number behind a `w`, in front of a dash: of which exchange a text is, if it was not cut before that.
pub(crate) fn number(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once('w')?;
    let (number, _) = rest.split_once('-')?;
    number.parse().ok()
}

/// What a client and its server say.
fn conversation(
    random: &mut SplitMix,
    client: Client,
    pace: Pace,
    exchanges: &[Exchange],
) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let (mut asked, mut answered, mut now_ns) = (0, 0, 1_000_000);
    while answered < exchanges.len() {
        let waiting = asked - answered;
        let left = exchanges.len() - asked;
        let (room, batch) = match client {
            Client::Waits => (usize::from(waiting == 0), 1),
            Client::Batches if waiting == 0 => (8, 1 + random.below(8) as usize),
            Client::Batches => (0, 0),
            Client::Keeps(count) => (count.saturating_sub(waiting), 1),
            Client::Anytime => (6usize.saturating_sub(waiting), 1 + random.below(3) as usize),
            Client::Changes if asked / 30 % 2 == 0 => (usize::from(waiting == 0), 1),
            Client::Changes => (3usize.saturating_sub(waiting), 1),
            Client::Threads { .. } => return threads(random, client, exchanges),
        };
        let sends = left > 0
            && room > 0
            && (waiting == 0 || matches!(client, Client::Keeps(_)) || random.below(2) == 0);
        let (side, from, count) = match sends {
            true => (Side::Request, asked, batch.min(room).min(left)),
            false if random.below(3) == 0 => (Side::Response, answered, waiting),
            false => (Side::Response, answered, 1),
        };
        now_ns += 1_000 + random.below(2_000) as i64;
        let is_idle = waiting == 0;
        now_ns += match pace {
            Pace::Busy => random.below(40_000) as i64,
            Pace::Prompt if is_idle => 100_000 + random.below(20_000_000) as i64,
            Pace::Prompt => random.below(10_000) as i64,
            Pace::Any if random.below(4) == 0 => random.below(400_000_000) as i64,
            Pace::Any => 0,
            Pace::Rests if is_idle && random.below(8) == 0 => 1_100_000_000,
            Pace::Rests => random.below(100_000) as i64,
        };
        let range = from..from + count;
        let half = |one: &Exchange| match side {
            Side::Request => one.asked.clone(),
            Side::Response => one.answer.clone(),
        };
        let bytes: Vec<u8> = exchanges[range.clone()].iter().flat_map(half).collect();
        match side {
            Side::Request => asked += count,
            Side::Response => answered += count,
        }
        // Now and then by two calls.
        let at = match random.below(8) {
            0 => random.below(bytes.len() as u64) as usize,
            _ => 0,
        };
        let (first, second) = bytes.split_at(at);
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let exchanges = range.clone();
            calls.push(Call { side, time_ns: now_ns, bytes: part.to_vec(), exchanges });
            now_ns += 500;
        }
    }
    calls
}

/// What threads that share a connection say, and are answered in turn.
fn threads(random: &mut SplitMix, client: Client, exchanges: &[Exchange]) -> Vec<Call> {
    let Client::Threads { count, think_ns, answer_ns, jitter_ns } = client else { panic!() };
    let mut jitter = |ns: u64| (ns + random.below(jitter_ns)) as i64;
    let mut ready_ns: Vec<i64> = (0..count).map(|_| 1_000_000 + jitter(think_ns)).collect();
    let (mut calls, mut free_ns) = (Vec::new(), 0);
    for (idx, one) in exchanges.iter().enumerate() {
        let thread = (0..count).min_by_key(|thread| ready_ns[*thread]).unwrap();
        let asked_ns = ready_ns[thread];
        free_ns = (asked_ns + jitter(answer_ns)).max(free_ns + 1_000);
        ready_ns[thread] = free_ns + jitter(think_ns).max(1_000);
        for (side, time_ns, bytes) in
            [(Side::Request, asked_ns, &one.asked), (Side::Response, free_ns, &one.answer)]
        {
            calls.push(Call { side, time_ns, bytes: bytes.clone(), exchanges: idx..idx + 1 });
        }
    }
    calls.sort_by_key(|call| call.time_ns);
    calls
}

/// An event as it comes: when, and what of it.
struct Event {
    comes_ns: i64,
    side: Side,
    position: u64,
    time_ns: i64,
    total_bytes: u64,
    payload: Vec<u8>,
    tail: Vec<u8>,
}

/// What a capture has of a call, if it has anything. True: all its bytes.
fn captured(
    random: &mut SplitMix,
    faults: &Faults,
    call: &Call,
    position: u64,
) -> (Option<Event>, bool) {
    let bytes = &call.bytes;
    let mut event = Event {
        comes_ns: call.time_ns,
        side: call.side,
        position,
        time_ns: call.time_ns,
        total_bytes: bytes.len() as u64,
        payload: bytes.clone(),
        tail: Vec::new(),
    };
    if bytes.len() > faults.copied_bytes_max {
        event.payload.truncate(faults.copied_bytes_max);
        if faults.has_tails {
            let from = (bytes.len() - 4_096.min(bytes.len() / 4)).max(faults.copied_bytes_max);
            event.tail = bytes[from..].to_vec();
        }
    }
    let may_lose = match call.side {
        Side::Request => faults.requests,
        Side::Response => faults.responses,
    };
    if may_lose && faults.one_in > 0 && random.below(faults.one_in) == 0 {
        match random.below(4) {
            0 | 1 => return (None, false),
            2 => event.payload.clear(),
            _ => event.payload.truncate(random.below(bytes.len() as u64) as usize),
        }
        event.tail.clear();
    }
    let is_whole = event.payload.len() == bytes.len();
    (Some(event), is_whole)
}

/// When the halves of exchanges began: each side sends them in their order.
fn begun_ns(calls: &[Call], exchanges: &[Exchange]) -> Vec<[i64; 2]> {
    let mut begun = vec![[0; 2]; exchanges.len()];
    for side in [Side::Request, Side::Response] {
        let (mut from, mut sent) = (0, 0);
        let mut halves = exchanges.iter().zip(&mut begun).peekable();
        for call in calls.iter().filter(|call| call.side == side) {
            sent += call.bytes.len();
            while let Some((one, begun)) = halves.next_if(|_| from < sent) {
                begun[side as usize] = call.time_ns;
                from += match side {
                    Side::Request => one.asked.len(),
                    Side::Response => one.answer.len(),
                };
            }
        }
    }
    begun
}

/// One conversation of so many exchanges, captured with these faults.
pub(crate) fn trial(
    def: &'static ProtocolDef,
    seed: u64,
    (client, pace): (Client, Pace),
    faults: &Faults,
    exchanges: &[Exchange],
) -> Outcome {
    let mut random = SplitMix(seed);
    let calls = conversation(&mut random, client, pace, exchanges);
    let comes_late = random.below(2) == 0;
    let mut seen = vec![true; exchanges.len()];
    let (mut events, mut positions) = (Vec::new(), [0u64; 2]);
    for (idx, call) in calls.iter().enumerate() {
        let position = positions[call.side as usize];
        let (event, is_whole) = match idx < faults.joined_at {
            true => (None, false),
            false => {
                positions[call.side as usize] += call.bytes.len() as u64;
                captured(&mut random, faults, call, position)
            }
        };
        if !is_whole {
            seen[call.exchanges.clone()].fill(false);
        }
        if let Some(mut event) = event {
            if comes_late {
                event.comes_ns += random.below(20_000_000) as i64;
            }
            events.push(event);
        }
    }
    events.sort_by_key(|event| event.comes_ns);
    let mut wire = Wire::begun(def, faults.joined_at == 0);
    for event in &events {
        let Event { side, position, time_ns: time_unix_ns, total_bytes, .. } = *event;
        let (payload, tail) = (event.payload.as_slice(), event.tail.as_slice());
        wire.now_ns = wire.now_ns.max(event.comes_ns);
        wire.push(side, Segment { position, total_bytes, time_unix_ns, payload, tail });
    }
    wire.settle();
    let rows = wire.close().to_vec();
    let begun_ns = begun_ns(&calls, exchanges);
    Outcome { rows, seen, begun_ns, counters: wire.counters() }
}
