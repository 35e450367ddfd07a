//! Recordings as bytes: what is written is read, whatever is missing of a file, and what is masked is gone.

use std::net::SocketAddr;
use std::path::Path;

use weir_protocols::redact::{Mode, Redactor};
use weir_types::random::SplitMix;

use super::mask::Mask;
use super::*;
use crate::capture::{
    DataEvent, Direction, Family, LostCounts, Opened, Process, ProcessEvent, Socket, SocketEvent,
    SocketType,
};
use crate::replay::{Ending, ReplayConfig, ReplayError};

fn socket(local: &str, remote: &str, opened: Opened) -> Socket {
    let (local, remote): (SocketAddr, SocketAddr) =
        (local.parse().unwrap(), remote.parse().unwrap());
    let key = ConnKey { sock: u64::from(local.port()), inode: 9, generation: 1 };
    let family = if local.is_ipv4() { Family::Inet } else { Family::Inet6 };
    Socket {
        key,
        family,
        socket_type: SocketType::Stream,
        opened,
        local: Some(local),
        remote: Some(remote),
        netns: 4,
    }
}

fn data(
    socket: Socket,
    direction: Direction,
    (position, time_unix_ns): (u64, i64),
    payload: &[u8],
) -> CaptureEvent<'_> {
    CaptureEvent::Data(DataEvent {
        time_unix_ns,
        process: Process { pid: 7, start_ticks: 70 },
        cgroup_id: 8,
        fd: 5,
        socket,
        direction,
        position,
        total_bytes: payload.len() as u32,
        payload,
    })
}

/// The same, said over TLS.
fn plain(event: CaptureEvent<'_>) -> CaptureEvent<'_> {
    let CaptureEvent::Data(data) = event else { return event };
    CaptureEvent::Plain(data)
}

fn entries() -> Vec<Entry<'static>> {
    let inet6 = socket("[::1]:80", "[fe80::1]:40000", Opened::Accepted);
    let unix = Socket { family: Family::Unix, local: None, remote: None, ..inet6 };
    let process = Process { pid: 1, start_ticks: 2 };
    let at = SocketEvent { time_unix_ns: -5, process, cgroup_id: 3, fd: -1, socket: inet6 };
    let other = SocketEvent { socket: unix, ..at };
    let (local, remote): (&[u8], &[u8]) = (b"\0abstract", b"");
    let ended =
        ProcessEvent { time_unix_ns: 6, process, parent_pid: 4, cgroup_id: 5, comm: [b'c'; 16] };
    vec![
        Entry::Event(data(inet6, Direction::Ingress, (77, 88), b"payload")),
        Entry::Event(plain(data(inet6, Direction::Egress, (78, 89), b"in the clear"))),
        Entry::Event(CaptureEvent::Connect { at, error: 115 }),
        Entry::Event(CaptureEvent::Accept { at: other }),
        Entry::Event(CaptureEvent::Close { at, last: true, egress_bytes: 1, ingress_bytes: 2 }),
        Entry::Event(CaptureEvent::End { at, direction: Direction::Egress, position: 3 }),
        Entry::Event(CaptureEvent::UnixNames { at: other, local, remote, peer_inode: 4 }),
        Entry::Event(CaptureEvent::Gap {
            at,
            direction: Direction::Ingress,
            position: 5,
            bytes: 6,
        }),
        Entry::Event(CaptureEvent::Memo {
            at,
            direction: Direction::Egress,
            position: 7,
            bytes: b"remembered",
        }),
        Entry::Event(CaptureEvent::Exit { at: ended, exit_code: -9 }),
        Entry::Lost(SocketLoss {
            key: Some(inet6.key),
            socket_type: SocketType::Datagram,
            counts: LostCounts { records: 1, messages: 2, unseen_bytes: 3, uring_bytes: 4 },
        }),
        Entry::Tick {
            now_unix_ns: 9,
            answers: vec![(inet6.key, Liveness::Gone), (unix.key, Liveness::Open)],
        },
        Entry::End,
    ]
}

fn bytes_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for entry in entries {
        let mut bytes = Vec::new();
        assert!(format::write(entry, &mut bytes));
        file.extend((bytes.len() as u32).to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Every kind of entry is read as it was written; of a part of one nothing is made, nor of any bytes.
#[test]
fn entries_are_read_as_written() {
    for entry in entries() {
        let mut bytes = Vec::new();
        assert!(format::write(&entry, &mut bytes));
        assert_eq!(format::read(&bytes), Some(entry));
        for cut in 0..bytes.len() {
            assert_eq!(format::read(&bytes[..cut]), None);
        }
    }
    let mut random = SplitMix(1);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(120)).map(|_| random.next_u64() as u8).collect();
        format::read(&bytes);
    }
}

/// An exchange as both ends of one machine have it.
fn exchange() -> Vec<Entry<'static>> {
    let server = socket("10.0.0.2:80", "10.0.0.1:40000", Opened::Accepted);
    let client = socket("10.0.0.1:40000", "10.0.0.2:80", Opened::Connected);
    let asked = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let answered = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    vec![
        Entry::Event(data(client, Direction::Egress, (0, 1_000), asked)),
        Entry::Event(data(server, Direction::Ingress, (0, 2_000), asked)),
        Entry::Event(data(server, Direction::Egress, (0, 3_000), answered)),
        Entry::Event(data(client, Direction::Ingress, (0, 4_000), answered)),
        Entry::Tick { now_unix_ns: 5_000, answers: Vec::new() },
        Entry::End,
    ]
}

