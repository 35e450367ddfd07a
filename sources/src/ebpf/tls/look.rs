//! What TLS a process has, for whoever asks about one process: looks, changes nothing.

use std::io;
use std::path::Path;

use super::library;
use super::maps;
use super::opened::open_mapped;
use super::programs;
use weir_types::text::with_causes;

/// A file of a process that may have TLS in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsLook {
    pub path: String,
    pub file: maps::FileId,
    /// Empty if none of its functions is known.
    pub library: &'static str,
    /// Functions that can be probed.
    pub functions: usize,
    /// Why they cannot.
    pub reason: Option<String>,
}

/// The files of a process that may have TLS in them.
///
/// # Errors
/// The process's mappings cannot be read.
pub fn look(proc: &Path, pid: u32) -> io::Result<Vec<TlsLook>> {
    let exe = std::fs::read_link(proc.join(format!("{pid}/exe"))).unwrap_or_default();
    let exe = exe.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for mapping in maps::of_process(proc, pid)? {
        let is_program = mapping.path == exe;
        let closed = library::why_closed(&mapping.path);
        if closed.is_none() && !library::may_have_tls(&mapping.path, is_program) {
            continue;
        }
        let mut unknown = None;
        let points = open_mapped(proc, pid, &mapping)
            .map_err(|error| with_causes(&error))
            .and_then(|file| {
                let points = library::points(&file).map_err(|error| with_causes(&error))?;
                if points.library.is_empty() {
                    unknown = closed.or_else(|| library::why_unknown(&file));
                }
                Ok(points)
            });
        let (library, functions, reason) = match points {
            Ok(points) if points.library.is_empty() => match unknown {
                Some(why) => ("", 0, Some(why.to_string())),
                // Most files of such names, and most programs, have no TLS in them.
                None => continue,
            },
            Ok(points) => {
                let harm = programs::harm(&points).map(str::to_string);
                (points.library, points.functions(), harm)
            }
            Err(reason) => ("", 0, Some(reason)),
        };
        let (path, file) = (mapping.path, mapping.file);
        found.push(TlsLook { path, file, library, functions, reason });
    }
    Ok(found)
}
