//! Against a real store, where there is one (`~/.cache/weir/versitygw/versitygw`, whose buckets are folders), behind a
//! proxy that spoils what passes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::RowAccessor;

use super::*;
use crate::buffer::disk::DiskBuffer;
use crate::buffer::{Buffer, WhenFull};
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{Running, cache, free_port, target};

/// What becomes of a request to keep an object.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Busy,
    /// Half of it arrives, then the connection is gone.
    Cut,
    /// The other half of it arrives changed.
    Changed,
    /// It arrives, and nobody hears of it.
    Unheard,
}

type Faults = Arc<Mutex<VecDeque<Fault>>>;

/// Head, as it was sent, and body.
fn message(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().ok()?;
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// One request, on a connection of its own. `None`: it ends here.
fn pass(client: TcpStream, port: u16, faults: &Faults) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (head, mut body) = message(&mut reader)?;
    let fault = match head.starts_with("PUT ") {
        true => faults.lock().unwrap().pop_front(),
        false => None,
    };
    let mut client = client;
    if matches!(fault, Some(Fault::Busy)) {
        let said = "HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return client.write_all(said.as_bytes()).ok();
    }
    let half = body.len() / 2;
    if matches!(fault, Some(Fault::Changed)) {
        body[half] ^= 1;
    }
    let mut store = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    store.write_all(head.as_bytes()).ok()?;
    if matches!(fault, Some(Fault::Cut)) {
        return store.write_all(&body[..half]).ok();
    }
    store.write_all(&body).ok()?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer).ok()?;
    if matches!(fault, Some(Fault::Unheard)) {
        return client.shutdown(Shutdown::Both).ok();
    }
    client.write_all(&answer).ok()
}

/// A store, and the way to it.
pub(super) struct Server {
    running: Running,
    args: Vec<String>,
    port: u16,
    proxy: u16,
    faults: Faults,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Option<Server> {
        Server::over(tempfile::tempdir().unwrap())
    }

    fn over(dir: tempfile::TempDir) -> Option<Server> {
        Server::of_key(dir, ["the-id", "the/secret+key"])
    }

    /// With the one key that it knows.
    pub(super) fn of_key(dir: tempfile::TempDir, [id, secret]: [&str; 2]) -> Option<Server> {
        let port = free_port();
        std::fs::create_dir_all(dir.path().join("kept")).unwrap();
        let address = format!("127.0.0.1:{port}");
        let args = ["--access", id, "--secret", secret, "--port", &address];
        let args = args.iter().copied().chain(["--quiet", "posix", dir.path().to_str().unwrap()]);
        let args: Vec<String> = args.map(str::to_string).collect();
        let running = spawn(&args, port)?;
        let faults = Faults::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap().port();
        let of_proxy = Arc::clone(&faults);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, faults) = (client.unwrap(), Arc::clone(&of_proxy));
                std::thread::spawn(move || pass(client, port, &faults));
            }
        });
        Some(Server { running, args, port, proxy, faults, dir })
    }

    fn again(&mut self) {
        self.running.kill();
        self.running = spawn(&self.args, self.port).unwrap();
    }

    fn will(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub(super) fn config(&self, key: &str) -> S3Config {
        let [id, secret] = ["the-id", "the/secret+key"].map(str::to_string);
        let mut target = target(&format!("http://127.0.0.1:{}", self.proxy));
        target.secrets.push(secret.clone());
        S3Config {
            target,
            region: "us-east-1".to_string(),
            bucket: "kept".to_string(),
            key: key.to_string(),
            who: Who::Key(Access { id, secret, token: None }),
        }
    }

    fn sink(&self, key: &str, form: Form) -> Box<S3Sink> {
        Box::new(S3Sink::new(self.config(key), form).unwrap())
    }

    /// Objects below a folder of the bucket, by name.
    pub(super) fn objects(&self, folder: &str) -> BTreeMap<String, PathBuf> {
        let Ok(all) = std::fs::read_dir(self.dir.path().join("kept").join(folder)) else {
            return BTreeMap::new();
        };
        // The store keeps what it works on in a folder there.
        let all = all.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
        all.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
    }

    /// Files that are no objects: what is being uploaded, or was and was left.
    fn half(&self) -> Vec<PathBuf> {
        let (mut found, mut left) = (Vec::new(), vec![self.dir.path().to_path_buf()]);
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => left.push(path),
                    false => found.push(path),
                }
            }
        }
        found.retain(|path| path.to_str().unwrap().contains(".sgwtmp"));
        found
    }
}

