//! Datagrams by `sendmmsg` and `recvmmsg`, over sockets with many peers: through the tracker, to rows.

use std::net::{SocketAddr, UdpSocket};

use super::calls::{iov, mmsg};
use super::ends::Traced;
use super::*;

/// A query for the address of `aN`, or a response without answers.
fn message(id: u16, is_response: bool) -> Vec<u8> {
    let flags = if is_response { 0x8180_u16 } else { 0x0100 };
    let words = [id, flags, 1, 0, 0, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let name = format!("a{id}");
    bytes.push(name.len() as u8);
    bytes.extend(name.as_bytes());
    bytes.extend(b"\0\0\x01\0\x01");
    bytes
}

/// An address as the system has it, and its length.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, u32) {
    // SAFETY: an all-zero address is a valid one; what is written fits it.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let bytes = match address {
            SocketAddr::V4(v4) => {
                let at = (&raw mut storage).cast::<libc::sockaddr_in>();
                (*at).sin_family = libc::AF_INET as u16;
                (*at).sin_port = v4.port().to_be();
                (*at).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let at = (&raw mut storage).cast::<libc::sockaddr_in6>();
                (*at).sin6_family = libc::AF_INET6 as u16;
                (*at).sin6_port = v6.port().to_be();
                (*at).sin6_addr.s6_addr = v6.ip().octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        (storage, bytes as u32)
    }
}

fn send_all(socket: &UdpSocket, to: SocketAddr, messages: &[Vec<u8>]) {
    let mut parts: Vec<libc::iovec> = messages.iter().map(|bytes| iov(bytes)).collect();
    let mut headers = mmsg(&mut parts);
    let (mut address, bytes) = raw(to);
    for header in &mut headers {
        header.msg_hdr.msg_name = (&raw mut address).cast();
        header.msg_hdr.msg_namelen = bytes;
    }
    let (fd, count) = (socket.as_raw_fd(), headers.len() as u32);
    // SAFETY: all that the headers point to lives until the call returns.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, 0) };
    assert_eq!(sent as usize, messages.len());
}

fn receive_all(socket: &UdpSocket, count: usize) {
    let mut left = count;
    while left > 0 {
        let mut buffers = vec![[0_u8; 64]; left];
        let mut names = vec![raw(SocketAddr::from(([0, 0, 0, 0], 0))).0; left];
        let mut parts: Vec<libc::iovec> = buffers.iter_mut().map(|bytes| iov(bytes)).collect();
        let mut headers = mmsg(&mut parts);
        for (header, name) in headers.iter_mut().zip(&mut names) {
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        }
        let (fd, room) = (socket.as_raw_fd(), left as u32);
        let (flags, timeout) = (libc::MSG_WAITFORONE, std::ptr::null_mut());
        // SAFETY: as above.
        let got = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), room, flags, timeout) };
        assert!(got > 0);
        left -= got as usize;
    }
}

/// Two clients ask one server for two names each by one call, and it answers both by one call each:
/// a row an exchange and side, each with its own peer.
fn check_many_peers(on: &str, build: Build) {
    let server = UdpSocket::bind(on).unwrap();
    let address = server.local_addr().unwrap();
    let Some(mut traced) = Traced::start(&EbpfConfig { build, ..follow_port(address.port()) })
    else {
        return;
    };
    let clients = [UdpSocket::bind(on).unwrap(), UdpSocket::bind(on).unwrap()];
    let all = |is_response| [message(1, is_response), message(2, is_response)];
    for client in &clients {
        send_all(client, address, &all(false));
    }
    receive_all(&server, 4);
    for client in &clients {
        send_all(&server, client.local_addr().unwrap(), &all(true));
        receive_all(client, 2);
    }
    traced.settle();
    let mut rows: Vec<(i64, i64, String)> = traced
        .ints_of("dns_events", "trace_role")
        .into_iter()
        .zip(traced.ints_of("dns_events", "remote_port"))
        .zip(traced.texts_of("dns_events", "req_body"))
        .map(|((role, port), body)| (role, port, body))
        .collect();
    rows.sort();
    let ports = clients.each_ref().map(|client| i64::from(client.local_addr().unwrap().port()));
    let asked = |name| format!("{{\"queries\":[{{\"name\":\"{name}\",\"type\":\"A\"}}]}}");
    let mut want = Vec::new();
    for name in ["a1", "a2"] {
        for port in ports {
            want.extend([(1, i64::from(address.port()), asked(name)), (2, port, asked(name))]);
        }
    }
    want.sort();
    assert_eq!(rows, want);
    assert_eq!(traced.lost_in_all(), 0);
}

