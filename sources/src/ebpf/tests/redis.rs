//! A real Redis, its clients and what they log: through the tracer, to rows.

use std::io::BufReader;
use std::process::{Child, Command, Stdio};

use weir_types::random::SplitMix;
use weir_types::{Clock, WallClock};

use super::ends::Traced;
use super::*;

const DEADLINE_NS: i64 = 60_000_000_000;

/// A server on loopback, and the capture that follows its port.
struct Server {
    child: Child,
    port: u16,
    traced: Traced,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Option<Server> {
        for tool in ["redis-server", "redis-benchmark"] {
            if std::fs::metadata(format!("/usr/bin/{tool}")).is_err() {
                weir_types::testing::skipped(format!("{tool} is not installed"));
                return None;
            }
        }
        let port = listen().local_addr().unwrap().port();
        let traced = Traced::start(&follow_port(port))?;
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("/usr/bin/redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Server { child, port, traced, _dir: dir })
    }

    fn connect(&self) -> Client {
        let begun = WallClock.now_unix_ns();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(WallClock.now_unix_ns() - begun < DEADLINE_NS, "{error}"),
            }
        };
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Command, words and reply of each row of that role, in their order.
    fn rows(&self, role: i64) -> Vec<(String, String, String)> {
        let text = |column| self.traced.texts_of("redis_events", column);
        let words = text("req_cmd").into_iter().zip(text("req_args")).zip(text("resp"));
        let roles = self.traced.ints_of("redis_events", "trace_role");
        let rows = words.zip(roles).filter(|(_, of)| *of == role);
        rows.map(|(((cmd, args), resp), _)| (cmd, args, resp)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

fn json(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{}\"", text.replace('\r', "\\r"))
}

impl Client {
    fn send(&mut self, commands: &[Vec<String>]) {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).bytes());
            words
                .iter()
                .for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
        }
        self.stream.write_all(&bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.reader, &mut line).unwrap();
        line.strip_suffix("\r\n").unwrap().to_string()
    }

    /// A reply as a row shows it, and whether it is a list.
    fn reply(&mut self) -> (String, bool) {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" | ":" => (rest.to_string(), false),
            "-" => (line, false),
            _ if rest == "-1" => ("<NULL>".to_string(), false),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                (String::from_utf8(bytes).unwrap(), false)
            }
            "*" => {
                let element = |_| match self.reply() {
                    (list, true) => list,
                    (text, false) => json(&text),
                };
                let elements: Vec<String> =
                    (0..rest.parse::<usize>().unwrap()).map(element).collect();
                (format!("[{}]", elements.join(",")), true)
            }
            _ => panic!("{line}"),
        }
    }
}

/// Any of many operations on a few keys: reads, writes, lists, errors, nothing there, nested replies.
fn operation(random: &mut SplitMix) -> Vec<String> {
    let key = format!("k{}", random.next_u64() % 20);
    let value = format!("v{} \"quoted\"\r\n\\", random.next_u64());
    let words: &[&str] = match random.next_u64() % 16 {
        0..3 => &["SET", &key, &value],
        3..6 => &["get", &key],
        6 => &["INCR", &key],
        7 => &["DEL", &key],
        8 => &["RPUSH", &format!("list{key}"), &value, "b"],
        9 => &["LRANGE", &format!("list{key}"), "0", "3"],
        10 => &["HSET", &format!("hash{key}"), "field", &value],
        11 => &["HGETALL", &format!("hash{key}")],
        12 => &["MGET", &key, "nothing", &format!("list{key}")],
        13 => &["EVAL", "return {1,{'a',{}},ARGV[1]}", "0", &key],
        14 => &["NOSUCHCOMMAND", &key],
        _ => &["ECHO", &value],
    };
    words.iter().map(|word| word.to_string()).collect()
}

