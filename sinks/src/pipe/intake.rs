//! The end of a sink at which deliveries come in: elements are made, numbered and put into the buffer, as
//! many as find room. What happens to the others is said by `when_full`.

use std::sync::Arc;

use weir_types::clock::tick_unix_ns;

use crate::buffer::WhenFull;
use crate::delivery::{Delivery, OutputInfo};
use crate::element::{Body, Described, Element, Op};
use crate::encode::Mode;
use crate::mode::Maker;
use crate::sink::{Resume, SinkError};

use super::{Shared, State};

/// Put into the buffer before the other end gets a turn.
const TURN_ELEMENTS: usize = 1024;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    Done,
    /// The buffer is full: it goes on once there is room.
    Full,
}

struct Input {
    maker: Maker,
    /// Something of it may be at the other end.
    has_rows: bool,
    /// The same before the tick that is being delivered.
    had_rows: bool,
    /// Since when the answers that were delivered lack nothing; Unix time.
    covers_from_unix_ns: i64,
    /// Its rows are written once: that there may be others is said among them.
    marks_loss: bool,
    /// What is there is void: a reset comes first.
    resets: bool,
    /// Something was put in since it was last said how far it is.
    has_news: bool,
    delivery: Option<Arc<Delivery>>,
    /// Made, and without room so far.
    ready: Option<Element>,
    /// Rows were dropped: what is at the other end is not what the view is.
    lacks_rows: bool,
    /// What waited for the other end went with a server before this one, which is not said yet.
    lost_some: bool,
    /// For how many moves of the other end it has begun anew.
    moves: u64,
}

pub struct Intake {
    shared: Arc<Shared>,
    when_full: WhenFull,
    mode: Mode,
    inputs: Vec<Input>,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, when_full: WhenFull, mode: Mode, inputs: u16) -> Intake {
        let input = |_| Input {
            maker: Maker::new(mode),
            has_rows: false,
            had_rows: false,
            covers_from_unix_ns: 0,
            marks_loss: matches!(mode, Mode::Append | Mode::Final),
            resets: false,
            has_news: false,
            delivery: None,
            ready: None,
            lacks_rows: false,
            lost_some: false,
            moves: 0,
        };
        let inputs = (0..inputs).map(input).collect();
        Intake { shared, when_full, mode, inputs }
    }

    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What the writer has found at the other end. Before the first delivery. Whether a server before this one has taken
    /// along what waited in memory.
    pub fn resume(&mut self, resume: Resume, is_lasting: bool) -> bool {
        let mut state = self.shared.lock();
        let lost_some = state.buffer.resume(resume.seq);
        state.buffer.skip_to(resume.seq + 1);
        let has_rows = resume.has_rows
            || lost_some
            || !state.buffer.is_empty()
            || (is_lasting && state.buffer.last_seq() > 0);
        for input in &mut self.inputs {
            input.has_rows |= has_rows;
            input.had_rows |= has_rows;
            input.lost_some = lost_some;
        }
        self.shared.note(&state);
        lost_some
    }

    /// The output whose rows follow. `goes_on`: they follow what was delivered last, otherwise a snapshot
    /// comes, in place of everything before.
    ///
    /// # Errors
    /// The mode does not go with such an output.
    pub fn start(&mut self, at: usize, info: &OutputInfo, goes_on: bool) -> Result<(), SinkError> {
        let is_one_of_several = self.inputs.len() > 1;
        let Some(input) = self.inputs.get_mut(at) else { return Ok(()) };
        let number = u16::try_from(at).unwrap_or(u16::MAX);
        let output = Described::new(number, is_one_of_several, info);
        let same = input.maker.output().is_some_and(|have| have.to_json() == output.to_json());
        if !same {
            input.maker.describe(Arc::new(output))?;
        }
        if !goes_on || !same {
            input.maker.begin_anew();
            input.delivery = None;
            input.ready = None;
            let moves = self.shared.moves();
            let is_moved = std::mem::replace(&mut input.moves, moves) != moves;
            // Final rows are never void.
            input.resets |= (input.has_rows || is_moved) && self.mode != Mode::Final;
            input.lacks_rows = false;
        }
        Ok(())
    }

    /// Takes a delivery, which [`Intake::fill`] puts into the buffer.
    ///
    /// # Errors
    /// It is more than is ever written.
    pub fn take(&mut self, at: usize, delivery: &Arc<Delivery>) -> Result<(), SinkError> {
        let Some(input) = self.inputs.get_mut(at) else { return Ok(()) };
        input.maker.take(delivery)?;
        input.delivery = Some(Arc::clone(delivery));
        Ok(())
    }

    /// Puts what was taken into the buffer, until it is full or all is in.
    ///
    /// # Errors
    /// The buffer cannot be written. It goes on where it stopped.
    pub fn fill(&mut self, at: usize) -> Result<Filled, SinkError> {
        let Some(input) = self.inputs.get_mut(at) else { return Ok(Filled::Done) };
        let (shared, mut has_dropped) = (Arc::clone(&self.shared), false);
        let filled = loop {
            let mut state = shared.lock();
            state.note_safe();
            let filled = fill(input, &mut state, &shared, self.when_full, &mut has_dropped);
            shared.note(&state);
            drop(state);
            shared.work.notify_all();
            match filled {
                Ok(None) => {}
                Ok(Some(filled)) => break Ok(filled),
                Err(error) => break Err(error),
            }
        };
        if has_dropped {
            // What was dropped may have been any input's.
            self.inputs.iter_mut().for_each(|input| input.lacks_rows = true);
        }
        filled
    }

    /// What is at the other end lacks something of an input, and there is room to write it anew.
    #[must_use]
    pub fn wants_snapshot(&self, at: usize) -> bool {
        let is_state = matches!(self.mode, Mode::Upsert | Mode::Changelog);
        let moves = self.shared.moves();
        let lacks = |input: &Input| input.lacks_rows || input.moves != moves;
        is_state && self.inputs.get(at).is_some_and(lacks) && self.shared.is_roomy()
    }
}

