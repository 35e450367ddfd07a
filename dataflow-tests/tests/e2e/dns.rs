//! DNS as real resolvers and their clients speak it: UDP and TCP, IPv4 and IPv6, through a forwarder.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{free_port, process::Process, wait_until};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);

/// How often each exchange is there.
const SCRIPT: &str = "\
import px
df = px.DataFrame('dns_events', start_time='-10m')
df.port = px.select(df.trace_role == 2, df.local_port, df.remote_port)
df.rcode = px.pluck_int64(df.resp_header, 'rcode')
df.tc = px.pluck_int64(df.resp_header, 'tc')
df = df.groupby(['trace_role', 'port', 'remote_addr', 'req_body', 'resp_body', 'rcode', 'tc']).agg(
    n=('latency', px.count), least=('latency', px.min))
px.display(df, 'rows')
";

/// `client.py KIND ADDRESS PORT NAME`: asks for the address of a name by sockets of its own.
const CLIENT: &str = r#"
import socket, sys
kind, address, port, name = sys.argv[1:]
if kind == 'getaddrinfo':
    assert socket.getaddrinfo(name, 80), name
    sys.exit()
family = socket.AF_INET6 if ':' in address else socket.AF_INET
labels = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.'))
query = b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00' + labels + b'\x00\x00\x01\x00\x01'
udp = socket.socket(family, socket.SOCK_DGRAM)
if kind == 'connected':
    udp.connect((address, int(port)))
    udp.send(query)
    answer = udp.recv(4096)
else:
    udp.sendto(query, (address, int(port)))
    # By `recv` nobody asks who has answered.
    answer = udp.recv(4096) if kind == 'recv' else udp.recvfrom(4096)[0]
assert answer[:2] == query[:2] and answer[-4:] == b'\x0a\x01\x02\x03', answer
"#;

fn dnsmasq(dir: &Path, port: u16) -> Command {
    let mut command = Command::new("/usr/sbin/dnsmasq");
    command.args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--listen-address=127.0.0.1,::1", "--bind-interfaces", "-p", &port.to_string()]);
    command.arg(format!("--pid-file={}/pid", dir.display()));
    command.args(["--address=/test.example/10.1.2.3", "--cname=alias.other,host.other"]);
    command.args([
        "--host-record=host.other,10.1.2.4,fd00::4",
        "--mx-host=test.example,mail.test.example,10",
    ]);
    let long = "x".repeat(250);
    for _ in 0..4 {
        command.arg(format!("--txt-record=long.other,{long}"));
    }
    command
}

fn unbound(dir: &Path, port: u16, upstream: u16) -> Command {
    let at = dir.display();
    let text = format!(
        "server:\n  directory: \"{at}\"\n  pidfile: \"{at}/unbound.pid\"\n  username: \"\"\n  chroot: \"\"\n  \
         interface: 127.0.0.1@{port}\n  do-daemonize: no\n  use-syslog: no\n  num-threads: 1\n  \
         do-not-query-localhost: no\n  module-config: \"iterator\"\n\
         forward-zone:\n  name: \".\"\n  forward-addr: 127.0.0.1@{upstream}\n\
         remote-control:\n  control-enable: no\n"
    );
    std::fs::write(dir.join("unbound.conf"), text).unwrap();
    let mut command = Command::new("/usr/sbin/unbound");
    command.args(["-d", "-c"]).arg(dir.join("unbound.conf"));
    command
}

