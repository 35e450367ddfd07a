//! Reading files of a `/proc`-like directory: one path and one buffer, used again and again.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::parse;
use super::{ProcError, Units};

/// No file of a process is read beyond this (command lines and socket tables are the long ones).
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 20;
/// Pids are listed up to here; Linux allows 4 million.
const PIDS_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct ProcFs {
    root: PathBuf,
    buffer: Vec<u8>,
}

impl ProcFs {
    pub(crate) fn new(root: &Path) -> ProcFs {
        ProcFs { root: root.to_path_buf(), buffer: Vec::new() }
    }

    /// The pids that there are now, ascending.
    pub(crate) fn pids(&mut self, out: &mut Vec<u32>) -> Result<(), ProcError> {
        out.clear();
        let path = &self.root;
        let error = |source| ProcError::Read { path: path.clone(), source };
        for entry in std::fs::read_dir(path).map_err(error)?.flatten().take(PIDS_MAX) {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                out.push(pid);
            }
        }
        out.sort_unstable();
        Ok(())
    }

    /// A file of a process; the bytes are good until the next call.
    pub(crate) fn read(&mut self, pid: u32, name: &str) -> std::io::Result<&[u8]> {
        self.read_path(&format!("{pid}/{name}"))
    }

    /// A file by its path below the root.
    pub(crate) fn read_path(&mut self, path: &str) -> std::io::Result<&[u8]> {
        self.buffer.clear();
        let file = std::fs::File::open(self.root.join(path))?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut self.buffer)?;
        Ok(&self.buffer)
    }

    /// Where a link of a process points to.
    pub(crate) fn link(&self, pid: u32, name: &str) -> std::io::Result<PathBuf> {
        std::fs::read_link(self.root.join(format!("{pid}/{name}")))
    }

    /// The number in a link such as `net:[4026531840]` or `socket:[12345]`.
    pub(crate) fn link_number(&self, pid: u32, name: &str) -> Option<u64> {
        parse::bracketed(self.link(pid, name).ok()?.to_str()?)
    }

    /// The inodes of the sockets that a process holds, and how many descriptors were looked at. At
    /// most `fds_max` of them are.
    pub(crate) fn socket_inodes(&self, pid: u32, fds_max: usize, out: &mut Vec<u64>) -> usize {
        let Ok(entries) = std::fs::read_dir(self.root.join(format!("{pid}/fd"))) else { return 0 };
        let mut seen = 0;
        for entry in entries.flatten().take(fds_max) {
            seen += 1;
            let target = std::fs::read_link(entry.path()).ok();
            let text = target.as_deref().and_then(Path::to_str).unwrap_or("");
            if text.starts_with("socket:") {
                out.extend(parse::bracketed(text));
            }
        }
        seen
    }

    pub(crate) fn units(&mut self) -> Units {
        self.read_path("self/auxv").ok().and_then(parse::auxv).unwrap_or_default()
    }
}
