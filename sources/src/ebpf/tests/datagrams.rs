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
    let (with, without) =
        (traced.source.counters().losses(true), traced.source.counters().losses(false));
    assert!(with.iter().chain(&without).all(|(_, count)| *count == 0), "{with:?}");
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
    let Some(source) = start(&follow_port(address.port())) else { return };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let queries: Vec<Vec<u8>> = (0..40).map(|id| message(id, false)).collect();
    send_all(&client, address, &queries);
    let skipped = |has_datagrams| {
        let losses = source.counters().losses(has_datagrams);
        losses.iter().find(|(reason, _)| *reason == "skipped_messages").map(|(_, count)| *count)
    };
    assert_eq!((skipped(true), skipped(false)), (Some(8), Some(0)));
}
