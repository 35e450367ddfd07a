//! Which files a process runs code of, by its table of mappings.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of one process's table that are read: those of large ones have 2 MB.
const MAPS_BYTES_MAX: u64 = 8 << 20;

/// A file, whatever it is called: as the kernel's tables of mappings name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
}

/// A file that a process runs code of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) file: FileId,
    /// As the process itself would name it.
    pub(super) path: String,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The mappings with code in a process. Each file once.
pub(super) fn of_process(proc: &Path, pid: u32) -> io::Result<Vec<Mapping>> {
    let mut text = Vec::new();
    File::open(proc.join(format!("{pid}/maps")))?.take(MAPS_BYTES_MAX).read_to_end(&mut text)?;
    let mut found: Vec<Mapping> = Vec::new();
    for mapping in String::from_utf8_lossy(&text).lines().filter_map(parse) {
        if found.iter().all(|other| other.file != mapping.file) {
            found.push(mapping);
        }
    }
    Ok(found)
}

/// `start-end perms offset major:minor inode path`.
fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()?.as_bytes().get(2) == Some(&b'x');
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next()?.trim_start();
    if !is_code || inode == 0 {
        return None;
    }
    let hex32 = |text| u32::from_str_radix(text, 16).ok();
    let hex64 = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        file: FileId { major: hex32(major)?, minor: hex32(minor)?, inode },
        path: path.to_string(),
        start: hex64(start)?,
        end: hex64(end)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only code of files counts, names keep their blanks, and lines that are none give nothing.
    #[test]
    fn mappings() {
        let line = "7f3a-7f4b r-xp 00023000 fe:01 1234    /opt/my app/libssl.so.3 (deleted)";
        let expected = Mapping {
            file: FileId { major: 0xfe, minor: 1, inode: 1234 },
            path: "/opt/my app/libssl.so.3 (deleted)".to_string(),
            start: 0x7f3a,
            end: 0x7f4b,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(&line.replace("r-xp", "r--p")), None);
        for line in ["", "x", "1-2 r-xp 0 0:0 0 [vdso]", "1-2 r-xp", "1-2 r-xp 0 zz:1 5 /x"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    /// This process runs its own program's code, and its file is told once.
    #[test]
    fn of_this_process() {
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let found = of_process(Path::new("/proc"), std::process::id()).unwrap();
        let is_exe = |mapping: &&Mapping| mapping.path == exe.to_string_lossy();
        assert_eq!(found.iter().filter(is_exe).count(), 1);
    }
}
