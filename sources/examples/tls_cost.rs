//! What watching TLS costs: capture of a running server's port for some seconds, or of nothing.
//!
//! `tls_cost PORT SECONDS [off]`, as root, while something asks the server at a fixed rate. Prints the CPU time of
//! this process, the programs' own time and how many rows there were. The cost in the traced programs is the
//! difference of their CPU time with and without it (`/proc/PID/schedstat`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its answer")]

use std::collections::BTreeSet;
use std::time::Duration;

use weir_sources::ebpf::{EbpfConfig, EbpfSource, Filters, count_run_times};
use weir_sources::socket::{SocketTracer, SocketTracerConfig};
use weir_types::{Clock, WallClock};

/// CPU time of this process, from its first field, in ns.
fn own_cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_task = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(|task| of_task(task.path())).sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |idx: usize| arguments.get(idx).and_then(|text| text.parse::<u64>().ok());
    let (Some(port), Some(seconds)) = (number(0), number(1)) else {
        eprintln!("tls_cost PORT SECONDS [off]");
        return;
    };
    let ports = u16::try_from(port).map(|port| BTreeSet::from([port])).unwrap_or_default();
    let filters = Filters { ports, ..Filters::default() };
    let tls = arguments.get(2).is_none();
    let mut source = match EbpfSource::start(&EbpfConfig { filters, tls, ..EbpfConfig::default() })
    {
        Ok(source) => source,
        Err(error) => {
            eprintln!("{}", weir_types::text::with_causes(&error));
            return;
        }
    };
    let counting = count_run_times();
    let mut tracer = SocketTracer::new(SocketTracerConfig::default());
    let (began_ns, cpu_ns) = (WallClock.monotonic_ns(), own_cpu_ns());
    let mut rows = 0;
    while WallClock.monotonic_ns() - began_ns < seconds * 1_000_000_000 {
        std::thread::park_timeout(Duration::from_millis(20));
        while source.drain(&mut |event| tracer.on_event(&event)).more {}
        for stop in tracer.take_stop_copying() {
            drop(source.stop_copying(stop));
        }
        let batches = tracer.flush(WallClock.now_unix_ns());
        let http = batches.iter().filter(|(table, _)| *table == "http_events");
        rows += http.map(|(_, batch)| batch.num_rows()).sum::<usize>();
    }
    let cpu_ns = own_cpu_ns() - cpu_ns;
    println!("rows {rows}, CPU of this process {} us", cpu_ns / 1_000);
    let times = source.run_times();
    let all: Duration = times.iter().map(|(_, _, time)| *time).sum();
    let runs: u64 = times.iter().map(|(_, runs, _)| runs).sum();
    println!("programs: {runs} runs, {} us", all.as_micros());
    for (name, runs, time) in times.iter().filter(|(_, runs, _)| *runs > 0) {
        println!("  {name} {runs} {} us", time.as_micros());
    }
    println!("{:?}", source.counters());
    drop(counting);
}
