//! What metadata functions asked for and is looked up only then: names of addresses (found by
//! [`crate::dns`]) and the libraries that a process maps.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use weir_types::Upid;
use weir_types::metadata::MetadataSnapshot;

use super::LocalMetadata;
use crate::proc::parse;

/// Processes whose libraries are known; of more, those not asked for the longest are forgotten.
const LIBRARIES_MAX: usize = 1_024;
/// Maps that are read at a time, about a millisecond each for a large process.
const MAPS_READ_MAX: usize = 16;
/// Libraries are read again after so many refreshes: a process may load more.
const LIBRARIES_REFRESHES: u64 = 30;

#[derive(Debug)]
struct Libraries {
    /// JSON array.
    text: String,
    read_refresh: u64,
    asked_refresh: u64,
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Address → name.
    names: HashMap<String, String>,
    libraries: HashMap<Upid, Libraries>,
    /// Asked for and still to be read, at most [`LIBRARIES_MAX`]; more are asked for again.
    unread: BTreeSet<Upid>,
}

impl Asked {
    pub(super) fn add_to(&self, snapshot: &mut MetadataSnapshot) {
        snapshot.dns.clone_from(&self.names);
        let libraries = self.libraries.iter();
        snapshot.libraries = libraries.map(|(upid, known)| (*upid, known.text.clone())).collect();
    }

    fn forget(&mut self) {
        if self.libraries.len() <= LIBRARIES_MAX {
            return;
        }
        let mut asked: Vec<(u64, Upid)> =
            self.libraries.iter().map(|(upid, known)| (known.asked_refresh, *upid)).collect();
        asked.sort_unstable();
        for (_, upid) in &asked[..asked.len() - LIBRARIES_MAX] {
            self.libraries.remove(upid);
        }
    }
}

impl LocalMetadata {
    /// Names of addresses from now on, in place of the former.
    pub fn set_names(&mut self, names: HashMap<String, String>) {
        if self.asked.names != names {
            self.asked.names = names;
            self.changed = true;
        }
    }

    /// Notes the libraries of these processes of this machine as wanted, and reads some of those that
    /// are not known or were read long ago. To be called again and again.
    pub fn read_libraries(&mut self, processes: &[Upid]) {
        let (asid, refreshes) = (self.machine.asid, self.refreshes);
        for &upid in processes.iter().filter(|upid| upid.asid() == asid) {
            if let Some(known) = self.asked.libraries.get_mut(&upid) {
                known.asked_refresh = refreshes;
                if refreshes - known.read_refresh < LIBRARIES_REFRESHES {
                    continue;
                }
            }
            if self.asked.unread.len() < LIBRARIES_MAX {
                self.asked.unread.insert(upid);
            }
        }
        for _ in 0..MAPS_READ_MAX {
            let Some(upid) = self.asked.unread.pop_first() else { break };
            let Some(text) = self.libraries_of(upid) else { continue };
            self.changed |= self.asked.libraries.get(&upid).is_none_or(|have| have.text != text);
            let read = Libraries { text, read_refresh: refreshes, asked_refresh: refreshes };
            self.asked.libraries.insert(upid, read);
        }
        self.asked.forget();
    }

    /// `None` if it is gone or may not be read.
    fn libraries_of(&mut self, upid: Upid) -> Option<String> {
        let info = self.lookup_now(upid.pid()).filter(|info| info.upid == upid)?;
        let maps = self.fs.read(upid.pid(), "maps").ok()?;
        let libraries = parse::mapped_code(maps, &info.exe);
        Some(serde_json::Value::from(libraries).to_string())
    }
}
