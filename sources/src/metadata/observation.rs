//! What capture saw of processes and connections, made small enough to wait in a queue. Nothing is
//! looked up here.

use weir_types::Upid;

use crate::capture::{CaptureEvent, Process};
use crate::conn::SocketOwner;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A process came to be, and runs what its parent runs.
    Forked { process: Process, parent: Process },
    /// It runs another program; arguments as in `/proc/PID/cmdline`, at most
    /// [`crate::capture::CMDLINE_BYTES_MAX`] bytes.
    Started { process: Process, comm: String, cmdline: Box<[u8]> },
    /// It ended.
    Ended { process: Process, comm: String },
    /// One end of a connection came into use, changed hands or was closed.
    End(SocketOwner),
    /// A row of this process is there.
    Mentioned(Upid),
}

impl Observation {
    /// What the event says about a process, if it does.
    #[must_use]
    pub fn of_process(event: &CaptureEvent<'_>) -> Option<Observation> {
        let text = |comm: &[u8]| {
            let name = comm.split(|byte| *byte == 0).next().unwrap_or(&[]);
            String::from_utf8_lossy(name).into_owned()
        };
        match event {
            CaptureEvent::Fork { at, parent } => {
                Some(Observation::Forked { process: at.process, parent: *parent })
            }
            CaptureEvent::Exec { at, cmdline, .. } => Some(Observation::Started {
                process: at.process,
                comm: text(&at.comm),
                cmdline: Box::from(*cmdline),
            }),
            CaptureEvent::Exit { at, .. } => {
                Some(Observation::Ended { process: at.process, comm: text(&at.comm) })
            }
            _ => None,
        }
    }

    /// What it takes in a queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = match self {
            Observation::Started { comm, cmdline, .. } => comm.capacity() + cmdline.len(),
            Observation::Ended { comm, .. } => comm.capacity(),
            _ => 0,
        };
        size_of::<Observation>() + texts
    }
}