fn spawn(args: &[String], port: u16) -> Option<Running> {
    let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    Running::start(&cache("versitygw/versitygw"), args, is_ready)
}

pub(super) fn missing() {
    weir_types::testing::skipped("there is no ~/.cache/weir/versitygw/versitygw");
}

fn name(first: u64, last: u64) -> String {
    format!("t-{first:020}-{last:020}.jsonl")
}

/// `seq` and `op` of all that an object holds. Each line of it is one.
pub(super) fn held(path: &Path) -> Vec<(u64, String)> {
    if path.extension().is_some_and(|extension| extension == "parquet") {
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
        return rows
            .map(|row| {
                let seq = u64::try_from(row.get_long(1).unwrap()).unwrap();
                (seq, row.get_string(0).unwrap().clone())
            })
            .collect();
    }
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{}", path.display());
    let is_csv = path.extension().is_some_and(|extension| extension == "csv");
    let line = |line: &str| match is_csv {
        true => {
            let fields: Vec<&str> = line.split(',').collect();
            (fields[1].parse().unwrap(), fields[0].to_string())
        }
        false => {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            (json["seq"].as_u64().unwrap(), json["op"].as_str().unwrap().to_string())
        }
    };
    text.lines().skip(usize::from(is_csv)).map(line).collect()
}

fn line(sink: Box<S3Sink>, dir: &Path) -> Line {
    let buffer = Buffer::Disk(Box::new(DiskBuffer::open(dir, "t", 64 << 20).unwrap()));
    Line::with(buffer, WhenFull::Block, Mode::Changelog, sink, 100)
}

/// Of each form: requests are turned away, cut, changed and not heard of, the store is killed, and so are we, between
/// batches and in the middle of one. Every object that is seen can be read, nothing is missing, what is there twice has
/// the same number, and no half of an upload is left.
#[test]
fn whatever_goes_wrong_nothing_is_missing() {
    let Some(mut server) = Server::start() else { return missing() };
    for (file, form) in [
        ("t.jsonl", Form::Lines(Codec::Json)),
        ("t.csv", Form::Lines(Codec::Csv)),
        ("t.parquet", Form::Parquet),
    ] {
        let key = format!("{file}.d/{file}");
        let data = tempfile::tempdir().unwrap();
        let mut last = 0;
        for life in 0..4_i64 {
            let mut line = line(server.sink(&key, form), data.path());
            line.open().unwrap();
            line.intake.start(0, &crate::pipe::tests::info(), false).unwrap();
            for tick in 1..=3_i64 {
                let at = life * 10 + tick;
                let keys: Vec<String> = (0..250).map(|n| format!("{at}/{n}")).collect();
                let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), at, 1)).collect();
                server.will(&[
                    Fault::Busy,
                    Fault::Cut,
                    Fault::Changed,
                    Fault::Unheard,
                    Fault::Busy,
                ]);
                line.deliver(&delivery(at as u64, &rows, true)).unwrap();
                if (life, tick) == (1, 2) {
                    server.again();
                }
                // Killed with all before it, and with a part of this, and once after what nobody heard of.
                if (life, tick) == (2, 3) {
                    server.faults.lock().unwrap().clear();
                    server.will(&[Fault::Unheard]);
                    line.flush().unwrap_err();
                    break;
                }
                let mut failed = 0;
                while line.flush().is_err() {
                    failed += 1;
                    assert!(failed < 20, "it does not come to an end");
                }
                assert!(failed >= 2, "nothing went wrong");
                server.faults.lock().unwrap().clear();
            }
            last = last.max(line.intake.shared().health().rows_sent);
        }
        let mut seen: BTreeMap<u64, String> = BTreeMap::new();
        for path in server.objects(&format!("{file}.d")).values() {
            for (seq, op) in held(path) {
                let before = seen.insert(seq, op.clone());
                assert!(before.is_none_or(|before| before == op), "{seq}");
            }
        }
        let numbers: Vec<u64> = seen.keys().copied().collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>(), "{file}");
        // Each life begins anew: all but the first with a reset.
        let rows = seen.values().filter(|op| *op == "insert").count();
        assert_eq!((rows, seen.len() - rows), (12 * 250, 3), "{file}");
        assert!(last > 0);
        assert_eq!(server.half(), [] as [PathBuf; 0]);
    }
}

