//! The thread that finds files with TLS in them and holds their probes.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_types::{Clock, WallClock};

use super::super::attach::Attachment;
use super::super::can_run::ProgramStatus;
use super::super::stop::Stopping;
use super::super::wake::{Wake, wait_any_readable};
use super::TlsFile;
use super::known::{Known, KnownFiles, refused, refused_for};
use super::library::{self, Points, PointsError};
use super::maps::{self, FileId, Mapping};
use super::mmaps::{Mapped, MmapEvents};
use super::opened::{open_mapped, open_regular};
use super::programs::TlsPrograms;

/// Files that are probed at once; others wait until one is let go.
const FILES_MAX: usize = 256;
/// The same where each function costs a descriptor, of which a process has a thousand.
const COSTLY_FILES_MAX: usize = 24;
/// Files that were looked at and have no TLS, or cannot be probed; beyond it they are looked at again.
const EXAMINED_MAX: usize = 8_192;
/// Mapped files that wait to be looked at; beyond it everything is looked at anew.
const QUEUE_MAX: usize = 8_192;
/// How often files are looked at that no process may run any more.
const SWEEP_INTERVAL_NS: u64 = 15_000_000_000;
/// The same while there is no room for more.
const CROWDED_SWEEP_INTERVAL_NS: u64 = 1_000_000_000;
/// How often all processes are looked at where the kernel does not tell what they map.
const RESCAN_INTERVAL_NS: u64 = 5_000_000_000;
/// The first look at all processes takes a millisecond for each ten; capture does not wait longer.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);
/// How long its end is waited for.
const STOP_MAX_NS: u64 = 5_000_000_000;
/// Tables of header fields are looked for so long, of connections that are older than the probes.
const PASSING_NS: u64 = 60_000_000_000;
/// A wait without anything to do.
const IDLE_WAIT: Duration = Duration::from_secs(5);

/// Where libraries usually are: probed before the first process runs them.
const LIBRARY_FOLDERS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
    "/usr/local/lib64",
    "/usr/local/lib",
];
const LIBRARY_NAMES: [&str; 4] =
    ["libssl.so.3", "libssl.so.1.1", "libssl.so.1.0.0", "libgnutls.so.30"];

#[derive(Default)]
struct State {
    files: Vec<TlsFile>,
    looked: bool,
}

#[derive(Default)]
struct Shared {
    generation: AtomicU32,
    has_passing: AtomicBool,
    ending: AtomicBool,
    state: Mutex<State>,
    looked: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, seen from outside.
pub(in crate::ebpf) struct Prober {
    shared: Arc<Shared>,
    wake: Wake,
    thread: JoinHandle<Vec<Attachment>>,
}

/// Starts it, if there are programs; says why not.
pub(in crate::ebpf) fn start(
    programs: Option<Result<TlsPrograms, String>>,
    status: &mut Vec<ProgramStatus>,
) -> Option<Prober> {
    let started = programs?.and_then(|programs| {
        status.extend(programs.links());
        let wake = Wake::new().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared { generation: AtomicU32::new(1), ..Shared::default() });
        let work = Work::new(programs, wake.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("weir-tls".to_string())
            .spawn(move || work.run())
            .map_err(|error| error.to_string())?;
        Ok(Prober { shared, wake, thread })
    });
    let program = "syscalls/tls".to_string();
    let (prober, reason) = match started {
        Ok(prober) => (Some(prober), None),
        Err(reason) => (None, Some(reason)),
    };
    status.push(ProgramStatus { program, reason });
    prober
}

impl Prober {
    /// Changes when another file is probed.
    pub(in crate::ebpf) fn generation(&self) -> u32 {
        self.shared.generation.load(Ordering::Relaxed)
    }

    /// Whether what programs remember of older connections is looked for.
    pub(in crate::ebpf) fn looks_for_memos(&self) -> bool {
        self.shared.has_passing.load(Ordering::Relaxed)
    }

    /// Until all processes that run now have been looked at.
    pub(in crate::ebpf) fn wait_for_first_look(&self) {
        let state = self.shared.state();
        drop(self.shared.looked.wait_timeout_while(state, FIRST_LOOK_MAX, |state| !state.looked));
    }

