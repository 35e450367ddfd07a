//! What TCP does to the order of bytes, and what a capture does to packets.

use std::net::SocketAddr;

use super::packets::*;
use super::*;

const CLIENT: &str = "10.0.0.1:40000";
const SERVER: &str = "10.0.0.2:80";

fn talk() -> Talk {
    Talk::new(CLIENT, SERVER, [1_000, 9_000], START_NS)
}

/// An exchange is one row, seen from the end that accepts: its times are those of first bytes.
#[test]
fn one_exchange() {
    let mut talk = talk();
    talk.open().exchange(7, 30).close();
    let found = replay_packets(&talk.packets);
    assert_eq!(found.rows.len(), 1);
    let row = &found.rows[0];
    assert_eq!((row.text("req_path"), row.text("resp_body")), ("/n/7".into(), "answer 7".into()));
    assert_eq!((row.text("local_addr"), row.int("local_port")), ("10.0.0.2".into(), 80));
    assert_eq!((row.text("remote_addr"), row.int("remote_port")), ("10.0.0.1".into(), 40_000));
    assert_eq!((row.int("trace_role"), row.value("upid")), (2, &Value::Uint128(0)));
    // Three packets open, the request takes two.
    assert_eq!(row.int("time_"), START_NS + 6 * MS / 10);
    assert_eq!(row.int("latency"), 2 * MS / 10);
    assert_eq!((found.counters.tcp.connections, found.counters.tcp.missing_bytes), (1, 0));
    assert_eq!(found.ending, Ending::Whole);
}

/// Who opened is the client, whatever the ports are; and without an opening the protocol says it.
#[test]
fn roles_are_not_by_port() {
    for (client, server) in [("10.0.0.1:80", "10.0.0.2:50000"), ("10.0.0.9:50000", "10.0.0.2:80")] {
        for is_joined in [false, true] {
            let mut talk = Talk::new(client, server, [5, 5], START_NS);
            talk.open().exchange(1, 1_000).exchange(2, 1_000).close();
            let from = if is_joined { 3 } else { 0 };
            let found = replay_packets(&talk.packets[from..]);
            assert_eq!(numbers(&found.rows), [1, 2], "{client} {is_joined}");
            let local: SocketAddr = server.parse().unwrap();
            for row in &found.rows {
                assert_eq!(row.int("local_port"), i64::from(local.port()));
                assert_eq!(row.int("trace_role"), 2);
            }
            assert_eq!(found.counters.tcp.joined, u64::from(is_joined));
        }
    }
}

/// Sequence numbers wrap, and old ones come again as other connections' do.
#[test]
fn numbers_wrap_and_ports_are_used_again() {
    let mut talk = Talk::new(CLIENT, SERVER, [u32::MAX - 60, u32::MAX - 20], START_NS);
    talk.open();
    (0..20).for_each(|number| {
        talk.exchange(number, 33);
    });
    // It is never closed; the same ports open another one.
    let now_ns = talk.now_ns;
    let mut again = Talk::new(CLIENT, SERVER, [77, 88], now_ns);
    again.open().exchange(100, 1_000).close();
    let mut third = Talk::new(CLIENT, SERVER, [1_077, 88], again.now_ns);
    third.open().exchange(200, 1_000).close();
    let packets = [talk.packets, again.packets, third.packets].concat();
    let found = replay_packets(&packets);
    let expected: Vec<usize> = (0..20).chain([100, 200]).collect();
    assert_eq!(numbers(&found.rows), expected);
    assert_eq!((found.counters.tcp.connections, found.counted("http_events")), (3, 0));
}