/// Some of what was taken, so that the other end gets a turn. `None`: there is more.
fn fill(
    input: &mut Input,
    state: &mut State,
    shared: &Shared,
    when_full: WhenFull,
    has_dropped: &mut bool,
) -> Result<Option<Filled>, SinkError> {
    let Some(delivery) = input.delivery.clone() else { return Ok(Some(Filled::Done)) };
    let Some(output) = input.maker.output().cloned() else { return Ok(Some(Filled::Done)) };
    let mut left = TURN_ELEMENTS;
    loop {
        if left == 0 {
            return Ok(None);
        }
        left -= 1;
        let element = match input.ready.take() {
            Some(element) => element,
            None => match next(input) {
                Some((op, body)) => {
                    let (output, tick_ms) = (Arc::clone(&output), delivery.tick_ms);
                    // Its number it gets where it goes into the buffer.
                    Element { output, op, seq: 0, tick_ms, body }
                }
                None => break,
            },
        };
        if !put(element, input, state, shared, when_full, has_dropped)? {
            return Ok(Some(Filled::Full));
        }
    }
    if delivery.completeness.is_some() {
        let seq = state.buffer.last_seq();
        if input.has_news {
            let (op, body, tick_ms) = (Op::Progress, Body::None, delivery.tick_ms);
            let progress = Element { output: Arc::clone(&output), op, seq, tick_ms, body };
            // Without room for it the acknowledgement of its elements tells as much.
            let _ = state.buffer.push(&progress)?;
            state.buffer.sync()?;
            input.has_news = false;
        }
        state.note_told(output.input, delivery.tick_ms, seq);
        input.had_rows = input.has_rows;
    }
    input.delivery = None;
    Ok(Some(Filled::Done))
}

/// Puts one into the buffer, or does what is to be done without room. False: it waits.
fn put(
    mut element: Element,
    input: &mut Input,
    state: &mut State,
    shared: &Shared,
    when_full: WhenFull,
    has_dropped: &mut bool,
) -> Result<bool, SinkError> {
    loop {
        // Others may have come in between.
        element.seq = state.buffer.last_seq() + 1;
        let pushed = state.buffer.push(&element);
        match (pushed, when_full) {
            (Ok(true), _) => {
                input.has_rows = true;
                input.has_news = true;
                if element.op == Op::Reset {
                    shared.health_mut().resets += 1;
                }
                return Ok(true);
            }
            (Err(SinkError::Unfit(_)), _) => {
                state.buffer.note_dropped(1);
                shared.health_mut().rows_refused += 1;
                return Ok(true);
            }
            (Err(error @ (SinkError::Retry(_) | SinkError::Refused(_))), _) => {
                input.ready = Some(element);
                return Err(error);
            }
            (Ok(false), WhenFull::Block) => {
                input.ready = Some(element);
                return Ok(false);
            }
            (Err(error), WhenFull::Block) => {
                input.ready = Some(element);
                return Err(error);
            }
            (_, WhenFull::DropOldest) => {
                let dropped = state.buffer.drop_oldest();
                *has_dropped = true;
                shared.health_mut().rows_dropped += dropped;
                if dropped == 0 && state.buffer.is_empty() {
                    // All of it is on its way out: only that makes room.
                    input.ready = Some(element);
                    return Ok(false);
                }
            }
            (_, WhenFull::DropNewest) => {
                state.buffer.note_dropped(1);
                *has_dropped = true;
                shared.health_mut().rows_dropped += u64::from(element.op.is_row());
                return Ok(true);
            }
        }
    }
}

/// What comes next of a delivery.
fn next(input: &mut Input) -> Option<(Op, Body)> {
    if std::mem::take(&mut input.resets) {
        return Some((Op::Reset, Body::None));
    }
    input.maker.make().or_else(|| mark_of(input))
}

/// At the end of a tick, if what happened before a later time than so far may be missing among what was written: who
/// saw it has died, or is another. The first answer of all follows nothing, and says nothing of what is before it.
fn mark_of(input: &mut Input) -> Option<(Op, Body)> {
    let completeness = input.delivery.as_ref()?.completeness.as_ref()?;
    let mut from = completeness.covers_from_unix_ns;
    if std::mem::take(&mut input.lost_some) {
        // What had been seen may be missing as well, up to the last that was.
        from = from.max(tick_unix_ns(input.delivery.as_ref()?.tick_ms));
    }
    let is_later = from > input.covers_from_unix_ns;
    input.covers_from_unix_ns = input.covers_from_unix_ns.max(from);
    (is_later && input.had_rows && input.marks_loss).then_some((Op::Lost, Body::Since(from)))
}
