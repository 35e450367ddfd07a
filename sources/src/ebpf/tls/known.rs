//! Files with TLS in them that are known: what is told of each, who runs it, and what holds its probes.
//!
//! It is not decided here what is looked at or probed.

use std::collections::BTreeMap;
use std::path::Path;

use weir_types::text::with_causes;

use super::super::attach::Attachment;
use super::TlsFile;
use super::maps::{self, FileId};

/// Processes that are remembered a file. When all are gone, others are searched for.
const HOLDERS_MAX: usize = 64;
/// A file that nobody runs is kept so long: short-lived programs come back.
const UNUSED_NS: u64 = 120_000_000_000;

/// A file with TLS in it. Its processes are some of those that run it.
pub(super) struct Known {
    pub(super) told: TlsFile,
    /// None where it cannot be probed.
    pub(super) attachments: Vec<Attachment>,
    /// Probes that are there until then.
    pub(super) passing: Option<(u64, Vec<Attachment>)>,
    /// Since when nobody runs it.
    pub(super) unused_since_ns: Option<u64>,
    /// It is where libraries usually are: processes to come will run it.
    pub(super) is_usual: bool,
}

impl Known {
    pub(super) fn is_probed(&self) -> bool {
        self.told.refused.is_none()
    }

    fn into_attachments(self) -> impl Iterator<Item = Attachment> {
        let passing = self.passing.into_iter().flat_map(|(_, attachments)| attachments);
        self.attachments.into_iter().chain(passing)
    }

