//! The end of a node part: what a refresh brought is folded as it comes, and handed out as changes when
//! it is closed, a slice at a time and no faster than the receiver takes it. What a limit follows is sent
//! by [`super::send_newest`].

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Capability, Operator};
use weir_types::PackedRow;
use weir_types::batch::pack_rows;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::SlidingWindow;
use weir_types::split::{Change, ExchangeId};
use weir_types::value::DataType;

use super::partial::{Changes, ONLY_PANE, PartialTable, Scratch};
use super::runs::{Runs, Waiting};
use super::{BatchStream, NodeBatch};
use crate::api::EngineEvent;
use crate::budget::{Fuel, Gauge, Purpose};
use crate::operators::{Frame, rows_of};
use crate::prepare::AggSpec;
use crate::query::{Env, OpError};
use crate::weigh;

/// What stands behind a `Send`.
pub(super) trait Collect: 'static {
    fn add(&mut self, tick_ms: u64, batch: &NodeBatch) -> Result<(), OpError>;
    /// The earliest tick that holds something.
    fn first(&self) -> Option<u64>;
    /// A tick that is not closed holds so much that some of it should go out.
    fn is_overfull(&self, _tick_ms: u64, _bytes_max: usize) -> bool {
        false
    }
    /// Takes a slice of a tick's changes; a closed tick is done when it is no longer the first.
    fn take(&mut self, tick_ms: u64, fuel: &mut Fuel) -> Vec<Change>;
    fn state_bytes(&self) -> usize;
    fn give_up(self) -> Box<dyn Send>;
}

/// What the first refresh has folded, which may be a history of millions of groups, goes out early above so much:
/// the receiver adds up equal groups anyway. Later ones go out when they are closed: whoever keeps changes up to
/// a tick must not be given those of the next one before.
const PARTIAL_BYTES_MAX: u64 = 32 << 20;

