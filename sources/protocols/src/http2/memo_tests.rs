//! Tables of programs against an encoder of the tests' own: what is taken over is as the encoder has it, what cannot
//! be so is refused.

use super::PROTOCOL;
use crate::Side::{self, Request, Response};
use crate::testing::Wire;
use weir_types::random::SplitMix;

const TABLE_BYTES: usize = 700;
const EXCHANGES: usize = 24;

fn number(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        return vec![first | value as u8];
    }
    let mut rest = value - mask;
    let mut bytes = vec![first | mask as u8];
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&number(0, 7, text.len())[..], text.as_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The newest first.
#[derive(Clone)]
struct Encoder {
    table: Vec<(String, String)>,
    room: usize,
    /// Ever.
    inserted: u32,
}

impl Encoder {
    fn new() -> Encoder {
        Encoder { table: Vec::new(), room: 4_096, inserted: 0 }
    }
    fn bytes(&self) -> usize {
        self.table.iter().map(|(name, value)| 32 + name.len() + value.len()).sum()
    }
    fn evict(&mut self) {
        while self.bytes() > self.room {
            self.table.pop();
        }
    }
    fn resize(&mut self, room: usize) -> Vec<u8> {
        self.room = room;
        self.evict();
        number(0x20, 5, room)
    }
    fn field(&mut self, name: &str, value: &str, is_kept: bool) -> Vec<u8> {
        if let Some(at) = self.table.iter().position(|(n, v)| n == name && v == value) {
            return number(0x80, 7, 62 + at);
        }
        let (first, bits) = if is_kept { (0x40, 6) } else { (0, 4) };
        let mut field = match self.table.iter().position(|(n, _)| n == name) {
            Some(at) => number(first, bits, 62 + at),
            None => [&number(first, bits, 0)[..], &text(name)].concat(),
        };
        field.extend(text(value));
        if is_kept {
            self.table.insert(0, (name.to_string(), value.to_string()));
            self.inserted += 1;
            self.evict();
        }
        field
    }
    /// `inserted`: before the block.
    fn memo(&self, block: &[u8], inserted: u32, is_senders: bool) -> Vec<u8> {
        let numbers = [self.table.len(), self.bytes(), self.room, block.len()];
        let mut memo: Vec<u8> =
            numbers.iter().flat_map(|number| (*number as u32).to_le_bytes()).collect();
        memo.extend(u32::from(is_senders).to_le_bytes());
        memo.extend(self.inserted.wrapping_sub(inserted).to_le_bytes());
        let mut head = block[..block.len().min(32)].to_vec();
        head.resize(32, 0);
        memo.extend(head);
        for (name, value) in self.table.iter().rev() {
            memo.extend((name.len() as u32).to_le_bytes());
            memo.extend((value.len() as u32).to_le_bytes());
            memo.extend([name.as_bytes(), value.as_bytes()].concat());
        }
        memo
    }
}

/// A block as it was sent, and the encoder behind it.
struct Sent {
    block: Vec<u8>,
    /// What its last frame has of it.
    last_part: Vec<u8>,
    frames: Vec<u8>,
    /// Into the table, before the block, and before the field that its last part begins in.
    inserted: [u32; 2],
    behind: Encoder,
}

impl Sent {
    /// What the program tells of it: as a receiver it is given the last part.
    fn memo(&self, is_senders: bool) -> Vec<u8> {
        self.memo_of(&self.behind, is_senders)
    }
    /// The same with another table.
    fn memo_of(&self, table: &Encoder, is_senders: bool) -> Vec<u8> {
        let block = if is_senders { &self.block } else { &self.last_part };
        table.memo(block, self.inserted[usize::from(!is_senders)], is_senders)
    }
}

fn sent(encoder: &mut Encoder, random: &mut SplitMix, side: Side, stream: u32) -> Sent {
    let mut block = Vec::new();
    let mut ends = vec![(0, encoder.inserted)];
    if stream == 1 || random.below(12) == 0 {
        block.extend(encoder.resize(TABLE_BYTES - random.below(400) as usize));
    }
    let mut field = |name: &str, value: String, random: &mut SplitMix| {
        block.extend(encoder.field(name, &value, random.below(6) > 0));
        ends.push((block.len(), encoder.inserted));
    };
    if side == Request {
        field(":method", ["GET", "PUT"][random.below(2) as usize].to_string(), random);
        field(":scheme", "https".to_string(), random);
        field(":path", format!("/{}", random.below(5)), random);
    } else {
        field(":status", ["200", "404", "503"][random.below(3) as usize].to_string(), random);
    }
    for _ in 0..random.below(4) {
        let name = ["accept", "user-agent", "x-id", "via"][random.below(4) as usize];
        field(name, format!("v{}", random.below(9)), random);
    }
    let mut frames = match random.below(3) {
        0 => frame(6, 0, 0, &[7; 8]),
        _ => Vec::new(),
    };
    // A frame of headers is never empty.
    let last_at = if random.below(3) == 0 && block.len() > 1 { block.len() / 2 } else { 0 };
    let (one, other) = block.split_at(last_at);
    if last_at > 0 {
        frames.extend(frame(1, 1, stream, one));
        frames.extend(frame(9, 4, stream, other));
    } else {
        frames.extend(frame(1, 5, stream, &block));
    }
    let before_part = ends.iter().rfind(|(end, _)| *end <= last_at).expect("it begins with 0");
    let inserted = [ends[0].1, before_part.1];
    Sent { last_part: other.to_vec(), block, frames, inserted, behind: encoder.clone() }
}