    /// Whether the process was not yet known to run it.
    pub(super) fn held_by(&mut self, pid: u32) -> bool {
        self.unused_since_ns = None;
        let pids = &mut self.told.pids;
        if pids.contains(&pid) {
            return false;
        }
        if pids.len() == HOLDERS_MAX {
            pids.remove(0);
        }
        pids.push(pid);
        true
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct KnownFiles {
    files: BTreeMap<FileId, Known>,
    /// Something is otherwise than it was told last.
    pub(super) is_changed: bool,
}

impl KnownFiles {
    pub(super) fn contains(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// The process runs the file. Whether that is known.
    pub(super) fn held_by(&mut self, file: FileId, pid: u32) -> bool {
        let Some(known) = self.files.get_mut(&file) else { return false };
        self.is_changed |= known.held_by(pid) && !known.is_probed();
        true
    }

    pub(super) fn insert(&mut self, known: Known) {
        self.files.insert(known.told.file, known);
        self.is_changed = true;
    }

    pub(super) fn probed_count(&self) -> usize {
        self.files.values().filter(|known| known.is_probed()).count()
    }

    pub(super) fn refused_count(&self) -> usize {
        self.files.len() - self.probed_count()
    }

    /// Those that cannot be probed, and are of the kind, will be looked at again.
    pub(super) fn forget_refused(&mut self, is_of_kind: impl Fn(&TlsFile) -> bool) {
        self.files.retain(|_, known| known.is_probed() || !is_of_kind(&known.told));
        self.is_changed = true;
    }

    pub(super) fn told(&self) -> Vec<TlsFile> {
        let mut files: Vec<TlsFile> = self.files.values().map(|known| known.told.clone()).collect();
        files.sort_unstable_by(|a, b| (&a.path, a.file).cmp(&(&b.path, b.file)));
        files
    }

    /// Looks who of the processes has ended; what nobody has run for a while is let go.
    pub(super) fn sweep(&mut self, now_ns: u64, pids: impl Fn() -> Vec<u32>) -> Vec<Attachment> {
        let mut unheld: Vec<FileId> = Vec::new();
        let mut is_sought = false;
        for (file, known) in &mut self.files {
            let before = known.told.pids.len();
            let runs = |pid: &u32| std::fs::exists(format!("/proc/{pid}")).unwrap_or(true);
            known.told.pids.retain(runs);
            self.is_changed |= known.told.pids.len() < before && !known.is_probed();
            if known.told.pids.is_empty() {
                unheld.push(*file);
                is_sought |= !known.is_usual;
            }
        }
        if is_sought {
            self.find_holders(&unheld, pids());
        }
        let mut gone = Vec::new();
        for file in unheld {
            let Some(known) = self.files.get_mut(&file) else { continue };
            if !known.told.pids.is_empty() {
                continue;
            }
            let since_ns = *known.unused_since_ns.get_or_insert(now_ns);
            if now_ns - since_ns >= UNUSED_NS && !known.is_usual {
                gone.push(file);
            }
        }
        self.let_go(&gone)
    }

    /// Children hold what their parents mapped.
    fn find_holders(&mut self, unheld: &[FileId], pids: Vec<u32>) {
        for pid in pids {
            for mapping in maps::of_process(Path::new("/proc"), pid).unwrap_or_default() {
                if unheld.contains(&mapping.file) {
                    self.held_by(mapping.file, pid);
                }
            }
        }
    }

    /// The probed one that nobody has run for the longest time.
    pub(super) fn longest_unused(&self) -> Option<FileId> {
        let unused = self.files.iter().filter(|(_, known)| known.is_probed());
        let unused = unused.filter_map(|(file, known)| Some((known.unused_since_ns?, *file)));
        unused.min().map(|(_, file)| file)
    }

    /// Whether there are probes that are to go.
    pub(super) fn has_passing(&self) -> bool {
        self.files.values().any(|known| known.passing.is_some())
    }

    /// What held the probes whose time is over.
    pub(super) fn passed(&mut self, now_ns: u64) -> Vec<Attachment> {
        let is_over = |passing: &mut (u64, Vec<Attachment>)| passing.0 <= now_ns;
        let passed = self.files.values_mut().filter_map(|known| known.passing.take_if(is_over));
        passed.flat_map(|(_, attachments)| attachments).collect()
    }

    /// What held their probes.
    pub(super) fn let_go(&mut self, files: &[FileId]) -> Vec<Attachment> {
        self.is_changed |= !files.is_empty();
        let gone = files.iter().filter_map(|file| self.files.remove(file));
        gone.flat_map(Known::into_attachments).collect()
    }

    pub(super) fn into_attachments(self) -> Vec<Attachment> {
        self.files.into_values().flat_map(Known::into_attachments).collect()
    }
}

/// What is told of a file that cannot be probed.
pub(super) fn refused(told: TlsFile, error: &(dyn std::error::Error + 'static)) -> Known {
    refused_for(told, with_causes(error))
}

pub(super) fn refused_for(told: TlsFile, why: String) -> Known {
    let told = TlsFile { refused: Some(why), ..told };
    Known { told, attachments: Vec::new(), passing: None, unused_since_ns: None, is_usual: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64, pids: &[u32]) -> TlsFile {
        TlsFile {
            file: FileId { major: 8, minor: 1, inode },
            path: format!("/opt/{inode}"),
            library: "",
            pids: pids.to_vec(),
            functions: 0,
            refused: None,
        }
    }

    /// A file that cannot be probed names all who run it, and is forgotten once nobody does. Catches one that
    /// names its first process only, also when that has long ended.
    #[test]
    fn refused_files_name_who_runs_them() {
        let mut files = KnownFiles::default();
        let own = std::process::id();
        // No process has such a number.
        files.insert(refused_for(file(1, &[u32::MAX]), "why".to_string()));
        let id = file(1, &[]).file;
        assert!(files.held_by(id, own) && !files.held_by(file(2, &[]).file, own));
        assert_eq!(files.told()[0].pids, [u32::MAX, own]);
        assert!(files.sweep(1, Vec::new).is_empty());
        assert_eq!(files.told()[0].pids, [own]);
        (1..=HOLDERS_MAX as u32).for_each(|n| _ = files.held_by(id, u32::MAX - n));
        assert_eq!(files.told()[0].pids.len(), HOLDERS_MAX);
        files.sweep(2, Vec::new);
        assert_eq!((files.told()[0].pids.len(), files.refused_count()), (0, 1));
        files.sweep(2 + UNUSED_NS, Vec::new);
        assert_eq!(files.refused_count(), 0);
    }

    /// Room is made of what is probed and unused for longest, not of what is refused.
    #[test]
    fn room_is_made_of_the_unused() {
        let mut files = KnownFiles::default();
        files.insert(refused_for(file(1, &[]), "why".to_string()));
        for (inode, since_ns) in [(2, Some(9)), (3, Some(5)), (4, None)] {
            let told = file(inode, &[]);
            let attachments = Vec::new();
            let (passing, unused_since_ns) = (None, since_ns);
            files.insert(Known { told, attachments, passing, unused_since_ns, is_usual: false });
        }
        assert_eq!(files.longest_unused().map(|file| file.inode), Some(3));
        assert_eq!((files.probed_count(), files.refused_count()), (3, 1));
        files.forget_refused(|told| told.library == "openssl");
        assert_eq!(files.refused_count(), 1);
        files.forget_refused(|told| told.library.is_empty());
        assert_eq!((files.probed_count(), files.refused_count()), (3, 0));
    }
}
