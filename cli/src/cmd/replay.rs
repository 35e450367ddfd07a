//! `weir replay`: captures through the tracker and the parsers, into files of rows or into a script.
//!
//! Its last line on stderr counts, as JSON, whatever came of the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{self, Mode as FileMode, OFlags};
use rustix::io::Errno;
use serde_json::json;
use weir_sinks::json::RowWriter;
use weir_sources::ParserConfig;
use weir_sources::recording::{Recording, is_recording};
use weir_sources::redact::{Mode, Redactor};
use weir_sources::replay::{Ending, OnRows, Replay, ReplayConfig, ReplayCounters, ReplayError};
use weir_types::batch::pack_rows;
use weir_types::{RecordBatch, tables};

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::offline::{self, Captured};
use crate::output;
use crate::script;

/// What all files together came to.
#[derive(Default)]
struct Sum {
    counters: ReplayCounters,
    truncated: Vec<String>,
    refused: Vec<String>,
}

/// A file on its way.
enum Played {
    Packets(Box<Replay>),
    Events(Box<Recording>),
}

impl Played {
    fn open(path: &Path, config: ReplayConfig) -> Result<Played, ReplayError> {
        match is_recording(path) {
            true => Recording::open(path, config).map(|events| Played::Events(Box::new(events))),
            false => Replay::open(path, config).map(|packets| Played::Packets(Box::new(packets))),
        }
    }

    fn run(&mut self, on_rows: &mut OnRows<'_, Stopped>) -> Result<Ending, Stopped> {
        match self {
            Played::Packets(packets) => packets.run(on_rows),
            Played::Events(events) => events.run(on_rows),
        }
    }

    fn counters(&self) -> ReplayCounters {
        match self {
            Played::Packets(packets) => packets.counters(),
            Played::Events(events) => events.counters(),
        }
    }

    fn last_time_unix_ns(&self) -> i64 {
        match self {
            Played::Packets(packets) => packets.last_time_unix_ns(),
            Played::Events(events) => events.last_time_unix_ns(),
        }
    }
}

/// Rows that a replay could not go on with.
enum Stopped {
    File(ReplayError),
    Output(Failure),
}

impl From<ReplayError> for Stopped {
    fn from(error: ReplayError) -> Stopped {
        Stopped::File(error)
    }
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&args.loss) {
        return Err(Failure::Usage("--loss is a part of all: 0 to 1".to_string()));
    }
    let mut sum = Sum::default();
    let done = match (&args.out, &args.script) {
        (Some(dir), _) => into_files(args, dir, &mut sum),
        (None, Some(script)) => into_script(args, script, &mut sum),
        (None, None) => Err(Failure::Usage("say where to: --out DIR or --script S".to_string())),
    };
    if let Err(Failure::Usage(_)) = done {
        return done;
    }
    let failed = match done {
        Err(failure) => {
            failure.print(None);
            Some(failure)
        }
        Ok(()) => None,
    };
    output::raw_note(&sum.json());
    match failed {
        // It has been said already.
        Some(_) => Err(Failure::No(String::new())),
        None if !sum.refused.is_empty() => Err(Failure::No(String::new())),
        None => Ok(()),
    }
}

impl Sum {
    fn json(&self) -> String {
        let mut object = json!(self.counters);
        object["truncated"] = json!(self.truncated);
        object["refused"] = json!(self.refused);
        object.to_string()
    }

