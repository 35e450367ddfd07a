//! Decoding, without a kernel.

use weir_bpf::abi::{self, SocketRecord};

use super::super::can_run::can_run;
use super::super::clock::KernelClock;
use super::super::decode;
use super::super::filters::addr_bytes;
use super::*;

/// Records that are cut short or name unknown things are refused, never guessed at.
#[test]
fn malformed_records_are_refused() {
    let clock = KernelClock::start();
    assert!(decode::socket_events(&[], &clock).is_none());
    assert!(decode::socket_events(&[1; 143], &clock).is_none());
    assert!(decode::socket_events(&[0; 144], &clock).is_none());
    assert!(decode::socket_events(&[0xff; 400], &clock).is_none());
    assert_eq!(decode::process_event(&[0; 55], &clock), None);
    assert_eq!(decode::process_event(&[0; 56], &clock), None);
    assert_eq!(abi::read_kind(&[3, 0, 0]), None);
    assert_eq!(abi::read_kind(&[3, 0, 0, 0]), Some(abi::KIND_CONNECT));
    let payload_too_long = SocketRecord { kind: 1, payload_bytes: 1, ..SocketRecord::default() };
    // SAFETY: a plain struct's bytes.
    let bytes: [u8; 144] = unsafe { std::mem::transmute(payload_too_long) };
    assert_eq!(abi::read_socket_record(&bytes), None);
}

/// Unseen bytes lie before the record's own; a record that has more of them than there is room for
/// is refused, and does not make a position wrap.
#[test]
fn unseen_bytes_come_first() {
    let clock = KernelClock::start();
    let mut record = SocketRecord { kind: abi::KIND_GAP, total_bytes: 5, ..Default::default() };
    record.addresses.family = libc::AF_INET as u16;
    record.addresses.socket_type = libc::SOCK_STREAM as u8;
    record.unseen_bytes = 30;
    for (position_bytes, expected) in [(40, Some(10)), (30, Some(0)), (29, None)] {
        record.position_bytes = position_bytes;
        // SAFETY: a plain struct's bytes.
        let bytes: [u8; 144] = unsafe { std::mem::transmute(record) };
        let told = decode::socket_events(&bytes, &clock);
        let gap = told.and_then(|told| match told.unseen {
            Some(CaptureEvent::Gap { position, bytes: 30, .. }) => Some(position),
            _ => None,
        });
        assert_eq!(gap, expected);
    }
}

/// Of a call that was cut a stream has its first and its last bytes; a datagram only its first, since its end
/// is no message, and all of it where both meet. Catches an answer whose tail is read as another answer.
#[test]
fn the_end_of_a_datagram_is_no_datagram() {
    let clock = KernelClock::start();
    let told = |socket_type: i32, total_bytes: u64| {
        let mut record = SocketRecord {
            kind: abi::KIND_DATA,
            payload_bytes: 30,
            tail_bytes: 10,
            total_bytes,
            ..Default::default()
        };
        record.addresses.family = libc::AF_INET as u16;
        record.addresses.socket_type = socket_type as u8;
        // SAFETY: a plain struct's bytes.
        let mut bytes: Vec<u8> =
            unsafe { std::mem::transmute::<SocketRecord, [u8; 144]>(record) }.into();
        bytes.extend(0..30_u8);
        let told = decode::socket_events(&bytes, &clock).unwrap();
        let part = |event| match event {
            CaptureEvent::Data(data) => (data.position, data.total_bytes, data.payload.len()),
            other => panic!("{other:?}"),
        };
        told.events().map(part).collect::<Vec<_>>()
    };
    assert_eq!(told(libc::SOCK_STREAM, 100), [(0, 90, 20), (90, 10, 10)]);
    assert_eq!(told(libc::SOCK_DGRAM, 100), [(0, 100, 20)]);
    assert_eq!(told(libc::SOCK_DGRAM, 30), [(0, 30, 30)]);
}

/// Addresses of both families meet in one form, so that the two ends of a connection through a
/// dual-stack socket are equal.
#[test]
fn addresses_have_one_form() {
    let bytes = |text: &str| addr_bytes(text.parse().unwrap());
    assert_eq!(bytes("127.0.0.1"), bytes("::ffff:127.0.0.1"));
    assert_eq!(bytes("0.0.0.0"), [0; 16]);
    assert_eq!(bytes("::"), [0; 16]);
    assert_ne!(bytes("::1"), bytes("127.0.0.1"));
}

/// Asking what can run names every program, attaches none, and agrees with what start does.
#[test]
fn can_run_names_every_program() {
    let status = can_run();
    assert_eq!(status.len(), super::super::attach::PROGRAMS.len());
    assert!(status.iter().any(|program| program.program == "syscalls/exit_recvfrom"));
    let all_fine = status.iter().all(|program| program.reason.is_none());
    assert_eq!(all_fine, start(&EbpfConfig::default()).is_some(), "{status:?}");
}

/// A capture may move to the thread that drains it.
#[test]
fn capture_moves_between_threads() {
    fn moves<T: Send + 'static>() -> usize {
        size_of::<T>()
    }
    assert!(moves::<EbpfSource>() > 0 && moves::<super::super::Stopping>() > 0);
}
