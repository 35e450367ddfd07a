//! Opening directories and files whose neighbours are not ours. The server runs as root, its
//! directory may lie where others write: nothing is opened by following a link that one of them may
//! have laid, and what was opened is judged by its descriptor, so that nothing can be swapped between
//! the look and the use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::failure::Failure;

/// Links in the way to a directory; the kernel's own limit.
const LINKS_MAX: usize = 40;
/// What others may write.
const WRITABLE: u32 = 0o022;
/// What others may read or write.
const SHARED: u32 = 0o077;

/// Whether a missing directory is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Leave,
}

/// How private a file has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Others may not read it.
    Secret,
    /// Others may not write it.
    Own,
}

/// (uid, gid) of who called sudo.
pub(super) fn sudo_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

/// Root, this process's user and who called sudo: nobody else is trusted with a directory.
fn is_trusted(uid: u32) -> bool {
    uid == 0
        || uid == rustix::process::geteuid().as_raw()
        || sudo_user().is_some_and(|(user, _)| user == uid)
}

fn failed(path: &Path, what: &str, error: Errno) -> Failure {
    let error = std::io::Error::from(error);
    Failure::No(format!("could not {what} {}: {error}; choose another --data-dir", path.display()))
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::No(format!("{} {why}", path.display()))
}

/// Gives what was just made to its owner.
fn hand_over(file: impl AsFd, path: &Path, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
    fs::fchown(file, Some(uid), Some(gid))
        .map_err(|error| failed(path, "change the owner of", error))
}

/// A directory that is ours alone.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    dir: OwnedFd,
    path: PathBuf,
    /// Its files belong to it.
    owner: (u32, u32),
}

impl PrivateDir {
    /// `None` if it is not there, or hidden from this user, and is not to be made.
    pub(crate) fn open(path: &Path, missing: Missing) -> Result<Option<PrivateDir>, Failure> {
        let Some(found) = walk(path, missing)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match fs::openat(&found, ".", flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ACCESS) if missing == Missing::Leave => return Ok(None),
            Err(error) => return Err(failed(path, "open", error)),
        };
        let stat = fs::fstat(&dir).map_err(|error| failed(path, "look at", error))?;
        if !is_trusted(stat.st_uid) {
            let why =
                format!("belongs to another user ({}): choose another --data-dir", stat.st_uid);
            return Err(refused(path, &why));
        }
        if stat.st_mode & WRITABLE != 0 {
            let why = "can be written by others: `chmod 700` it, or choose another --data-dir";
            return Err(refused(path, why));
        }
        let private =
            PrivateDir { dir, path: path.to_path_buf(), owner: (stat.st_uid, stat.st_gid) };
        if missing == Missing::Create && stat.st_mode & SHARED != 0 {
            private.close_to_others()?;
        }
        Ok(Some(private))
    }

    /// Mode 0700, unless it is somebody's directory for other things.
    fn close_to_others(&self) -> Result<(), Failure> {
        let entries =
            fs::Dir::read_from(&self.dir).map_err(|error| failed(&self.path, "read", error))?;
        let names: Vec<Vec<u8>> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()))
            .filter(|name| name != b"." && name != b"..")
            .collect();
        if !names.is_empty() && !names.iter().any(|name| name == b"token") {
            let why = "has other things in it and is open to others: name an empty or new \
                       directory as --data-dir";
            return Err(refused(&self.path, why));
        }
        fs::fchmod(&self.dir, Mode::RWXU).map_err(|error| failed(&self.path, "protect", error))
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its path without any link in it, for those who open by name and follow none.
    pub(super) fn real_path_of(&self, name: &str) -> Result<PathBuf, Failure> {
        let real = std::fs::canonicalize(&self.path)
            .map_err(|error| refused(&self.path, &format!("cannot be found: {error}")))?;
        Ok(real.join(name))
    }

    /// A file that is there, if it is a plain one, ours, and nobody else's business.
    pub(super) fn file(
        &self,
        name: &str,
        access: OFlags,
        privacy: Privacy,
    ) -> Result<Option<File>, Failure> {
        let path = self.path_of(name);
        // A pipe must not keep us waiting, nor a terminal become ours.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(refused(&path, "is a symbolic link: remove it, it is not followed"));
            }
            Err(error) => return Err(failed(&path, "open", error)),
        };
        let stat = fs::fstat(&file).map_err(|error| failed(&path, "look at", error))?;
        self.judge(&path, &stat, privacy)?;
        Ok(Some(File::from(file)))
    }

    fn judge(&self, path: &Path, stat: &Stat, privacy: Privacy) -> Result<(), Failure> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(path, "is not a plain file: remove it"));
        }
        if stat.st_nlink != 1 {
            return Err(refused(path, "has another name elsewhere (a hard link): remove it"));
        }
        if stat.st_uid != self.owner.0 {
            let why = format!(
                "belongs to user {}, its directory to user {}: remove it",
                stat.st_uid, self.owner.0
            );
            return Err(refused(path, &why));
        }
        let (bits, what) = match privacy {
            Privacy::Secret => (SHARED, "can be read or written by others"),
            Privacy::Own => (WRITABLE, "can be written by others"),
        };
        if stat.st_mode & bits != 0 {
            return Err(refused(path, &format!("{what}: `chmod 600` it, or remove it")));
        }
        Ok(())
    }

    /// The file's text, at most `bytes_max` of it.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<String>, Failure> {
        let Some(file) = self.file(name, OFlags::RDONLY, Privacy::Secret)? else { return Ok(None) };
        let path = self.path_of(name);
        let mut text = String::new();
        file.take(bytes_max + 1)
            .read_to_string(&mut text)
            .map_err(|error| refused(&path, &format!("cannot be read: {error}")))?;
        if text.len() as u64 > bytes_max {
            return Err(refused(&path, "is too long to be ours: remove it"));
        }
        Ok(Some(text))
    }

    /// Makes a file that was not there, 0600 and its directory's owner's. `None` if there is one.
    pub(super) fn create(&self, name: &str) -> Result<Option<File>, Failure> {
        let path = self.path_of(name);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Ok(None),
            Err(error) => return Err(failed(&path, "create", error)),
        };
        let me = rustix::process::geteuid().as_raw();
        hand_over(&file, &path, (self.owner.0 != me).then_some(self.owner))?;
        Ok(Some(File::from(file)))
    }

    /// Writes a file whole: readers see the old one or the new one.
    pub(super) fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let next = format!("{name}.new");
        match fs::unlinkat(&self.dir, &next, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(&self.path_of(&next), "remove", error)),
        }
        let path = self.path_of(name);
        let Some(mut file) = self.create(&next)? else {
            return Err(refused(&self.path_of(&next), "was made by somebody else just now"));
        };
        file.write_all(text.as_bytes())
            .map_err(|error| refused(&path, &format!("cannot be written: {error}")))?;
        fs::renameat(&self.dir, &next, &self.dir, name)
            .map_err(|error| failed(&path, "write", error))
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn start_of(path: &Path) -> Result<OwnedFd, Failure> {
    let start = if path.is_absolute() { "/" } else { "." };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(start, flags, Mode::empty()).map_err(|error| failed(Path::new(start), "open", error))
}