    pub(in crate::ebpf) fn files(&self) -> Vec<TlsFile> {
        self.shared.state().files.clone()
    }

    /// Ends the thread; what it held is still to be detached.
    pub(in crate::ebpf) fn stop(self) -> Vec<Attachment> {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.wake.wake();
        // It may hang in a file of somebody's (one of FUSE, say): then the kernel detaches when the process ends.
        let until_ns = WallClock.monotonic_ns() + STOP_MAX_NS;
        while !self.thread.is_finished() {
            if WallClock.monotonic_ns() > until_ns {
                return Vec::new();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        // If it panicked, its attachments went with it.
        self.thread.join().unwrap_or_default()
    }
}

struct Work {
    programs: TlsPrograms,
    wake: Wake,
    shared: Arc<Shared>,
    files: KnownFiles,
    /// Files without TLS.
    without: BTreeSet<FileId>,
    queue: VecDeque<Mapped>,
    events: Option<MmapEvents>,
    rescan: bool,
    swept_ns: u64,
    rescanned_ns: u64,
}

impl Work {
    fn new(programs: TlsPrograms, wake: Wake, shared: Arc<Shared>) -> Work {
        Work {
            programs,
            wake,
            shared,
            files: KnownFiles::default(),
            without: BTreeSet::new(),
            queue: VecDeque::new(),
            // Before the first look: what is mapped during it is told.
            events: MmapEvents::open().ok(),
            rescan: true,
            swept_ns: WallClock.monotonic_ns(),
            rescanned_ns: 0,
        }
    }

    fn run(mut self) -> Vec<Attachment> {
        self.look_at_usual();
        while !self.shared.ending.load(Ordering::Relaxed) {
            self.take_events();
            if self.rescan {
                self.scan();
            }
            while let Some(mapped) = self.queue.pop_front() {
                if self.shared.ending.load(Ordering::Relaxed) {
                    break;
                }
                self.mapped(&mapped, &OnceCell::new());
            }
            let now_ns = WallClock.monotonic_ns();
            self.let_pass(now_ns);
            self.looked();
            if now_ns - self.swept_ns >= SWEEP_INTERVAL_NS {
                self.swept_ns = now_ns;
                self.sweep(now_ns);
            }
            self.rescan |=
                self.events.is_none() && now_ns - self.rescanned_ns >= RESCAN_INTERVAL_NS;
            if !self.rescan {
                let fds = self.events.iter().flat_map(MmapEvents::fds);
                wait_any_readable(fds, &self.wake, IDLE_WAIT);
            }
        }
        self.files.into_attachments()
    }

    /// Probes whose time is over go.
    fn let_pass(&mut self, now_ns: u64) {
        let passed = self.files.passed(now_ns);
        if !passed.is_empty() {
            drop(Stopping::begin(passed));
        }
        self.shared.has_passing.store(self.files.has_passing(), Ordering::Relaxed);
    }

    fn looked(&mut self) {
        let mut state = self.shared.state();
        if std::mem::take(&mut self.files.is_changed) {
            state.files = self.files.told();
        }
        state.looked = true;
        drop(state);
        self.shared.looked.notify_all();
    }

    fn take_events(&mut self) {
        let Some(events) = &mut self.events else { return };
        let queue = &mut self.queue;
        let mut full = false;
        let lost = events.drain(&mut |mapped| {
            if queue.len() < QUEUE_MAX {
                queue.push_back(mapped);
            } else {
                full = true;
            }
        });
        self.rescan |= lost || full;
    }

    /// Looks at the code of all processes.
    fn scan(&mut self) {
        self.rescan = false;
        self.rescanned_ns = WallClock.monotonic_ns();
        for pid in pids() {
            if self.shared.ending.load(Ordering::Relaxed) {
                return;
            }
            let program = OnceCell::new();
            for mapping in maps::of_process(Path::new("/proc"), pid).unwrap_or_default() {
                self.mapped(&Mapped { pid, mapping }, &program);
            }
        }
    }

    /// `program`: the path of what the process runs, once somebody has asked.
    fn mapped(&mut self, Mapped { pid, mapping }: &Mapped, program: &OnceCell<Option<PathBuf>>) {
        if self.files.held_by(mapping.file, *pid) || self.without.contains(&mapping.file) {
            return;
        }
        let is_program = || {
            let program =
                program.get_or_init(|| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
            program.as_ref().is_some_and(|program| program.to_string_lossy() == mapping.path)
        };
        if !library::may_have_tls(&mapping.path, false) && !is_program() {
            return;
        }
        // Where it cannot be opened its process has ended, or is none of ours to look into.
        if let Ok(file) = open_mapped(Path::new("/proc"), *pid, mapping) {
            self.examine(&file, mapping, vec![*pid]);
        }
    }

    fn look_at_usual(&mut self) {
        for folder in LIBRARY_FOLDERS {
            for name in LIBRARY_NAMES {
                let path = format!("{folder}/{name}");
                let Ok(file) = open_regular(Path::new(&path)) else { continue };
                let Ok(about) = file.metadata() else { continue };
                let file_id = FileId {
                    major: libc::major(about.dev()),
                    minor: libc::minor(about.dev()),
                    inode: about.ino(),
                };
                if !self.files.contains(file_id) {
                    let mapping = Mapping { file: file_id, path, start: 0, end: 0 };
                    self.examine(&file, &mapping, vec![]);
                }
            }
        }
    }

    /// `pids`: who runs it; nobody yet where libraries usually are.
    fn examine(&mut self, file: &File, mapping: &Mapping, pids: Vec<u32>) {
        if self.without.len() + self.files.refused_count() >= EXAMINED_MAX {
            self.without.clear();
            self.files.forget_refused(|_| true);
        }
        let told = TlsFile {
            file: mapping.file,
            path: mapping.path.clone(),
            library: "",
            pids,
            functions: 0,
            refused: None,
        };
        match library::points(file) {
            Ok(points) if points.library.is_empty() => _ = self.without.insert(mapping.file),
            Ok(points) => {
                let known = self.probe(file, &points, told);
                self.files.insert(known);
            }
            Err(PointsError::Elf(_)) if !library::may_have_tls(&mapping.path, false) => {
                self.without.insert(mapping.file);
            }
            Err(error) => self.files.insert(refused(told, &error)),
        }
    }

    fn probe(&mut self, file: &File, points: &Points, told: TlsFile) -> Known {
        let told = TlsFile { library: points.library, functions: points.functions(), ..told };
        let files_max = if self.programs.are_costly() { COSTLY_FILES_MAX } else { FILES_MAX };
        if self.files.probed_count() >= files_max && !self.let_go_unused() {
            return refused_for(told, format!("{files_max} files are probed already"));
        }
        match self.programs.attach(file, points) {
            Ok(attachments) => {
                self.shared.generation.fetch_add(1, Ordering::Relaxed);
                let is_usual = told.pids.is_empty();
                let now_ns = WallClock.monotonic_ns();
                // After the others: what is said from here on is told. Without them less is known.
                let passing = self.programs.attach_passing(file, points).unwrap_or_default();
                let passing = (!passing.is_empty()).then_some((now_ns + PASSING_NS, passing));
                let unused_since_ns = is_usual.then_some(now_ns);
                Known { told, attachments, passing, unused_since_ns, is_usual }
            }
            Err(error) => refused_for(told, format!("could not attach: {error}")),
        }
    }

    /// Lets go what nobody has run for a while.
    fn sweep(&mut self, now_ns: u64) {
        let gone = self.files.sweep(now_ns, pids);
        self.detach(gone);
    }

    /// Makes room by what nobody runs now. Whether there was any.
    fn let_go_unused(&mut self) -> bool {
        let now_ns = WallClock.monotonic_ns();
        if now_ns - self.swept_ns >= CROWDED_SWEEP_INTERVAL_NS {
            self.swept_ns = now_ns;
            self.sweep(now_ns);
        }
        let Some(file) = self.files.longest_unused() else { return false };
        let gone = self.files.let_go(&[file]);
        self.detach(gone);
        true
    }

    fn detach(&mut self, attachments: Vec<Attachment>) {
        if !attachments.is_empty() {
            // On threads of their own, which nobody waits for.
            drop(Stopping::begin(attachments));
            // Those that could have been probed have room by now.
            self.files.forget_refused(|told| !told.library.is_empty());
        }
    }
}

/// All processes that there are.
fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
