//! Against a real server, where there is one, and against one that answers as it is told.

use std::path::Path;

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{Receiver, Running, free_port, get, target, upserts};

const CONFIG: &str = "<yandex><logger><level>error</level></logger><http_port>HTTP</http_port>\
    <tcp_port>TCP</tcp_port><interserver_http_port>INTER</interserver_http_port>\
    <listen_host>127.0.0.1</listen_host><path>DIR/</path><tmp_path>DIR/tmp/</tmp_path>\
    <mark_cache_size>5368709</mark_cache_size><users_config>DIR/users.xml</users_config>\
    <default_profile>default</default_profile><default_database>default</default_database></yandex>";
const USERS: &str = "<yandex><profiles><default/></profiles><users><default><password></password>\
    <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>\
    </default></users><quotas><default/></quotas></yandex>";

struct Process {
    running: Running,
    port: u16,
    dir: tempfile::TempDir,
}

impl Process {
    fn spawn(dir: &Path, port: u16) -> Option<Running> {
        let config = CONFIG
            .replace("HTTP<", &format!("{port}<"))
            .replace("TCP<", &format!("{}<", free_port()))
            .replace("INTER<", &format!("{}<", free_port()))
            .replace("DIR", dir.to_str().unwrap());
        std::fs::write(dir.join("config.xml"), config).unwrap();
        std::fs::write(dir.join("users.xml"), USERS).unwrap();
        let args = [format!("--config-file={}/config.xml", dir.display())];
        let ping = format!("http://127.0.0.1:{port}/ping");
        Running::start(Path::new("clickhouse-server"), &args, || get(&ping).is_some())
    }

