//! What waits between a view and the other end of a sink, bounded in bytes: in memory ([`memory`]) or in
//! the data directory ([`disk`]). Elements go in behind and are taken out in front, in the order of their
//! numbers; what was taken is gone for good only when it is acknowledged. A gap in the numbers, because of
//! what was dropped or damaged, comes out as one `lost` element in its place. When it is full, what happens
//! is the [`crate::pipe::Intake`]'s to decide.

pub mod disk;
pub mod memory;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::element::{Body, Described, Element, Op};
use crate::sink::SinkError;

use self::disk::DiskBuffer;
use self::memory::MemoryBuffer;

/// What happens to what finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits, and the view keeps one net change for it.
    #[default]
    Block,
    /// What has waited longest makes room.
    DropOldest,
    DropNewest,
}

/// Where an element stood, to be acknowledged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    /// Of its end.
    pub offset: u64,
}

/// An element that was taken out, and what to say when it is safe.
#[derive(Clone, Debug)]
pub struct Taken {
    pub element: Element,
    pub place: Place,
}

/// What was found missing, besides what was dropped on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Elements that are not there any more.
    pub elements: u64,
    /// Pieces of files that could not be read, and files.
    pub parts: u64,
}

/// What went with processes before this one, because it was in memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Went {
    /// How many of them.
    pub times: u64,
    /// Up to this tick nothing did, with the last one.
    pub since_ms: u64,
}

/// Finds gaps, and knows which of them are meant.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// The number of the last element that came out, or was found missing.
    pub(crate) last_seq: u64,
    /// Dropped on purpose, not seen as a gap yet.
    pub(crate) dropped: u64,
    pub(crate) damage: Damage,
}

impl Gaps {
    /// Whatever is between the last one and this number is missing: says so, if there is something.
    pub(crate) fn up_to(
        &mut self,
        seq: u64,
        tick_ms: u64,
        output: &Arc<Described>,
    ) -> Option<Element> {
        let missing = seq.saturating_sub(self.last_seq);
        if missing == 0 {
            return None;
        }
        let meant = missing.min(self.dropped);
        self.dropped -= meant;
        self.damage.elements += missing - meant;
        self.last_seq = seq;
        let output = Arc::clone(output);
        Some(Element { output, op: Op::Lost, seq, tick_ms, body: Body::Rows(missing) })
    }
}

pub enum Buffer {
    Memory(MemoryBuffer),
    Disk(Box<DiskBuffer>),
}

impl Buffer {
    /// Behind all others. False: there is no room, and it was not taken.
    ///
    /// # Errors
    /// It could not be written; it was not taken.
    pub fn push(&mut self, element: &Element) -> Result<bool, SinkError> {
        match self {
            Buffer::Memory(memory) => Ok(memory.push(element)),
            Buffer::Disk(disk) => disk.push(element),
        }
    }

    /// The next number is this one, and nothing is missing before it.
    pub fn skip_to(&mut self, seq: u64) {
        match self {
            Buffer::Memory(memory) => memory.skip_to(seq),
            Buffer::Disk(disk) => disk.skip_to(seq),
        }
    }

    /// Before anything comes in: elements up to this number are at the other end. Whether there were more, which went
    /// with a process before this one.
    pub fn resume(&mut self, seq: u64) -> bool {
        match self {
            Buffer::Memory(memory) => memory.resume(seq),
            Buffer::Disk(_) => false,
        }
    }

    /// Up to this tick all is safe.
    pub fn note_safe(&mut self, safe_ms: u64) {
        match self {
            Buffer::Memory(memory) => memory.note_safe(safe_ms),
            Buffer::Disk(_) => {}
        }
    }

    #[must_use]
    pub fn went(&self) -> Went {
        match self {
            Buffer::Memory(memory) => memory.went(),
            Buffer::Disk(_) => Went::default(),
        }
    }

    /// Numbers of elements that were given and not pushed: they are dropped.
    pub fn note_dropped(&mut self, elements: u64) {
        match self {
            Buffer::Memory(memory) => memory.note_dropped(elements),
            Buffer::Disk(disk) => disk.note_dropped(elements),
        }
    }

    /// Drops some of what has waited longest, and says how many elements; 0: there is nothing to drop.
    pub fn drop_oldest(&mut self) -> u64 {
        match self {
            Buffer::Memory(memory) => memory.drop_oldest(),
            Buffer::Disk(disk) => disk.drop_oldest(),
        }
    }

    /// What was pushed outlives a crash of the machine from now on, if it outlives one at all.
    ///
    /// # Errors
    /// It could not be made sure.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        match self {
            Buffer::Memory(_) => Ok(()),
            Buffer::Disk(disk) => disk.sync(),
        }
    }

    /// What is in front, so many and about so many bytes at most; one at least, if there is one.
    ///
    /// # Errors
    /// It cannot be read just now.
    pub fn take(&mut self, rows_max: usize, bytes_max: u64) -> Result<Vec<Taken>, SinkError> {
        match self {
            Buffer::Memory(memory) => Ok(memory.take(rows_max, bytes_max)),
            Buffer::Disk(disk) => disk.take(rows_max, bytes_max),
        }
    }

    /// What was taken up to here is safe.
    pub fn ack(&mut self, taken: &[Taken]) {
        match self {
            Buffer::Memory(memory) => memory.ack(taken),
            Buffer::Disk(disk) => disk.ack(taken),
        }
    }

    /// Before elements up to this number are handed on.
    pub fn note_sent(&mut self, seq: u64) {
        match self {
            Buffer::Memory(memory) => memory.note_sent(seq),
            Buffer::Disk(disk) => disk.note_sent(seq),
        }
    }

    /// The highest number that was given to an element, also in former lives.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        match self {
            Buffer::Memory(memory) => memory.last_seq(),
            Buffer::Disk(disk) => disk.last_seq(),
        }
    }

    /// Not acknowledged.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Buffer::Memory(memory) => memory.bytes(),
            Buffer::Disk(disk) => disk.bytes(),
        }
    }

    /// Elements that are not acknowledged, and would go with this process.
    #[must_use]
    pub fn mortal(&self) -> u64 {
        match self {
            Buffer::Memory(memory) => memory.waiting(),
            Buffer::Disk(_) => 0,
        }
    }

    /// Nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Buffer::Memory(memory) => memory.is_empty(),
            Buffer::Disk(disk) => disk.is_empty(),
        }
    }

    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        match self {
            Buffer::Memory(memory) => memory.bytes_max(),
            Buffer::Disk(disk) => disk.bytes_max(),
        }
    }

    #[must_use]
    pub fn damage(&self) -> Damage {
        match self {
            Buffer::Memory(memory) => memory.damage(),
            Buffer::Disk(disk) => disk.damage(),
        }
    }
}
