//! Full rings and full tables.

use super::*;

/// Bytes of a stream that came out of a too small ring: every call is a record or counted, and
/// the positions show exactly what is missing.
#[test]
fn full_ring_is_counted_and_shows_in_positions() {
    let listener = listen();
    let mut config = follow_port(listener.local_addr().unwrap().port());
    config.ring_bytes = 4_096;
    let Some(mut source) = start(&config) else { return };
    let mut pair = Pair::connect(&listener);
    for _ in 0..50 {
        pair.say("0123456789");
    }
    let first = drain(&mut source);
    pair.say("the end");
    let second = drain(&mut source);
    let counters: Counters = source.counters();
    let data_records = |seen: &[Seen]| {
        seen.iter().filter(|event| matches!(event.what, What::Data { .. })).count() as u64
    };
    assert!(counters.lost_records > 0);
    assert_eq!(data_records(&first) + counters.lost_records, 100);
    assert_eq!(counters.lost_bytes, counters.lost_records * 10);
    assert_eq!(data(&second, pair.client_addr, Direction::Egress), [(500, 7, b"the end".to_vec())]);
}

/// Long calls into a ring that fills: less is copied of each, and twice as many are seen as would have
/// fitted whole, each with its position, its first bytes and its last. Catches answers that vanish
/// because the bodies of others took all the room.
#[test]
fn a_filling_ring_takes_less_of_each_call() {
    let listener = listen();
    let mut config = follow_port(listener.local_addr().unwrap().port());
    config.ring_bytes = 256 << 10;
    let Some(mut source) = start(&config) else { return };
    let mut pair = Pair::connect(&listener);
    let long = format!("begin{}end", "x".repeat(9_992));
    for _ in 0..30 {
        pair.say(&long);
    }
    let seen = drain(&mut source);
    let counters: Counters = source.counters();
    assert_eq!(counters.lost_records, 0);
    assert!(counters.shed_calls > 0 && counters.cut_bytes > 0);
    let sent = data(&seen, pair.client_addr, Direction::Egress);
    let starts =
        sent.iter().filter(|(at, _, bytes)| at % 10_000 == 0 && bytes.starts_with(b"begin"));
    let ends = sent
        .iter()
        .filter(|(at, of, bytes)| (at + u64::from(*of)) % 10_000 == 0 && bytes.ends_with(b"end"));
    assert_eq!((starts.count(), ends.count()), (30, 30));
}

/// A table too small for the sockets at hand: a forgotten socket comes back under another
/// generation and from position 0, so that nobody joins the two.
#[test]
fn forgotten_sockets_get_a_new_generation() {
    let listener = listen();
    let mut config = follow_port(listener.local_addr().unwrap().port());
    config.conns_max = 64;
    let Some(mut source) = start(&config) else { return };
    let mut pair = Pair::connect(&listener);
    pair.say("before");
    let others: Vec<Pair> = (0..200)
        .map(|_| {
            let mut other = Pair::connect(&listener);
            other.say("x");
            other
        })
        .collect();
    pair.say("after");
    drop(others);
    let seen = drain(&mut source);
    let sent: Vec<_> = seen
        .iter()
        .filter(|event| event.is_from(pair.client_addr))
        .filter_map(|event| match event.what {
            What::Data { direction: Direction::Egress, position, .. } => {
                Some((event.socket.unwrap(), position))
            }
            _ => None,
        })
        .collect();
    let [(before, 0), (after, 0)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_ne!(before.key.generation, after.key.generation);
    assert_eq!((before.key.sock, before.key.inode), (after.key.sock, after.key.inode));
    assert_eq!((before.opened, after.opened), (Opened::Connected, Opened::Unknown));
}

/// The ring wakes a waiting thread before it is full, and nobody below that.
#[test]
fn wakes_when_filling() {
    let listener = listen();
    let mut config = follow_port(listener.local_addr().unwrap().port());
    config.ring_bytes = 1 << 20;
    let Some(mut source) = start(&config) else { return };
    let mut pair = Pair::connect(&listener);
    let clock = weir_types::WallClock;
    let waited_ms = |source: &EbpfSource, timeout_ms| {
        let began_ns = weir_types::Clock::monotonic_ns(&clock);
        source.wait(Duration::from_millis(timeout_ms));
        (weir_types::Clock::monotonic_ns(&clock) - began_ns) / 1_000_000
    };
    drain(&mut source);
    let writer = std::thread::spawn(move || {
        let text = "x".repeat(20_000);
        for _ in 0..20 {
            pair.say(&text);
        }
    });
    assert!(waited_ms(&source, 20_000) < 20_000, "was not woken");
    writer.join().unwrap();
    let counters = source.counters();
    assert_eq!(counters.lost_records, 0);
}
