//! Nothing of a server stays behind: no process, no eBPF program, map or link, no file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Weir, binary};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);

/// A process, named so that a re-used pid is another one.
type ProcessId = (u32, String);

/// (parent, start time) of a process that has not ended; zombies have.
fn stat(pid: u32) -> Option<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (*fields.first()? != "Z").then_some(())?;
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.to_string()))
}

/// Everything that this process has started, and what that has started.
fn descendants(of: u32) -> BTreeSet<ProcessId> {
    let all: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut found = BTreeSet::new();
    let mut parents = BTreeSet::from([of]);
    loop {
        let children: Vec<ProcessId> = all
            .iter()
            .filter_map(|pid| {
                let (parent, start) = stat(*pid)?;
                (parents.contains(&parent) && !parents.contains(pid)).then_some((*pid, start))
            })
            .collect();
        if children.is_empty() {
            return found;
        }
        parents.extend(children.iter().map(|(pid, _)| *pid));
        found.extend(children);
    }
}

/// The ids of the eBPF programs, maps and links that a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Objects {
    fn held_by(pid: u32) -> Objects {
        let mut objects = Objects::default();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
            for line in std::fs::read_to_string(entry.path()).unwrap_or_default().lines() {
                let Some((name, value)) = line.split_once(':') else { continue };
                let Ok(id) = value.trim().parse() else { continue };
                match name {
                    "prog_id" => objects.programs.insert(id),
                    "map_id" => objects.maps.insert(id),
                    "link_id" => objects.links.insert(id),
                    _ => false,
                };
            }
        }
        objects
    }

    /// Those of them that the kernel still has. Ids are not used again for a long time.
    fn still_there(&self) -> Objects {
        let programs =
            aya::programs::loaded_programs().filter_map(|program| Some(program.ok()?.id()));
        let maps = aya::maps::loaded_maps().filter_map(|map| Some(map.ok()?.id()));
        let links = aya::programs::loaded_links().filter_map(|link| Some(link.ok()?.id()));
        Objects {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }
}

/// Regular files that a process has open for writing.
fn written_files(pid: u32) -> BTreeSet<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let written = open.filter_map(|entry| {
        let path = std::fs::read_link(entry.path()).ok()?;
        let info = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_str()?);
        let info = std::fs::read_to_string(info).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let for_writing = u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0;
        (for_writing && path.is_file()).then_some(path)
    });
    written.collect()
}

fn files_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a demo server has of everything while it runs, and that all of it goes by this signal.
fn check(signal: Signal) {
    if !can_capture() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let pinned_before = files_in(Path::new("/sys/fs/bpf"));
    let mut command = Command::new(binary().unwrap());
    command.env("TMPDIR", temporary.path());
    let mut weir = Weir::start_by(command, &["--demo"]).unwrap();
    let own_pid = weir.pid();
    let started = wait_until(DEADLINE, || {
        let started = descendants(own_pid);
        (started.len() >= 6).then_some(started)
    });
    let started = started.expect("the demo is several processes");
    let objects = Objects::held_by(own_pid);
    assert!(objects.programs.len() > 20 && objects.maps.len() > 5, "{objects:?}");
    assert_eq!(objects.still_there(), objects);
    let data_dir = weir.data_dir().canonicalize().unwrap();
    for file in written_files(own_pid) {
        assert!(file.starts_with(&data_dir), "{} is written", file.display());
    }

    let status = weir.end(signal).unwrap();
    match signal {
        Signal::Kill => assert_eq!(status.code(), None),
        _ => assert_eq!(status.code(), Some(0)),
    }
    let living = || -> Vec<&ProcessId> {
        started
            .iter()
            .filter(|(pid, start)| stat(*pid).is_some_and(|now| now.1 == *start))
            .collect()
    };
    let gone = wait_until(DEADLINE, || living().is_empty().then_some(()));
    assert!(gone.is_some(), "{:?} live on", living());
    // The kernel gives programs and maps back a moment after their last holder has gone.
    let freed =
        wait_until(DEADLINE, || (objects.still_there() == Objects::default()).then_some(()));
    assert!(freed.is_some(), "{:?} stay in the kernel", objects.still_there());
    assert_eq!(files_in(Path::new("/sys/fs/bpf")), pinned_before);
    assert_eq!(files_in(temporary.path()), BTreeSet::new(), "temporary files stay behind");
    let kept = files_in(&data_dir);
    // A store that was not closed keeps its log until it is opened again; alerts outlive a restart.
    let known = ["alerts", "token", "lock", "windows.db", "windows.db-wal", "windows.db-shm"];
    assert!(kept.iter().all(|file| known.contains(&file.as_str())), "{kept:?}");
}

/// After Ctrl-C.
#[test]
fn nothing_stays_after_an_interrupt() {
    check(Signal::Interrupt);
}

/// After a kill, when the server itself can do nothing.
#[test]
fn nothing_stays_after_a_kill() {
    check(Signal::Kill);
}
