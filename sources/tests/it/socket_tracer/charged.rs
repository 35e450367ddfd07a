//! To whom losses are charged.

use super::*;

/// What a table lost for a reason.
fn lost_of(net: &Net, table: &str, reason: &str) -> u64 {
    net.tracer.counters().iter().find(|of| of.table == table).unwrap().lost_for(reason)
}

/// What was lost before it became an event is charged to what its socket speaks: HTTP's is no DNS answer's
/// loss, and the other way round; a socket that says nothing yet may be any table's, one for datagrams
/// only theirs that have some. Catches answers that are called incomplete for others' losses, and losses
/// that are in no answer.
#[test]
fn losses_are_charged_to_what_they_concern() {
    let lose = |net: &mut Net, key: Option<ConnKey>, socket_type| {
        let counts = LostCounts { records: 1, messages: 2, unseen_bytes: 10, uring_bytes: 20 };
        net.tracer.lost(&SocketLoss { key, socket_type, counts });
    };
    let tables = ["http_events", "dns_events", "conn_stats"];
    let ring_full = |net: &Net| tables.map(|table| lost_of(net, table, "ring_full"));

    let mut net = Net::new();
    let http = server_end(4000);
    net.read(http, NGINX, &get("/"));
    lose(&mut net, Some(http.key), SocketType::Stream);
    assert_eq!(ring_full(&net), [1, 0, 1]);
    assert_eq!(lost_of(&net, "http_events", "unseen_bytes"), 10);
    assert_eq!(lost_of(&net, "http_events", "io_uring_bytes"), 20);
    assert_eq!(lost_of(&net, "http_events", "skipped_messages"), 2);
    // Bytes that nobody has read were moved all the same: connections have them.
    assert_eq!(lost_of(&net, "conn_stats", "unseen_bytes"), 0);

    let dns_socket = datagrams(2, "127.0.0.1:4000", "127.0.0.1:53");
    net.data(dns_socket, WRK, Direction::Egress, &dns(7, false));
    lose(&mut net, Some(dns_socket.key), SocketType::Datagram);
    assert_eq!(ring_full(&net), [1, 1, 1]);

    // HTTP/2 fills the table of HTTP/1.
    let other = server_end(5000);
    net.read(other, NGINX, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    lose(&mut net, Some(other.key), SocketType::Stream);
    assert_eq!(ring_full(&net), [2, 1, 2]);

    let silent = server_end(6000);
    let at = net.at(silent, NGINX);
    net.tracer.on_event(&CaptureEvent::Accept { at });
    lose(&mut net, Some(silent.key), SocketType::Stream);
    lose(&mut net, None, SocketType::Stream);
    assert_eq!(ring_full(&net), [4, 3, 4]);

    lose(&mut net, None, SocketType::Datagram);
    assert_eq!(ring_full(&net), [4, 4, 4]);

    // One that has just closed is known until its end is dealt with.
    net.close(http, NGINX, true);
    lose(&mut net, Some(http.key), SocketType::Stream);
    assert_eq!(ring_full(&net), [5, 4, 5]);
    net.flush_after(SECOND_NS);
    lose(&mut net, Some(http.key), SocketType::Stream);
    assert_eq!(ring_full(&net), [6, 5, 6]);
}

/// A connection that was understood and then says what nobody understands is looked at anew; what waited is lost, and
/// that is said. Catches requests that go with a parser and are in no answer. One that was never understood was no
/// such connection, and lost nothing.
#[test]
fn what_waits_is_lost_with_its_parser() {
    for (answer, lost) in [("+PONG\r\n", 2), ("", 0)] {
        let mut net = Net::new();
        let end = server_end(4_000);
        net.read(end, NGINX, "*1\r\n$4\r\nPING\r\n");
        if !answer.is_empty() {
            net.write(end, NGINX, answer);
            net.flush_after(SECOND_NS);
        }
        net.read(end, NGINX, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n");
        for _ in 0..8 {
            net.write(end, NGINX, "\x01\x02 nothing of the kind \x03");
            net.flush_after(SECOND_NS / 10);
        }
        net.close(end, NGINX, true);
        net.flush_after(SECOND_NS);
        assert_eq!(lost_of(&net, "redis_events", "given_up"), lost, "{answer:?}");
    }
}

/// Sockets for datagrams that go for room are no connection of `conn_stats`, and what is not known to be
/// HTTP but cannot be is no loss of it.
#[test]
fn evicted_datagram_sockets_are_no_loss_of_streams() {
    let limits = TrackerLimits { connections_max: 10, ..TrackerLimits::default() };
    let mut net = Net::with(SocketTracerConfig { limits, ..SocketTracerConfig::default() });
    for id in 1..=30 {
        let socket = datagrams(id, &format!("127.0.0.1:{}", 4_000 + id), "127.0.0.1:443");
        net.data(socket, WRK, Direction::Egress, b"\x40not a known protocol");
    }
    let full = |table| lost_of(&net, table, "connections_full");
    assert_eq!([full("http_events"), full("dns_events"), full("conn_stats")], [0, 20, 0]);
}
