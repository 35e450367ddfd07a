//! From deliveries to the other end: an [`Intake`] makes elements of what views deliver and puts them into
//! the buffer; a [`Pump`] takes them out in batches and has a writer write them, on a thread that may block.
//! Neither waits for the other, but for room. No views and no subscriptions here.

mod intake;
mod pump;
#[cfg(test)]
pub(crate) mod tests;
mod thread;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use weir_types::{Clock, WallClock};

use crate::buffer::{Buffer, Taken, WhenFull};
use crate::element::{Element, Op};
use crate::encode::Mode;
use crate::sink::{Resume, SinkHealth};

pub use self::intake::{Filled, Intake};
pub use self::pump::{Pump, Pumped};
pub use self::thread::{PumpEvent, PumpThread};

/// How elements leave: so many rows, about so many bytes, or as many as there are after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows_max: usize,
    pub bytes_max: u64,
    /// Zero: whatever is there when the writer is free.
    pub timeout: Duration,
}

/// Waits between attempts: from this, doubling, to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

/// What intake and pump share. The buffer may be busy with a disk; what it says of itself is never waited for.
pub struct Shared {
    state: Mutex<State>,
    health: Mutex<SinkHealth>,
    bytes_max: u64,
    /// How often the other end became another place, which knows nothing of what was written so far.
    moves: AtomicU64,
    /// The buffer has room again.
    room: Notify,
    /// Something came, or it is asked to stop.
    work: std::sync::Condvar,
}

struct State {
    buffer: Buffer,
    /// Taken out by the pump and not safe yet, in front of the buffer: another pump goes on with them.
    in_flight: Vec<Taken>,
    /// Per input the tick up to which it was told, with the number of its last element then.
    told: BTreeMap<u16, Vec<(u64, u64)>>,
    /// Per input the tick up to which all is safe.
    acked: BTreeMap<u16, u64>,
    inputs: u16,
    is_stopping: bool,
    /// Which pump it is that counts: one that was replaced may still be in its last write.
    generation: u64,
}

impl Shared {
    fn new(buffer: Buffer, inputs: u16) -> Arc<Shared> {
        let bytes_max = buffer.bytes_max();
        let state = State {
            buffer,
            in_flight: Vec::new(),
            told: BTreeMap::new(),
            acked: BTreeMap::new(),
            inputs,
            is_stopping: false,
            generation: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            health: Mutex::default(),
            bytes_max,
            moves: AtomicU64::new(0),
            room: Notify::new(),
            work: std::sync::Condvar::new(),
        };
        shared.note(&shared.lock());
        Arc::new(shared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health_mut(&self) -> MutexGuard<'_, SinkHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn health(&self) -> SinkHealth {
        self.health_mut().clone()
    }

    /// The other end is another place now, with this in it: what is buffered goes there, and then all that the
    /// views show.
    pub fn moved(&self, resume: Resume) {
        self.lock().buffer.skip_to(resume.seq + 1);
        self.moves.fetch_add(1, Ordering::SeqCst);
    }

    fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Ready when the buffer may have room again.
    pub async fn room(&self) {
        self.room.notified().await;
    }

    /// Half of the buffer or more is free.
    #[must_use]
    pub fn is_roomy(&self) -> bool {
        self.health_mut().buffer_bytes <= self.bytes_max / 2
    }

    fn note(&self, state: &State) {
        let (damage, acked_ms) = (state.buffer.damage(), state.acked_ms());
        let mut health = self.health_mut();
        health.buffer_bytes = state.buffer.bytes();
        health.rows_waiting = state.buffer.mortal();
        health.rows_damaged = damage.elements;
        health.parts_damaged = damage.parts;
        health.went = state.buffer.went();
        health.acked_ms = acked_ms.max(health.acked_ms);
    }
}

impl State {
    /// Up to this tick all of every input is safe.
    fn acked_ms(&self) -> Option<u64> {
        let is_known = self.acked.len() == usize::from(self.inputs);
        self.acked.values().min().copied().filter(|_| is_known)
    }

    /// What outlives the process says so from now on.
    fn note_safe(&mut self) {
        if let Some(acked_ms) = self.acked_ms() {
            self.buffer.note_safe(acked_ms);
        }
    }

    /// Up to this tick the input was told, and its elements have been given these numbers.
    fn note_told(&mut self, input: u16, tick_ms: u64, seq: u64) {
        if self.in_flight.is_empty() && self.buffer.is_empty() {
            self.acked.insert(input, tick_ms);
            return;
        }
        let told = self.told.entry(input).or_default();
        // Ticks that add nothing are one with the last.
        if let Some(last) = told.last_mut().filter(|last| last.1 == seq) {
            last.0 = tick_ms;
        } else if told.len() == TOLD_MAX {
            told[TOLD_MAX - 1] = (tick_ms, seq);
        } else {
            told.push((tick_ms, seq));
        }
    }

    /// Elements up to this one are safe.
    fn note_acked(&mut self, element: &Element) {
        if element.op == Op::Progress {
            let acked = self.acked.entry(element.output.input).or_default();
            *acked = element.tick_ms.max(*acked);
        }
        for (input, told) in &mut self.told {
            let safe = told.iter().take_while(|(_, seq)| *seq <= element.seq).count();
            if let Some((tick_ms, _)) = told.drain(..safe).next_back() {
                let acked = self.acked.entry(*input).or_default();
                *acked = tick_ms.max(*acked);
            }
        }
    }
}

/// To measure how long something takes.
fn now() -> Duration {
    Duration::from_nanos(WallClock.monotonic_ns())
}

/// Ticks of an input that are remembered until their elements are safe.
const TOLD_MAX: usize = 1024;

/// Makes the two ends of a sink.
#[must_use]
pub fn pipe(buffer: Buffer, when_full: WhenFull, mode: Mode, inputs: u16) -> Intake {
    Intake::new(Shared::new(buffer, inputs), when_full, mode, inputs)
}
