//! Two ends and a bad bus between them, without threads or clocks.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const BOUNDS: Bounds =
    Bounds { kept_bytes_max: 64 << 20, part_bytes_max: 1_000, deflate_from_bytes: 1_024 };
const STEP_MS: u64 = 100;

/// One direction: frames on their way, each with the step in which it arrives.
struct Way {
    rng: SmallRng,
    waiting: Vec<(u64, Vec<u8>)>,
    lost: u32,
    repeated: u32,
    delayed: u32,
}

impl Way {
    fn new(seed: u64, lost: u32) -> Way {
        let rng = SmallRng::seed_from_u64(seed);
        Way { rng, waiting: Vec::new(), lost, repeated: lost, delayed: lost }
    }

    fn carry(&mut self, step: u64, bytes: &[u8]) {
        let mut hits = |percent: u32| self.rng.random_range(0..100) < percent;
        if hits(self.lost) {
            return;
        }
        for _ in 0..=u8::from(hits(self.repeated)) {
            let wait = if self.rng.random_range(0..100) < self.delayed { 3 } else { 0 };
            self.waiting.push((step + wait, bytes.to_vec()));
        }
    }

    fn due(&mut self, step: u64) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut self.waiting);
        let (due, later) = all.into_iter().partition(|(at, _)| *at <= step);
        self.waiting = later;
        let due: Vec<(u64, Vec<u8>)> = due;
        due.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

struct Pair {
    ends: [End; 2],
    ways: [Way; 2],
    /// What each end handed on.
    got: [Vec<Vec<u8>>; 2],
    /// How many of those have been done.
    done: [u64; 2],
    room: usize,
    step: u64,
}

impl Pair {
    fn new(seed: u64, lost: u32) -> Pair {
        let end = || End::new(5, BOUNDS, 0, 0);
        Pair {
            ends: [end(), end()],
            ways: [Way::new(seed, lost), Way::new(!seed, lost)],
            got: Default::default(),
            done: [0, 0],
            room: usize::MAX,
            step: 0,
        }
    }

    /// A tenth of a second: all that is due arrives, all that can be said is.
    fn pass(&mut self) {
        self.step += 1;
        let now_ms = self.step * STEP_MS;
        for at in [0, 1] {
            while let Some(bytes) = self.ends[at].next_frame(self.done[at], now_ms) {
                self.ways[at].carry(self.step, &bytes);
            }
            for bytes in self.ways[at].due(self.step) {
                let frame = Frame::decode(&bytes).unwrap();
                let got = &mut self.got[1 - at];
                let has_room = got.len() - (self.done[1 - at] as usize) < self.room;
                got.extend(self.ends[1 - at].receive(&frame, now_ms, has_room).unwrap());
            }
        }
    }
}

fn message(rng: &mut SmallRng, number: u32) -> Vec<u8> {
    let len = [3, 40, 1_500, 9_000][rng.random_range(0..4_usize)];
    let filled = rng.random_range(0..2) == 0;
    let byte = |_| if filled { 7 } else { rng.random_range(0..=255_u8) };
    number.to_le_bytes().into_iter().chain((0..len).map(byte)).collect()
}

/// Over a bus that loses, repeats and reorders up to a third of all frames, either way, messages of all sizes
/// arrive once and in order, and nothing is kept once it was done. Catches an acknowledgement that frees what
/// was not done, a repeat that is handed on, and a loss at the very end.
#[test]
fn everything_arrives_once_and_in_order() {
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pair = Pair::new(seed, (seed % 7) as u32 * 5);
        let mut sent: [Vec<Vec<u8>>; 2] = Default::default();
        for number in 0..60_u32 {
            let from = rng.random_range(0..2_usize);
            let message = message(&mut rng, number);
            pair.ends[from].give(&message).unwrap();
            sent[from].push(message);
            if rng.random_range(0..3) == 0 {
                pair.pass();
                pair.done = [pair.got[0].len() as u64, pair.got[1].len() as u64];
            }
        }
        let mut steps = 0;
        while !pair.ends.iter().all(End::is_done) {
            pair.pass();
            pair.done = [pair.got[0].len() as u64, pair.got[1].len() as u64];
            steps += 1;
            assert!(steps < 5_000, "seed {seed}: {:?}", pair.ends.each_ref().map(|end| end.counts));
        }
        assert_eq!(pair.got[1], sent[0], "seed {seed}");
        assert_eq!(pair.got[0], sent[1], "seed {seed}");
        assert!(pair.ends.iter().all(|end| end.out.kept_bytes == 0 && end.partial_bytes() == 0));
        if seed % 7 == 0 {
            assert!(pair.ends.iter().all(|end| end.counts.frames_resent == 0), "nothing was lost");
        }
    }
}