#[test]
fn datagrams_of_many_peers() {
    check_many_peers("127.0.0.1:0", Build::Linux6_2);
}

#[test]
fn datagrams_of_many_peers_over_ipv6() {
    check_many_peers("[::1]:0", Build::Linux5_15);
}

#[test]
fn datagrams_of_many_peers_on_5_8() {
    check_many_peers("127.0.0.1:0", Build::Linux5_8);
}

/// Of a call with forty datagrams some are not looked at: they are counted, for the tables that have
/// datagrams, and for no others.
#[test]
fn datagrams_beyond_the_limit_are_counted() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let Some(mut traced) = Traced::start(&follow_port(address.port())) else { return };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let queries: Vec<Vec<u8>> = (0..40).map(|id| message(id, false)).collect();
    send_all(&client, address, &queries);
    traced.settle();
    let skipped = |table| traced.lost(table, "skipped_messages");
    assert_eq!([skipped("dns_events"), skipped("http_events"), skipped("conn_stats")], [8, 0, 0]);
}

/// A ring that is full of HTTP: what was lost is HTTP's, and DNS lost nothing; and the other way round.
/// Catches losses that make answers incomplete which lack nothing.
fn check_losses_by_protocol(build: Build) {
    let listener = listen();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (http_port, dns_port) =
        (listener.local_addr().unwrap().port(), server.local_addr().unwrap().port());
    let ports = BTreeSet::from([http_port, dns_port]);
    let filters = Filters { ports, ..Filters::default() };
    let config = EbpfConfig { ring_bytes: 4_096, filters, build, ..EbpfConfig::default() };
    let Some(mut traced) = Traced::start(&config) else { return };
    let mut pair = Pair::connect(&listener);
    let ask = |client: &UdpSocket, id| {
        client.send_to(&message(id, false), ("127.0.0.1", dns_port)).unwrap();
        server.recv(&mut [0; 64]).unwrap();
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    pair.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    traced.settle();
    ask(&client, 1);
    traced.settle();
    let ring_full = |traced: &Traced| {
        ["http_events", "dns_events", "conn_stats"].map(|table| traced.lost(table, "ring_full"))
    };
    assert_eq!(ring_full(&traced), [0, 0, 0]);
    for n in 0..50 {
        pair.say(&format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    traced.settle();
    let [http, dns, connections] = ring_full(&traced);
    assert!(http > 50 && dns == 0 && connections == http, "{http} {dns} {connections}");
    for id in 0..60 {
        ask(&client, id);
    }
    traced.settle();
    let [after, dns, connections] = ring_full(&traced);
    assert!(dns > 50 && after == http && connections == http, "{after} {dns} {connections}");
    let kernel = traced.source.counters();
    assert_eq!((kernel.lost_records, kernel.lost_datagrams), (http + dns, dns));
}

#[test]
fn losses_are_their_protocols() {
    check_losses_by_protocol(Build::Linux6_2);
}

#[test]
fn losses_are_their_protocols_on_5_15() {
    check_losses_by_protocol(Build::Linux5_15);
}

#[test]
fn losses_are_their_protocols_on_5_8() {
    check_losses_by_protocol(Build::Linux5_8);
}

/// More sockets lose something than the kernel remembers: each loss counts once all the same, those of
/// the forgotten ones for every table that may lack them.
#[test]
fn losses_of_many_sockets_are_all_counted() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let config = EbpfConfig { ring_bytes: 4_096, ..follow_port(address.port()) };
    let Some(mut traced) = Traced::start(&config) else { return };
    for id in 0..2_000 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&message(id, false), address).unwrap();
        server.recv(&mut [0; 64]).unwrap();
    }
    traced.settle();
    let lost = traced.source.counters().lost_datagrams;
    assert!(lost > 3_000, "{lost}");
    assert_eq!(traced.lost("dns_events", "ring_full"), lost);
    assert_eq!(traced.lost("http_events", "ring_full"), 0);
}
