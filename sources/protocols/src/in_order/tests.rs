//! Requests and responses by their times: what is paired, what is dropped, and what that counts.

use super::*;

const SETTLED_NS: i64 = i64::MAX;
const SECOND_NS: i64 = 1_000_000_000;

/// A request by its number; it gets no row once its text is forgotten.
impl Asked for Vec<u8> {
    type Shape = u8;

    fn held_bytes(&self) -> usize {
        self.capacity()
    }
    fn forget_text(&mut self) {
        *self = Vec::new();
    }
    fn is_owed(&self) -> bool {
        !self.is_empty()
    }
    fn is_plain(&self) -> bool {
        self.first().is_none_or(|number| *number < 100)
    }
}

fn queue(from_start: bool) -> InOrder<Vec<u8>> {
    InOrder::new(from_start)
}

fn loss(at: i64) -> Loss {
    Loss { from_unix_ns: at, to_unix_ns: at }
}

fn between(from_unix_ns: i64, to_unix_ns: i64) -> Loss {
    Loss { from_unix_ns, to_unix_ns }
}

/// The request that a response is paired with, which began then.
fn answer(queue: &mut InOrder<Vec<u8>>, begin_ns: i64) -> Option<u8> {
    match queue.owner(begin_ns, SETTLED_NS) {
        Owner::Front => queue.answered(begin_ns, begin_ns)?.first().copied(),
        Owner::Nobody => {
            queue.unowned(begin_ns, begin_ns);
            None
        }
        Owner::Wait => panic!("everything has come"),
    }
}

/// Where one request waits and its response is missing for certain, the next pair is certain; a pair
/// before the hole is, too.
#[test]
fn a_lost_response_costs_itself() {
    let mut queue = queue(true);
    queue.push(vec![1], 10);
    assert_eq!(answer(&mut queue, 15), Some(1));
    queue.push(vec![2], 20);
    queue.responses_lost(loss(25), Some(1));
    queue.push(vec![3], 30);
    assert_eq!(answer(&mut queue, 35), Some(3));
    assert_eq!((queue.counters.exchanges, queue.counters.gap), (2, 1));
}

/// A response is missing, which is known only when the next one comes: that one is the request's before
/// it, once the request behind shows that none is missing between.
#[test]
fn a_lost_response_that_is_known_late() {
    let mut shown = queue(true);
    shown.push(vec![1], 10);
    shown.push(vec![2], 20);
    shown.responses_lost(between(5, 25), Some(1));
    assert_eq!(shown.owner(25, 26), Owner::Wait);
    shown.push(vec![3], 30);
    assert_eq!([25, 35].map(|at| answer(&mut shown, at)), [Some(2), Some(3)]);
    assert_eq!(shown.counters.gap, 1);
    // A request may be missing as well, or what comes is a part of the response that began in the hole.
    for is_plain in [true, false] {
        let mut unknown = queue(true);
        unknown.push(vec![if is_plain { 1 } else { 101 }], 10);
        unknown.push(vec![2], 20);
        unknown.responses_lost(between(5, 25), Some(1));
        if is_plain {
            assert_eq!(answer(&mut unknown, 25), None, "perhaps of a request at 22");
            unknown.requests_lost(between(20, 30));
        }
        unknown.push(vec![3], 30);
        assert_eq!([25, 35].map(|at| answer(&mut unknown, at)), [None, None]);
        assert_eq!(unknown.counters.gap, 3);
    }
}

/// How many requests were missing is not known: what follows is not paired, though both sides take turns,
/// until both were silent.
#[test]
fn lost_requests_end_pairing_until_silence() {
    let mut queue = queue(true);
    queue.push(vec![1], 10);
    queue.requests_lost(loss(20));
    queue.push(vec![3], 30);
    assert_eq!([15, 25, 35].map(|at| answer(&mut queue, at)), [Some(1), None, None]);
    for turn in 4..40 {
        queue.push(vec![turn], i64::from(turn) * 10);
        assert_eq!(answer(&mut queue, i64::from(turn) * 10 + 5), None);
    }
    queue.push(vec![50], SECOND_NS + 395);
    assert_eq!(answer(&mut queue, SECOND_NS + 400), Some(50));
    assert_eq!((queue.counters.exchanges, queue.counters.gap), (2, 38));
}

