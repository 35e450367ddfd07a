//! Who takes what for its own: every protocol's samples, and traffic of none, are shown to all of them.

use weir_types::random::SplitMix;

use crate::protocol::{Beginning, Verdict};
use crate::{PROTOCOLS, Side};

/// What a connection begins with, or a call in the middle of one: whose it is.
type Sample = (&'static str, Side, Vec<u8>);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (16 * pair[0] + pair[1]) as u8).collect()
}

fn samples() -> Vec<Sample> {
    [of_the_web(), of_brokers(), of_databases()].concat()
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn of_the_web() -> Vec<Sample> {
    use Side::{Request, Response};
    vec![
        ("http1", Request, text("GET / HTTP/1.1\r\nHost: h\r\n\r\n")),
        ("http1", Response, text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
        ("http2", Request, text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("http2", Request, hex("0000 0401 0400 0000 0783 86be bf")),
        ("http2", Response, hex("0000 0604 0000 0000 0000 0300 0000 64 0000 0004 0100 0000 00")),
        (
            "tls",
            Request,
            hex(
                "1603 0100 c801 0000 c403 0300 0102 0304 0506 0708 090a 0b0c 0d0e 0f10 1112 1314 1516 1718 191a 1b1c",
            ),
        ),
        (
            "tls",
            Response,
            hex(
                "1603 0300 7a02 0000 7603 03a1 b2c3 d4e5 f607 1829 3a4b 5c6d 7e8f 9012 2334 4556 6778 899a abbc cdde",
            ),
        ),
        (
            "dns",
            Request,
            hex("001d 1234 0100 0001 0000 0000 0000 0765 7861 6d70 6c65 036f 7267 00 0001 0001"),
        ),
    ]
}

fn of_brokers() -> Vec<Sample> {
    use Side::{Request, Response};
    vec![
        ("nats", Request, text("CONNECT {\"verbose\":false}\r\nPING\r\n")),
        ("nats", Request, text("PUB a.b 5\r\nhello\r\n")),
        ("nats", Response, text("INFO {\"server_id\":\"N\",\"max_payload\":1048576}\r\n")),
        ("amqp", Request, b"AMQP\0\0\x09\x01".to_vec()),
        ("amqp", Response, hex("01 0000 0000000c 000a 001e 0000 00020000 003c ce")),
        ("mqtt", Request, hex("1010 0004 4d51 5454 04 02 003c 0004 6465 7631")),
        ("mqtt", Request, hex("1011 0004 4d51 5454 05 02 003c 00 0004 6465 7631")),
        ("mqtt", Request, hex("1012 0006 4d51 4973 6470 03 02 003c 0004 6465 7631")),
        (
            "kafka",
            Request,
            hex("0000001e000a000100000003000f61696f6b61666b612d302e31342e300002673200"),
        ),
    ]
}

fn of_databases() -> Vec<Sample> {
    use Side::{Request, Response};
    vec![
        (
            "mongodb",
            Request,
            hex(
                "3300 0000 0100 0000 0000 0000 dd07 0000 0000 0000 001e 0000 0010 7069 6e67 0001 0000 0002 2464 6200 0600 0000 6164 6d69 6e00 00",
            ),
        ),
        (
            "mongodb",
            Response,
            hex(
                "2600 0000 0900 0000 0100 0000 dd07 0000 0000 0000 0011 0000 0001 6f6b 0000 0000 0000 00f0 3f00",
            ),
        ),
        (
            "mongodb",
            Request,
            hex(
                "3a00 0000 0200 0000 0000 0000 d407 0000 0400 0000 6164 6d69 6e2e 2463 6d64 0000 0000 00ff ffff ff13 0000 0010 6973 4d61 7374 6572 0001 0000 0000",
            ),
        ),
        ("cql", Request, hex("0500 0003 0500 0000 00")),
        (
            "cql",
            Request,
            hex("0400 0001 0100 0000 1600 0100 0b43 514c 5f56 4552 5349 4f4e 0005 332e 302e 30"),
        ),
        ("cql", Request, hex("0400 0002 0700 0000 0f00 0000 0853 454c 4543 5420 3100 0100")),
        ("cql", Response, hex("8400 0001 0200 0000 00")),
        ("cql", Response, hex("8400 0002 0800 0000 0400 0000 01")),
        // A handshake behind the question for it, a dispatch without names, and what answers that.
        (
            "mux",
            Request,
            hex("0000 000f 7f00 0001 7469 6e69 7420 6368 6563 6b 0000 0006 4400 0001 0001"),
        ),
        (
            "mux",
            Request,
            hex("0000 001b 0200 0002 0000 0000 0000 8001 0001 0000 0004 7069 6e67 0000 0000 00"),
        ),
        (
            "mux",
            Response,
            hex("0000 0018 fe00 0002 0000 0080 0100 0200 0000 0470 696e 6700 0000 0000"),
        ),
        ("redis", Request, text("*1\r\n$4\r\nPING\r\n")),
        ("redis", Request, text("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n")),
        ("redis", Response, text("*2\r\n:1\r\n$-1\r\n")),
        ("redis", Response, text("+PONG\r\n")),
        ("redis", Response, text("+PONG\r\n+OK\r\n:1\r\n+PONG\r\n")),
        ("redis", Response, text("+OK\r\n+OK\r\n$1\r\n3\r\n")),
        ("mysql", Request, text("\t\0\0\0\x03SELECT 1")),
        ("mysql", Response, hex("0700 0001 0000 0002 0000 00")),
        ("pgsql", Request, hex("0000 0008 04d2 162f")),
        (
            "pgsql",
            Request,
            hex("0000 0020 0003 0000 7573 6572 0062 6f62 0064 6174 6162 6173 6500 7368 6f70 0000"),
        ),
        ("pgsql", Request, hex("51 0000 000d 5345 4c45 4354 2031 00")),
        ("pgsql", Response, hex("43 0000 000f 494e 5345 5254 2030 2031 00 5a 0000 0005 49")),
    ]
}

/// Traffic of none of them.
fn foreign() -> Vec<Vec<u8>> {
    let mut all = vec![
        text("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
        text("220 mail.example.org ESMTP Postfix\r\n"),
        text("EHLO client.example.org\r\n"),
        text("+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\r\n"),
        text("+OK\r\n+OK\r\nPONG\r\n"),
        text("+PONG\r\nMSG a 1 2\r\nhi\r\n"),
        text("+OK\r\n$1 price\r\n"),
        text("* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n"),
        text("a001 LOGIN user pass\r\n"),
        text("get key\r\nset key 0 0 5\r\nhello\r\n"),
        text("VALUE key 0 5\r\nhello\r\nEND\r\n"),
        text("{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}\n"),
        text(
            "The quick brown fox jumps over the lazy dog. It does so every day, and nobody knows why.\n",
        ),
        text("SELECT * FROM users WHERE id = 1"),
        text("<?xml version=\"1.0\"?><stream:stream to='example.org' version='1.0'>"),
        // TLS behind its hellos.
        hex(
            "1703 0300 1fff eedd ccbb aa99 8877 6655 4433 2211 00ff eedd ccbb aa99 8877 6655 4433 2211 0001 02",
        ),
        // A FastCGI request, a WebSocket frame, a QUIC initial, yamux, memcached's binary protocol.
        hex("0101 0001 0008 0000 0001 0000 0000 0000 0104 0001 0019 0000 0e03 5343 5249 5054"),
        hex("8185 37fa 213d 7f9f 4d51 58"),
        hex("c300 0000 0108 8394 c8f0 3e51 5708 0000 449e 7b9a ec34 d1b1 c98d d768 9fb8 ec11"),
        hex("0000 0001 0000 0001 0000 0000 0002 0001 0000 0001 0000 0000"),
        hex("8000 0003 0000 0000 0000 0003 0000 0000 0000 0000 0000 0000 6b65 79"),
        // Thrift in frames: a call, its reply, the old way, the compact way.
        hex("0000 0011 8001 0001 0000 0004 7069 6e67 0000 0001 00"),
        hex("0000 0011 8001 0002 0000 0004 7069 6e67 0000 0001 00"),
        hex("0000 000e 0000 0004 7069 6e67 0100 0000 0100"),
        hex("0000 0009 8221 0104 7069 6e67 00"),
        // An SMB negotiation, an LDAP bind, an RDP connection request, a BitTorrent handshake.
        hex("0000 0054 ff53 4d42 7200 0000 0018 53c8 0000 0000 0000 0000 0000 0000 ffff feff"),
        hex("300c 0201 0160 0702 0103 0400 8000"),
        hex("0300 0013 0ee0 0000 0000 0001 0008 0003 0000 00"),
        [b"\x13BitTorrent protocol".to_vec(), vec![0; 8]].concat(),
        vec![0; 64],
        vec![0xff; 64],
        (0..=255).collect(),
    ];
    let mut random = SplitMix(7);
    for length in [1, 2, 3, 4, 5, 8, 13, 16, 30, 60, 200, 1_000] {
        for _ in 0..2_000 / length.clamp(1, 10) {
            all.push((0..length).map(|_| random.next_u64() as u8).collect());
        }
    }
    all
}

/// The first protocol that says it is its own, as connections ask.
fn asked(bytes: &[u8], at_start: bool, opened: bool) -> Option<(&'static str, Side)> {
    let beginning =
        Beginning { bytes, at_start, opened, is_datagram: false, ports: [40_000, 50_000] };
    PROTOCOLS.iter().find_map(|def| match (def.recognise)(&beginning) {
        Verdict::Is(side) => Some((def.name, side)),
        Verdict::IsNot | Verdict::Unsure => None,
    })
}

/// Each sample is its protocol's and nobody else's, whoever is asked first.
#[test]
fn samples_are_their_own() {
    for (name, side, bytes) in samples() {
        let shown = bytes.escape_ascii().to_string();
        assert_eq!(asked(&bytes, true, true), Some((name, side)), "{shown}");
        let beginning = Beginning {
            bytes: &bytes,
            at_start: true,
            opened: true,
            is_datagram: false,
            ports: [0; 2],
        };
        for def in PROTOCOLS.iter().filter(|def| def.name != name) {
            let found = (def.recognise)(&beginning);
            assert!(!matches!(found, Verdict::Is(_)), "{} takes {shown}", def.name);
        }
    }
}

/// Traffic of none, on connections that were opened and on such that were open before: nobody's.
#[test]
fn foreign_traffic_is_nobodys() {
    let mut wrong = Vec::new();
    for bytes in foreign() {
        for (at_start, opened) in [(true, true), (true, false), (false, false), (false, true)] {
            if let Some((name, _)) = asked(&bytes, at_start, opened)
                // A server takes what looks like a word and a target for a request.
                && name != "http1"
            {
                wrong.push(format!("{name} takes {}", bytes.escape_ascii()));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
