//! Opening, sharing, closing; processes.

use super::*;
use crate::conn::StopCopying;
use std::process::{Command, Stdio};

/// The order of times over both ends is the order of cause and effect, though records of a write
/// come after those of the read that it caused; and opening and closing are told.
#[test]
fn times_opening_and_closing() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    let echo = std::thread::spawn({
        let mut server = pair.server.try_clone().unwrap();
        move || {
            for _ in 0..200 {
                let mut buffer = [0; 4];
                server.read_exact(&mut buffer).unwrap();
                server.write_all(b"pong").unwrap();
            }
        }
    });
    for _ in 0..200 {
        pair.client.write_all(b"ping").unwrap();
        pair.client.read_exact(&mut [0; 4]).unwrap();
    }
    echo.join().unwrap();
    let (client_addr, server_addr) = (pair.client_addr, pair.server_addr);
    drop(pair);
    let seen = drain(&mut source);
    let times = |local, way| -> Vec<i64> {
        seen.iter()
            .filter(|event| event.is_from(local))
            .filter(|event| matches!(event.what, What::Data { direction, .. } if direction == way))
            .map(|event| event.time_unix_ns)
            .collect()
    };
    let stages = [
        times(client_addr, Direction::Egress),
        times(server_addr, Direction::Ingress),
        times(server_addr, Direction::Egress),
        times(client_addr, Direction::Ingress),
    ];
    let mut last_ns = 0;
    for exchange in 0..200 {
        for stage in &stages {
            assert!(stage[exchange] > last_ns, "effect before cause in exchange {exchange}");
            last_ns = stage[exchange];
        }
    }
    let now_ns = weir_types::Clock::now_unix_ns(&weir_types::WallClock);
    assert!((now_ns - last_ns).abs() < 60_000_000_000, "not Unix time: {last_ns}");

    let of = |local, what: &dyn Fn(&What) -> bool| {
        seen.iter().filter(|event| event.is_from(local) && what(&event.what)).count()
    };
    assert_eq!(of(client_addr, &|what| *what == What::Connect { error: 0 }), 1);
    assert_eq!(of(server_addr, &|what| *what == What::Accept), 1);
    let closed = What::Close { last: true, egress: 800, ingress: 800 };
    assert_eq!(of(client_addr, &|what| *what == closed), 1);
    // The clone of the echoing thread was closed before.
    let earlier = What::Close { last: false, egress: 800, ingress: 800 };
    assert_eq!(of(server_addr, &|what| *what == earlier), 1);
    assert_eq!(of(server_addr, &|what| *what == closed), 1);
}

/// Both sides of a connection that was there before capture are seen, addresses and all.
#[test]
fn connection_older_than_the_capture() {
    let listener = listen();
    let mut pair = Pair::connect(&listener);
    pair.say("not seen");
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    pair.say("seen");
    let seen = drain(&mut source);
    let expected = [(0, 4, b"seen".to_vec())];
    assert_eq!(data(&seen, pair.client_addr, Direction::Egress), expected);
    assert_eq!(data(&seen, pair.server_addr, Direction::Ingress), expected);
    for event in &seen {
        assert_eq!(event.socket.unwrap().opened, Opened::Unknown);
    }
}

/// A socket inherited by a child process is the same connection, whoever writes.
#[test]
fn shared_socket_is_one_connection() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.client.write_all(b"parent;").unwrap();
    let shared = pair.client.as_fd().try_clone_to_owned().unwrap();
    let mut child =
        Command::new("sh").args(["-c", "printf 'child;'"]).stdout(shared).spawn().unwrap();
    let child_pid = child.id();
    assert!(child.wait().unwrap().success());
    pair.client.write_all(b"parent again").unwrap();
    let seen = drain(&mut source);
    let sent: Vec<(u32, u64, u64)> = seen
        .iter()
        .filter(|event| event.is_from(pair.client_addr))
        .filter_map(|event| match event.what {
            What::Data { position, .. } => {
                Some((event.process.pid, position, event.socket.unwrap().key.inode))
            }
            _ => None,
        })
        .collect();
    let own = std::process::id();
    let inode = sent[0].2;
    assert_eq!(sent, [(own, 0, inode), (child_pid, 7, inode), (own, 13, inode)]);
    assert_eq!(text(&seen, pair.client_addr, Direction::Egress), "parent;child;parent again");
}

/// A refused connection tells its error; the next try on the same socket is a new one.
#[test]
fn refused_connection() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let Some(mut source) = start(&follow_port(addr.port())) else { return };
    assert!(TcpStream::connect(addr).is_err());
    let errors: Vec<i32> = drain(&mut source)
        .iter()
        .filter_map(|event| match event.what {
            What::Connect { error } => Some(error),
            _ => None,
        })
        .collect();
    assert_eq!(errors, [libc::ECONNREFUSED]);
}