fn dig(arguments: &[&str]) {
    let mut command = Command::new("dig");
    command.args(["+tries=1", "+time=20", "+noedns", "+nocookie"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn is_missing() -> bool {
    let missing = |path: &&&str| !Path::new(path).try_exists().unwrap_or(false);
    let tools = ["/usr/sbin/dnsmasq", "/usr/sbin/unbound", "/usr/bin/dig"];
    let found = tools.iter().find(missing);
    if let Some(path) = found {
        weir_types::testing::skipped(format_args!("there is no {path}"));
    }
    found.is_some() || !can_capture()
}

#[derive(Debug)]
struct Seen {
    n: i64,
    answers: String,
    rcode: i64,
    truncated: i64,
}

/// (role, server's port, queries) → what was seen of them; only truncated and other answers to one
/// query can be two.
fn seen(weir: &Weir, script: &Path) -> BTreeMap<(i64, u16, String), Vec<Seen>> {
    let run = weir.run(&["run", script.to_str().unwrap(), "-o", "jsonl"], DEADLINE).unwrap();
    assert!(run.status.success(), "{run:?}");
    let mut seen: BTreeMap<(i64, u16, String), Vec<Seen>> = BTreeMap::new();
    for row in run.json_lines() {
        let int = |name: &str| row[name].as_i64().unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_string();
        assert!(int("least") >= 0, "{row}");
        let port = u16::try_from(int("port")).unwrap();
        seen.entry((int("trace_role"), port, text("req_body"))).or_default().push(Seen {
            n: int("n"),
            answers: text("resp_body"),
            rcode: int("rcode"),
            truncated: int("tc"),
        });
    }
    seen
}

fn script() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(file.path(), SCRIPT).unwrap();
    file
}

fn asked(name: &str, rtype: &str) -> String {
    format!("{{\"queries\":[{{\"name\":\"{name}\",\"type\":\"{rtype}\"}}]}}")
}

/// Once all of them are seen, exactly once each, with these answers; by role and port.
fn check(weir: &Weir, want: &[(u16, &str, &str, &str)]) {
    let file = script();
    let wants = || want.iter().flat_map(|one| [1, 2].map(|role| (role, one)));
    let complete = wait_until(DEADLINE, || {
        let seen = seen(weir, file.path());
        let is_there = |role, (port, name, rtype, _): &(u16, &str, &str, &str)| {
            seen.contains_key(&(role, *port, asked(name, rtype)))
        };
        wants().all(|(role, one)| is_there(role, one)).then_some(seen)
    });
    let seen = complete.unwrap_or_else(|| {
        let seen = seen(weir, file.path());
        panic!("{:?}: {}", seen.keys().collect::<Vec<_>>(), weir.stats().unwrap())
    });
    for (role, (port, name, rtype, answer)) in wants() {
        let found = &seen[&(role, *port, asked(name, rtype))];
        let [one] = found.as_slice() else { panic!("{role} {name}: {found:?}") };
        assert_eq!((one.n, one.truncated), (1, 0), "{role} {port} {name}");
        assert!(one.answers.contains(answer), "{name}: {}", one.answers);
    }
}

/// By `dig` over both transports and addresses, by way of the forwarder, and by sockets of all kinds.
fn ask_in_all_ways(dir: &Path, port: u16, front: u16) {
    let text = port.to_string();
    let ask = |how: &[&str]| dig(&[&["-p", &text], how].concat());
    ask(&["@127.0.0.1", "udp.test.example"]);
    ask(&["@127.0.0.1", "+tcp", "tcp.test.example"]);
    ask(&["@::1", "udp6.test.example"]);
    ask(&["@::1", "+tcp", "tcp6.test.example"]);
    ask(&["@127.0.0.1", "mx.test.example", "MX", "test.example", "MX"]);
    ask(&["@127.0.0.1", "alias.other"]);
    ask(&["@127.0.0.1", "+tcp", "+keepopen", "k1.test.example", "k2.test.example"]);
    ask(&["@127.0.0.1", "+edns=0", "edns.test.example", "AAAA"]);
    dig(&["-p", &front.to_string(), "@127.0.0.1", "forwarded.test.example"]);
    let program = dir.join("client.py");
    std::fs::write(&program, CLIENT).unwrap();
    for (kind, address) in ["connected", "recvfrom", "recv"]
        .iter()
        .flat_map(|kind| [(kind, "127.0.0.1"), (kind, "::1")])
    {
        let name = format!("{kind}{}.test.example", if address == "::1" { 6 } else { 4 });
        let mut client = Command::new("python3");
        client.arg(&program).args([kind, address, &text, &name]);
        let output = client.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// A server and a forwarder before it; `dig` and sockets of all kinds ask them: each exchange is a row
/// on both sides of each hop, with its answer, and nothing is lost. Catches datagrams that are passed
/// by, the wrong peer's answer, and messages that are split over calls.
#[test]
fn resolvers_and_their_clients() {
    if is_missing() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (port, front) = (free_port(), free_port());
    let server = Process::start(dnsmasq(dir.path(), port)).unwrap();
    let forwarder = Process::start(unbound(dir.path(), front, port)).unwrap();
    for port in [port, front] {
        assert!(wait_until(DEADLINE, || TcpStream::connect(("127.0.0.1", port)).ok()).is_some());
    }
    let traces = [port, front].map(|port| format!("port:{port}"));
    let weir = Weir::start(&["--trace", &traces[0], "--trace", &traces[1]]).unwrap();
    let mut live = weir.live("px/dns_data", &["--refresh", "200ms"]).unwrap();
    ask_in_all_ways(dir.path(), port, front);
    let text = port.to_string();
    let ask = |how: &[&str]| dig(&[&["-p", &text], how].concat());
    let address = "\"addr\":\"10.1.2.3\"";
    check(
        &weir,
        &[
            (port, "udp.test.example", "A", address),
            (port, "tcp.test.example", "A", address),
            (port, "udp6.test.example", "A", address),
            (port, "tcp6.test.example", "A", address),
            (port, "test.example", "MX", "\"data\":\"10 mail.test.example\""),
            (port, "alias.other", "A", "\"cname\":\"host.other\""),
            (port, "k1.test.example", "A", address),
            (port, "k2.test.example", "A", address),
            (port, "edns.test.example", "AAAA", "[]"),
            (front, "forwarded.test.example", "A", address),
            (port, "forwarded.test.example", "A", address),
            (port, "connected4.test.example", "A", address),
            (port, "connected6.test.example", "A", address),
            (port, "recvfrom4.test.example", "A", address),
            (port, "recvfrom6.test.example", "A", address),
            (port, "recv4.test.example", "A", address),
            (port, "recv6.test.example", "A", address),
        ],
    );
    // Too long for a datagram without EDNS: truncated, and asked again over TCP.
    ask(&["@127.0.0.1", "long.other", "TXT"]);
    // Refused: a row with its code.
    ask(&["@127.0.0.1", "nobody.knows"]);
    let file = script();
    let found = wait_until(DEADLINE, || {
        let mut seen = seen(&weir, file.path());
        let long = seen.remove(&(2, port, asked("long.other", "TXT")))?;
        let refused = seen.remove(&(2, port, asked("nobody.knows", "A")))?;
        (long.len() == 2).then_some((long, refused))
    });
    let (long, refused) = found.unwrap();
    let truncated: Vec<i64> = long.iter().map(|one| one.truncated).collect();
    assert!(truncated.contains(&0) && truncated.contains(&1), "{truncated:?}");
    assert!(long.iter().any(|one| one.truncated == 0 && one.answers.len() > 1_000));
    assert_eq!(refused[0].rcode, 5);
    // The view shows them while they come.
    live.wait_for(DEADLINE, |view| {
        let tables: Vec<&str> = view.tables().collect();
        tables.iter().any(|table| {
            view.rows(table).iter().any(|(row, _)| row.to_string().contains("nobody.knows"))
        })
    })
    .unwrap();
    let lost = weir.lost_of("dns_events", 1).unwrap();
    assert!(lost.values().all(|count| *count == 0), "{lost:?}");
    drop((server, forwarder));
}

/// The C library's resolver, which asks for both kinds of addresses by one `sendmmsg`: two rows a side.
/// In namespaces of its own, where the server can have port 53 and the system's list of servers.
#[test]
fn the_systems_resolver() {
    let can = Command::new("unshare").args(["-n", "-m", "ip", "link"]).output();
    if is_missing() || !can.is_ok_and(|output| output.status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    std::fs::write(dir.path().join("nsswitch.conf"), "hosts: dns\n").unwrap();
    std::fs::write(dir.path().join("client.py"), CLIENT).unwrap();
    let server = dnsmasq(dir.path(), 53);
    let mut command = Command::new("unshare");
    let setup = format!(
        "ip link set lo up && mount --bind {at}/resolv.conf /etc/resolv.conf && \
         mount --bind {at}/nsswitch.conf /etc/nsswitch.conf && exec \"$@\""
    );
    command.args(["-n", "-m", "sh", "-c", &setup, "sh"]);
    command.arg(server.get_program()).args(server.get_args());
    let weir = Weir::start(&["--trace", "port:53"]).unwrap();
    let inside = Process::start(command).unwrap();
    // Written when it listens; before that its process may still be in the host's namespaces.
    let ready = dir.path().join("pid");
    assert!(wait_until(DEADLINE, || ready.try_exists().unwrap().then_some(())).is_some());
    let pid = inside.pid().to_string();
    let answered = wait_until(DEADLINE, || {
        let mut client = Command::new("nsenter");
        client.args(["-t", &pid, "-n", "-m", "python3"]).arg(dir.path().join("client.py"));
        client.args(["getaddrinfo", "-", "53", "host.other"]);
        client.output().unwrap().status.success().then_some(())
    });
    assert!(answered.is_some(), "the resolver in the namespace answers");
    check(
        &weir,
        &[
            (53, "host.other", "A", "\"addr\":\"10.1.2.4\""),
            (53, "host.other", "AAAA", "\"addr\":\"fd00::4\""),
        ],
    );
}
