//! `/proc` as rows, over made-up processes.

use weir_sources::proc::ProcSource;
use weir_types::Upid;

use crate::fixture::{Machine, Proc};
use crate::rows_of::Rows;

const SECOND_NS: i64 = 1_000_000_000;

/// Each live user process gives a row a second with the kernel's numbers in ns and bytes; kernel
/// threads and processes that are gone give none.
#[test]
fn process_statistics() {
    let machine = Machine::new();
    machine.run(&Proc { pid: 40, start_ticks: 4_000, ..Proc::default() });
    machine.run(&Proc { pid: 41, flags: 0x0020_8040, ..Proc::default() });
    machine.write("proc/42/stat", "42 (gone");
    let mut source = ProcSource::with_root(7, &machine.proc()).unwrap();
    let batches = source.poll(10 * SECOND_NS);
    let rows = Rows::of("process_stats", &batches);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows.upid(1), Upid::new(7, 40, 4_000));
    let columns = [
        ("time_", 10 * SECOND_NS),
        ("major_faults", 22),
        ("minor_faults", 11),
        ("cpu_utime_ns", 330_000_000),
        ("cpu_ktime_ns", 440_000_000),
        ("num_threads", 3),
        ("vsize_bytes", 4_096_000),
        ("rss_bytes", 50 * 4096),
        ("rchar_bytes", 1),
        ("wchar_bytes", 2),
        ("read_bytes", 3),
        ("write_bytes", 4),
    ];
    for (column, want) in columns {
        assert_eq!(rows.int(1, column), want, "{column}");
    }
}

/// Rows come once a second, on time even if polls are not.
#[test]
fn once_a_second() {
    let machine = Machine::new();
    let mut source = ProcSource::with_root(7, &machine.proc()).unwrap();
    let mut times = Vec::new();
    for tenth in 0..31 {
        let now_ns = 10 * SECOND_NS + tenth * SECOND_NS / 10 + tenth * 1_000_000 % 7_000_000;
        if !source.poll(now_ns).is_empty() {
            times.push(tenth);
        }
    }
    assert_eq!(times, [0, 10, 20, 30]);
    machine.exit(1);
    machine.exit(900);
    assert!(source.poll(100 * SECOND_NS).is_empty());
}

/// One row for each network namespace: the machine's own without a pod, another with the pod of its
/// oldest process; loopback and the host's ends of virtual pairs do not count.
#[test]
fn network_statistics() {
    let machine = Machine::new();
    for (pid, start_ticks) in [(50, 9_000), (51, 8_000)] {
        machine.run(&Proc { pid, start_ticks, netns: 99, ..Proc::default() });
    }
    let mut source = ProcSource::with_root(7, &machine.proc()).unwrap();
    let batches = source.poll(10 * SECOND_NS);
    let rows = Rows::of("network_stats", &batches);
    let mut pods = rows.texts("pod_id");
    pods.sort();
    assert_eq!(pods, ["", "local-51-8000"]);
    let columns = ["rx_bytes", "rx_packets", "rx_errors", "rx_drops"];
    assert_eq!(columns.map(|column| rows.int(0, column)), [101, 11, 2, 3]);
    let columns = ["tx_bytes", "tx_packets", "tx_errors", "tx_drops"];
    assert_eq!(columns.map(|column| rows.int(0, column)), [201, 21, 4, 5]);
}

/// More network namespaces than have room: those that have keep their rows, with all of their processes, and
/// each of the others is counted in each pass; when some go, the others get theirs. Catches namespaces
/// whose counters vanish without a word.
#[test]
fn namespaces_beyond_the_limit_are_counted() {
    let machine = Machine::new();
    for pid in 50..56_u32 {
        machine.run(&Proc { pid, netns: 100 + u64::from(pid) / 2, ..Proc::default() });
    }
    let source = ProcSource::with_root(7, &machine.proc()).unwrap();
    let mut source = source.with_namespaces_max(2);
    let mut pass = |second: i64| {
        let batches = source.poll(second * SECOND_NS);
        let rows = Rows::of("network_stats", &batches).len();
        (rows, Rows::of("process_stats", &batches).len(), source.counters().namespaces_left_out)
    };
    // The machine's own, and three others of two processes each.
    assert_eq!(pass(10), (2, 8, 2));
    assert_eq!(pass(11), (2, 8, 4));
    for pid in [50, 51, 52, 53] {
        machine.exit(pid);
    }
    assert_eq!(pass(12), (2, 4, 4));
}

/// A directory that is not there is an error with its path.
#[test]
fn no_proc_is_an_error() {
    let error = ProcSource::with_root(7, std::path::Path::new("/nonexistent/proc")).err().unwrap();
    assert_eq!(error.to_string(), "could not read /nonexistent/proc");
}
