//! The folder of a sink's file, and other files beside it that belong to the sink: those that were put aside, each
//! named after the numbers of its elements. No link is followed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sink::{SEQ_END, SinkError};

use super::open::{failed, lock, make_folders, resolve, start_of};

/// Digits of a number in a name, so that names are in the order of numbers.
const DIGITS: usize = 20;

/// A name in parts: what numbers come between.
pub(crate) struct Name {
    stem: String,
    /// With its dot.
    extension: String,
}

impl Name {
    pub(crate) fn of(name: &str) -> Name {
        let at = name.rfind('.').filter(|at| *at > 0).unwrap_or(name.len());
        Name { stem: name[..at].to_string(), extension: name[at..].to_string() }
    }

    /// `STEM-NUMBER-NUMBER.EXTENSION`
    pub(crate) fn with(&self, numbers: &[u64]) -> String {
        let mut name = self.stem.clone();
        for number in numbers {
            name.push_str(&format!("-{number:0DIGITS$}"));
        }
        name + &self.extension
    }

    /// What all such names begin with.
    pub(crate) fn before_numbers(&self) -> String {
        format!("{}-", self.stem)
    }

    /// What is just before all names whose first number is this one, in the order of names.
    pub(crate) fn without_extension(&self, number: u64) -> String {
        format!("{}-{number:0DIGITS$}", self.stem)
    }

    /// The last of so many numbers in a name of ours.
    pub(crate) fn last_in(&self, name: &str, count: usize) -> Option<u64> {
        let middle =
            name.strip_prefix(self.stem.as_str())?.strip_suffix(self.extension.as_str())?;
        let numbers: Vec<&str> = middle.strip_prefix('-')?.split('-').collect();
        let is_number =
            |text: &&str| text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_digit());
        if numbers.len() != count || !numbers.iter().all(is_number) {
            return None;
        }
        numbers.last()?.parse().ok().filter(|number| *number < SEQ_END)
    }
}

pub(crate) struct Folder {
    fd: OwnedFd,
    shown: PathBuf,
}

impl Folder {
    /// The folder of a path, made if it is ours to make, and the path's last part.
    pub(crate) fn of(base: &Path, path: &Path) -> Result<(Folder, String), SinkError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| SinkError::Refused(format!("{} names no file", path.display())))?;
        let start = start_of(base)?;
        make_folders(&start, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat2(&start, parent, flags, Mode::empty(), resolve(path))
            .map_err(|error| failed(parent, error))?;
        Ok((Folder { fd, shown: parent.to_path_buf() }, name.to_string()))
    }

    fn failed(&self, name: &str, error: Errno) -> SinkError {
        failed(&self.shown.join(name), error)
    }

    fn opened(&self, name: &str, flags: OFlags) -> Result<OwnedFd, SinkError> {
        let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let no_links =
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
        fs::openat2(&self.fd, name, flags, Mode::RUSR | Mode::WUSR, no_links)
            .map_err(|error| self.failed(name, error))
    }

    /// Makes a file that is not there.
    pub(crate) fn create(&self, name: &str) -> Result<File, SinkError> {
        self.opened(name, OFlags::CREATE | OFlags::EXCL).map(File::from)
    }

    /// Nobody else has it as long as it is open.
    pub(crate) fn lock(&self, name: &str) -> Result<File, SinkError> {
        let file = self.opened(name, OFlags::CREATE)?;
        lock(&file, &self.shown.join(name))?;
        Ok(File::from(file))
    }

    /// Nothing that is there is replaced.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), SinkError> {
        fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE)
            .map_err(|error| self.failed(to, error))
    }

    /// Takes a name away: of a link the link, never what it leads to.
    pub(crate) fn remove(&self, name: &str) {
        let _not_there = fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Makes sure that names outlive a crash of the machine.
    pub(crate) fn sync(&self) {
        let _not_supported = fs::fsync(&self.fd);
    }

    /// What was put aside under such a name, by its last number.
    pub(crate) fn aside(&self, name: &Name, count: usize) -> Result<Vec<(u64, String)>, SinkError> {
        let all = fs::Dir::read_from(&self.fd).map_err(|error| self.failed("", error))?;
        let mut found = Vec::new();
        for entry in all {
            let entry = entry.map_err(|error| self.failed("", error))?;
            let Ok(have) = entry.file_name().to_str() else { continue };
            if let Some(seq) = name.last_in(have, count) {
                found.push((seq, have.to_string()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Of what was put aside only the newest so many stay.
    pub(crate) fn keep_newest(&self, name: &Name, count: usize, keep: usize) {
        let Ok(mut aside) = self.aside(name, count) else { return };
        aside.truncate(aside.len().saturating_sub(keep));
        for (_, old) in aside {
            self.remove(&old);
        }
    }
}
