//! Messages as bytes in, rows as text out; whatever is done to them.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::PROTOCOL;
use super::parser::tell;
use crate::protocol::{Beginning, Datagram, Verdict, Way};
use crate::redact::{Mode, Redactor};
use crate::testing::{Row, Wire};
use crate::{Counters, REORDER_GRACE_NS, Side};

/// A message's parts, to be put together.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new(id: u16, flags: u16, counts: [u16; 4]) -> Message {
        let words = [id, flags].into_iter().chain(counts);
        Message(words.flat_map(u16::to_be_bytes).collect())
    }
    fn name(mut self, name: &str) -> Message {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.0.push(label.len() as u8);
            self.0.extend(label.as_bytes());
        }
        self.0.push(0);
        self
    }
    fn words(mut self, words: &[u16]) -> Message {
        self.0.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self
    }
    fn bytes(mut self, bytes: &[u8]) -> Message {
        self.0.extend(bytes);
        self
    }
    /// A record whose name is the question's.
    fn record(self, rtype: u16, data: &[u8]) -> Message {
        self.words(&[0xc00c, rtype, 1, 0, 60, data.len() as u16]).bytes(data)
    }
}

fn query(id: u16, name: &str, rtype: u16) -> Message {
    Message::new(id, 0x0100, [1, 0, 0, 0]).name(name).words(&[rtype, 1])
}