/// A non-blocking connect that is asked for again is one connection, and asking once more when it
/// is open changes nothing.
#[test]
fn connect_in_steps() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let Some(mut source) = start(&follow_port(addr.port())) else { return };
    let sockaddr = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the address outlives the calls, and its length is its own.
    let connect = |fd| unsafe {
        libc::connect(fd, (&raw const sockaddr).cast(), size_of_val(&sockaddr) as u32)
    };
    // SAFETY: a new descriptor that nobody else owns.
    let mut client = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    assert_eq!(connect(client.as_raw_fd()), -1);
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(connect(client.as_raw_fd()), 0);
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(connect(client.as_raw_fd()), -1);
    client.write_all(b" again").unwrap();
    let client_addr = client.local_addr().unwrap();
    let seen: Vec<Seen> =
        drain(&mut source).into_iter().filter(|event| event.is_from(client_addr)).collect();
    assert_eq!(
        seen.iter().filter(|event| matches!(event.what, What::Connect { error: 0 })).count(),
        2
    );
    assert_eq!(
        data(&seen, client_addr, Direction::Egress),
        [(0, 5, b"hello".to_vec()), (5, 6, b" again".to_vec())]
    );
    let key = seen[0].socket.unwrap().key;
    assert!(seen.iter().all(|event| event.socket.unwrap().key == key));
}

/// Once nobody wants a socket's bytes, no record is made of them; the close still has the totals.
#[test]
fn stopped_socket() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.say("first");
    let seen = drain(&mut source);
    let first = seen.iter().find(|event| event.is_from(pair.client_addr)).unwrap();
    let key = first.socket.unwrap().key;
    source.stop_copying(StopCopying { key, encrypted: false }).unwrap();
    pair.say("second");
    let seen = drain(&mut source);
    assert_eq!(text(&seen, pair.client_addr, Direction::Egress), "");
    assert_eq!(text(&seen, pair.server_addr, Direction::Ingress), "second");
    assert_eq!(source.counters().stopped_bytes, 6);
    let client_addr = pair.client_addr;
    drop(pair);
    let closed = What::Close { last: true, egress: 11, ingress: 0 };
    let seen = drain(&mut source);
    assert!(seen.iter().any(|event| event.is_from(client_addr) && event.what == closed));
}

/// A child's fork, exec and exit are told, the exit after all its bytes.
#[test]
fn processes() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    let shared = pair.client.as_fd().try_clone_to_owned().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "printf last; exit 3"])
        .stdin(Stdio::null())
        .stdout(shared)
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    pair.server.read_exact(&mut [0; 4]).unwrap();
    let seen: Vec<What> = drain_all(&mut source)
        .into_iter()
        .filter(|event| event.process.pid == child.id())
        .map(|event| event.what)
        .collect();
    let direction = Direction::Egress;
    let parent = Process { pid: std::process::id(), start_ticks: calls::own_start_ticks() };
    let cmdline = b"sh\0-c\0printf last; exit 3\0".to_vec();
    let [forked, told @ ..] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(matches!(forked, What::Fork { parent: found, .. } if *found == parent), "{forked:?}");
    let expected = [
        What::Exec { parent_pid: std::process::id(), cmdline, is_cut: false },
        What::Data { direction, position: 0, total: 4, payload: b"last".to_vec() },
        What::Exit { exit_code: 3 << 8 },
    ];
    assert_eq!(told, expected);
}

/// Arguments beyond the bound are cut, and it is said so.
#[test]
fn long_command_lines_are_cut() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let long = "x".repeat(3_000);
    let mut child = Command::new("true").arg(&long).spawn().unwrap();
    child.wait().unwrap();
    let seen = drain_all(&mut source);
    let found = seen.iter().find_map(|event| match &event.what {
        What::Exec { cmdline, is_cut, .. } if event.process.pid == child.id() => {
            Some((cmdline.clone(), *is_cut))
        }
        _ => None,
    });
    let mut whole = b"true\0".to_vec();
    whole.extend(long.bytes());
    assert_eq!(found, Some((whole[..1_024].to_vec(), true)));
}

/// Stopping says how far it is, and takes the programs off.
#[test]
fn stopping() {
    let listener = listen();
    let Some(source) = start(&follow_port(listener.local_addr().unwrap().port())) else { return };
    let stopping = source.stop();
    assert_eq!(stopping.progress().0, super::super::attach::PROGRAMS.len());
    let took = stopping.wait();
    eprintln!("detaching took {took:?}");
}
