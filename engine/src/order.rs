//! What is to be done, as plain values with numbers: all that changes which dataflows there are and how far they
//! are closed. All workers follow all orders in one order. Within a process that is the order of the workers'
//! queues; between processes the first worker of the first one says the orders on, and what it says is done by
//! the others as if it had been asked of them. Rows are no orders: they go to one worker, where they came in.
//!
//! What is made of an order, operators and their handles, stays in the process, mostly in the worker. Nothing
//! here runs anything.

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::operator::Operator;
use timely::worker::Worker as TimelyWorker;

use std::sync::Arc;

use weir_functions::cuts::Cuts;
use weir_types::split::ExchangeId;

use crate::api::{EngineConfig, Install, ProcessFigures, QueryId};
use crate::mesh::Mesh;
use crate::queue::{Command, EngineShared};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    Install(Install),
    Remove(QueryId),
    GoLive(QueryId),
    Hold { query: QueryId, held: bool },
    CloseTick(u64),
    CloseQueryTick { query: QueryId, tick_ms: u64 },
    Shutdown,
}

impl Order {
    /// The order that a command carries out; `None`: it is about rows, or this process.
    pub(crate) fn of(command: &Command) -> Option<Order> {
        match command {
            Command::Install(query) => Some(Order::Install(query.install.clone())),
            Command::Remove(query) => Some(Order::Remove(*query)),
            Command::GoLive(query) => Some(Order::GoLive(*query)),
            Command::Hold { query, held } => Some(Order::Hold { query: *query, held: *held }),
            Command::CloseTick(tick_ms) => Some(Order::CloseTick(*tick_ms)),
            Command::CloseQueryTick { query, tick_ms } => {
                Some(Order::CloseQueryTick { query: *query, tick_ms: *tick_ms })
            }
            Command::Shutdown => Some(Order::Shutdown),
            Command::Rows { .. }
            | Command::Replay { .. }
            | Command::Changes { .. }
            | Command::TableFunction { .. }
            | Command::Die => None,
        }
    }
}

/// What processes say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// From the first process; numbered from 0 without a gap.
    Order { number: u64, order: Order },
    /// From the first process to another: changes that were read there are for an exchange of a query.
    Take { process: usize, number: u64, query: QueryId, exchange: ExchangeId, tick_ms: u64 },
    /// Nobody wants them.
    Drop { process: usize, number: u64 },
    /// To the first process, as are the next two: a query has failed in another.
    Failed { query: QueryId, message: String },
    /// Functions of a query left something out.
    Cuts { query: QueryId, cuts: Cuts },
    /// All that another process had to say of a query up to this tick has been said.
    Passed { process: usize, query: QueryId, tick_ms: u64 },
    /// A sign of life, to and from the first process.
    Alive { process: usize, figures: ProcessFigures },
}

/// How often processes give a sign of life, and how long one may be silent: then it is taken for dead.
pub(crate) const ALIVE_EVERY_MS: u64 = 400;
pub(crate) const SILENT_MAX_MS: u64 = 5_000;

impl EngineConfig {
    /// True in the process where orders are given.
    pub(crate) fn leads(&self) -> bool {
        self.process() == 0
    }

    pub(crate) fn process(&self) -> usize {
        self.mesh.as_ref().map_or(0, Mesh::process)
    }

    pub(crate) fn processes(&self) -> usize {
        self.mesh.as_ref().map_or(1, Mesh::processes)
    }
}

/// One worker's end of the way that words take.
pub(crate) struct Words {
    input: InputHandle<u64, CapacityContainerBuilder<Vec<(u64, Word)>>>,
    sent: u64,
}

impl Words {
    /// The first dataflow of every worker; `None` where there is one process.
    pub(crate) fn new(timely: &mut TimelyWorker, shared: &Arc<EngineShared>) -> Option<Words> {
        if shared.config.processes() < 2 {
            return None;
        }
        let heard = Arc::clone(shared);
        let input = timely.dataflow_named::<u64, _, _>("orders", |scope| {
            let (input, words) = scope.new_input::<Vec<(u64, Word)>>();
            let to_whom = Exchange::new(|(worker, _): &(u64, Word)| *worker);
            words.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(to_whom, "Follow", |_, _| {
                move |input, _output| {
                    input.for_each(|_, words| {
                        words.drain(..).for_each(|(_, word)| heard.hear(word));
                    });
                }
            });
            input
        });
        Some(Words { input, sent: 0 })
    }

    /// Sends on what this process has to say. Called by one worker of it.
    pub(crate) fn say(&mut self, shared: &EngineShared, words: Vec<Word>) {
        if words.is_empty() {
            return;
        }
        let workers = shared.config.workers as u64;
        for word in words {
            match &word {
                // To the first worker of every other process.
                Word::Order { .. } | Word::Alive { process: 0, .. } => {
                    for process in 1..shared.config.processes() as u64 {
                        self.input.send((process * workers, word.clone()));
                    }
                }
                Word::Take { process, .. } | Word::Drop { process, .. } => {
                    self.input.send((*process as u64 * workers, word));
                }
                Word::Failed { .. }
                | Word::Cuts { .. }
                | Word::Passed { .. }
                | Word::Alive { .. } => self.input.send((0, word)),
            }
        }
        self.sent += 1;
        self.input.advance_to(self.sent);
        self.input.flush();
    }
}
