//! The folder of one sink in the data directory. The server may run as root: no link is followed, and what
//! is opened is a plain file of ours, judged by its descriptor.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sink::SinkError;

/// What others may write.
const WRITABLE: u32 = 0o022;
const PLAIN: OFlags =
    OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

pub struct BufferDir {
    path: PathBuf,
    fd: OwnedFd,
}

fn failed(what: &str, error: Errno) -> SinkError {
    let text = format!("buffer {what}: {}", std::io::Error::from(error));
    match error {
        Errno::LOOP | Errno::NOTDIR => SinkError::Refused(format!(
            "buffer {what}: there is a link or a file where a folder of ours should be: move it away"
        )),
        Errno::NOSPC | Errno::DQUOT => SinkError::Full(text),
        _ => SinkError::Retry(text),
    }
}

fn resolve() -> ResolveFlags {
    ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH
}

impl BufferDir {
    /// The folder `sinks/NAME` below the data directory, made if it is not there.
    ///
    /// # Errors
    /// It is a link, or cannot be made.
    pub fn open(data_dir: &Path, name: &str) -> Result<BufferDir, SinkError> {
        let shown = data_dir.join("sinks").join(name);
        let at = shown.display().to_string();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd =
            fs::open(data_dir, flags, Mode::empty()).map_err(|error| failed(&at, error))?;
        for part in ["sinks", name] {
            match fs::mkdirat(&fd, part, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(&at, error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fd = fs::openat2(&fd, part, flags, Mode::empty(), resolve())
                .map_err(|error| failed(&at, error))?;
        }
        let stat = fs::fstat(&fd).map_err(|error| failed(&at, error))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & WRITABLE != 0 {
            return Err(SinkError::Refused(format!(
                "buffer {at}: the folder belongs to another user, or others may write in it"
            )));
        }
        Ok(BufferDir { path: shown, fd })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn checked(&self, name: &str, file: OwnedFd) -> Result<File, SinkError> {
        let stat = fs::fstat(&file).map_err(|error| self.failed(name, error))?;
        let is_plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_ours = stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_nlink == 1
            && stat.st_mode & WRITABLE == 0;
        if !is_plain || !is_ours {
            let at = self.path.join(name);
            return Err(SinkError::Refused(format!(
                "buffer {}: no plain file of ours: move it away",
                at.display()
            )));
        }
        Ok(File::from(file))
    }

    fn failed(&self, name: &str, error: Errno) -> SinkError {
        failed(&self.path.join(name).display().to_string(), error)
    }

    /// # Errors
    /// It is not there, or no plain file of ours.
    pub fn open_file(&self, name: &str) -> Result<File, SinkError> {
        let file = fs::openat2(&self.fd, name, PLAIN, Mode::empty(), resolve())
            .map_err(|error| self.failed(name, error))?;
        self.checked(name, file)
    }

    /// # Errors
    /// It cannot be made, or what is there is no plain file of ours.
    pub fn open_or_create(&self, name: &str) -> Result<File, SinkError> {
        let flags = PLAIN | OFlags::CREATE;
        let file = fs::openat2(&self.fd, name, flags, Mode::RUSR | Mode::WUSR, resolve())
            .map_err(|error| self.failed(name, error))?;
        self.checked(name, file)
    }

    /// # Errors
    /// It is there already, or cannot be made.
    pub fn create(&self, name: &str) -> Result<File, SinkError> {
        let flags = PLAIN | OFlags::CREATE | OFlags::EXCL;
        let file = fs::openat2(&self.fd, name, flags, Mode::RUSR | Mode::WUSR, resolve())
            .map_err(|error| self.failed(name, error))?;
        Ok(File::from(file))
    }

    /// Takes a name away: of a link the link, never what it leads to.
    pub fn remove(&self, name: &str) {
        let _not_there = fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Makes sure that a new name outlives a crash of the machine.
    pub fn sync(&self) {
        let _not_supported = fs::fsync(&self.fd);
    }

    /// Names, and the lengths of those that are plain files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> Result<Vec<(String, u64)>, SinkError> {
        let all = fs::Dir::read_from(&self.fd).map_err(|error| self.failed("", error))?;
        let mut names = Vec::new();
        for entry in all {
            let entry = entry.map_err(|error| self.failed("", error))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            let len = stat.ok().and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0);
            names.push((name.to_string(), len));
        }
        Ok(names)
    }
}
