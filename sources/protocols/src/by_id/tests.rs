//! Ids that come once or again, losses, bounds.

use super::*;

type Pairs = ById<u16, Vec<u8>, ()>;

/// Of a client that counts, whose ids come but once, a pair is one whatever is missing; of one that goes
/// back, an answer behind missing ones may be that of a request that is missing. Catches the answer to a
/// request that was not seen given to an older one.
#[test]
fn ids_that_come_again() {
    let both = [Side::Request, Side::Response];
    for repeats in [false, true] {
        for (lost, may_be_wrong) in
            [(&both[..], true), (&both[1..], true), (&both[..1], false), (&[], false)]
        {
            let mut ids = Pairs::new(true, Limits::default());
            for id in [5, if repeats { 5 } else { 6 }] {
                assert!(ids.request(id, Vec::new(), 1).is_none());
                assert!(ids.response(id, (), 2).is_some());
            }
            assert!(ids.request(7, b"first".to_vec(), 10).is_none());
            for side in lost {
                ids.lost(*side, 20);
            }
            let found = ids.response(7, (), 30).map(|(request, (), _)| request);
            let is_pair = !(repeats && may_be_wrong);
            assert_eq!(found, is_pair.then(|| b"first".to_vec()), "{lost:?} {repeats}");
            let lost = u64::from(!is_pair);
            assert_eq!((ids.counters.exchanges, ids.counters.gap), (3 - lost, lost));
            assert!(ids.request(8, Vec::new(), 40).is_none());
            assert!(ids.response(8, (), 50).is_some());
        }
    }
}

/// Where ids come again as a rule, a loss makes uncertain what was asked before it, the first time as well
/// and also if it is told late; what is asked later is answered.
#[test]
fn ids_that_come_again_as_a_rule() {
    let mut ids = Pairs::new(true, Limits::default()).with_ids_again();
    assert!(ids.request(1, b"before".to_vec(), 10).is_none());
    assert!(ids.request(2, b"behind".to_vec(), 30).is_none());
    ids.lost(Side::Response, 20);
    assert!(ids.request(3, b"late".to_vec(), 15).is_none());
    assert_eq!(ids.counters.gap, 2);
    let found = [1, 2, 3].map(|id| ids.response(id, (), 40).map(|(request, (), _)| request));
    assert_eq!(found, [None, Some(b"behind".to_vec()), None]);
}

/// A request that a loss made uncertain is counted once, whether its answer comes or not, and whichever comes
/// first; the next one with its id is answered.
#[test]
fn a_lost_request_is_counted_once() {
    for is_early in [false, true] {
        let mut ids = Pairs::new(true, Limits::default()).with_ids_again();
        if !is_early {
            assert!(ids.request(7, Vec::new(), 10).is_none());
        }
        ids.lost(Side::Response, 20);
        assert!(ids.response(7, (), 30).is_none());
        if is_early {
            assert!(ids.request(7, Vec::new(), 10).is_none());
        }
        ids.pass_time(REORDER_GRACE_NS + 30);
        assert!(ids.request(7, Vec::new(), 40).is_none());
        assert!(ids.response(7, (), 50).is_some());
        assert!(ids.response(7, (), 60).is_none());
        ids.pass_time(REORDER_GRACE_NS + 60);
        let want = Counters { exchanges: 1, gap: 1, unasked: 1, resyncs: 1, ..Counters::default() };
        assert_eq!(ids.counters, want, "{is_early}");
        assert!(!ids.is_waiting());
    }
}

/// The answer to a request that is told late waits for it, and is not that of an older one. Once it is
/// dropped, the next answer with that id is not given to it.
#[test]
fn a_request_that_is_told_late() {
    for passes in [false, true] {
        let mut ids = Pairs::new(true, Limits::default()).with_ids_again();
        assert!(ids.request(7, b"old".to_vec(), 10).is_none());
        ids.lost(Side::Response, 20);
        assert!(ids.response(7, (), 50).is_none(), "of that which began at 40");
        assert!(ids.response(7, (), 70).is_none(), "of a third one, which is lost");
        if passes {
            ids.pass_time(REORDER_GRACE_NS + 80);
        }
        let found = ids.request(7, b"late".to_vec(), 40);
        let want = (!passes).then(|| (b"late".to_vec(), (), 50));
        assert_eq!(found, want);
        ids.pass_time(REORDER_GRACE_NS + 80);
        assert_eq!(ids.counters.exchanges, u64::from(!passes));
        let begin_ns = REORDER_GRACE_NS + 90;
        assert!(ids.request(7, Vec::new(), begin_ns).is_none());
        assert!(ids.response(7, (), begin_ns).is_some());
    }
}

/// An answer between two requests with its id is the first one's, however late it is told; one behind both
/// is nobody's.
#[test]
fn two_requests_with_an_id() {
    for (answer_ns, is_first) in [(15, true), (25, false)] {
        let mut ids = Pairs::new(true, Limits::default()).with_ids_again();
        assert!(ids.request(7, b"first".to_vec(), 10).is_none());
        assert!(ids.request(7, b"second".to_vec(), 20).is_none());
        assert_eq!(ids.is_asked_again(7, answer_ns), !is_first);
        let found = ids.response(7, (), answer_ns).map(|(request, ..)| request);
        assert_eq!(found, is_first.then(|| b"first".to_vec()));
        assert_eq!(ids.waiting(&7), is_first.then(|| b"second".to_vec()).as_ref());
        assert_eq!(ids.counters.unanswered, if is_first { 0 } else { 2 });
    }
}

/// A response from before its request is of an earlier one with that id, and waits in vain.
#[test]
fn a_response_is_not_before_its_request() {
    let mut ids = Pairs::new(true, Limits::default());
    assert!(ids.request(7, Vec::new(), 10).is_none());
    assert!(ids.response(7, (), 9).is_none());
    assert!(ids.response(7, (), 11).is_some());
    ids.pass_time(REORDER_GRACE_NS + 9);
    assert_eq!((ids.counters.exchanges, ids.counters.unasked), (1, 1));
    assert!(!ids.is_waiting());
}

/// What waits is bounded in number and bytes; what is given up is counted.
#[test]
fn what_waits_is_bounded() {
    let limits = Limits { requests_max: 10, bytes_max: 1_000, answer_within_ns: 1 };
    let mut ids = Pairs::new(false, limits);
    for id in 0..100 {
        assert!(ids.request(id, vec![0; 150], 0).is_none());
    }
    assert_eq!((ids.pending.len(), ids.counters.given_up), (6, 94));
    for id in 200..1_000 {
        assert!(ids.response(id, (), 0).is_none());
    }
    assert_eq!((ids.early.len(), ids.counters.unpaired), (EARLY_MAX, 800 - 256));
    ids.give_up();
    assert!(!ids.is_waiting() && ids.pending_bytes == 0);
}
