//! Tests of Unix sockets' ends.

use weir_types::ledger::Span;

use super::*;

fn seen(inode: u64, peer_inode: u64, owner: u128, since_unix_ns: i64) -> SeenUnixEnd {
    SeenUnixEnd { inode, peer_inode, owner: Upid(owner), since_unix_ns }
}

fn peer(known: &Connections, inode: u64, time_unix_ns: i64) -> u128 {
    known.unix_peer(inode, time_unix_ns).map_or(0, |upid| upid.0)
}

/// Both ends find each other, whichever is seen first and whichever of them knows the other; one that
/// is alone finds nobody. Catches a client whose server is accepted after its first bytes.
#[test]
fn ends_find_each_other() {
    let client = seen(10, 0, 1, 5);
    let server = seen(20, 10, 2, 6);
    for order in [[client, server], [server, client]] {
        let (mut ends, mut known) = (UnixEnds::default(), Connections::default());
        assert!(ends.opened(&order[0], &mut known));
        assert_eq!((peer(&known, 10, 7), peer(&known, 20, 7)), (0, 0), "nobody is guessed");
        assert!(ends.opened(&order[1], &mut known));
        assert_eq!((peer(&known, 10, 7), peer(&known, 20, 7)), (2, 1));
        // Said again it is nothing new.
        assert!(!ends.opened(&order[0], &mut known) && !ends.opened(&order[1], &mut known));
        // Closed, they still were each other's.
        assert!(ends.closed(10, 9, &mut known, 0) && ends.closed(20, 9, &mut known, 0));
        assert_eq!((peer(&known, 10, 7), peer(&known, 20, 7)), (2, 1));
        assert!(ends.claims.is_empty());
    }
}

/// A worker that takes a connection over from its master is the peer from then on; and an inode that
/// comes again is another socket. Catches a peer of another time.
#[test]
fn the_peer_is_who_had_it_then() {
    const SECOND: i64 = 1_000_000_000;
    let (mut ends, mut known) = (UnixEnds::default(), Connections::default());
    ends.opened(&seen(10, 0, 1, 0), &mut known);
    ends.opened(&seen(20, 10, 2, 0), &mut known);
    ends.opened(&seen(20, 0, 3, 10 * SECOND), &mut known);
    assert_eq!([5, 15].map(|at| peer(&known, 10, at * SECOND)), [2, 3]);
    assert_eq!(peer(&known, 20, 15 * SECOND), 1, "whoever holds it");
    for inode in [10, 20] {
        ends.closed(inode, 20 * SECOND, &mut known, 0);
    }
    ends.opened(&seen(20, 40, 5, 30 * SECOND), &mut known);
    ends.opened(&seen(40, 0, 6, 30 * SECOND), &mut known);
    assert_eq!(peer(&known, 20, 31 * SECOND), 6);
    assert_eq!(peer(&known, 10, 31 * SECOND), 0, "its own was over");
    assert_eq!(peer(&known, 10, 15 * SECOND), 3);
}

/// A socket that is closed, open again and closed is forgotten by its last end, and its earlier one takes no
/// room that nobody counts. Catches a stale first end that takes away what was just closed.
#[test]
fn what_opens_again_is_forgotten_once() {
    let (mut ends, mut known) = (UnixEnds::default(), Connections::default());
    for second in 0..UNIX_ENDS_MAX as u64 + 10 {
        ends.opened(&seen(7, 0, 1, second as i64 * 10), &mut known);
        assert!(ends.closed(7, second as i64 * 10 + 5, &mut known, second));
        assert!(ends.closed.len() <= UNIX_ENDS_MAX);
    }
    let last = UNIX_ENDS_MAX as u64 + 9;
    assert!(!ends.forget_old(last, 0, &mut known), "it is as old as its last end");
    assert_eq!(known.unix.len(), 1);
    assert!(ends.forget_old(last + 1, 0, &mut known));
    assert!(known.unix.is_empty() && ends.closed.is_empty());
}

/// No more sockets are remembered than there is room for: closed ones go first and are told of, open
/// ones are refused. What is too old goes without a word, and nothing is left behind.
#[test]
fn sockets_are_bounded() {
    let (mut ends, mut known) = (UnixEnds::default(), Connections::default());
    let most = UNIX_ENDS_MAX as u64;
    for inode in 1..=most + 10 {
        ends.opened(&seen(inode, inode + 1_000_000, 1, inode as i64), &mut known);
        if inode <= 10 {
            ends.closed(inode, inode as i64, &mut known, 0);
        }
    }
    assert_eq!(known.unix.len(), UNIX_ENDS_MAX);
    assert_eq!((ends.forgotten_total, ends.refused_total), (10, 0));
    let forgotten = ends.take_forgotten();
    assert_eq!((forgotten.count, forgotten.span), (10, Some(Span::new(1, 10))));
    assert!(!ends.opened(&seen(most + 11, 0, 1, 0), &mut known));
    assert_eq!(ends.refused_total, 1);
    for inode in 11..=most + 10 {
        ends.closed(inode, 1, &mut known, 0);
    }
    assert!(ends.forget_old(100, 50, &mut known));
    assert_eq!((known.unix.len(), ends.claims.len(), ends.closed.len()), (0, 0, 0));
    assert_eq!(ends.forgotten_total, 10);
}
