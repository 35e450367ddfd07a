//! Reassembly: order, gaps, bounds.

use super::*;

fn segment(position: u64, time_unix_ns: i64, payload: &[u8]) -> Segment<'_> {
    Segment { position, total_bytes: payload.len() as u64, time_unix_ns, payload, tail: &[] }
}

/// Order of arrival does not matter; times and event starts stay with their bytes.
#[test]
fn events_are_put_in_order() {
    let mut stream = StreamBuffer::default();
    stream.push(segment(3, 30, b"def"));
    assert!(stream.unread().is_empty());
    assert_eq!(stream.hole_since_ns(), Some(30));
    stream.push(segment(0, 10, b"abc"));
    stream.push(segment(3, 31, b"def"));
    assert_eq!(stream.unread(), b"abcdef");
    assert_eq!((stream.at_event_start(), stream.unread_since_ns()), (true, Some(10)));
    assert_eq!(stream.consume(2), 10);
    assert!(!stream.at_event_start());
    assert_eq!(stream.consume(1), 10);
    assert_eq!((stream.at_event_start(), stream.unread_since_ns()), (true, Some(30)));
    assert_eq!(stream.consume(3), 30);
    assert!(stream.is_empty());
}

/// A call longer than its payload leaves a gap of known size in front of the next event.
#[test]
fn the_rest_of_a_long_call_is_lost() {
    let mut stream = StreamBuffer::default();
    stream.push(Segment {
        position: 0,
        total_bytes: 10,
        time_unix_ns: 1,
        payload: b"abc",
        tail: &[],
    });
    stream.push(segment(10, 2, b"next"));
    assert_eq!((stream.unread(), stream.lost_bytes()), (&b"abc"[..], 7));
    assert_eq!(stream.skip(5), 1);
    assert_eq!((stream.unread(), stream.lost_bytes()), (&b""[..], 5));
    stream.skip_to_event();
    assert_eq!((stream.unread(), stream.at_event_start()), (&b"next"[..], true));
}

/// A hole stays open until it is filled or settled.
#[test]
fn a_settled_hole_is_lost() {
    let mut stream = StreamBuffer::default();
    stream.push(segment(0, 1, b"ab"));
    stream.push(segment(5, 2, b"fg"));
    stream.consume(2);
    assert_eq!((stream.lost_bytes(), stream.hole_since_ns()), (0, Some(2)));
    stream.settle_hole();
    assert_eq!((stream.lost_bytes(), stream.hole_since_ns()), (3, None));
    stream.skip(3);
    assert_eq!(stream.unread(), b"fg");
}

/// Bytes that were given before are ignored, whole or in part.
#[test]
fn overlaps_are_cut() {
    let mut stream = StreamBuffer::default();
    stream.push(segment(0, 1, b"abcd"));
    stream.push(segment(2, 2, b"cdef"));
    stream.push(segment(1, 3, b"bcd"));
    assert_eq!(stream.unread(), b"abcdef");
}

/// What does not fit becomes lost bytes of known size: memory is bounded, positions stay right.
#[test]
fn storage_is_bounded() {
    let mut stream = StreamBuffer::new(8);
    stream.push(segment(0, 1, b"0123456789"));
    assert_eq!((stream.unread().len(), stream.lost_bytes(), stream.overflow_bytes()), (8, 2, 2));
    for idx in 0..10 * AHEAD_EVENTS_MAX as u64 {
        stream.push(segment(20 + 2 * idx, 2, b"x"));
    }
    assert!(stream.held_bytes() < 192 * 1024);
    stream.forget_unread();
    stream.skip(u64::MAX);
    assert!(stream.is_empty());
}

/// Positions at the end of the number range and empty events do no harm.
#[test]
fn extreme_positions_are_ignored_or_kept() {
    let mut stream = StreamBuffer::default();
    stream.push(segment(u64::MAX, 1, b"abc"));
    stream.push(Segment {
        position: 0,
        total_bytes: 0,
        time_unix_ns: 1,
        payload: b"abc",
        tail: &[],
    });
    assert!(stream.is_empty());
    stream.push(segment(u64::MAX - 3, 1, b"abc"));
    stream.settle_hole();
    stream.skip(u64::MAX);
    assert_eq!(stream.unread(), b"abc");
}