/// What is sent again, whole, in part or with more behind it, is there once; probes carry nothing.
#[test]
fn repeated_bytes_are_ignored() {
    let mut talk = talk();
    talk.open().exchange(1, 1_000);
    let [client, server] = [talk.client, talk.server];
    let [mine, theirs] = talk.sent;
    // Keep-alive probes: the last byte, or none, below what is expected.
    talk.packets
        .push((talk.now_ns, ethernet(&[], &tcp(client, server, (mine - 1, theirs), ACK, b"x"))));
    talk.packets
        .push((talk.now_ns, ethernet(&[], &tcp(client, server, (mine - 1, theirs), ACK, b""))));
    talk.exchange(2, 1_000);
    // The answer again, together with the next bytes.
    let (again, next) = (response(2), request(3));
    let numbers_of = (talk.sent[1] - again.len() as u32, talk.sent[0]);
    talk.packets.push((talk.now_ns, ethernet(&[], &tcp(server, client, numbers_of, ACK, &again))));
    let (first, second) = next.split_at(10);
    talk.send(false, ACK, first);
    let overlap = [&first[4..], second].concat();
    let numbers_of = (talk.sent[0] - 6, talk.sent[1]);
    talk.packets
        .push((talk.now_ns, ethernet(&[], &tcp(client, server, numbers_of, ACK, &overlap))));
    talk.sent[0] += second.len() as u32;
    talk.send(true, ACK, &response(3)).close();
    let found = replay_packets(&talk.packets);
    assert_eq!(numbers(&found.rows), [1, 2, 3]);
    assert_eq!(found.counters.tcp.missing_bytes, 0);
    assert!(found.counters.tcp.retransmitted_segments >= 2);
}

/// A packet that was lost on its way and sent again seconds later is waited for: nobody has
/// acknowledged it.
#[test]
fn what_is_sent_again_late_is_no_loss() {
    let mut talk = talk();
    talk.open().exchange(1, 20);
    let lost = 3;
    let (_, packet) = talk.packets.remove(lost);
    // Nothing behind it was acknowledged; it comes after the other parts of the request.
    let acknowledges =
        talk.packets.iter().position(|(_, p)| p[14 + 20 + 13] & PSH != 0 && p[14 + 12 + 3] == 2);
    let at = acknowledges.expect("the server answers");
    for later in &mut talk.packets[at..] {
        later.0 += 3_000 * MS;
    }
    let time = talk.packets[at].0 - 1;
    talk.packets.insert(at, (time, packet));
    let found = replay_packets(&talk.packets);
    assert_eq!((numbers(&found.rows), found.counters.tcp.missing_bytes), (vec![1], 0));
}

/// Packets that the other end has acknowledged and that are not in the capture are a hole of known size.
#[test]
fn what_was_not_captured_is_counted() {
    let mut talk = talk();
    talk.open();
    (0..50).for_each(|number| {
        talk.exchange(number, 1_000);
    });
    talk.close();
    // The request of number 10, and the answer of number 20.
    talk.packets.remove(3 + 3 * 20 + 1);
    talk.packets.remove(3 + 3 * 10);
    let found = replay_packets(&talk.packets);
    let numbers = numbers(&found.rows);
    assert!(numbers.len() >= 44, "{numbers:?}");
    assert!(!numbers.contains(&10));
    let missing = (request(10).len() + response(20).len()) as u64;
    assert_eq!(found.counters.tcp.missing_bytes, missing);
    assert!(found.counted("http_events") > 0);
}

/// A capture of a single direction gives no rows and no wrong ones, and says what it lacks.
#[test]
fn one_direction_is_no_exchange() {
    for kept_side in [false, true] {
        let mut talk = talk();
        talk.open();
        (0..30).for_each(|number| {
            talk.exchange(number, 1_000);
        });
        talk.close();
        let from = if kept_side { 80 } else { 40_000_u16 };
        talk.packets.retain(|(_, packet)| packet[34..36] == from.to_be_bytes());
        let found = replay_packets(&talk.packets);
        assert_eq!(found.rows.len(), 0);
        assert!(found.counted("http_events") > 0 || found.counters.tcp.missing_bytes > 0);
    }
}

/// What a snapshot length cut off is missing within its packet, and nothing else is.
#[test]
fn cut_packets() {
    let mut talk = talk();
    talk.open();
    (0..10).for_each(|number| {
        talk.exchange(number, 1_000);
    });
    talk.close();
    // The heads are there, the ends of answers are not.
    let cut = 14 + 20 + 20 + response(1).len() - 4;
    let found = replay(&pcap_as(true, 1_000, 1, cut, &talk.packets));
    assert_eq!(numbers(&found.rows), (0..10).collect::<Vec<_>>());
    assert_eq!(found.counters.tcp.cut_bytes, 10 * 4);
}

/// A reset ends a connection: what was asked and not answered is counted, and nothing of it is a row.
#[test]
fn resets_end() {
    let mut talk = talk();
    talk.open().exchange(1, 1_000).send(false, ACK | PSH, &request(2)).send(true, RST, b"");
    let mut other = Talk::new("10.0.0.3:1", SERVER, [1, 1], START_NS + 5_000 * MS);
    other.open().exchange(3, 1_000).close();
    let found = replay_packets(&[talk.packets, other.packets].concat());
    assert_eq!(numbers(&found.rows), [1, 3]);
    assert_eq!((found.counters.tcp.resets, found.table("http_events").unanswered), (1, 1));
}