/// A conversation, by exchange and side.
fn conversation(random: &mut SplitMix) -> Vec<[Sent; 2]> {
    let mut encoders = [Encoder::new(), Encoder::new()];
    let streams = (0..EXCHANGES).map(|idx| 1 + 2 * idx as u32);
    streams
        .map(|stream| {
            [Request, Response].map(|side| sent(&mut encoders[side as usize], random, side, stream))
        })
        .collect()
}

/// What the program tells, and when.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// Before the frames are seen.
    Sender,
    /// Behind them.
    Receiver,
    /// The same, and that it will be told was told in the beginning.
    Promised,
}

/// Joins a conversation, with a memo of each side of some exchange: its rows, and which exchange.
fn joined(
    all: &[[Sent; 2]],
    from: usize,
    random: &mut SplitMix,
    told: Told,
    memo: &dyn Fn(&mut SplitMix, usize, Side, bool) -> Vec<u8>,
) -> (Vec<String>, usize) {
    let mut wire = Wire::begun(&PROTOCOL, false);
    let at = from + random.below((EXCHANGES - from) as u64 / 2) as usize;
    let mut positions = [0_u64; 2];
    if told == Told::Promised {
        for side in [Request, Response] {
            wire.parser.memo(side, 0, &[]);
        }
    }
    for (idx, exchange) in all.iter().enumerate().skip(from) {
        for side in [Request, Response] {
            let sent = &exchange[side as usize];
            positions[side as usize] += sent.frames.len() as u64;
            if idx != at {
                wire.call(side, &sent.frames);
                continue;
            }
            let bytes = memo(random, idx, side, told == Told::Sender);
            if told == Told::Sender {
                wire.parser.memo(side, positions[side as usize], &bytes);
            }
            wire.call(side, &sent.frames);
            if told != Told::Sender {
                wire.parser.memo(side, positions[side as usize], &bytes);
            }
        }
    }
    wire.close();
    (wire.lines(), at)
}

fn from_start(all: &[[Sent; 2]]) -> Vec<String> {
    let mut wire = Wire::new(&PROTOCOL);
    for exchange in all {
        for side in [Request, Response] {
            wire.call(side, &exchange[side as usize].frames);
        }
    }
    wire.lines()
}

/// Whether one line is the other, as far as it is known. Cells: headers and what is taken from them.
fn is_known_as(line: &str, truth: &str) -> bool {
    if !line.contains("<unknown>") && !line.contains("REDACTED") {
        return line == truth;
    }
    let cells = |line: &str| line.split(" | ").map(str::to_string).collect::<Vec<_>>();
    let (line, truth) = (cells(line), cells(truth));
    let headers = |cells: &[String]| -> Vec<serde_json::Map<String, serde_json::Value>> {
        let json = cells.iter().filter_map(|cell| serde_json::from_str(cell).ok());
        json.filter_map(|json: serde_json::Value| json.as_object().cloned()).collect()
    };
    let is_same = headers(&line).iter().zip(headers(&truth)).all(|(own, truth)| {
        own.iter().filter(|(name, _)| *name != "<unknown>").all(|(name, value)| {
            let (value, truth) = (value.as_str(), truth.get(name).and_then(|value| value.as_str()));
            // A name that is there twice, and once unknown, has some of its values.
            truth.zip(value).is_some_and(|(truth, value)| {
                value.split(", ").all(|one| truth.split(", ").any(|other| one == other))
            })
        })
    });
    let cell = |at: usize| line[at] == truth[at] || line[at] == "<unknown>" || line[at] == "0";
    is_same && cell(4) && cell(5) && cell(9)
}