/// Rows by table and role, how the file ended, and events with bytes.
type Played = (Vec<(String, usize)>, Ending, u64);

fn play(file: &[u8]) -> Result<Played, ReplayError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    std::fs::write(&path, file).unwrap();
    assert_eq!(is_recording(&path), file.starts_with(&MAGIC));
    let mut recording = Recording::open(Path::new(&path), ReplayConfig::default())?;
    let mut rows = Vec::new();
    let ending = recording.run(&mut |table, batch| {
        let column = batch.column_by_name("trace_role").expect("a protocol's table");
        let role = weir_types::batch::value_at(column, weir_types::DataType::Int64, 0).unwrap();
        rows.push((format!("{table} {role:?}"), batch.num_rows()));
        Ok::<(), ReplayError>(())
    })?;
    Ok((rows, ending, recording.counters().packets))
}

/// Of a connection of which both ends were recorded the accepting one is played; of one end whichever it
/// is, seen from the accepting one.
#[test]
fn each_exchange_is_there_once() {
    let expected = vec![("http_events Int64(2)".to_string(), 1)];
    let both = exchange();
    assert_eq!(play(&bytes_of(&both)).unwrap(), (expected.clone(), Ending::Whole, 2));
    for kept in [[0, 3, 4, 5], [1, 2, 4, 5]] {
        let one: Vec<Entry<'_>> = exchange()
            .into_iter()
            .enumerate()
            .filter(|(at, _)| kept.contains(at))
            .map(|(_, entry)| entry)
            .collect();
        assert_eq!(play(&bytes_of(&one)).unwrap(), (expected.clone(), Ending::Whole, 2));
    }
}

/// Rows are handed out also where a file has no ticks. Catches one that makes its player keep all rows.
#[test]
fn recordings_without_ticks() {
    let server = socket("10.0.0.2:80", "10.0.0.1:40000", Opened::Accepted);
    let asked = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let answered = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let count = 60_000;
    let pairs = (0..count).flat_map(|idx: u64| {
        let (ask, answer) = (idx * asked.len() as u64, idx * answered.len() as u64);
        let time = 1_000 * (idx as i64 + 1);
        let asked = data(server, Direction::Ingress, (ask, time), asked);
        [asked, data(server, Direction::Egress, (answer, time + 500), answered)].map(Entry::Event)
    });
    let file = bytes_of(&pairs.chain([Entry::End]).collect::<Vec<_>>());
    let (rows, ending, _) = play(&file).unwrap();
    assert_eq!(ending, Ending::Whole);
    assert_eq!(rows.iter().map(|(_, rows)| *rows as u64).sum::<u64>(), count);
    assert!(rows.len() as u64 >= file.len() as u64 / (8 << 20), "{} batches", rows.len());
}

/// A file that is cut gives what is before the cut; a length that cannot be and a kind that is not known
/// end it.
#[test]
fn cut_and_damaged_files() {
    let whole = bytes_of(&exchange());
    for cut in MAGIC.len()..whole.len() {
        let (rows, ending, _) = play(&whole[..cut]).unwrap();
        assert!(matches!(ending, Ending::Truncated { .. }), "{cut}: {ending:?}");
        assert!(rows.len() <= 1);
    }
    for wrong in [&[0xff_u8; 8][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 99]] {
        let file = [&whole[..whole.len() - 5], wrong].concat();
        let (rows, ending, _) = play(&file).unwrap();
        assert!(matches!(ending, Ending::Damaged { .. }), "{ending:?}");
        assert_eq!(rows.len(), 1);
    }
    assert!(matches!(play(b"WEIRREC\x09....").err(), Some(ReplayError::NotACapture { .. })));
}

/// Secrets are overwritten where they are, also where a call ends within one; all else is as it was.
#[test]
fn masks() {
    let mut mask = Mask::new(Redactor::new(Mode::Secrets, &["shoe".to_string()], None));
    let key = ConnKey::default();
    let mut apply = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        mask.apply(key, Direction::Egress, &mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    let head = "GET /a?token=abc&n=1 HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer xyz\r\nX-Shoe: 44\r\n\r\n";
    let masked = "GET /a?token=***&n=1 HTTP/1.1\r\nHost: b\r\nAuthorization: ****** ***\r\nX-Shoe: **\r\n\r\n";
    assert_eq!(apply(head), masked);
    assert_eq!(
        apply(r#"{"user":"a","password":"b\"c","n":[1]}"#),
        r#"{"user":"a","password":"*\"*","n":[1]}"#
    );
    assert_eq!(apply("HTTP/1.1 200 OK\r\nSet-Cookie: a=b"), "HTTP/1.1 200 OK\r\nSet-Cookie: ***");
    assert_eq!(apply("cdef\r\nX: 1\r\n"), "****\r\nX: 1\r\n");
    assert_eq!(apply("plain: text\r\n\0\x01\x02"), "plain: text\r\n\0\x01\x02");
    let mut off = Mask::new(Redactor::new(Mode::Off, &[], None));
    let mut bytes = head.as_bytes().to_vec();
    off.apply(key, Direction::Egress, &mut bytes);
    assert_eq!(bytes, head.as_bytes());
}
