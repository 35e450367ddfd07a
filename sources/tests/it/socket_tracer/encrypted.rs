//! What is said over TLS, beside the socket's own bytes.

use super::*;

/// A handshake's first bytes and a record of application data.
const HELLO: &[u8] = &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9];
const CIPHER: &[u8] = &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5];

impl Net {
    fn plain(&mut self, socket: Socket, process: Process, direction: Direction, text: &str) {
        self.plain_at(socket, process, direction, 0, text);
    }
    /// `lost` bytes before it are.
    fn plain_at(
        &mut self,
        socket: Socket,
        process: Process,
        direction: Direction,
        lost: usize,
        text: &str,
    ) {
        // Positions of their own: kept under a key that no socket has.
        let mut apart = socket;
        apart.key.inode += 1 << 40;
        self.move_on(apart, direction, lost);
        let position = self.move_on(apart, direction, text.len());
        let moved = self.moved((socket, process), direction, position, text.as_bytes());
        self.tracer.on_event(&CaptureEvent::Plain(moved));
    }
    fn handshake(&mut self, socket: Socket, process: Process) {
        self.data(socket, process, Direction::Ingress, HELLO);
        self.data(socket, process, Direction::Egress, HELLO);
    }
    fn exchange(&mut self, socket: Socket, process: Process, path: &str) {
        self.data(socket, process, Direction::Ingress, CIPHER);
        self.plain(socket, process, Direction::Ingress, &get(path));
        self.plain(socket, process, Direction::Egress, OK);
        self.data(socket, process, Direction::Egress, CIPHER);
    }
}

/// Exchanges over TLS are rows once, told to be encrypted, with the ends and the role of their socket; of the
/// socket's own bytes there is none, also where a request in the clear hides in them. The statistics know it.
#[test]
fn what_is_said_over_tls_is_rows_once() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.handshake(socket, NGINX);
    for idx in 0..20 {
        net.exchange(socket, NGINX, &format!("/{idx}"));
        net.read(socket, NGINX, &get("/not-a-request"));
        net.write(socket, NGINX, OK);
    }
    net.flush_after(10 * SECOND_NS);
    let rows = net.rows("http_events");
    let paths: Vec<String> = (0..20).map(|idx| format!("/{idx}")).collect();
    assert_eq!(rows.texts("req_path"), paths);
    assert!((0..20).all(|row| rows.bool(row, "encrypted") && rows.int(row, "trace_role") == 2));
    assert_eq!((rows.int(0, "local_port"), rows.int(0, "remote_port")), (80, 4000));
    let stats = net.rows("conn_stats");
    let last = stats.len() - 1;
    assert!(stats.bool(last, "ssl"));
    assert_eq!((stats.int(last, "protocol"), stats.int(last, "conn_open")), (1, 1));
}

/// Bytes are counted as the socket moves them: what is said stands for them, and the close tells them.
/// Catches connections that count twice, what is said and how it was sent.
#[test]
fn bytes_of_an_encrypted_connection_count_once() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.handshake(socket, NGINX);
    net.exchange(socket, NGINX, "/");
    let at = net.at(socket, NGINX);
    let close = CaptureEvent::Close { at, last: true, egress_bytes: 900, ingress_bytes: 700 };
    net.tracer.on_event(&close);
    net.flush_after(20 * SECOND_NS);
    let stats = net.rows("conn_stats");
    let last = stats.len() - 1;
    assert_eq!((stats.int(last, "bytes_sent"), stats.int(last, "bytes_recv")), (900, 700));
}

/// A tunnel that is asked for in the clear is a row in the clear; what is said through it is encrypted.
#[test]
fn a_tunnel_is_asked_for_in_the_clear() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.read(socket, NGINX, "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n");
    net.write(socket, NGINX, "HTTP/1.1 200 OK\r\n\r\n");
    net.handshake(socket, NGINX);
    net.exchange(socket, NGINX, "/inside");
    let rows = net.rows("http_events");
    assert_eq!(rows.texts("req_method"), ["CONNECT", "GET"]);
    assert_eq!([rows.bool(0, "encrypted"), rows.bool(1, "encrypted")], [false, true]);
}

/// TLS whose first bytes were given up as unknown is read once it is told in the clear; what is of no use
/// then is told again, and so that nothing more of it comes.
#[test]
fn what_is_of_no_use_is_told_for_each_layer() {
    let mut net = Net::new();
    let socket = server_end(4000);
    for _ in 0..20 {
        net.data(socket, NGINX, Direction::Ingress, CIPHER);
        net.data(socket, NGINX, Direction::Egress, CIPHER);
    }
    let stopped = net.tracer.take_stop_copying();
    assert_eq!(stopped, [StopCopying { key: socket.key, encrypted: false }]);
    net.exchange(socket, NGINX, "/");
    assert_eq!(net.rows("http_events").len(), 1);
    let other = server_end(4001);
    for _ in 0..20 {
        net.plain(other, NGINX, Direction::Ingress, "\u{1}unknown\u{2}");
        net.plain(other, NGINX, Direction::Egress, "\u{1}unknown\u{2}");
    }
    let stopped = net.tracer.take_stop_copying();
    assert_eq!(stopped, [StopCopying { key: other.key, encrypted: true }]);
}

/// What is lost of what was said is a gap: counted, and no wrong pair.
#[test]
fn losses_over_tls_are_gaps() {
    let mut net = Net::new();
    let socket = server_end(4000);
    net.exchange(socket, NGINX, "/a");
    net.plain(socket, NGINX, Direction::Ingress, &get("/b"));
    net.plain(socket, NGINX, Direction::Ingress, &get("/c"));
    net.plain_at(socket, NGINX, Direction::Egress, OK.len(), OK);
    net.flush_after(SECOND_NS);
    net.exchange(socket, NGINX, "/d");
    let rows = net.rows("http_events");
    let paths = rows.texts("req_path");
    assert!(paths.contains(&"/a".to_string()) && paths.contains(&"/d".to_string()), "{paths:?}");
    assert!(!paths.contains(&"/b".to_string()), "{paths:?}");
    assert!(net.unpaired() >= 1);
}
