//! Opens files of others: what stands in a library's place may be anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::maps::{FileId, Mapping};

/// An open file of a descriptor that the kernel's calls take as a path.
pub(super) fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens a file that somebody else has put there: what is none is looked at, never opened. A pipe would be
/// waited for, and devices do things when they are opened.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path_of(&place))
}

/// The mapped file itself, whatever has its path by now: through the mapping where that is allowed, else by
/// its path in the process's own tree of files.
pub(super) fn open_mapped(proc: &Path, pid: u32, mapping: &Mapping) -> io::Result<File> {
    let Mapping { path, start, end, file: FileId { inode, .. } } = mapping;
    if let Ok(file) = open_regular(&proc.join(format!("{pid}/map_files/{start:x}-{end:x}"))) {
        return Ok(file);
    }
    let file = open_regular(&proc.join(format!("{pid}/root{path}")))?;
    if file.metadata()?.ino() != *inode {
        return Err(io::Error::other("another file has its name by now"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe, a folder or a device in a library's place is refused at once. Catches a process that stops the
    /// prober by a file which never opens.
    #[test]
    fn only_regular_files_are_opened() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("libssl.so.3");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        let mapping = Mapping {
            file: FileId::default(),
            path: pipe.to_string_lossy().into_owned(),
            start: 0,
            end: 0,
        };
        let pid = std::process::id();
        assert!(open_mapped(Path::new("/proc"), pid, &mapping).is_err());
        assert!(open_regular(place.path()).is_err() && open_regular("/dev/null".as_ref()).is_err());
        std::fs::remove_file(&pipe).unwrap();
        std::fs::write(&pipe, "x").unwrap();
        assert!(open_regular(&pipe).is_ok());
        let another = open_mapped(Path::new("/proc"), pid, &mapping);
        assert!(another.is_err_and(|error| error.to_string().contains("another file")));
    }
}
