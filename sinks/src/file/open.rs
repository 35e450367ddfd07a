//! Opening a sink's file. The server may run as root and the path may lie where others write: no link is
//! followed, a relative path stays below its beginning, and what was opened is judged by its descriptor.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::encode::Codec;
use crate::sink::SinkError;

/// A line of ours is shorter.
const TAIL_BYTES_MAX: u64 = 4 << 20;
/// What others may write.
const WRITABLE: u32 = 0o022;

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

pub(super) struct Opened {
    pub(super) file: File,
    pub(super) identity: Identity,
    /// Of its whole records.
    pub(super) len: u64,
    /// The last of them.
    pub(super) last: String,
    /// Behind them is half a one, left by a crash.
    pub(super) has_half: bool,
}

pub(super) fn failed(path: &Path, error: Errno) -> SinkError {
    let at = path.display();
    match error {
        Errno::LOOP => SinkError::Refused(format!(
            "{at}: there is a symbolic link on the way, and links are not followed: write the real path"
        )),
        Errno::XDEV => SinkError::Refused(format!(
            "{at} leads out of the configuration file's folder: write an absolute path"
        )),
        // With O_NONBLOCK: a pipe without a reader.
        Errno::NXIO | Errno::ISDIR => SinkError::Refused(format!("{at} is no plain file")),
        Errno::NOSPC | Errno::DQUOT => SinkError::Full(format!("could not open {at}: {error}")),
        _ => SinkError::Retry(format!("could not open {at}: {}", std::io::Error::from(error))),
    }
}

pub(super) fn resolve(path: &Path) -> ResolveFlags {
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if path.is_absolute() { no_links } else { no_links | ResolveFlags::BENEATH }
}

pub(super) fn start_of(base: &Path) -> Result<OwnedFd, SinkError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(base, flags, Mode::empty()).map_err(|error| failed(base, error))
}

fn identity_of(file: impl AsFd) -> Option<Identity> {
    let stat = fs::fstat(file).ok()?;
    Some(Identity { device: stat.st_dev, inode: stat.st_ino })
}

/// Which file is at the path now; `None`: none that could be looked at.
pub(super) fn identity_at(base: &Path, path: &Path) -> Option<Identity> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let start = start_of(base).ok()?;
    let file = fs::openat2(&start, path, flags, Mode::empty(), resolve(path)).ok()?;
    identity_of(file)
}

/// The file has no name any more.
pub(super) fn is_removed(file: &File) -> bool {
    fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Makes the folders of a relative path, ours alone.
pub(super) fn make_folders(start: &OwnedFd, path: &Path) -> Result<(), SinkError> {
    let Some(parent) = path.parent().filter(|_| path.is_relative()) else { return Ok(()) };
    let mut at = std::path::PathBuf::new();
    for part in parent.components() {
        let Component::Normal(name) = part else { return Ok(()) };
        at.push(name);
        match fs::mkdirat(start, &at, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(&at, error)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat2(start, &at, flags, Mode::empty(), resolve(&at))
            .map_err(|error| failed(&at, error))?;
    }
    Ok(())
}

/// Opens the file, made 0600 if it is not there, and locks it until it is closed.
pub(super) fn open(base: &Path, path: &Path, codec: Codec) -> Result<Opened, SinkError> {
    let start = start_of(base)?;
    make_folders(&start, path)?;
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = fs::openat2(&start, path, flags, Mode::RUSR | Mode::WUSR, resolve(path))
        .map_err(|error| failed(path, error))?;
    let stat = fs::fstat(&file).map_err(|error| failed(path, error))?;
    let refused = |why: &str| Err(SinkError::Refused(format!("{} {why}", path.display())));
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refused("is no plain file");
    }
    if stat.st_nlink > 1 {
        return refused("has another name elsewhere (a hard link)");
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return refused("belongs to another user");
    }
    if stat.st_mode & WRITABLE != 0 {
        return refused("can be written by others: `chmod 600` it");
    }
    lock(&file, path)?;
    let mut file = File::from(file);
    let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
    let (len, last) = whole_records(&mut file, path, codec)?;
    let has_half = stat_len(&file, path)? > len;
    Ok(Opened { file, identity, len, last, has_half })
}

/// Two writers would mix their lines: the second waits until the first has gone.
pub(super) fn lock(file: impl AsFd, path: &Path) -> Result<(), SinkError> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(SinkError::Retry(format!(
            "{} is written to by another process or sink, which holds a lock on it: give each its own path",
            path.display()
        ))),
        Err(error) => Err(failed(path, error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SinkError {
    SinkError::Retry(format!("could not read {}: {error}", path.display()))
}

fn stat_len(file: &File, path: &Path) -> Result<u64, SinkError> {
    Ok(file.metadata().map_err(|error| unreadable(path, &error))?.len())
}

/// The length of the whole records, and the last of them.
fn whole_records(file: &mut File, path: &Path, codec: Codec) -> Result<(u64, String), SinkError> {
    let len = stat_len(file, path)?;
    let from = len.saturating_sub(TAIL_BYTES_MAX);
    // A line end within quotes ends no record. Whether the tail begins within some only all before it tells.
    let mut quoted = codec == Codec::Csv
        && quotes_before(file, from).map_err(|error| unreadable(path, &error))? % 2 == 1;
    file.seek(SeekFrom::Start(from)).map_err(|error| unreadable(path, &error))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail).map_err(|error| unreadable(path, &error))?;
    // Where the last record begins and ends.
    let (mut begin, mut end) = (0, None);
    for (at, byte) in tail.iter().enumerate() {
        match byte {
            b'"' if codec == Codec::Csv => quoted = !quoted,
            b'\n' if !quoted => {
                begin = end.map_or(0, |end: usize| end + 1);
                end = Some(at);
            }
            _ => {}
        }
    }
    let Some(end) = end else {
        if len > 0 && !begins_as_ours(&tail, codec) {
            let why = "does not consist of lines of ours: move it away";
            return Err(SinkError::Refused(format!("{} {why}", path.display())));
        }
        return Ok((0, String::new()));
    };
    let whole = from + end as u64 + 1;
    Ok((whole, String::from_utf8_lossy(&tail[begin..end]).into_owned()))
}

/// True for what a crash may leave of the very first line.
fn begins_as_ours(text: &[u8], codec: Codec) -> bool {
    let ours: &[u8] = match codec {
        Codec::Json => b"{\"op\":\"",
        Codec::Csv => b"op,seq,tick",
    };
    text.starts_with(ours) || ours.starts_with(text)
}

/// Quotes before a position, read in pieces.
fn quotes_before(file: &mut File, end: u64) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut before = file.take(end);
    let (mut piece, mut quotes) = (vec![0; 64 << 10], 0);
    loop {
        match before.read(&mut piece)? {
            0 => return Ok(quotes),
            n => quotes += piece[..n].iter().filter(|byte| **byte == b'"').count() as u64,
        }
    }
}
