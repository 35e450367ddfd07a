//! Processes whose libraries `shared_libraries` was asked for. The maps of every process at all
//! times would be too much to read: the function notes the processes here, known or not; whoever
//! reads maps takes the notes and puts libraries into the metadata snapshot.

use weir_types::Upid;

use crate::notes::Notes;

/// As many processes are noted at a time.
pub const WANTED_MAX: usize = 1024;

static WANTED: Notes<Upid> = Notes::new(WANTED_MAX);

pub(crate) fn want(processes: &[Upid]) {
    WANTED.add(processes);
}

/// The processes noted since the last time.
#[must_use]
pub fn take_wanted() -> Vec<Upid> {
    WANTED.take()
}