fn response(id: u16, name: &str, rtype: u16, answers: u16) -> Message {
    Message::new(id, 0x8180, [1, answers, 0, 0]).name(name).words(&[rtype, 1])
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A message from or to a peer.
fn tell_peer(wire: &mut Wire, way: Way, port: u16, message: &Message) {
    tell_anybody(wire, way, Some(peer(port)), message, false);
}

fn tell_anybody(
    wire: &mut Wire,
    way: Way,
    peer: Option<SocketAddr>,
    message: &Message,
    after_gap: bool,
) {
    let bytes = message.0.as_slice();
    wire.datagram(Datagram { way, peer, time_unix_ns: 0, bytes, after_gap });
}

fn latency_ns(row: &Row) -> i64 {
    row.cells[4].parse().unwrap()
}

fn ids(wire: &Wire) -> Vec<String> {
    let id = |row: &Row| row.cells[2][8..].split(',').next().unwrap().to_string();
    wire.rows().iter().map(id).collect()
}

fn framed(message: &Message) -> Vec<u8> {
    [&(message.0.len() as u16).to_be_bytes()[..], &message.0].concat()
}

fn answers(message: &Message) -> String {
    tell(&message.0, &Redactor::default()).1
}

/// A query and its response, as all four columns have them; EDNS is counted and not an answer.
#[test]
fn an_exchange_is_a_row() {
    let mut wire = Wire::new(&PROTOCOL);
    let mut edns = query(4711, "www.example.com", 28).bytes(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    edns.0[11] = 1;
    tell_peer(&mut wire, Way::Out, 53, &edns);
    let answer = response(4711, "www.example.com", 28, 2)
        .record(5, b"\x03web\xc0\x10")
        .record(28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    tell_peer(&mut wire, Way::In, 53, &answer);
    let [row] = wire.rows() else { panic!("{:?}", wire.rows()) };
    assert_eq!(
        row.cells[..4],
        [
            "{\"txid\":4711,\"qr\":0,\"opcode\":0,\"aa\":0,\"tc\":0,\"rd\":1,\"ra\":0,\"ad\":0,\"cd\":0,\
             \"rcode\":0,\"num_queries\":1,\"num_answers\":0,\"num_auth\":0,\"num_addl\":1}",
            "{\"queries\":[{\"name\":\"www.example.com\",\"type\":\"AAAA\"}]}",
            "{\"txid\":4711,\"qr\":1,\"opcode\":0,\"aa\":0,\"tc\":0,\"rd\":1,\"ra\":1,\"ad\":0,\"cd\":0,\
             \"rcode\":0,\"num_queries\":1,\"num_answers\":2,\"num_auth\":0,\"num_addl\":0}",
            "{\"answers\":[{\"name\":\"www.example.com\",\"type\":\"CNAME\",\"cname\":\"web.example.com\",\
             \"data\":\"web.example.com\"},{\"name\":\"www.example.com\",\"type\":\"AAAA\",\
             \"addr\":\"2001:db8::1\"}]}",
        ]
    );
    assert_eq!((row.time_ns, latency_ns(row), row.of.requests), (3_000, 1_000, Some(Way::Out)));
    assert_eq!(row.of.peer, Some(peer(53)));
    assert_eq!(wire.counters(), Counters { exchanges: 1, ..Counters::default() });
}

/// What records hold, as zone files have it. The data were written by hand from the standards.
#[test]
fn data_in_presentation_form() {
    let cases: [(u16, &[u8], &str, &str); 19] = [
        (2, b"\x02ns\x00", "NS", "ns"),
        (5, b"\x00", "CNAME", "."),
        (15, b"\x00\x0a\x04mail\xc0\x0c", "MX", "10 mail.e.org"),
        (16, b"\x03a\"b\x02c\\\x01\xff", "TXT", r#""a\"b" "c\\" "\255""#),
        (
            6,
            b"\x01m\x00\x05a.adm\x00\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
            "SOA",
            r"m a\.adm 1 2 3 4 5",
        ),
        (33, b"\0\x01\0\x02\x1f\x90\x01s\x00", "SRV", "1 2 8080 s"),
        (35, b"\0\x01\0\x02\x01u\x03sip\x00\x00", "NAPTR", r#"1 2 "u" "sip" "" ."#),
        (257, b"\x00\x05issueca.org", "CAA", r#"0 issue "ca.org""#),
        (43, b"\x30\x39\x08\x02\xab\xcd", "DS", "12345 8 2 ABCD"),
        (44, b"\x04\x02\xab", "SSHFP", "4 2 AB"),
        (52, b"\x03\x01\x01\x0f", "TLSA", "3 1 1 0F"),
        (48, b"\x01\x01\x03\x08ab", "DNSKEY", "257 3 8 YWI="),
        (47, b"\x01n\x00\x00\x01\x62\x01\x01\x40", "NSEC", "n A NS SOA CAA"),
        (
            46,
            b"\x00\x01\x08\x02\0\0\0\x3c\x65\x92\x00\x80\x38\x6d\x43\x80\0\x07\x01s\x00abc",
            "RRSIG",
            "A 8 2 60 20240101000000 20000101000000 7 s YWJj",
        ),
        (
            65,
            b"\0\x01\x00\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x20\xfb\0\x04\0\x04\x01\x02\x03\x04",
            "HTTPS",
            "1 . alpn=h2,h3 port=8443 ipv4hint=1.2.3.4",
        ),
        (64, b"\0\x00\x01t\x00\x02\x9b\0\x01x", "SVCB", r#"0 t key667="x""#),
        // Of the wrong length, without a name of its own, and of a type that nobody knows.
        (1, b"\x01\x02\x03", "A", r"\# 3 010203"),
        (2, b"\xc0\xff", "NS", r"\# 2 C0FF"),
        (4660, b"\x12", "TYPE4660", r"\# 1 12"),
    ];
    for (rtype, data, name, text) in cases {
        let message = response(1, "e.org", rtype, 1).record(rtype, data);
        let json = text.replace('\\', r"\\").replace('"', "\\\"");
        let cname = if rtype == 5 { format!("\"cname\":\"{json}\",") } else { String::new() };
        let want = format!(
            "{{\"answers\":[{{\"name\":\"e.org\",\"type\":\"{name}\",{cname}\"data\":\"{json}\"}}]}}"
        );
        assert_eq!(answers(&message), want);
    }
}

/// Names: the root, bytes that are not printable, and pointers in circles, forward and into labels.
#[test]
fn names_end() {
    let body = |message: &Message| tell(&message.0, &Redactor::default()).1;
    let root = Message::new(1, 0, [1, 0, 0, 0]).name("").words(&[2, 1]);
    assert_eq!(body(&root), r#"{"queries":[{"name":".","type":"NS"}]}"#);
    let odd = Message::new(1, 0, [1, 0, 0, 0]).bytes(b"\x04a.\x00\xff\x00").words(&[1, 1]);
    assert_eq!(body(&odd), r#"{"queries":[{"name":"a\\.\\000\\255","type":"A"}]}"#);
    for circle in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff", b"\x40a"] {
        let message = Message::new(1, 0, [1, 0, 0, 0]).bytes(circle).words(&[1, 1]);
        assert_eq!(body(&message), r#"{"queries":[]}"#);
    }
    let label = "l".repeat(63);
    let fits = format!("{label}.{label}.{label}.{}", &label[..61]);
    assert!(body(&query(1, &fits, 1)).contains(&fits));
    let too_long = format!("{label}.{label}.{label}.{}", &label[..62]);
    assert_eq!(body(&query(1, &too_long, 1)), r#"{"queries":[]}"#);
}

/// A message full of records whose names point at the longest one there is: bounded, and valid JSON.
#[test]
fn amplification_is_bounded() {
    let label: String = "\u{1}".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", &label[..61]);
    let mut message = response(1, &long, 16, 5_000);
    for _ in 0..5_000 {
        message = message.record(16, &[0]);
    }
    let text = answers(&message);
    assert!(text.len() < super::table::BODY_BYTES_MAX + 4_096, "{}", text.len());
    assert!(text.ends_with("],\"cut\":true}"));
}

/// A response that was truncated by its server, cut by us, refused, or of a message that could not be
/// read: a row with what there is.
#[test]
fn what_is_cut_is_a_row() {
    let mut wire = Wire::new(&PROTOCOL);
    let whole = response(1, "a.b", 1, 2).record(1, &[1, 2, 3, 4]).record(1, &[5, 6, 7, 8]);
    let cases = [
        (Message::new(1, 0x8380, [1, 0, 0, 0]).name("a.b").words(&[1, 1]), "\"tc\":1", "[]"),
        (Message(whole.0[..whole.0.len() - 9].to_vec()), "\"num_answers\":2", "1.2.3.4"),
        (Message::new(1, 0x8003, [1, 0, 0, 0]).name("a.b").words(&[1, 1]), "\"rcode\":3", "[]"),
        (Message::new(1, 0x8001, [0; 4]), "\"rcode\":1", "[]"),
    ];
    for (response, header, body) in cases {
        tell_peer(&mut wire, Way::Out, 53, &query(1, "a.b", 1));
        tell_peer(&mut wire, Way::In, 53, &response);
        let row = wire.rows().last().unwrap();
        assert!(row.cells[2].contains(header) && row.cells[3].contains(body), "{row:?}");
    }
    assert_eq!(wire.rows().len(), 4);
}

/// Pairing by id and peer: out of order, a response before its query, a query that is repeated, an id
/// that is used again, a reader who does not ask for the sender.
#[test]
fn responses_find_their_queries() {
    let mut wire = Wire::new(&PROTOCOL);
    for id in [1, 2] {
        tell_peer(&mut wire, Way::Out, 53, &query(id, "a", 1));
    }
    tell_peer(&mut wire, Way::Out, 54, &query(1, "a", 1));
    tell_peer(&mut wire, Way::In, 54, &response(1, "a", 1, 0));
    tell_peer(&mut wire, Way::In, 53, &response(2, "a", 1, 0));
    tell_peer(&mut wire, Way::In, 53, &response(1, "a", 1, 0));
    let latencies: Vec<i64> = wire.rows().iter().map(latency_ns).collect();
    assert_eq!(
        (ids(&wire), latencies),
        (["1", "2", "1"].map(String::from).into(), vec![1_000, 3_000, 5_000])
    );
    // Before its query: two CPUs.
    tell_peer(&mut wire, Way::In, 53, &response(3, "a", 1, 0));
    tell_peer(&mut wire, Way::Out, 53, &query(3, "a", 1));
    assert_eq!(latency_ns(&wire.rows()[3]), 0);
    // Repeated: from its first sending; the second response is one too many.
    for _ in 0..2 {
        tell_peer(&mut wire, Way::Out, 53, &query(4, "a", 1));
    }
    for _ in 0..2 {
        tell_peer(&mut wire, Way::In, 53, &response(4, "a", 1, 0));
    }
    assert_eq!(latency_ns(&wire.rows()[4]), 2_000);
    // Another question under the same id: the first one has no answer any more.
    tell_peer(&mut wire, Way::Out, 53, &query(5, "a", 1));
    tell_peer(&mut wire, Way::Out, 53, &query(5, "b", 1));
    tell_anybody(&mut wire, Way::In, None, &response(5, "b", 1, 0), false);
    assert_eq!(wire.rows()[5].cells[1], r#"{"queries":[{"name":"b","type":"A"}]}"#);
    wire.wait(REORDER_GRACE_NS);
    let counters = Counters { exchanges: 6, unanswered: 1, unasked: 1, ..Counters::default() };
    assert_eq!((wire.close().len(), wire.counters()), (6, counters));
    assert!(!wire.parser.is_waiting());
}

/// Ids come again: a response that came too late is not the answer to another question under its id, nor one
/// that came twice; letters' case is no difference, and the peer is whoever was named, on either side.
#[test]
fn a_response_repeats_its_question() {
    let mut wire = Wire::new(&PROTOCOL);
    tell_peer(&mut wire, Way::Out, 53, &query(1, "a", 1));
    tell_peer(&mut wire, Way::Out, 53, &query(1, "b", 1));
    tell_peer(&mut wire, Way::In, 53, &response(1, "a", 1, 0));
    assert!(wire.rows().is_empty(), "late, and of another question");
    tell_peer(&mut wire, Way::In, 53, &response(1, "B", 1, 0));
    assert_eq!(wire.rows()[0].cells[1], r#"{"queries":[{"name":"b","type":"A"}]}"#);
    // Twice, and then its id is used again.
    tell_peer(&mut wire, Way::In, 53, &response(1, "b", 1, 0));
    tell_peer(&mut wire, Way::Out, 53, &query(1, "c", 1));
    assert_eq!(wire.rows().len(), 1);
    tell_peer(&mut wire, Way::In, 53, &response(1, "c", 1, 0));
    assert_eq!(wire.rows()[1].cells[1], r#"{"queries":[{"name":"c","type":"A"}]}"#);
    wire.wait(REORDER_GRACE_NS);
    let counters = Counters { exchanges: 2, unanswered: 1, unasked: 2, ..Counters::default() };
    assert_eq!((wire.close().len(), wire.counters()), (2, counters));
}

/// What has no answer is the peer's doing, unless messages are missing; what nobody asked is not lost,
/// unless it was asked before capture or among what is missing.
#[test]
fn losses_have_their_names() {
    let mut wire = Wire::new(&PROTOCOL);
    tell_peer(&mut wire, Way::In, 53, &response(1, "a", 1, 0));
    wire.wait(REORDER_GRACE_NS);
    tell_peer(&mut wire, Way::Out, 53, &query(2, "a", 1));
    wire.wait(61_000_000_000);
    assert_eq!(wire.counters(), Counters { unpaired: 1, unanswered: 1, ..Counters::default() });
    tell_peer(&mut wire, Way::Out, 53, &query(3, "a", 1));
    tell_anybody(&mut wire, Way::In, None, &response(4, "a", 1, 0), true);
    wire.wait(61_000_000_000);
    let counters =
        Counters { unpaired: 1, unanswered: 1, unasked: 1, gap: 1, ..Counters::default() };
    assert_eq!(wire.counters(), counters);
}

/// Queries that nobody answers are bounded in number and bytes, and counted.
#[test]
fn what_waits_is_bounded() {
    let mut wire = Wire::new(&PROTOCOL);
    for idx in 0..20_000_u16 {
        let name = format!("{}.{idx}", "x".repeat(60));
        tell_peer(&mut wire, Way::In, idx, &query(idx, &name, 1));
    }
    let held = wire.parser.held_bytes();
    assert!(held <= PROTOCOL.parsing.as_ref().unwrap().parser_bytes_max, "{held}");
    let given_up = wire.counters().given_up;
    assert!(given_up >= 20_000 - 4_096);
    wire.give_up();
    assert_eq!(wire.counters(), Counters { given_up: 20_000, ..Counters::default() });
    assert!(!wire.parser.is_waiting());
}

/// Streams: lengths and messages in any pieces, several in one; a hole costs what it covers.
#[test]
fn streams_are_framed_by_length() {
    let queries: Vec<u8> = (0..20).flat_map(|id| framed(&query(id, "stream.example", 1))).collect();
    let responses: Vec<u8> = (0..20)
        .flat_map(|id| framed(&response(id, "stream.example", 1, 1).record(1, &[1, 2, 3, 4])))
        .collect();
    for piece in [1, 2, 3, 7, 50, 5_000] {
        let mut wire = Wire::new(&PROTOCOL);
        for bytes in queries.chunks(piece) {
            wire.call(Side::Request, bytes);
        }
        for bytes in responses.chunks(piece) {
            wire.call(Side::Response, bytes);
        }
        assert_eq!(wire.close().len(), 20, "in pieces of {piece}");
        assert_eq!(wire.counters(), Counters { exchanges: 20, ..Counters::default() });
    }
    // A message of 30 answers of which the kernel copied 100 bytes, then others.
    let mut wire = Wire::new(&PROTOCOL);
    let long = (0..30).fold(response(1, "a", 1, 30), |message, _| message.record(1, &[1, 2, 3, 4]));
    for id in 1..=3 {
        let bytes = framed(&query(id, "a", 1));
        wire.call(Side::Request, &bytes);
    }
    wire.cut_call(Side::Response, &framed(&long), 100);
    for id in [2, 3] {
        let bytes = framed(&response(id, "a", 1, 0));
        wire.call(Side::Response, &bytes);
    }
    wire.close();
    assert_eq!(ids(&wire), ["2", "3"]);
    assert_eq!(wire.counters(), Counters { exchanges: 2, gap: 1, ..Counters::default() });
}

/// Behind a hole over lengths, and where it was open before, the parser begins again with a call.
#[test]
fn streams_are_resumed() {
    let mut wire = Wire::begun(&PROTOCOL, false);
    let tail = b"the end of something";
    wire.call(Side::Request, tail);
    for id in 1..=4 {
        let bytes = framed(&query(id, "a", 1));
        let seen = if id == 2 { 1 } else { bytes.len() };
        wire.cut_call(Side::Request, &bytes, seen);
    }
    wire.call(Side::Response, tail);
    for id in 1..=4 {
        let bytes = framed(&response(id, "a", 1, 0));
        wire.call(Side::Response, &bytes);
    }
    wire.close();
    assert_eq!(ids(&wire), ["1", "3", "4"]);
    assert_eq!(wire.counters(), Counters { exchanges: 3, gap: 1, ..Counters::default() });
}

fn verdict(bytes: &[u8], is_datagram: bool, ports: [u16; 2]) -> Verdict {
    let opened = true;
    (PROTOCOL.recognise)(&Beginning { bytes, at_start: true, opened, is_datagram, ports })
}

/// DNS is told from others by its header and question, on any port but those of its relatives.
#[test]
fn dns_is_recognised() {
    let (asked, answered) = (query(9, "example.org", 1), response(9, "example.org", 1, 0));
    for (message, side) in [(&asked, Side::Request), (&answered, Side::Response)] {
        assert_eq!(verdict(&message.0, true, [4000, 5300]), Verdict::Is(side));
        assert_eq!(verdict(&message.0, true, [5353, 5353]), Verdict::IsNot);
        let stream = framed(message);
        assert_eq!(verdict(&stream, false, [0, 0]), Verdict::Is(side));
        for cut in 1..stream.len() {
            let found = verdict(&stream[..cut], false, [0, 0]);
            assert!(matches!(found, Verdict::Unsure | Verdict::Is(_)), "{cut}: {found:?}");
        }
    }
    let others: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random bytes of a hello",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xc3\x00\x00\x00\x01\x08quic and more of it, long enough to be one",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for other in others {
        assert_eq!(verdict(other, true, [4000, 5300]), Verdict::IsNot);
        assert_eq!(verdict(other, false, [4000, 5300]), Verdict::IsNot);
    }
}

/// What no header should say is DNS on its own port if the message is one to its last byte, and nowhere
/// else; names of NetBIOS, which have the same form, never are. Catches both a query that is refused for one
/// bit, and datagrams of others on that port taken for it.
#[test]
fn odd_headers() {
    let counted = |flags: u16, counts: [u16; 4]| Message::new(9, flags, counts);
    let odd: [(Message, Side); 6] = [
        // Reserved bit, opcode 9, a code in a query.
        (counted(0x0140, [1, 0, 0, 0]).name("a.example").words(&[1, 1]), Side::Request),
        (counted(0x4900, [1, 0, 0, 0]).name("a.example").words(&[1, 1]), Side::Request),
        (counted(0x0105, [1, 0, 0, 0]).name("a.example").words(&[1, 1]), Side::Request),
        // A query with an answer, an inverse one with no question, and an answer to an odd opcode.
        (
            counted(0x0100, [1, 1, 0, 0]).name("a.example").words(&[1, 1]).record(1, &[9; 4]),
            Side::Request,
        ),
        (
            counted(0x0900, [0, 1, 0, 0]).name("a.example").words(&[1, 1, 0, 60, 4]).bytes(&[9; 4]),
            Side::Request,
        ),
        (counted(0xc800, [1, 0, 0, 0]).name("a.example").words(&[1, 1]), Side::Response),
    ];
    for (message, side) in odd {
        let bytes = &message.0;
        assert_eq!(verdict(bytes, true, [4000, 53]), Verdict::Is(side));
        assert_eq!(verdict(bytes, true, [4000, 5300]), Verdict::IsNot);
        let stream = framed(&message);
        assert_eq!(verdict(&stream, false, [4000, 53]), Verdict::Is(side));
        assert_eq!(verdict(&stream, false, [4000, 5300]), Verdict::IsNot);
        assert_eq!(verdict(&[&bytes[..], &[0]].concat(), true, [4000, 53]), Verdict::IsNot);
        assert_eq!(verdict(&bytes[..bytes.len() - 1], true, [4000, 53]), Verdict::IsNot);
    }
    for other in [&[0x40; 12][..], &[0; 12], &[0xff; 60], &[0; 60], b"\x38openvpn of some session"]
    {
        assert_eq!(verdict(other, true, [4000, 53]), Verdict::IsNot);
    }
    let netbios = query(9, "CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0x21);
    assert_eq!(verdict(&netbios.0, true, [4000, 5300]), Verdict::Is(Side::Request));
    assert_eq!(verdict(&netbios.0, true, [4000, 137]), Verdict::IsNot);
}

/// Names and data are hidden where bodies are; what is left is JSON of the same shape.
#[test]
fn bodies_are_hidden_on_demand() {
    let redactor = Redactor::new(Mode::Bodies, &[], None);
    let message = response(1, "secret.example", 1, 1).record(1, &[1, 2, 3, 4]);
    let want = r#"{"answers":[{"name":"<REDACTED>","type":"A","addr":"<REDACTED>"}]}"#;
    assert_eq!(tell(&message.0, &redactor).1, want);
    let want = r#"{"queries":[{"name":"<REDACTED>","type":"A"}]}"#;
    assert_eq!(tell(&query(1, "secret.example", 1).0, &redactor).1, want);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Any bytes as any message, whole or behind a good beginning: no panic, bounded, ASCII text
    /// without what JSON does not take.
    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), good in any::<bool>()) {
        let mut message = if good { response(1, "a.example", 16, 9).0 } else { Vec::new() };
        message.extend(bytes);
        if message.len() >= 12 {
            for text in <[String; 2]>::from(tell(&message, &Redactor::default())) {
                prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
                let unescaped = text.replace("\\\\", "").replace("\\\"", "");
                prop_assert_eq!(unescaped.matches('"').count() % 2, 0);
                prop_assert!(!unescaped.contains('\\'));
            }
        }
        let mut wire = Wire::begun(&PROTOCOL, good);
        tell_peer(&mut wire, Way::In, 53, &Message(message.clone()));
        tell_peer(&mut wire, Way::Out, 53, &Message(message.clone()));
        for (idx, piece) in message.chunks(40).enumerate() {
            let side = if idx % 3 == 0 { Side::Response } else { Side::Request };
            wire.cut_call(side, piece, piece.len() - usize::from(idx % 5 == 4));
        }
        wire.wait(REORDER_GRACE_NS);
        wire.close();
        prop_assert!(wire.parser.held_bytes() < 1 << 20);
    }
}