/// A thousand operations, alone and in pipelines: at both ends each row is what the client sent and got,
/// in order, as long as the client saw it take.
#[test]
fn a_thousand_operations() {
    let Some(mut server) = Server::start() else { return };
    let mut client = server.connect();
    let mut random = SplitMix(7);
    let (mut log, mut took) = (Vec::new(), Vec::new());
    while log.len() < 1_000 {
        let count =
            if random.next_u64().is_multiple_of(2) { 1 } else { 1 + random.next_u64() % 20 };
        let commands: Vec<Vec<String>> = (0..count).map(|_| operation(&mut random)).collect();
        let begun = WallClock.now_unix_ns();
        client.send(&commands);
        for words in commands {
            let (reply, _) = client.reply();
            let args: Vec<String> = words[1..].iter().map(|word| json(word)).collect();
            log.push((words[0].to_uppercase(), format!("[{}]", args.join(",")), reply));
            took.push(WallClock.now_unix_ns() - begun);
        }
        server.traced.take();
    }
    server.traced.settle();
    for role in [1, 2] {
        let rows = server.rows(role);
        for (row, logged) in rows.iter().zip(&log) {
            assert_eq!(row, logged, "role {role}");
        }
        assert_eq!(rows.len(), log.len(), "role {role}");
    }
    let roles = server.traced.ints_of("redis_events", "trace_role");
    let latencies = server.traced.ints_of("redis_events", "latency");
    let of_client = latencies.iter().zip(&roles).filter(|(_, role)| **role == 1);
    for ((latency, _), took) in of_client.zip(&took) {
        assert!((0..=*took).contains(latency), "{latency} of {took}");
    }
    assert_eq!(server.traced.lost_in_all(), 0);
}

/// A value of 3 MB, written and read: rows that show its beginning, and what comes next is right.
#[test]
fn a_large_value() {
    let Some(mut server) = Server::start() else { return };
    let mut client = server.connect();
    let value = "x".repeat(3_000_000);
    let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    for command in [vec!["SET".into(), "k".into(), value.clone()], words("GET k"), words("GET j")] {
        client.send(&[command]);
        client.reply();
        server.traced.take();
    }
    server.traced.settle();
    for role in [1, 2] {
        let rows = server.rows(role);
        assert_eq!(rows.len(), 3, "role {role}");
        assert_eq!((rows[0].0.as_str(), rows[0].2.as_str()), ("SET", "OK"));
        assert!(rows[0].1.starts_with("[\"k\",\"xxxx") && rows[0].1.ends_with("x\"]"));
        assert_eq!(rows[1].2, "x".repeat(512));
        assert_eq!(rows[2], ("GET".to_string(), "[\"j\"]".to_string(), "<NULL>".to_string()));
    }
}

/// What redis-benchmark sends in pipelines of 16 over four connections is there, command by command.
#[test]
fn pipelines_of_a_benchmark() {
    let Some(mut server) = Server::start() else { return };
    drop(server.connect());
    let mut benchmark = Command::new("/usr/bin/redis-benchmark")
        .args(["-p", &server.port.to_string(), "-n", "20000", "-P", "16", "-c", "4"])
        .args(["-t", "set,get", "-r", "1000", "-q"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while benchmark.try_wait().unwrap().is_none() {
        server.traced.take();
    }
    server.traced.settle();
    assert_eq!(server.traced.lost_in_all(), 0);
    for role in [1, 2] {
        let rows = server.rows(role);
        for command in ["SET", "GET"] {
            let of_it = rows.iter().filter(|row| row.0 == command);
            assert_eq!(of_it.count(), 20_000, "{command} of role {role}");
        }
        let is_right = |row: &&(String, String, String)| match row.0.as_str() {
            "SET" => row.2 == "OK" && row.1.starts_with("[\"key:"),
            "GET" => row.2 == "VXK" || row.2 == "<NULL>",
            _ => true,
        };
        assert_eq!(rows.iter().find(|row| !is_right(row)), None);
    }
}