/// A table that fits is taken over, wherever in the stream it is of and however much was read then: from there on
/// rows are as if nothing had been missed, and before that nothing is wrong. Entries are evicted all the while, and
/// the table's room changes.
#[test]
fn tables_are_taken_over() {
    let mut whole = [0, 0];
    for seed in 0..600 {
        let mut random = SplitMix(seed);
        let all = conversation(&mut random);
        let truth = from_start(&all);
        let from = 2 + random.below(10) as usize;
        let told = [Told::Sender, Told::Receiver, Told::Promised][random.below(3) as usize];
        let memo = |_: &mut SplitMix, idx: usize, side: Side, is_senders: bool| {
            all[idx][side as usize].memo(is_senders)
        };
        let (lines, at) = joined(&all, from, &mut random, told, &memo);
        assert_eq!(lines.len(), EXCHANGES - from, "seed {seed}");
        for (idx, (line, truth)) in lines.iter().zip(&truth[from..]).enumerate() {
            assert!(is_known_as(line, truth), "seed {seed}: {line}\n{truth}");
            let has_table = !all[at].iter().any(|sent| sent.behind.table.is_empty());
            if from + idx > at && has_table {
                assert_eq!(line, truth, "seed {seed} of {from}, told at {at}");
            } else if told != Told::Receiver && has_table {
                whole[usize::from(line == truth)] += 1;
            }
        }
    }
    // What the blocks in between have evicted themselves is not known.
    assert!(whole[1] > 300, "{whole:?}");
}

/// A table of another connection, or of one block earlier or later, with the right block or its own, one that was changed,
/// and any bytes: nothing of them is in any row.
#[test]
fn tables_that_do_not_fit() {
    for seed in 0..900 {
        let mut random = SplitMix(seed);
        let all = conversation(&mut random);
        let others = conversation(&mut random);
        let truth = from_start(&all);
        let from = 2 + random.below(10) as usize;
        let told = [Told::Sender, Told::Receiver, Told::Promised][random.below(3) as usize];
        let fault = random.below(7);
        let memo = |random: &mut SplitMix, idx: usize, side: Side, is_senders: bool| {
            let sent = &all[idx][side as usize];
            let before = &all[idx - 1][side as usize];
            let behind = &all[idx + 1][side as usize];
            let has_new = sent.behind.table.first() != before.behind.table.first();
            let mut table = sent.behind.clone();
            let mut bytes = sent.memo(is_senders);
            match fault {
                0 => return others[idx][side as usize].memo(is_senders),
                1 => return before.memo(is_senders),
                2 if has_new => table.table[0].1.push('x'),
                3 => {
                    bytes.truncate(random.below(bytes.len() as u64) as usize);
                    return bytes;
                }
                4 => {
                    for byte in &mut bytes[..56] {
                        *byte = random.below(256) as u8;
                    }
                    return bytes;
                }
                // The block is the right one.
                5 => table = before.behind.clone(),
                6 => table = behind.behind.clone(),
                _ => {}
            }
            sent.memo_of(&table, is_senders)
        };
        let (lines, _) = joined(&all, from, &mut random, told, &memo);
        assert_eq!(lines.len(), EXCHANGES - from, "seed {seed}, fault {fault}");
        for (line, truth) in lines.iter().zip(&truth[from..]) {
            assert!(is_known_as(line, truth), "seed {seed}, fault {fault}: {line}\n{truth}");
        }
    }
}

/// Lengths that lead anywhere, names that are none, tables that are not of the size they claim: no memo.
#[test]
fn memos_that_lie() {
    let encoder = Encoder {
        table: vec![("a".into(), "1".into()), ("b".into(), "2".into())],
        ..Encoder::new()
    };
    let good = encoder.memo(b"block", 0, true);
    assert!(super::memo::Memo::read(0, &good).is_some());
    for at in [0, 4, 8, 12, 56, 60, 64] {
        for value in [0, u32::MAX, 0x7fff_ffff, 600] {
            let mut wrong = good.clone();
            wrong[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            let is_read = super::memo::Memo::read(0, &wrong).is_some();
            // More room, and another block, are possible.
            assert_eq!(is_read, [8, 12].contains(&at) && value >= 68 && at != 64, "{at} {value}");
        }
    }
    for (name, value) in [("A", "1"), ("", "1"), ("a b", "1"), ("a", "1\n"), ("a", "\0")] {
        let table = vec![(name.to_string(), value.to_string())];
        let memo = Encoder { table, ..Encoder::new() }.memo(b"block", 0, true);
        assert!(super::memo::Memo::read(0, &memo).is_none(), "{name}: {value}");
    }
}

/// A block waits for a table that was promised a tenth of a second at most; then it is read without.
#[test]
fn promises_that_are_not_kept() {
    let mut random = SplitMix(1);
    let all = conversation(&mut random);
    let mut wire = Wire::begun(&PROTOCOL, false);
    wire.parser.memo(Request, 0, &[]);
    for side in [Request, Response] {
        wire.call(side, &all[9][side as usize].frames);
    }
    assert!(wire.rows().is_empty() && wire.parser.is_waiting());
    wire.wait(100_000_000);
    assert_eq!(wire.rows().len(), 1);
}