    fn start() -> Option<Process> {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let running = Process::spawn(dir.path(), port)?;
        Some(Process { running, port, dir })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn sink(&self, table: &str, is_upsert: bool) -> ClickHouseSink {
        let table = table.to_string();
        ClickHouseSink::new(ClickHouseConfig { target: target(&self.url()), table, is_upsert })
    }

    fn ask(&self, query: &str) -> String {
        get(&format!("{}?query={}", self.url(), escaped(query))).unwrap()
    }

    /// What the table shows, as a reader of it is told to ask.
    fn view(&self) -> Vec<(String, i64)> {
        let text = self.ask(
            "SELECT k, n FROM `out``side` FINAL WHERE NOT _deleted ORDER BY k"
                .replace("``", "\\`")
                .as_str(),
        );
        let row = |line: &str| {
            let (key, n) = line.split_once('\t').unwrap();
            (key.to_string(), n.parse().unwrap())
        };
        text.lines().map(row).collect()
    }
}

/// The table is what the view is: at each acknowledged tick while 1,000 keys all change in small batches, after the
/// server was killed, and after a reset. Catches an old version that wins over a newer one, and rows that outlive
/// a reset.
#[test]
fn the_table_is_the_view() {
    let Some(mut server) = Process::start() else {
        return weir_types::testing::skipped("there is no clickhouse-server");
    };
    let mut line = upserts(Box::new(server.sink("out`side", true)), 237);
    line.start(false).unwrap();
    let keys: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    for tick in 1..=3i64 {
        let mut rows: Vec<(&str, i64, i64)> = Vec::new();
        for key in &keys {
            if tick > 1 {
                rows.push((key, tick - 1, -1));
            }
            rows.push((key, tick, 1));
        }
        line.deliver(&delivery(tick as u64, &rows, true)).unwrap();
        if tick == 3 {
            server.running.kill();
            assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
            assert_eq!(line.health().acked_ms, Some(2));
            server.running = Process::spawn(server.dir.path(), server.port).unwrap();
        }
        line.flush().unwrap();
        assert_eq!(line.health().acked_ms, Some(tick as u64));
        let wanted: Vec<(String, i64)> = keys.iter().map(|key| (key.clone(), tick)).collect();
        assert_eq!(server.view(), wanted);
    }
    line.deliver(&delivery(4, &[("0000", 3, -1), ("0001", 3, -1), ("0001", 9, 1)], true)).unwrap();
    line.flush().unwrap();
    let have = server.view();
    assert_eq!((have.len(), have[0].clone()), (999, ("0001".to_string(), 9)));

    line.intake.start(0, &crate::pipe::tests::info(), false).unwrap();
    line.deliver(&delivery(5, &[("a\0b\"\\", 1, 1), ("it's; -- é", -2, 1)], true)).unwrap();
    line.flush().unwrap();
    let wanted = [("a\\0b\"\\\\".to_string(), 1), ("it\\'s; -- é".to_string(), -2)];
    assert_eq!(server.view(), wanted);
    assert_eq!((line.health().rows_refused, line.health().notes.cleaned), (0, 0));
}

/// Every type arrives as it is, in a log of elements in which what comes again is one row.
#[test]
fn logs_have_every_type() {
    use weir_types::{Column, DataType, PackedRow, SemanticType, Value};
    let Some(server) = Process::start() else {
        return weir_types::testing::skipped("there is no clickhouse-server");
    };
    let mut info = crate::pipe::tests::info();
    let types = [DataType::Boolean, DataType::Float64, DataType::Time64Ns, DataType::Uint128];
    for (at, data_type) in types.into_iter().enumerate() {
        info.relation.columns.push(Column::new(format!("c{at}"), data_type, SemanticType::None));
    }
    let row = |float: f64| {
        PackedRow::pack(&[
            Value::str("k"),
            Value::Int64(i64::MIN),
            Value::Boolean(true),
            Value::Float64(float),
            Value::Time64Ns(1_767_225_601_000_000_001),
            Value::Uint128(7),
        ])
    };
    for _ in 0..2 {
        // A second life that does not know that the first one's rows arrived.
        let mut line = Line::in_memory(Mode::Changelog, Box::new(server.sink("log", false)));
        line.open().unwrap();
        line.intake.start(0, &info, false).unwrap();
        let rows = [1e300, f64::NAN, f64::NEG_INFINITY].map(|it| (row(it), 1)).to_vec();
        let delivery = crate::pipe::tests::delivery_of(info.clone(), 1_000, rows, true);
        line.deliver(&delivery).unwrap();
        line.flush().unwrap();
    }
    let text = server.ask("SELECT _op, _seq, k, n, c0, c1, c2, c3 FROM log FINAL ORDER BY _seq");
    let rest = "1767225601000000001\t00000000-0000-0000-0000-000000000007";
    let wanted: String = ["1e300", "nan", "-inf"]
        .iter()
        .enumerate()
        .map(|(at, float)| format!("insert\t{}\tk\t{}\t1\t{float}\t{rest}\n", at + 1, i64::MIN))
        .collect();
    assert_eq!(text, wanted);
}

/// Status 200 with an exception behind it is no success, nor is any other answer to an order; what servers can do is
/// known by their version.
#[test]
fn an_exception_is_no_success() {
    let receiver = Receiver::start();
    let config =
        ClickHouseConfig { target: target(&receiver.url), table: "t".to_string(), is_upsert: true };
    let mut line = upserts(Box::new(ClickHouseSink::new(config)), 100);
    line.start(false).unwrap();
    line.deliver(&delivery(1_000, &[("a", 1, 1)], true)).unwrap();
    let columns = br#"{"data":[{"name":"k"},{"name":"_key"}]}"#;
    let first: [(u16, &[u8]); 5] = [
        (200, b"26.9.1.1\n"),
        (200, b""),
        (200, columns),
        (200, b""),
        (200, b"Code: 252. DB::Exception: Too many"),
    ];
    for (status, said) in first {
        receiver.will_answer(status, said);
    }
    assert!(matches!(line.flush(), Err(SinkError::Retry(text)) if text.contains("Too many")));
    assert_eq!(line.health().rows_sent, 0);
    assert!(receiver.requests()[3].path.contains("ADD%20COLUMN%20%60n%60%20Int64"));
    // A table that cannot be made is no row's fault.
    for (status, said) in
        [(200, b"26.9".as_slice()), (400, b"Code: 62. DB::Exception: Syntax error")]
    {
        receiver.will_answer(status, said);
    }
    assert!(matches!(line.flush(), Err(SinkError::Retry(text)) if text.contains("Syntax error")));
    assert_eq!(line.health().rows_refused, 0);
    for said in [b"26.9".as_slice(), b"", columns, b"", b""] {
        receiver.will_answer(200, said);
    }
    line.flush().unwrap();
    assert_eq!((line.health().rows_sent, line.health().rows_refused), (1, 0));
    let create = &receiver.requests()[1].path;
    assert!(create.contains("ReplacingMergeTree%28%60_seq%60%2C%20%60_deleted%60%29"), "{create}");
    assert_eq!(Server::of("18.16.1"), Server::of("0"));
    assert_ne!(Server::of("22.8.1"), Server::of("23.3"));
}
