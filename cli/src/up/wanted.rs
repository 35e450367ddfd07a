//! What `--trace` means.

use std::os::unix::fs::MetadataExt;

use weir_types::source::CaptureFilters;

use crate::failure::Failure;

/// `pid:N`, `port:N`, `cgroup:PATH`; none: everything.
pub(crate) fn parse(given: &[String]) -> Result<CaptureFilters, Failure> {
    let mut wanted = CaptureFilters::default();
    for what in given {
        let wrong =
            || Failure::Usage(format!("--trace {what}: write pid:N, port:N or cgroup:PATH"));
        match what.split_once(':').ok_or_else(wrong)? {
            ("pid", pid) => {
                wanted.pids.insert(pid.parse().map_err(|_| wrong())?);
            }
            ("port", port) => {
                wanted.ports.insert(port.parse().map_err(|_| wrong())?);
            }
            ("cgroup", path) => {
                let found = std::fs::metadata(path)
                    .map_err(|error| Failure::Usage(format!("--trace {what}: {error}")))?;
                wanted.cgroup_ids.insert(found.ino());
            }
            _ => return Err(wrong()),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three forms, and what is wrong with others.
    #[test]
    fn forms() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let wanted = parse(&words("pid:7 port:80 port:81")).unwrap();
        assert_eq!(wanted.ports.into_iter().collect::<Vec<_>>(), [80, 81]);
        assert!(wanted.pids.contains(&7));
        for bad in ["80", "port:x", "what:1", "cgroup:/nonexistent"] {
            assert!(matches!(parse(&words(bad)), Err(Failure::Usage(_))), "{bad}");
        }
    }
}