/// Of a pipeline of which a response is missing, none that follows is paired until as many have come as
/// can: what waits then is missing. Not where those that came may have been parts of one; but where all
/// are missing, whatever came.
#[test]
fn a_pipeline_is_not_guessed() {
    for is_plain in [true, false] {
        let mut pipeline = queue(true);
        for request in 1..5 {
            pipeline.push(vec![if is_plain { request } else { 100 + request }], 10);
        }
        assert!(answer(&mut pipeline, 15).is_some());
        pipeline.responses_lost(loss(16), Some(1));
        assert_eq!(answer(&mut pipeline, 17), None);
        pipeline.push(vec![8], 18);
        assert_eq!(answer(&mut pipeline, 19), None, "perhaps request 4's");
        pipeline.push(vec![9], 20);
        assert_eq!(answer(&mut pipeline, 25), None, "perhaps request 8's");
        pipeline.push(vec![10], 30);
        assert_eq!(answer(&mut pipeline, 35), None, "perhaps request 9's");
    }
    for (is_plain, pair) in [(true, Some(9)), (false, None)] {
        let mut drained = queue(true);
        for request in 1..4 {
            drained.push(vec![if is_plain { request } else { 100 + request }], 10);
        }
        drained.responses_lost(loss(16), Some(1));
        assert_eq!([17, 18].map(|at| answer(&mut drained, at)), [None; 2]);
        drained.push(vec![9], 20);
        assert_eq!(answer(&mut drained, 25), pair);
    }
    let mut all = queue(true);
    all.push(vec![101], 10);
    all.push(vec![102], 10);
    all.responses_lost(loss(16), Some(2));
    all.push(vec![3], 20);
    assert_eq!(answer(&mut all, 25), Some(3));
}

/// Silence proves nothing where a request is known to wait, where a hole reaches into it, or where
/// something began before the connection was watched and the server has said nothing since.
#[test]
fn what_is_no_silence() {
    let lost = || {
        let mut queue = queue(true);
        queue.requests_lost(loss(20));
        queue.push(vec![3], 30);
        queue
    };
    let late = 40 + 2 * SECOND_NS;
    let mut waits = lost();
    waits.push(vec![4], late);
    assert_eq!(answer(&mut waits, late + 5), None, "perhaps of request 3");
    let mut hole = lost();
    assert_eq!(answer(&mut hole, 35), None);
    hole.requests_lost(between(30, late));
    hole.push(vec![4], late);
    assert_eq!(answer(&mut hole, late + 5), None, "perhaps of one that is missing");
    let mut response = lost();
    assert_eq!(answer(&mut response, 35), None);
    response.push(vec![4], late);
    response.responses_lost(between(35, late + 5), Some(1));
    assert_eq!(answer(&mut response, late + 5), None, "perhaps of a request that is missing");
    let mut joined = queue(false);
    joined.push(vec![4], late);
    assert_eq!(answer(&mut joined, late + 5), None);
    let mut right = lost();
    assert_eq!(answer(&mut right, 35), None);
    right.push(vec![4], late);
    assert_eq!(answer(&mut right, late + 5), Some(4));
}

/// Prompt answers and longer pauses, often enough: then pairs are certain. Not where a client keeps two
/// requests under way, however regularly, nor where pauses are as short as answers.
#[test]
fn turns_prove_that_a_client_waits() {
    let pairs = |pause: fn(i64) -> i64, answer_ns: i64| {
        let mut queue = queue(false);
        let mut at = 1_000_000;
        (1..=60)
            .filter(|turn| {
                queue.push(vec![*turn as u8], at);
                let pair = answer(&mut queue, at + answer_ns);
                assert!(pair.is_none_or(|pair| pair == *turn as u8));
                at += answer_ns + pause(*turn);
                pair.is_some()
            })
            .count()
    };
    assert_eq!(pairs(|turn| 20_000 + turn % 7 * 50_000, 10_000), 60 - 16);
    assert_eq!(pairs(|_| 100_000, 10_000), 60 - 16);
    assert_eq!(pairs(|_| 10_000, 10_000), 0);
    assert_eq!(pairs(|turn| if turn % 9 == 0 { 5_000 } else { 100_000 }, 10_000), 0);
}