/// What was received and not done is kept by whoever sent it, however often it was acknowledged as received;
/// whoever has no room gets it once there is. Catches a window that the wrong word frees, and a reader without
/// room that is flooded or forgotten.
#[test]
fn only_what_was_done_is_forgotten() {
    let mut pair = Pair::new(1, 0);
    pair.room = 2;
    let messages: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; 500]).collect();
    messages.iter().for_each(|message| pair.ends[0].give(message).unwrap());
    (0..50).for_each(|_| pair.pass());
    assert_eq!(pair.got[1].len(), 2, "no more has room");
    assert_eq!(pair.ends[0].kept_messages(), 5);
    let kept = pair.ends[0].out.kept_bytes;
    assert_eq!(kept, 5 * (500 + FRAME_OVERHEAD_BYTES), "nothing was done");
    let resent = pair.ends[0].counts.frames_resent;
    assert!(resent < 100, "{resent} frames again for a reader without room");
    pair.done[1] = 2;
    (0..50).for_each(|_| pair.pass());
    assert_eq!(pair.got[1].len(), 4);
    assert_eq!(pair.ends[0].out.kept_bytes, 3 * (500 + FRAME_OVERHEAD_BYTES));
    pair.done[1] = 4;
    (0..50).for_each(|_| pair.pass());
    pair.done[1] = 5;
    (0..50).for_each(|_| pair.pass());
    assert_eq!(pair.got[1], messages);
    assert!(pair.ends[0].is_done());
}

/// What waits is bounded in bytes; what the other end claims is not believed: numbers that were never sent,
/// bytes that inflate without end, a message that never ends.
#[test]
fn bounded_and_unbelieving() {
    let mut end =
        End::new(1, Bounds { kept_bytes_max: 10_000, part_bytes_max: 100, ..BOUNDS }, 0, 0);
    let mut rng = SmallRng::seed_from_u64(1);
    let random: Vec<u8> = (0..4_000).map(|_| rng.random_range(0..=255_u8)).collect();
    end.give(&random).unwrap();
    assert_eq!(end.give(&random), Err(Over::Full { max: 10_000 }));
    let ack = |to| Body::Ack { received_to: to, applied_to: to, saw_to: to, busy: false };
    let frame = |body| Frame { session: 1, attempt: 0, body };
    let kept = end.out.kept_bytes;
    end.receive(&frame(ack(u64::MAX)), 0, true).unwrap();
    assert_eq!(end.out.kept_bytes, kept, "nothing was sent yet");
    let turned_away =
        end.receive(&frame(Body::Data { sequence: 0, flags: 0, part: b"a" }), 0, false);
    assert_eq!((turned_away, end.partial_bytes()), (Ok(None), 0));
    let bomb = deflate(&vec![0; MESSAGE_BYTES_MAX as usize + 1_000]).unwrap();
    let data = Body::Data { sequence: 0, flags: DEFLATED, part: &bomb };
    assert_eq!(
        end.receive(&frame(data), 0, false),
        Ok(None),
        "nothing is inflated for who has no room"
    );
    assert_eq!(end.receive(&frame(data), 0, true), Err(Over::Garbled));
    let mut end = End::new(1, BOUNDS, 0, 0);
    let part = vec![1; 16 << 20];
    let mut taken = (0..9).map(|sequence| {
        let data = Body::Data { sequence, flags: MORE, part: &part };
        end.receive(&frame(data), 0, true)
    });
    assert!(taken.any(|taken| taken == Err(Over::Garbled)), "a message without end");
}
