//! `weir live`: a view as it changes: messages as lines, or a table drawn anew with each frontier.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_types::live::{Completeness, LiveMessage};
use weir_types::schema::Relation;
use weir_types::{Clock, PackedRow, WallClock, text};

use crate::args::{Format, LiveArgs};
use crate::client::{Connection, Received};
use crate::failure::Failure;
use crate::script::{self, Source};
use crate::{offline, output};

/// How long to wait for a message before looking whether to stop.
const POLL: Duration = Duration::from_millis(100);
/// How long a command that was interrupted may take to write its line.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);

pub(crate) fn run(connection: &Connection, args: LiveArgs) -> Result<(), Failure> {
    let mut request = script::request(&args.script)?;
    let format = output::format_or_default(args.output);
    if format == Format::Csv {
        return Err(Failure::Usage("live prints -o table or -o jsonl".to_string()));
    }
    request.accept_cost = args.force;
    request.refresh_ms = args.refresh.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let interrupted = interrupt_flag()?;
    let source = script::source_of(&request);
    if let Some(dir) = &args.rows {
        // The rows' clock counts --ticks itself: refreshes without a change have no message.
        let mut printer = Printer::new(format, None, source);
        return offline::live(&request, dir, &args, &interrupted, &mut |text| printer.take(text));
    }
    let mut body = script::body(&request);
    tell_warnings(connection, &body, &source)?;
    let mut message = json!({"type": "subscribe", "id": "q1"});
    if let (Some(all), Some(body)) = (message.as_object_mut(), body.as_object_mut()) {
        all.append(body);
    }
    let mut printer = Printer::new(format, args.ticks, source);
    let mut subscription = connection.subscribe(&message)?;
    let clock = WallClock;
    let started_ns = clock.monotonic_ns();
    let end_ns = args.for_.map(|d| started_ns + u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
    loop {
        if interrupted.load(Ordering::SeqCst) {
            return Err(Failure::Interrupted);
        }
        if end_ns.is_some_and(|end| clock.monotonic_ns() >= end) {
            return Ok(());
        }
        match subscription.next(POLL)? {
            Received::Text(text) => {
                if !printer.take(&text)? {
                    return printer.outcome();
                }
            }
            Received::Nothing => {}
            Received::Closed => {
                return Err(Failure::Unreachable("the server closed the connection".to_string()));
            }
        }
    }
}

/// A view's messages are rows and errors: what is doubtful about the script is asked for first. What
/// is wrong with it the view says itself.
fn tell_warnings(connection: &Connection, body: &Json, source: &Source) -> Result<(), Failure> {
    let checked = connection.post("/api/v1/check", body).map_err(|failure| failure.told(source))?;
    if checked["ok"] == true {
        output::print_diagnostics(
            &output::diagnostics_of(&checked["diagnostics"]),
            &source.script(),
        );
    }
    Ok(())
}

/// Set by the first signal, so that the line at hand is still written whole. Who reads may have
/// stopped reading: then the command ends after [`INTERRUPT_GRACE`], or with the second signal.
fn interrupt_flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let status = i32::from(Failure::Interrupted.status());
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, status, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|error| Failure::No(format!("could not watch signals: {error}")))?;
    }
    let seen = flag.clone();
    let watch = move || {
        while !seen.load(Ordering::SeqCst) {
            std::thread::park_timeout(POLL);
        }
        let clock = WallClock;
        let seen_ns = clock.monotonic_ns();
        while u128::from(clock.monotonic_ns() - seen_ns) < INTERRUPT_GRACE.as_nanos() {
            std::thread::park_timeout(INTERRUPT_GRACE);
        }
        std::process::exit(status);
    };
    std::thread::Builder::new()
        .name("interrupt".to_string())
        .spawn(watch)
        .map_err(|error| Failure::No(format!("could not watch signals: {error}")))?;
    Ok(flag)
}

struct Table {
    name: String,
    relation: Relation,
    rows: BTreeMap<PackedRow, i64>,
}

/// Prints messages as they come.
struct Printer {
    format: Format,
    ticks_left: Option<u64>,
    tables: Vec<Table>,
    failed: bool,
    source: Source,
}

impl Printer {
    fn new(format: Format, ticks: Option<u64>, source: Source) -> Printer {
        Printer { format, ticks_left: ticks, tables: Vec::new(), failed: false, source }
    }