/// Requests that overlap are paired as long as nothing is missing, and are not when the connection is
/// joined; a pause makes them certain again.
#[test]
fn joined_while_requests_overlap() {
    let mut late = queue(false);
    late.push(vec![2], 10);
    assert_eq!(answer(&mut late, 11), None, "request 1's");
    late.push(vec![3], 12);
    late.push(vec![4], 13);
    assert_eq!([14, 15, 16].map(|at| answer(&mut late, at)), [None; 3]);
    let at = |ns: i64| 16 + SECOND_NS + ns;
    late.push(vec![5], at(0));
    assert_eq!(answer(&mut late, at(1)), Some(5), "after silence");
    late.push(vec![6], at(2));
    late.push(vec![7], at(3));
    assert_eq!([at(4), at(5)].map(|at| answer(&mut late, at)), [Some(6), Some(7)]);
    assert_eq!((late.counters.unpaired, late.counters.gap), (4, 0));
}

/// A request of which the end is missing, which is known only when the next one comes: its answer is
/// given up before. Catches the next answer given to it.
#[test]
fn a_request_is_known_late() {
    let mut late = queue(true);
    assert_eq!(answer(&mut late, 15), None);
    late.push(vec![1], 10);
    late.push(vec![2], 20);
    assert_eq!(answer(&mut late, 25), None);
}

/// Whether a request came before a response has to be certain before either is dropped.
#[test]
fn what_may_come_is_waited_for() {
    let mut early = queue(true);
    assert_eq!(early.owner(10, 11), Owner::Wait);
    early.push(vec![1], 9);
    assert_eq!(early.owner(10, 11), Owner::Front);
    let mut nobody = queue(true);
    assert_eq!(nobody.owner(10, 10 + REORDER_GRACE_NS), Owner::Nobody);
}

/// What nobody asked for is counted as that, unless the next request shows that one was missing.
#[test]
fn what_nobody_asked_for() {
    for is_missing in [false, true] {
        let mut queue = queue(true);
        assert_eq!(answer(&mut queue, 5), None);
        if is_missing {
            queue.requests_lost(between(1, 10));
        }
        queue.push(vec![1], 10);
        queue.close();
        let counters = queue.counters;
        let lost = u64::from(is_missing);
        assert_eq!((counters.unasked, counters.gap), (1 - lost, 2 * lost));
    }
}

/// Requests for which there is no room keep their places, so that pairs stay right; each is counted once,
/// also where a hole follows. Where there are too many, pairing begins anew.
#[test]
fn room_ends_and_pairs_stay_right() {
    let mut full = queue(true);
    for request in 1..21u8 {
        full.push(vec![request; 100_000], 10);
    }
    let answers: Vec<_> = (1..18).map(|at| answer(&mut full, 20 + at)).collect();
    assert!(answers.iter().take(10).enumerate().all(|(idx, got)| *got == Some(1 + idx as u8)));
    assert_eq!(answers.iter().flatten().count(), 10);
    assert_eq!((full.counters.given_up, full.held_bytes), (10, 0));
    full.responses_lost(loss(60), None);
    full.close();
    assert_eq!((full.counters.given_up, full.counters.gap), (10, 0));
    let mut many = queue(true);
    for _ in 0..REQUESTS_MAX + 1 {
        many.push(vec![1], 100);
    }
    assert_eq!((many.waiting.len(), many.counters.given_up), (1, REQUESTS_MAX as u64));
    assert_eq!(answer(&mut many, 200), None, "of which request is not known");
    many.close();
    assert_eq!((many.counters.given_up, many.counters.gap), (REQUESTS_MAX as u64, 1));
}

/// What is given up while its answer is being read is not paired with that, nor is what comes then.
#[test]
fn given_up_while_it_is_answered() {
    let mut queue = queue(true);
    queue.push(vec![1], 10);
    assert_eq!(queue.owner(15, SETTLED_NS), Owner::Front);
    queue.give_up();
    queue.push(vec![2], 20);
    assert_eq!(queue.answered(15, 25), None);
    assert_eq!(answer(&mut queue, 30), None);
    assert_eq!((queue.counters.given_up, queue.counters.exchanges), (1, 0));
}

/// Nothing is taken off the queue beyond a hole.
#[test]
fn dropping_ends_at_a_hole() {
    let mut queue = queue(true);
    queue.push(vec![1], 10);
    queue.requests_lost(loss(20));
    queue.push(vec![2], 30);
    assert_eq!(queue.drop_front(), Some(vec![1]));
    assert_eq!(queue.drop_front(), None);
    assert_eq!(queue.front(), Some(&vec![2]));
}
