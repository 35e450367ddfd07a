//! What this process and its machine say of themselves, for the diagnostics that table functions
//! give: `/proc/self`, kernel headers, the machine's address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::metadata::local_addresses;
use crate::proc::fs::ProcFs;
use crate::proc::parse;

/// Mappings that are told of; a process with more is not told of in full.
pub const MAPPINGS_MAX: usize = 4_096;

/// One mapping of `/proc/self/smaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// `begin-end` in hex.
    pub address: String,
    pub offset: String,
    pub pathname: String,
    /// Field name, as the kernel writes it → bytes.
    pub fields: BTreeMap<String, i64>,
}

/// Reads this process's own files.
pub struct OwnProcess {
    fs: ProcFs,
    root: PathBuf,
}

impl OwnProcess {
    /// `root`: `/`, or a directory that looks like it.
    #[must_use]
    pub fn new(root: &Path) -> OwnProcess {
        OwnProcess { fs: ProcFs::new(&root.join("proc")), root: root.to_path_buf() }
    }

    /// Fields of `/proc/self/status` that are numbers; sizes in bytes.
    pub fn status(&mut self) -> BTreeMap<String, i64> {
        self.fs.read_path("self/status").map(parse::number_fields).unwrap_or_default()
    }

    /// When it started, in clock ticks since boot: part of its UPID.
    pub fn start_ticks(&mut self) -> Option<u64> {
        let stat = self.fs.read_path("self/stat").ok().and_then(parse::stat)?;
        Some(stat.start_ticks)
    }

    /// `/proc/self/smaps`, at most [`MAPPINGS_MAX`].
    pub fn mappings(&mut self) -> Vec<Mapping> {
        let text = self.fs.read_path("self/smaps").unwrap_or_default();
        parse::smaps(text, MAPPINGS_MAX)
    }

    /// True if the headers of the running kernel are where packages put them.
    pub fn kernel_headers_installed(&mut self) -> bool {
        let release = self.fs.read_path("sys/kernel/osrelease").map(String::from_utf8_lossy);
        let Ok(release) = release.map(|text| text.trim().to_string()) else { return false };
        let places = [
            format!("lib/modules/{release}/build"),
            format!("lib/modules/{release}/source"),
            format!("usr/src/linux-headers-{release}"),
        ];
        places.iter().any(|place| std::fs::metadata(self.root.join(place)).is_ok())
    }
}

/// The address by which others reach this machine: the first that is not loopback, IPv4 before
/// IPv6; loopback if there is no other.
#[must_use]
pub fn machine_address() -> Option<IpAddr> {
    let addresses = local_addresses();
    let outside = |address: &&IpAddr| !address.is_loopback();
    let v4 = addresses.iter().filter(outside).find(|address| address.is_ipv4());
    v4.or_else(|| addresses.iter().find(outside)).or_else(|| addresses.first()).copied()
}
