//! `weir record`: captured events into a file that `weir replay` reads. A recording that is there is replaced once
//! capturing has begun, not before.
//!
//! Its last line on stderr counts, as JSON, what was recorded. An interrupt ends it in order.

mod file;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_sources::recording::{Recorder, RecorderConfig};
use weir_sources::redact::{Mode, Redactor};
use weir_types::{Clock, SteadyClock, WallClock};

use crate::args::{RecordArgs, RecordRedact};
use crate::failure::Failure;
use crate::output;
use crate::up::parse_trace;

pub(crate) fn run(args: &RecordArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let unwritable =
        |error: std::io::Error| Failure::No(format!("could not write {shown}: {error}"));
    let filters = parse_trace(&args.trace)?;
    let redactor = (args.redact == RecordRedact::Secrets)
        .then(|| Redactor::new(Mode::Secrets, &args.redact_name, None));
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let watched = signal_hook::flag::register(signal, interrupted.clone());
        watched.map_err(|error| Failure::No(format!("could not watch signals: {error}")))?;
    }
    let out = file::open(&args.file).map_err(|why| Failure::No(format!("{shown} {why}")))?;
    let config = RecorderConfig { filters, redactor, bytes_max: args.bytes_max as u64 };
    let mut recorder = Recorder::start(out.file, config).map_err(|error| {
        if out.is_new {
            // Nothing was recorded; a file of a former recording is as it was.
            drop(std::fs::remove_file(&args.file));
        }
        Failure::from(anyhow::Error::from(error))
    })?;
    output::note(&format!("weir: recording to {shown}"));
    let clock = SteadyClock::new(WallClock);
    let began_unix_ns = clock.now_unix_ns();
    let for_ns =
        args.for_.map_or(i64::MAX, |for_| i64::try_from(for_.as_nanos()).unwrap_or(i64::MAX));
    loop {
        let now_unix_ns = clock.now_unix_ns();
        let is_over = now_unix_ns.saturating_sub(began_unix_ns) >= for_ns;
        if is_over || interrupted.load(Ordering::SeqCst) || !recorder.step(now_unix_ns) {
            break;
        }
    }
    let counts = recorder.finish(clock.now_unix_ns()).map_err(unwritable)?;
    if counts.is_full {
        output::note(&format!("weir: {shown} is full: see --bytes-max"));
    }
    output::raw_note(&serde_json::json!(counts).to_string());
    Ok(())
}