fn partial_bytes_max(env: &Env) -> usize {
    let max = PARTIAL_BYTES_MAX.min(env.limits().query_state_bytes_max / 8);
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// A stream that carries nothing: it is there to be probed.
pub(super) type Silent<'s> = Stream<'s, u64, Vec<()>>;

struct Sender<C> {
    capability: Capability<u64>,
    exchange: ExchangeId,
    /// What came and is not taken in yet, with its tick.
    batches: VecDeque<(u64, NodeBatch)>,
    collect: C,
    state: Gauge,
    held: Gauge,
    frame: Arc<Frame>,
}

/// Why a sender has stopped.
#[derive(PartialEq, Eq)]
enum Stopped {
    Idle,
    TurnOver,
    Blocked,
}

impl<C: Collect> Sender<C> {
    /// Takes batches in, then hands closed ticks out, until the turn is over.
    fn run(&mut self, env: &Env, frontier_ms: Option<u64>) -> Result<Stopped, OpError> {
        let rows_max = env.limits().slice_rows_max.max(1);
        let mut is_first = true;
        while let Some((tick_ms, batch)) = self.batches.pop_front() {
            if !is_first && env.turn_is_over() {
                self.batches.push_front((tick_ms, batch));
                return Ok(Stopped::TurnOver);
            }
            is_first = false;
            let rows = batch.rows.num_rows();
            let count = rows.min(rows_max);
            self.collect.add(tick_ms, &batch.slice(0, count))?;
            if count < rows {
                self.batches.push_front((tick_ms, batch.slice(count, rows - count)));
            }
            self.state.set(self.collect.state_bytes());
            if !env.is_live() {
                return Ok(Stopped::Idle);
            }
            let bytes_max = partial_bytes_max(env);
            let start_ms = env.query.start_tick_ms();
            while self.collect.is_overfull(start_ms, bytes_max) && !env.turn_is_over() {
                if env.query.holdings.is_full(env.limits()) {
                    return Ok(Stopped::Blocked);
                }
                self.hand_out(env, start_ms);
            }
        }
        let is_closed =
            |tick_ms: &u64| frontier_ms.is_none_or(|frontier_ms| *tick_ms < frontier_ms);
        while let Some(tick_ms) = self.collect.first().filter(is_closed) {
            if env.query.holdings.is_full(env.limits()) {
                return Ok(Stopped::Blocked);
            }
            if !is_first && env.turn_is_over() {
                return Ok(Stopped::TurnOver);
            }
            is_first = false;
            self.hand_out(env, tick_ms);
        }
        Ok(Stopped::Idle)
    }

    /// Hands out a slice of a tick.
    fn hand_out(&mut self, env: &Env, tick_ms: u64) {
        let changes = self.collect.take(tick_ms, &mut Fuel::new(env.limits()));
        self.state.set(self.collect.state_bytes());
        if !changes.is_empty() {
            self.frame.gave(changes.len());
            let (query, exchange) = (env.query.id, self.exchange);
            let unread = env.unread(weigh::changes(&changes));
            env.emit(EngineEvent::Changes { query, exchange, tick_ms, changes, unread });
        }
    }

    /// The least tick of which something is still to be handed out, or to come.
    fn open_ms(&self, frontier_ms: Option<u64>) -> Option<u64> {
        let waiting = self.batches.iter().map(|(tick_ms, _)| *tick_ms).min();
        [waiting, self.collect.first(), frontier_ms].into_iter().flatten().min()
    }

    fn give_up(self, env: &Env) {
        env.engine.throw_away(Some(self.collect.give_up()));
    }
}

pub(super) fn send<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    collect: impl Collect,
) -> Silent<'s> {
    let scope = stream.scope();
    let env = Rc::clone(env);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        "Send",
        move |mut capability, info| {
            let activator = scope.activator_for(info.address);
            env.register(activator.clone());
            capability.downgrade(&env.query.start_tick_ms());
            let due_slot = env.due_slot();
            let frame = env.frame("Send");
            let mut sender = Some(Sender {
                capability,
                exchange,
                batches: VecDeque::new(),
                collect,
                state: env.gauge_of(&frame, Purpose::State),
                held: env.gauge_of(&frame, Purpose::Waiting),
                frame: Arc::clone(&frame),
            });
            move |(input, frontier), _output| {
                if !env.is_live()
                    && let Some(sender) = sender.take()
                {
                    sender.give_up(&env);
                    due_slot.set(None);
                }
                let Some(there) = sender.as_mut() else {
                    input.for_each(|_, data| data.clear());
                    return;
                };
                let frontier_ms = frontier.frontier().first().copied();
                let mut stopped = Stopped::Idle;
                env.guard(&frame, || {
                    input.for_each(|stamp, data| {
                        let Some(&tick_ms) = stamp.least() else { return };
                        frame.took(rows_of(data));
                        there.batches.extend(data.drain(..).map(|batch| (tick_ms, batch)));
                    });
                    stopped = there.run(&env, frontier_ms)?;
                    Ok(())
                });
                match stopped {
                    Stopped::Idle => {}
                    Stopped::TurnOver => env.come_round(&activator),
                    Stopped::Blocked => env.wait_for_receiver(),
                }
                there.held.set(there.batches.iter().map(|(_, batch)| batch.bytes()).sum());
                due_slot.set(there.collect.first());
                let open_ms = there.open_ms(frontier_ms);
                let capability = &mut there.capability;
                match open_ms.filter(|_| env.is_live()) {
                    Some(open_ms) => capability.downgrade(&open_ms.max(*capability.time())),
                    None => {
                        if let Some(sender) = sender.take() {
                            sender.give_up(&env);
                        }
                    }
                }
            }
        },
    )
}

pub(super) fn partials<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    spec: &AggSpec,
    time: usize,
    sliding: Option<SlidingWindow>,
) -> Silent<'s> {
    let had_to_ms = env.query.install.had_to_ms.get(exchange as usize).copied().unwrap_or(0);
    let collect = Partials {
        spec: spec.clone(),
        time,
        sliding,
        had_to_ms,
        tables: BTreeMap::new(),
        outgoing: BTreeMap::new(),
        scratch: Scratch::default(),
    };
    send(env, stream, exchange, collect)
}

struct Partials {
    spec: AggSpec,
    time: usize,
    sliding: Option<SlidingWindow>,
    /// [`crate::Install::had_to_ms`] of this exchange.
    had_to_ms: u64,
    tables: BTreeMap<u64, PartialTable>,
    /// What is being handed out.
    outgoing: BTreeMap<u64, Changes>,
    scratch: Scratch,
}

impl Partials {
    /// What of a batch the receiver does not have from elsewhere; `None`: nothing.
    fn new_rows(&self, batch: &NodeBatch) -> Option<NodeBatch> {
        if self.had_to_ms == 0 || batch.admitted_ms > self.had_to_ms {
            return Some(batch.clone());
        }
        // What came before its time was told when that had come.
        let had_to_ns = tick_unix_ns(self.had_to_ms);
        let times = batch.rows.column(self.time).as_primitive::<TimestampNanosecondType>();
        let keep: BooleanArray =
            times.values().iter().map(|&time| Some(time > had_to_ns)).collect();
        batch.clone().kept(&keep)
    }
}

