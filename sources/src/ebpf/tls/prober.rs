//! The thread that finds files with TLS in them and holds their probes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_types::text::with_causes;
use weir_types::{Clock, WallClock};

use super::super::attach::Attachment;
use super::super::can_run::ProgramStatus;
use super::super::stop::Stopping;
use super::super::wake::{Wake, wait_any_readable};
use super::TlsFile;
use super::go::GoError;
use super::library;
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
/// Processes that are remembered a file. When all are gone, others are searched for.
const HOLDERS_MAX: usize = 16;
/// How often files are looked at that no process may run any more.
const SWEEP_INTERVAL_NS: u64 = 15_000_000_000;
/// The same while there is no room for more.
const CROWDED_SWEEP_INTERVAL_NS: u64 = 1_000_000_000;
/// How often all processes are looked at where the kernel does not tell what they map.
const RESCAN_INTERVAL_NS: u64 = 5_000_000_000;
/// A file that nobody runs is kept so long: short-lived programs come back.
const UNUSED_NS: u64 = 120_000_000_000;
/// The first look at all processes takes a millisecond for each ten; capture does not wait longer.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);
/// How long its end is waited for.
const STOP_MAX_NS: u64 = 5_000_000_000;
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

/// A file that is probed.
struct Probed {
    told: TlsFile,
    attachments: Vec<Attachment>,
    /// Some of the processes that run it.
    holders: Vec<u32>,
    /// Since when nobody does.
    unused_since_ns: Option<u64>,
    /// It is where libraries usually are: processes to come will run it.
    is_usual: bool,
}

struct Work {
    programs: TlsPrograms,
    wake: Wake,
    shared: Arc<Shared>,
    files: BTreeMap<FileId, Probed>,
    /// Files with TLS that cannot be probed; and all those without.
    refused: BTreeMap<FileId, TlsFile>,
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
            files: BTreeMap::new(),
            refused: BTreeMap::new(),
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
            self.looked();
            let now_ns = WallClock.monotonic_ns();
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
        self.files.into_values().flat_map(|probed| probed.attachments).collect()
    }

    fn looked(&self) {
        self.shared.state().looked = true;
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
        if let Some(probed) = self.files.get_mut(&mapping.file) {
            probed.unused_since_ns = None;
            if !probed.holders.contains(pid) {
                if probed.holders.len() == HOLDERS_MAX {
                    probed.holders.remove(0);
                }
                probed.holders.push(*pid);
            }
            return;
        }
        if self.without.contains(&mapping.file) || self.refused.contains_key(&mapping.file) {
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
            self.examine(&file, mapping, vec![*pid], false);
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
                if !self.files.contains_key(&file_id) {
                    let mapping = Mapping { file: file_id, path, start: 0, end: 0 };
                    self.examine(&file, &mapping, vec![], true);
                }
            }
        }
    }

    fn examine(&mut self, file: &File, mapping: &Mapping, holders: Vec<u32>, is_usual: bool) {
        if self.without.len() + self.refused.len() >= EXAMINED_MAX {
            self.without.clear();
            self.refused.clear();
        }
        let mut told = TlsFile {
            file: mapping.file,
            path: mapping.path.clone(),
            library: "",
            pid: holders.first().copied().unwrap_or(0),
            functions: 0,
            refused: None,
        };
        let points = match library::points(file) {
            Ok(points) if points.library.is_empty() => {
                self.without.insert(mapping.file);
                return;
            }
            Ok(points) => points,
            Err(error)
                if !matches!(error, GoError::Elf(_))
                    || library::may_have_tls(&mapping.path, false) =>
            {
                told.refused = Some(with_causes(&error));
                self.refuse(told);
                return;
            }
            Err(_) => {
                self.without.insert(mapping.file);
                return;
            }
        };
        told.library = points.library;
        told.functions = points.functions();
        let files_max = if self.programs.are_costly() { COSTLY_FILES_MAX } else { FILES_MAX };
        if self.files.len() >= files_max && !self.let_go_unused() {
            told.refused = Some(format!("{files_max} files are probed already"));
            self.refuse(told);
            return;
        }
        match self.programs.attach(file, &points) {
            Ok(attachments) => {
                let unused_since_ns = holders.is_empty().then(|| WallClock.monotonic_ns());
                let probed = Probed { told, attachments, holders, unused_since_ns, is_usual };
                self.files.insert(mapping.file, probed);
                self.shared.generation.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                told.refused = Some(format!("could not attach: {error}"));
                self.refuse(told);
            }
        }
        self.tell();
    }

    fn refuse(&mut self, told: TlsFile) {
        self.refused.insert(told.file, told);
        self.tell();
    }

    fn tell(&self) {
        let probed = self.files.values().map(|probed| &probed.told);
        let mut files: Vec<TlsFile> = probed.chain(self.refused.values()).cloned().collect();
        files.sort_unstable_by(|a, b| (&a.path, a.file).cmp(&(&b.path, b.file)));
        self.shared.state().files = files;
    }

    /// Lets go what nobody has run for a while.
    fn sweep(&mut self, now_ns: u64) {
        let mut unheld: Vec<FileId> = Vec::new();
        for (file, probed) in &mut self.files {
            probed.holders.retain(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap_or(true));
            if probed.holders.is_empty() {
                unheld.push(*file);
            }
        }
        if unheld.iter().any(|file| self.files.get(file).is_some_and(|probed| !probed.is_usual)) {
            self.find_holders(&unheld);
        }
        let mut go = Vec::new();
        for file in unheld {
            let Some(probed) = self.files.get_mut(&file) else { continue };
            if !probed.holders.is_empty() {
                probed.unused_since_ns = None;
                continue;
            }
            let since_ns = *probed.unused_since_ns.get_or_insert(now_ns);
            if now_ns - since_ns >= UNUSED_NS && !probed.is_usual {
                go.push(file);
            }
        }
        self.let_go(&go);
    }

    /// Children hold what their parents mapped.
    fn find_holders(&mut self, unheld: &[FileId]) {
        for pid in pids() {
            for mapping in maps::of_process(Path::new("/proc"), pid).unwrap_or_default() {
                if unheld.contains(&mapping.file)
                    && let Some(probed) = self.files.get_mut(&mapping.file)
                    && probed.holders.len() < HOLDERS_MAX
                {
                    probed.holders.push(pid);
                }
            }
        }
    }

    /// Makes room by what nobody runs now. Whether there was any.
    fn let_go_unused(&mut self) -> bool {
        let now_ns = WallClock.monotonic_ns();
        if now_ns - self.swept_ns >= CROWDED_SWEEP_INTERVAL_NS {
            self.swept_ns = now_ns;
            self.sweep(now_ns);
        }
        let unused = |probed: &Probed| probed.unused_since_ns.is_some();
        let oldest = self.files.iter().filter(|(_, probed)| unused(probed));
        let Some(file) =
            oldest.min_by_key(|(_, probed)| probed.unused_since_ns).map(|(file, _)| *file)
        else {
            return false;
        };
        self.let_go(&[file]);
        true
    }

    fn let_go(&mut self, files: &[FileId]) {
        let gone = files.iter().filter_map(|file| self.files.remove(file));
        let attachments: Vec<Attachment> = gone.flat_map(|probed| probed.attachments).collect();
        if !attachments.is_empty() {
            // On threads of their own, which nobody waits for.
            drop(Stopping::begin(attachments));
            // There is room for them by now.
            self.refused.retain(|_, told| told.library.is_empty());
            self.tell();
        }
    }
}

/// All processes that there are.
fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