    /// Replays one file. What is wrong with it is said and noted, and others go on.
    fn file(
        &mut self,
        path: &Path,
        config: &ReplayConfig,
        on_rows: &mut dyn FnMut(&'static str, RecordBatch) -> Result<(), Failure>,
    ) -> Result<i64, Failure> {
        let shown = path.display().to_string();
        let mut replay = match Played::open(path, config.clone()) {
            Ok(played) => played,
            Err(error) => {
                self.refuse(shown, error);
                return Ok(0);
            }
        };
        let ending = replay.run(&mut |table, batch| on_rows(table, batch).map_err(Stopped::Output));
        match ending {
            Ok(Ending::Whole) => {}
            Ok(Ending::Truncated { at }) => {
                output::note(&format!(
                    "weir: {shown}: warning: cut within the packet at byte {at}"
                ));
                self.truncated.push(shown);
            }
            Ok(Ending::Damaged { at, what }) => {
                output::note(&format!("weir: {shown}: warning: damaged at byte {at}: {what}"));
                self.truncated.push(shown);
            }
            Err(Stopped::File(error)) => self.refuse(shown, error),
            Err(Stopped::Output(failure)) => {
                self.counters.add(&replay.counters());
                return Err(failure);
            }
        }
        self.counters.add(&replay.counters());
        Ok(replay.last_time_unix_ns())
    }

    fn refuse(&mut self, shown: String, error: ReplayError) {
        output::note(&format!("weir: {:#}", anyhow::Error::from(error)));
        self.refused.push(shown);
    }
}

/// The rows of files, as a server would have them; when the last packet came. What is wrong with a file is said.
pub(crate) fn rows_of(
    files: &[PathBuf],
    on_rows: &mut dyn FnMut(&'static str, RecordBatch) -> Result<(), Failure>,
) -> Result<i64, Failure> {
    let (mut sum, mut last_unix_ns) = (Sum::default(), 0);
    let redactor = redactor(Mode::Secrets, &[]);
    let parsers = ParserConfig { redactor, ..ParserConfig::default() };
    let config = ReplayConfig { parsers, ..ReplayConfig::default() };
    for path in files {
        last_unix_ns = sum.file(path, &config, on_rows)?.max(last_unix_ns);
    }
    // It has been said which, and why.
    if sum.refused.is_empty() { Ok(last_unix_ns) } else { Err(Failure::No(String::new())) }
}

fn redactor(mode: Mode, names: &[String]) -> Redactor {
    let pii = Some(weir_engine::push_without_pii as fn(&mut Vec<u8>, &[u8]));
    Redactor::new(mode, names, pii)
}

fn config(args: &ReplayArgs, number: usize) -> ReplayConfig {
    let redactor = redactor(args.redact, &args.redact_name);
    ReplayConfig {
        parsers: ParserConfig { redactor, ..ParserConfig::default() },
        loss: args.loss,
        // Each file loses its own events.
        seed: args.seed.wrapping_add(number as u64),
    }
}

/// `<file name>.jsonl` for each; two of one name would overwrite each other.
fn outputs(files: &[PathBuf], dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    let mut outputs = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or(file.as_os_str());
        let mut name = name.to_os_string();
        name.push(".jsonl");
        let output = dir.join(name);
        if let Some(other) = taken.insert(output.clone(), file) {
            let (one, two) = (other.display(), file.display());
            return Err(Failure::Usage(format!(
                "{one} and {two} would both be {}",
                output.display()
            )));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

fn into_files(args: &ReplayArgs, dir: &Path, sum: &mut Sum) -> Result<(), Failure> {
    let outputs = outputs(&args.files, dir)?;
    let unwritable = |path: &Path, error: std::io::Error| {
        Failure::No(format!("could not write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, error))?;
    for (number, (path, output)) in args.files.iter().zip(&outputs).enumerate() {
        let mut to: Option<Lines> = None;
        let mut write = |table: &'static str, batch: RecordBatch| {
            let lines = match &mut to {
                Some(lines) => lines,
                None => {
                    to.insert(Lines::create(output).map_err(|error| unwritable(output, error))?)
                }
            };
            lines.write(table, &batch).map_err(|error| unwritable(output, error))
        };
        let refused = sum.refused.len();
        sum.file(path, &config(args, number), &mut write)?;
        // A capture without rows gives an empty file, what is none gives no file.
        if to.is_none() && sum.refused.len() == refused {
            to = Some(Lines::create(output).map_err(|error| unwritable(output, error))?);
        }
        if let Some(mut lines) = to {
            lines.file.flush().map_err(|error| unwritable(output, error))?;
        }
    }
    Ok(())
}

/// A file of rows, one a line.
struct Lines {
    file: BufWriter<File>,
    writers: BTreeMap<&'static str, RowWriter>,
}

impl Lines {
    /// A file that is there is written anew, if it is one: of a link, that which it leads to is somebody else's.
    fn create(path: &Path) -> std::io::Result<Lines> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened =
            fs::open(path, flags, FileMode::from_raw_mode(0o666)).map_err(|error| match error {
                Errno::LOOP => {
                    std::io::Error::other("it is a symbolic link, which is not followed")
                }
                error => error.into(),
            })?;
        let file = File::from(opened);
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no plain file"));
        }
        file.set_len(0)?;
        Ok(Lines { file: BufWriter::new(file), writers: BTreeMap::new() })
    }

    fn write(&mut self, table: &'static str, batch: &RecordBatch) -> std::io::Result<()> {
        let Some(relation) = tables::relation(table) else { return Ok(()) };
        let writer = self.writers.entry(table).or_insert_with(|| RowWriter::new(relation));
        for row in pack_rows(batch, &relation.types()) {
            self.file.write_all(writer.named_row(table, &row).as_bytes())?;
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn into_script(args: &ReplayArgs, name: &str, sum: &mut Sum) -> Result<(), Failure> {
    let request = script::request(&crate::args::ScriptArgs {
        script: name.to_string(),
        func: args.func.clone(),
        script_args: args.script_args.clone(),
    })?;
    let format = output::format_or_default(args.output);
    let mut captured = Captured::new(&request)?;
    let mut last_unix_ns = 0;
    for (number, path) in args.files.iter().enumerate() {
        let last =
            sum.file(path, &config(args, number), &mut |table, batch| captured.take(table, batch))?;
        last_unix_ns = last.max(last_unix_ns);
    }
    if sum.refused.len() == args.files.len() {
        return Ok(());
    }
    let answer = offline::run_captured(&request, captured, last_unix_ns)?;
    output::print_answer(&answer.tables, format)?;
    output::raw_note(&answer.completeness);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows go into plain files of the directory, over older ones. Catches a link there, laid by others, through which
    /// a file elsewhere is emptied.
    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("elsewhere"), "kept").unwrap();
        for to in ["elsewhere", "not-there"] {
            std::os::unix::fs::symlink(at(to), at("a.jsonl")).unwrap();
            let error = Lines::create(&at("a.jsonl")).err().unwrap();
            assert!(error.to_string().contains("symbolic link"), "{error}");
            std::fs::remove_file(at("a.jsonl")).unwrap();
        }
        assert_eq!(std::fs::read_to_string(at("elsewhere")).unwrap(), "kept");
        assert!(!at("not-there").try_exists().unwrap());
        assert!(Lines::create(Path::new("/dev/null")).is_err());
        std::fs::write(at("a.jsonl"), "longer than nothing").unwrap();
        drop(Lines::create(&at("a.jsonl")).unwrap());
        assert_eq!(std::fs::read_to_string(at("a.jsonl")).unwrap(), "");
    }
}