/// Joined within an answer, the next exchanges are right.
#[test]
fn joined_midway() {
    let mut talk = talk();
    talk.open();
    (0..10).for_each(|number| {
        talk.exchange(number, 25);
    });
    let whole = talk.packets.len();
    for from in 3..whole / 2 {
        let found = replay_packets(&talk.packets[from..]);
        let found = numbers(&found.rows);
        assert!(found.ends_with(&[6, 7, 8, 9]), "from {from}: {found:?}");
    }
}

/// Joined at a probe whether the peer is still there: it bears the number of a byte that the peer has, which is
/// no hole. Catches exchanges behind it that count as uncertain for a byte that nobody sent.
#[test]
fn joined_at_a_probe() {
    let mut talk = talk();
    talk.open().exchange(0, 999);
    let from = talk.packets.len();
    talk.sent[0] -= 1;
    talk.send(false, ACK, b"");
    talk.sent[0] += 1;
    talk.send(true, ACK, b"");
    talk.now_ns += 8_000 * MS;
    (1..6).for_each(|number| {
        talk.exchange(number, 999);
    });
    let found = replay_packets(&talk.packets[from..]);
    assert_eq!(numbers(&found.rows), [1, 2, 3, 4, 5]);
    assert_eq!((found.counters.tcp.joined, found.counters.tcp.missing_bytes), (1, 0));
}

/// Behind what was said to a proxy, all exchanges are there; what
/// is none of a known protocol behind it gives no rows, as it does without a proxy.
#[test]
fn through_a_proxy() {
    let (asked, granted): (&[u8], &[u8]) =
        (b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34");
    let mut talk = talk();
    talk.open().send(false, ACK | PSH, b"\x05\x01\x00").send(true, ACK | PSH, b"\x05\x00");
    talk.send(false, ACK | PSH, asked).send(true, ACK | PSH, granted);
    let behind = talk.packets.len();
    (0..3).for_each(|number| {
        talk.exchange(number, 20);
    });
    talk.close();
    let found = replay_packets(&talk.packets);
    assert_eq!((numbers(&found.rows), found.counted("http_events")), (vec![0, 1, 2], 0));
    let mut foreign = Talk { packets: talk.packets[..behind].to_vec(), ..talk };
    for _ in 0..20 {
        foreign.send(false, ACK | PSH, &[0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0]);
        foreign.send(true, ACK | PSH, b"\x8a\x91 something of its own");
    }
    foreign.close();
    assert_eq!(replay_packets(&foreign.packets).rows, []);
    let mut old = Talk::new(CLIENT, SERVER, [1_000, 9_000], START_NS);
    old.open().send(false, ACK | PSH, b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00");
    old.send(true, ACK | PSH, b"\x00\x5a\x00\x50\x0a\x00\x00\x01");
    (0..3).for_each(|number| {
        old.exchange(number, 999);
    });
    let found = replay_packets(&old.close().packets);
    assert_eq!((numbers(&found.rows), found.counted("http_events")), (vec![0, 1, 2], 0));
}

/// A file that holds captures of different times, the later one first: both are read.
#[test]
fn clocks_may_go_back() {
    let mut first = talk();
    first.open().exchange(1, 1_000).send(false, ACK, &request(2));
    let mut second = Talk::new(CLIENT, SERVER, [5, 6], START_NS - 86_400_000 * MS);
    second.open().exchange(3, 1_000).close();
    let found = replay_packets(&[first.packets, second.packets].concat());
    assert_eq!(numbers(&found.rows), [1, 3]);
    assert_eq!((found.counters.clock_restarts, found.table("http_events").unanswered), (1, 1));
}

/// Several connections at once, with their packets shuffled within a window, doubled, and dropped: no
/// answer is taken for another request's, without a drop nothing is missing, and with one whatever is
/// missing is counted.
#[test]
fn disorder_makes_no_wrong_pairs() {
    for seed in 0..120_u64 {
        let mut random = SplitMix(seed);
        let mut packets: Vec<Timed> = Vec::new();
        let connections = 1 + random.below(6) as usize;
        for connection in 0..connections {
            let client = format!("10.0.1.{}:{}", connection + 1, 30_000 + random.below(9));
            let first = [random.next_u64() as u32, random.next_u64() as u32];
            let mut talk =
                Talk::new(&client, SERVER, first, START_NS + random.below(1_000_000) as i64);
            talk.open();
            let bytes = 20 + random.below(400) as usize;
            (0..20).for_each(|number| {
                talk.exchange(connection * 100 + number, bytes);
            });
            talk.close();
            packets.append(&mut talk.packets);
        }
        packets.sort_by_key(|(time, _)| *time);
        let (sent, is_lossy) = (connections * 20, seed % 3 == 2);
        if is_lossy {
            let drop_one_in = 5 + random.below(60);
            packets.retain(|_| random.below(drop_one_in) != 0);
        }
        if seed % 3 > 0 {
            let doubled: Vec<Timed> =
                packets.iter().filter(|_| random.below(10) == 0).cloned().collect();
            packets.extend(doubled);
            // Moved by up to two milliseconds, twenty packets of its connection.
            let mut keyed: Vec<(i64, Timed)> = packets
                .into_iter()
                .map(|packet| (packet.0 + random.below(2_000_000) as i64, packet))
                .collect();
            keyed.sort_by_key(|(at, _)| *at);
            packets = keyed.into_iter().map(|(_, packet)| packet).collect();
        }
        let found = replay_packets(&packets);
        let mut numbers = numbers(&found.rows);
        let rows = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), rows, "seed {seed}: an exchange is there twice");
        if is_lossy {
            assert!(
                rows == sent || found.counted("http_events") > 0,
                "seed {seed}: {rows} of {sent}"
            );
        } else {
            assert_eq!(rows, sent, "seed {seed}");
            assert_eq!(found.counters.tcp.missing_bytes, 0, "seed {seed}");
        }
    }
}

