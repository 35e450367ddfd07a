//! Tests of connections' ends.

use weir_types::ledger::Span;

use super::*;

fn at(port: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, (port >> 16) as u8, 1], port as u16))
}

/// A client's end and a server's, of connection `n`.
fn both(n: u32) -> [SeenEnd; 2] {
    let end = |local, remote, owner, opened| SeenEnd {
        pair: (local, remote),
        netns: 1,
        owner: Upid(owner),
        opened,
        since_unix_ns: i64::from(n),
    };
    let (client, server) = (at(n + 2), at(1));
    let owner = u128::from(n) + 10;
    [end(client, server, owner, Opened::Connected), end(server, client, 1, Opened::Accepted)]
}

/// The work of an observation is the same whatever is remembered: catches a snapshot that is built
/// anew, and lists that grow with the number of peers of a server.
#[test]
fn work_does_not_grow() {
    let (mut ends, mut known) = (Ends::default(), Connections::default());
    let mut work = Vec::new();
    for n in 0..40_000 {
        let before = ends.counters().touched_total;
        for seen in both(n) {
            ends.opened(&seen, &mut known, 0);
        }
        work.push(ends.counters().touched_total - before);
    }
    assert_eq!(known.ends.len(), 80_000);
    assert_eq!(work.iter().max(), Some(&4), "two ends, and two that met");
    assert!(known.met.values().all(|met| met.len() <= MET_AT_MAX));
    assert!(known.ends.values().all(|uses| uses.len() <= USES_MAX));
    // A copy that somebody holds costs an update nothing but the paths to what it changes.
    let held = known.clone();
    let before = ends.counters().touched_total;
    ends.closed(both(7)[0].pair, 1, 99, &mut known, 0);
    assert_eq!(ends.counters().touched_total - before, 1);
    assert_eq!(held.ends[&both(7)[0].pair][0].until_unix_ns, i64::MAX, "the copy is as it was");
    assert_eq!(known.ends[&both(7)[0].pair][0].until_unix_ns, 99);
}

/// No more ends are kept than there is room for: the oldest closed ones go first and are counted,
/// open ones stay; and a pair that is used again and again does not fill the queue of closed ones.
#[test]
fn ends_are_bounded() {
    let (mut ends, mut known) = (Ends::default(), Connections::default());
    let most = u32::try_from(ENDS_MAX).unwrap();
    let [open, _] = both(0);
    ends.opened(&open, &mut known, 0);
    for n in 1..most + 100 {
        let [seen, _] = both(n);
        ends.opened(&seen, &mut known, 0);
        ends.closed(seen.pair, 1, i64::from(n), &mut known, 0);
    }
    assert_eq!(ends.count(), ENDS_MAX);
    assert_eq!(ends.counters().forgotten_total, 100);
    let forgotten = ends.take_forgotten();
    assert_eq!((forgotten.count, forgotten.span), (100, Some(Span::new(1, 100))), "the oldest");
    assert_eq!(ends.take_forgotten(), Forgotten::default(), "each is told once");
    assert!(known.ends.contains_key(&open.pair));
    assert!(!known.ends.contains_key(&both(1)[0].pair));
    for n in 0..3 * most {
        let seen = SeenEnd { owner: Upid(u128::from(n % 2) + 5), ..both(9)[0] };
        ends.opened(&seen, &mut known, 0);
    }
    assert!(ends.closed.len() <= ENDS_MAX && ends.count() <= ENDS_MAX);
    assert!(known.ends[&both(9)[0].pair].len() <= USES_MAX);
    let all: usize = known.ends.values().map(|uses| uses.len()).sum();
    assert_eq!(all, ends.count());
    // What is too old for any row goes, and is not counted.
    let forgotten = ends.counters().forgotten_total;
    assert!(ends.forget_old(100, 50, &mut known));
    assert_eq!(ends.counters().forgotten_total, forgotten);
    let all: usize = known.ends.values().map(|uses| uses.len()).sum();
    assert_eq!((all, ends.count(), ends.closed.len()), (2, 2, 0), "the open ones");
}

/// An open end that finds no room is refused and counted.
#[test]
fn open_ends_are_not_pushed_out() {
    let (mut ends, mut known) = (Ends::default(), Connections::default());
    for n in 0..u32::try_from(ENDS_MAX).unwrap() + 5 {
        ends.opened(&both(n)[0], &mut known, 0);
    }
    assert_eq!(ends.counters().refused_total, 5);
    assert!(known.ends.contains_key(&both(0)[0].pair));
}
