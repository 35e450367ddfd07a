//! The command line's forms and hints: `-o` everywhere, names that were nearly right, warnings, and
//! streams that nobody reads.

use std::process::{Command, Stdio};
use std::time::Duration;

use weir_dataflow_tests::harness::weir::{Weir, binary, output_of, run};

const DEADLINE: Duration = Duration::from_secs(60);

/// Every command that lists something says it in every form, and CSV is CSV: the same number of
/// fields in each record. What has no such form is wrong usage.
#[test]
fn output_forms_are_honoured() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    for command in [
        &["stats"][..],
        &["nodes"],
        &["queries"],
        &["scripts", "list"],
        &["schema"],
        &["schema", "http_events"],
        &["funcs"],
        &["funcs", "px.quantiles"],
        &["doctor"],
    ] {
        let said = |form: &str| {
            let args = [command, &["-o", form]].concat();
            let output = weir.run(&args, DEADLINE).unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {output:?}");
            output.stdout
        };
        for form in ["json", "jsonl"] {
            let lines = said(form);
            for line in &lines {
                assert!(
                    serde_json::from_str::<serde_json::Value>(line).is_ok(),
                    "{command:?}: {line}"
                );
            }
        }
        let csv = said("csv");
        let fields = |line: &str| {
            line.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>()
        };
        let head = fields(&csv[0]);
        assert!(head > 0 && csv.iter().all(|line| fields(line) == head), "{command:?}: {csv:?}");
        assert!(!said("table")[0].starts_with('{'), "{command:?}");
    }
    for wrong in
        [&["scripts", "show", "px/http_data", "-o", "csv"][..], &["live", "px/pod", "-o", "csv"]]
    {
        assert_eq!(run(wrong, DEADLINE).unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

/// A rows folder with two tables, one of which holds what a terminal would obey.
fn rows() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "http_events.jsonl",
        "{\"time_\":\"2026-01-01T00:00:01Z\",\"req_path\":\"/a\\u001b[2J\\u202eb\\u009b,c\"}\n",
    );
    write("conn_stats.jsonl", "{\"time_\":\"2026-01-01T00:00:01Z\",\"remote_port\":7}\n");
    write(
        "two.pxl",
        "import px\npx.display(px.DataFrame('http_events')[['req_path']], 'paths')\n\
         px.display(px.DataFrame('conn_stats')[['remote_port', 'remote_addr']], 'ports')\n",
    );
    dir
}

/// CSV of several tables has one header and names the table of each record; a table for people holds
/// nothing that a terminal obeys.
#[test]
fn answers_of_several_tables() {
    let dir = rows();
    let (script, folder) = (dir.path().join("two.pxl"), dir.path().to_str().unwrap().to_string());
    let said = |form: &str| {
        let args = ["run", script.to_str().unwrap(), "--rows", &folder, "-o", form];
        let output = run(&args, DEADLINE).unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let csv = said("csv");
    assert_eq!(csv[0], "_tableName_,req_path,remote_port,remote_addr");
    assert_eq!(csv[1], "paths,\"/a\u{1b}[2J\u{202e}b\u{9b},c\",,", "data is as it is");
    assert_eq!(csv[2], "ports,,7,");
    assert_eq!(csv.len(), 3);
    let table = said("table").concat();
    assert!(table.contains("/a [2J\u{FFFD}b ,c"), "{table:?}");
    assert!(!table.chars().any(|c| c.is_control() || c == '\u{202e}'), "{table:?}");
}

/// Names that were nearly right are answered with the right one, by every command.
#[test]
fn near_names_are_suggested() {
    for (args, part) in [
        (&["explain", "http_data"][..], "px/http_data"),
        (&["scripts", "show", "px/htp_data"], "px/http_data"),
        (&["schema", "http_event"], "http_events"),
        (&["funcs", "px.quantile"], "quantiles"),
        (&["funcs", "quantils"], "quantiles"),
    ] {
        let output = run(args, DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = output.stderr.join("\n");
        assert!(said.contains(&format!("did you mean `{part}`?")), "{args:?}: {said}");
    }
    assert!(run(&["funcs", "px.quantiles"], DEADLINE).unwrap().status.success());
}

/// A server is found by an address without a scheme; what it finds wrong has a place; what is doubtful
/// is said beside the answer.
#[test]
fn servers_findings_are_told() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let ask = |args: &[&str]| {
        let mut command = Command::new(binary().unwrap());
        command.args(args).env("WEIR_SERVER", weir.addr.to_string()).env("WEIR_TOKEN", &weir.token);
        output_of(command, DEADLINE).unwrap()
    };
    let missing = ask(&["run", "px/pod"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let said = missing.stderr.join("\n");
    assert!(
        said.contains("--> px/pod") && said.contains("--pod") && !said.contains(":0"),
        "{said}"
    );
    let future = ["px/http_data", "--", "--start_time", "5m"];
    for command in [&["run"][..], &["live", "--ticks", "1", "-o", "jsonl"]] {
        let output = ask(&[command, &future].concat());
        assert!(output.status.success(), "{output:?}");
        let said = output.stderr.join("\n");
        assert!(said.contains("start_in_future") && said.contains("'-5m'"), "{said}");
    }
    let unknown = ask(&["run", "px/htp_data"]);
    assert!(unknown.stderr.join("\n").contains("did you mean `px/http_data`?"), "{unknown:?}");
}

/// Nobody reading is never a panic: every command, with stdout or stderr closed under it.
#[test]
fn closed_streams_are_no_panic() {
    let dir = rows();
    let script = dir.path().join("two.pxl");
    let (script, folder) = (script.to_str().unwrap(), dir.path().to_str().unwrap());
    let missing = dir.path().join("missing");
    for args in [
        &["run", script, "--rows", folder, "-o", "csv"][..],
        &["run", script, "--rows", folder, "-o", "table"],
        &["live", script, "--rows", folder, "-o", "jsonl"],
        &["check", script],
        &["check", missing.to_str().unwrap()],
        &["scripts", "list"],
        &["funcs"],
        &["explain", script],
        &["doctor"],
        &["run", "px/pod", "--server", "127.0.0.1:1"],
        &["frobnicate"],
        &["--help"],
    ] {
        for closed in [1, 2] {
            // The reader's end is gone before the command starts.
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = Command::new(binary().unwrap());
            command.args(args).stdin(Stdio::null());
            match closed {
                1 => command.stdout(writer).stderr(Stdio::null()),
                _ => command.stderr(writer).stdout(Stdio::null()),
            };
            let status = command.status().unwrap();
            assert!(matches!(status.code(), Some(0..=3)), "{args:?} {closed}: {status}");
        }
    }
}