/// Events that are dropped on purpose are counted, those of one seed are always the same, and no pair
/// is wrong.
#[test]
fn injected_loss() {
    let mut talk = talk();
    talk.open();
    (0..200).for_each(|number| {
        talk.exchange(number, 60);
    });
    let file = pcap(1, &talk.packets);
    let run = |seed: u64| {
        replay_with(&file, ReplayConfig { loss: 0.05, seed, ..ReplayConfig::default() })
    };
    let (one, same, other) = (run(1), run(1), run(2));
    assert_eq!((&one.rows, &one.counters), (&same.rows, &same.counters));
    assert_ne!(one.rows, other.rows);
    for found in [one, other] {
        let rows = numbers(&found.rows).len();
        assert!((20..200).contains(&rows), "{rows}");
        assert!(found.counters.events_dropped > 10);
        assert!(found.table("http_events").lost["ring_full"] >= found.counters.events_dropped / 2);
    }
}

/// More connections than there is room for: those silent longest go, and are counted; memory is
/// bounded by tables, not by the file.
#[test]
fn many_connections() {
    let mut packets: Vec<Timed> = Vec::new();
    for number in 0..45_000_u32 {
        let client = SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 5_000));
        let server: SocketAddr = SERVER.parse().unwrap();
        packets.push((
            START_NS + i64::from(number),
            ethernet(&[], &tcp(client, server, (1, 0), SYN, b"")),
        ));
    }
    let mut talk = Talk::new(CLIENT, SERVER, [1, 1], START_NS + MS);
    talk.open().exchange(1, 1_000).close();
    packets.append(&mut talk.packets);
    let found = replay_packets(&packets);
    assert_eq!(numbers(&found.rows), [1]);
    assert_eq!(found.counters.tcp.evicted, 45_001 - 40_000);
}

/// A table that several protocols fill is counted once, with what may have been any of theirs once.
#[test]
fn tables_are_counted_once() {
    let mut tracer = SocketTracer::new(SocketTracerConfig::default());
    let counts = LostCounts { records: 5, ..LostCounts::default() };
    tracer.lost(&SocketLoss { key: None, socket_type: crate::capture::SocketType::Stream, counts });
    let counters = tracer.counters();
    let mut names: Vec<&str> = counters.iter().map(|counted| counted.table).collect();
    assert_eq!(names, crate::socket::table_names());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), counters.len());
    let http = counters.iter().find(|counted| counted.table == "http_events").unwrap();
    assert_eq!(http.lost_for("ring_full"), 5);
}