/// Which number comes next is found in the names, among however many objects and those of others, and a new writer
/// goes on behind it; one that is there already is not written again.
#[test]
fn the_last_number_is_in_the_names() {
    let Some(server) = Server::start() else { return missing() };
    let put = |name: &str| {
        let mut sink = server.sink("d/t.jsonl", Form::Lines(Codec::Json));
        sink.store.put(&format!("d/{name}"), "text/plain", b"{}\n").unwrap();
    };
    let found = || server.sink("d/t.jsonl", Form::Lines(Codec::Json)).open().unwrap().seq;
    assert_eq!(found(), 0);
    put("t-1.jsonl");
    put("t-zzz.jsonl");
    put(&name(3, 9).replace("jsonl", "parquet"));
    assert_eq!(found(), 0);
    put(&name(1, 1));
    assert_eq!(found(), 1);
    for first in 0..40 {
        put(&name(2 + 3 * first, 4 + 3 * first));
    }
    assert_eq!(found(), 121);
    put(&name(1 << 40, (1 << 40) + 7));
    assert_eq!(found(), (1 << 40) + 7);
}

/// Who is not let in, and who asks for a bucket that is not there, is told so, keeps what waits, and says nothing of
/// the secret.
#[test]
fn who_is_not_let_in_keeps_all() {
    let Some(server) = Server::start() else { return missing() };
    let with = |change: fn(&mut S3Config)| {
        let mut config = server.config("t.jsonl");
        change(&mut config);
        S3Sink::new(config, Form::Lines(Codec::Json)).unwrap()
    };
    assert!(with(|_| {}).check().is_ok());
    let changes: [fn(&mut S3Config); 3] = [
        |config| config.who = Who::Nobody,
        |config| {
            let Who::Key(access) = &mut config.who else { panic!("it has a key") };
            access.secret = "other".to_string();
        },
        |config| config.bucket = "nowhere".to_string(),
    ];
    for change in changes {
        let mut sink = with(change);
        let SinkError::Retry(text) = sink.check().unwrap_err() else { panic!("it is let in") };
        assert!(!text.contains("the/secret+key"), "{text}");
        assert!(matches!(sink.open(), Err(SinkError::Retry(_))));
    }
}

/// A store whose disk is full is waited for: what is seen can be read, and once there is room nothing is missing.
#[test]
fn a_full_store_is_waited_for() {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        return weir_types::testing::skipped("mounting a small file system needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=512k", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(dir.path()).status().unwrap().success());
    let path = dir.path().to_path_buf();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill(dir)));
    // Lazily: on failure the server may still be there.
    assert!(Command::new("umount").arg("-l").arg(&path).status().unwrap().success());
    drop(std::fs::remove_dir(&path));
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

fn fill(dir: tempfile::TempDir) {
    let Some(server) = Server::over(dir) else { return missing() };
    let ballast = server.dir.path().join("ballast");
    std::fs::write(&ballast, vec![0; 384 << 10]).unwrap();
    let mut line =
        Line::in_memory(Mode::Changelog, server.sink("t.jsonl", Form::Lines(Codec::Json)));
    line.start(false).unwrap();
    let keys: Vec<String> = (0..300).map(|n| format!("{n:08}")).collect();
    let mut full = 0;
    for tick in 1..=5 {
        let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), tick, 1)).collect();
        line.deliver(&delivery(tick as u64, &rows, true)).unwrap();
        while line.flush().is_err() {
            full += 1;
            assert!(full < 10, "it does not come to an end");
            for path in server.objects("").values() {
                assert_eq!(held(path).len(), 300);
            }
            drop(std::fs::remove_file(&ballast));
        }
    }
    assert!(full > 0, "the disk is never full");
    let objects = server.objects("");
    let seqs = objects.values().flat_map(|path| held(path)).map(|(seq, _)| seq);
    assert_eq!(seqs.collect::<Vec<u64>>(), (1..=1_500).collect::<Vec<u64>>());
    assert_eq!(server.half(), [] as [PathBuf; 0]);
}

/// What is no place in a store is refused when it is read.
#[test]
fn places_are_judged() {
    assert_eq!(parts_of("s3://a.b-c/d/e.jsonl").unwrap(), ("a.b-c", "d/e.jsonl"));
    let long = format!("s3://abc/{}", "x".repeat(1_000));
    for wrong in
        ["s3://abc", "s3://ab/x", "s3:///x", "s3://abc/", "s3://abc//x", "s3://a c/x", &long]
    {
        assert!(parts_of(wrong).is_err(), "{wrong}");
    }
}