    fn outcome(&self) -> Result<(), Failure> {
        if self.failed { Err(Failure::No(String::new())) } else { Ok(()) }
    }

    /// False when enough has been seen.
    fn take(&mut self, text: &str) -> Result<bool, Failure> {
        if self.format != Format::Table {
            output::line(text)?;
        }
        // The lines' form needs only the kind of message; parsing all of it would cost for nothing.
        let kind = kind_of(text);
        if self.format != Format::Table && !matches!(kind, "progress" | "error" | "end") {
            return Ok(true);
        }
        let message: LiveMessage = serde_json::from_str(text)
            .map_err(|error| Failure::No(format!("unreadable message: {error}")))?;
        match message {
            LiveMessage::Schema { table, columns, .. } => self.tables.push(Table {
                name: table,
                relation: output::relation_of(&columns),
                rows: BTreeMap::new(),
            }),
            LiveMessage::Changes { table, rows, .. } => self.apply(&table, &rows),
            LiveMessage::Progress { completeness, .. } => {
                if self.format == Format::Table {
                    self.draw(&completeness)?;
                }
                if let Some(left) = &mut self.ticks_left {
                    *left = left.saturating_sub(1);
                    return Ok(*left > 0);
                }
            }
            LiveMessage::Error { table, message, diagnostics, .. } => {
                output::print_diagnostics(&diagnostics, &self.source.script());
                // An error of one table leaves the others; one of the whole view ends it.
                let goes_on = table.is_some();
                let place = table.map_or_else(String::new, |table| table + ": ");
                output::note(&format!("weir: {place}{message}"));
                self.failed |= !goes_on;
                return Ok(goes_on);
            }
            LiveMessage::Status { .. } => {}
            LiveMessage::End { .. } => return Ok(false),
        }
        Ok(true)
    }

    fn apply(&mut self, name: &str, rows: &[(i64, Json)]) {
        let Some(table) = self.tables.iter_mut().find(|table| table.name == name) else { return };
        for (diff, row) in rows {
            let row = output::row_of(&table.relation, row);
            let count = table.rows.entry(row.clone()).or_insert(0);
            *count += diff;
            if *count == 0 {
                table.rows.remove(&row);
            }
        }
    }

    /// The whole picture, from the upper left corner on a terminal.
    fn draw(&self, completeness: &Completeness) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        let mut out = String::new();
        let (clear_line, home, clear_rest) =
            if terminal { ("\u{1b}[K", "\u{1b}[H", "\u{1b}[J") } else { ("", "", "") };
        out.push_str(home);
        let (height, width) = if terminal { terminal_size() } else { (usize::MAX, usize::MAX) };
        let shown = (height.saturating_sub(4) / self.tables.len().max(1)).max(3);
        for table in &self.tables {
            let lines = weir_sinks::table::lines(
                &table.relation,
                table.rows.iter().rev().take(shown.saturating_sub(2)).map(|(row, _)| row),
            );
            let total: i64 = table.rows.values().sum();
            let name = text::line(&table.name);
            out.push_str(&format!("{name} ({total} rows){clear_line}\n"));
            for line in lines {
                out.extend(line.chars().take(width));
                out.push_str(clear_line);
                out.push('\n');
            }
        }
        out.push_str(&text::line(&status_line(completeness)));
        out.push_str(clear_line);
        out.push_str(clear_rest);
        output::line(&out)
    }
}

/// How true the picture is.
fn status_line(completeness: &Completeness) -> String {
    let lost: u64 = completeness
        .lost
        .values()
        .filter_map(Json::as_object)
        .flat_map(|reasons| reasons.values().filter_map(Json::as_u64))
        .sum();
    let partial = if completeness.complete { "" } else { " · partial" };
    let lagging = if completeness.lagging.is_empty() {
        String::new()
    } else {
        format!(" · lagging: {}", completeness.lagging.join(", "))
    };
    format!("complete to {}{partial}{lagging} · {lost} lost", completeness.complete_to)
}

fn terminal_size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or((24, 80), |size| {
        (usize::from(size.ws_row).max(8), usize::from(size.ws_col).max(20))
    })
}

/// The message's `type`, which stands first.
fn kind_of(text: &str) -> &str {
    text.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next()).unwrap_or("")
}