impl Collect for Partials {
    fn add(&mut self, tick_ms: u64, batch: &NodeBatch) -> Result<(), OpError> {
        let Some(batch) = &self.new_rows(batch) else { return Ok(()) };
        let table = self.tables.entry(tick_ms).or_insert_with(|| PartialTable::new(&self.spec));
        table.add(&self.spec, self.time, self.sliding, batch, &mut self.scratch);
        Ok(())
    }
    fn first(&self) -> Option<u64> {
        let outgoing = self.outgoing.first_key_value().map(|(&tick_ms, _)| tick_ms);
        let collected = self.tables.first_key_value().map(|(&tick_ms, _)| tick_ms);
        outgoing.into_iter().chain(collected).min()
    }
    fn is_overfull(&self, tick_ms: u64, bytes_max: usize) -> bool {
        let is_large = |table: &PartialTable| table.state_bytes() > bytes_max;
        self.outgoing.contains_key(&tick_ms) || self.tables.get(&tick_ms).is_some_and(is_large)
    }
    fn take(&mut self, tick_ms: u64, fuel: &mut Fuel) -> Vec<Change> {
        if !self.outgoing.contains_key(&tick_ms)
            && let Some(table) = self.tables.remove(&tick_ms)
        {
            self.outgoing.insert(tick_ms, table.into_changes());
        }
        let Some(left) = self.outgoing.get_mut(&tick_ms) else { return Vec::new() };
        let mut changes = Vec::new();
        while !fuel.is_empty() {
            let Some(change) = left.next() else {
                self.outgoing.remove(&tick_ms);
                return changes;
            };
            fuel.burn(weigh::item(&change));
            changes.push(change);
        }
        changes
    }
    fn state_bytes(&self) -> usize {
        self.outgoing.values().map(Changes::state_bytes).sum::<usize>()
            + self.tables.values().map(PartialTable::state_bytes).sum::<usize>()
    }
    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.tables, self.outgoing))
    }
}

/// How rows become changes.
pub(super) struct RowPacker {
    pub(super) types: Vec<DataType>,
    pub(super) time: usize,
    pub(super) sliding: Option<SlidingWindow>,
}

impl RowPacker {
    pub(super) fn pane_of(&self, time_unix_ns: i64) -> i64 {
        self.sliding.map_or(ONLY_PANE, |sliding| sliding.pane_of(time_unix_ns))
    }
}

pub(super) fn rows<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    packer: RowPacker,
) -> Silent<'s> {
    send(env, stream, exchange, Rows { packer, ticks: BTreeMap::new(), current: None })
}

/// A row with its pane and event time.
pub(super) type Placed = (i64, (i64, PackedRow));

struct Rows {
    packer: RowPacker,
    /// Per refresh, consolidated.
    ticks: BTreeMap<u64, Runs<Placed>>,
    /// The tick that is being handed out.
    current: Option<(u64, Runs<Placed>)>,
}

impl Collect for Rows {
    fn add(&mut self, tick_ms: u64, batch: &NodeBatch) -> Result<(), OpError> {
        let packed = pack_rows(&batch.rows, &self.packer.types);
        let times = batch.rows.column(self.packer.time).as_primitive::<TimestampNanosecondType>();
        let rows = self.ticks.entry(tick_ms).or_default();
        for (row, &time) in packed.into_iter().zip(times.values()) {
            rows.push(((self.packer.pane_of(time), (time, row)), 1));
        }
        Ok(())
    }
    fn first(&self) -> Option<u64> {
        let current = self.current.as_ref().map(|(tick_ms, _)| *tick_ms);
        current.or_else(|| self.ticks.first_key_value().map(|(&tick_ms, _)| tick_ms))
    }
    fn take(&mut self, tick_ms: u64, fuel: &mut Fuel) -> Vec<Change> {
        let (_, rows) = self.current.get_or_insert_with(|| {
            let mut rows = self.ticks.remove(&tick_ms).unwrap_or_default();
            rows.seal();
            (tick_ms, rows)
        });
        let mut out = Vec::new();
        while !fuel.is_empty() {
            let Some(((pane, (_, row)), diff)) = rows.pop() else {
                self.current = None;
                return out;
            };
            let change = Change::Row { row, pane, diff };
            fuel.burn(weigh::item(&change));
            out.push(change);
        }
        out
    }
    fn state_bytes(&self) -> usize {
        let current = self.current.as_ref().map_or(0, |(_, rows)| rows.bytes());
        current + self.ticks.values().map(Waiting::bytes).sum::<usize>()
    }
    fn give_up(self) -> Box<dyn Send> {
        Box::new((self.ticks, self.current))
    }
}
