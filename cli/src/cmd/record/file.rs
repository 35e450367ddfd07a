//! The file of a recording. Recording needs root, and the path may lie where others write: no link is followed, and
//! what was opened is judged by its descriptor. Nothing that is in it is touched here.

use std::fs::File;
use std::path::Path;

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

/// What others may read or write: what is said on this machine is nobody else's.
const SHARED: u32 = 0o077;

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// It was not there before.
    pub(super) is_new: bool,
}

fn said(what: &str, error: Errno) -> String {
    format!("{what}: {}", std::io::Error::from(error))
}

/// Opens it, made 0600 if it is not there, and locks it until it is closed; or why not, as the end of a sentence that
/// begins with its name.
pub(super) fn open(path: &Path) -> Result<Opened, String> {
    // A pipe must not keep us waiting, nor a terminal become ours.
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = |flags| fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let (found, is_new) = match opened(flags | OFlags::CREATE | OFlags::EXCL) {
        Err(Errno::EXIST) => (opened(flags), false),
        made => (made, true),
    };
    let file = found.map_err(|error| match error {
        Errno::LOOP => {
            "is a symbolic link, which is not followed: name the file itself".to_string()
        }
        // A pipe without a reader, a socket, a device that is not there, a directory.
        Errno::NXIO | Errno::ISDIR => "is no plain file".to_string(),
        error => said("could not be opened", error),
    })?;
    let stat = fs::fstat(&file).map_err(|error| said("could not be looked at", error))?;
    judge(&stat)?;
    // Two recordings would mix in it.
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Opened { file: File::from(file), is_new }),
        Err(Errno::WOULDBLOCK) => Err("is being written by another process".to_string()),
        Err(error) => Err(said("could not be locked", error)),
    }
}

fn judge(stat: &Stat) -> Result<(), String> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is no plain file".to_string());
    }
    if stat.st_nlink != 1 {
        return Err("has another name elsewhere (a hard link): name a new file".to_string());
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(format!("belongs to another user ({}): name a new file", stat.st_uid));
    }
    if stat.st_mode & SHARED != 0 {
        return Err("can be read or written by others: `chmod 600` it".to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Only a plain file of ours that nobody else can read is taken, through no link, by one at a time; what it holds
    /// stays. Catches a recording that follows what another user laid, or empties a file before it is to be written.
    #[test]
    fn only_a_file_of_ours_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = open(&at("new")).unwrap();
        assert!(made.is_new);
        let mode = std::fs::metadata(at("new")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(open(&at("new")).unwrap_err().contains("another process"));
        drop(made);
        std::fs::write(at("new"), "kept").unwrap();
        assert!(!open(&at("new")).unwrap().is_new);

        std::fs::write(at("victim"), "kept").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        std::fs::write(at("open"), "kept").unwrap();
        std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(at("one"), "kept").unwrap();
        std::fs::set_permissions(at("one"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::hard_link(at("one"), at("two")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        for (name, wanted) in [
            ("link", "symbolic link"),
            ("dangling", "symbolic link"),
            ("open", "chmod 600"),
            ("two", "hard link"),
            ("pipe", "no plain file"),
            ("", "no plain file"),
            ("nowhere/x", "could not be opened"),
        ] {
            let why = open(&at(name)).unwrap_err();
            assert!(why.contains(wanted), "{name}: {why}");
        }
        assert!(!at("nothing").try_exists().unwrap());
        for name in ["new", "victim", "open", "one"] {
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "kept", "{name}");
        }
    }
}
