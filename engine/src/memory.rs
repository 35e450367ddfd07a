//! How much memory the process may use: what limits are derived from. Read once, at the start of an engine's
//! owner.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

const MEMINFO: &str = "/proc/meminfo";
const OWN_GROUPS: &str = "/proc/self/cgroup";
const GROUPS: &str = "/sys/fs/cgroup";

/// The machine's memory, or less if a control group says so. `None` if neither can be read.
pub(crate) fn usable_bytes() -> Option<u64> {
    let of_groups = read_to_string(OWN_GROUPS).ok().and_then(|own| group_limit(&own, GROUPS));
    let of_machine = read_to_string(MEMINFO).ok().and_then(|text| total_bytes(&text));
    [of_groups, of_machine].into_iter().flatten().min()
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the groups that the process is in, and of those above them.
fn group_limit(own: &str, groups: impl AsRef<Path>) -> Option<u64> {
    let mut least = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, file) = match (id, controllers) {
            ("0", "") => (groups.as_ref().to_path_buf(), "memory.max"),
            (_, "memory") => (groups.as_ref().join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut group: PathBuf = root.join(path.trim_start_matches('/'));
        while group.starts_with(&root) {
            // "max" is no number.
            let limit = read_to_string(group.join(file)).ok();
            let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit].into_iter().flatten().min();
            if !group.pop() {
                break;
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit is the least on the way to the root, in both kinds of control groups; no limit is none.
    #[test]
    fn the_least_limit_counts() {
        let root = std::env::temp_dir().join(format!("weir-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/memory.max", "4000\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "3000\n");
        let limit = |own: &str| group_limit(own, &root);
        assert_eq!(limit("0::/a/b\n"), Some(4000));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("7:cpu:/c\n6:memory:/c\n0::/a\n"), Some(3000));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(total_bytes("MemFree: 1 kB\nMemTotal:  16 kB\n"), Some(16_384));
        assert!(usable_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