/// Goes to a directory step by step. Links on the way are followed if root or this user has laid
/// them; the last step never is one.
fn walk(path: &Path, missing: Missing) -> Result<Option<OwnedFd>, Failure> {
    let mut todo: Vec<OsString> = parts(path).rev().collect();
    let mut at = start_of(path)?;
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match fs::openat(&at, &name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if missing == Missing::Create => {
                at = make(&at, &name, path, todo.is_empty())?;
                continue;
            }
            Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) if missing == Missing::Leave => {
                return Ok(None);
            }
            Err(error) => return Err(failed(path, "open", error)),
        };
        let stat = fs::fstat(&next).map_err(|error| failed(path, "look at", error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => at = next,
            FileType::Symlink if todo.is_empty() => {
                return Err(refused(path, "is a symbolic link: name the directory itself"));
            }
            FileType::Symlink => {
                let me = rustix::process::geteuid().as_raw();
                links += 1;
                if (stat.st_uid != 0 && stat.st_uid != me) || links > LINKS_MAX {
                    let name = Path::new(&name).display();
                    let why =
                        format!("is behind a symbolic link (`{name}`) that another user laid");
                    return Err(refused(path, &why));
                }
                let target = fs::readlinkat(&next, "", Vec::new())
                    .map_err(|error| failed(path, "follow the way to", error))?;
                let target = PathBuf::from(os_string(target.into_bytes()));
                if target.is_absolute() {
                    at = start_of(&target)?;
                }
                todo.extend(parts(&target).rev());
            }
            _ => return Err(refused(path, "is no directory: choose another --data-dir")),
        }
    }
    Ok(Some(at))
}

fn os_string(bytes: Vec<u8>) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes)
}

/// Makes one directory; what is new belongs to the invoking user, also under sudo.
fn make(parent: &OwnedFd, name: &OsStr, path: &Path, last: bool) -> Result<OwnedFd, Failure> {
    let mode = if last { Mode::RWXU } else { Mode::from_raw_mode(0o755) };
    match fs::mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(path, "create", error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = fs::openat(parent, name, flags, Mode::empty())
        .map_err(|error| failed(path, "open", error))?;
    let stat = fs::fstat(&dir).map_err(|error| failed(path, "look at", error))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "was made by another user just now"));
    }
    hand_over(&dir, path, sudo_user())?;
    Ok(dir)
}
