//! What processes of one engine say to each other, here and from there: orders, what must be known before a tick is
//! told, signs of life. How words travel is not decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_types::Clock;
use weir_types::split::ExchangeId;

use super::{Command, EngineShared, WorkerGauges, lock};
use crate::api::{ProcessFigures, QueryId};
use crate::budget::end_for_processes;
use crate::mesh::{Deposits, Mesh};
use crate::order::{ALIVE_EVERY_MS, Order, SILENT_MAX_MS, Word};

impl EngineShared {
    /// What this process has to say to others, in order.
    pub(crate) fn take_words(&self) -> Vec<Word> {
        std::mem::take(&mut lock(&self.queues).words)
    }

    /// Says something on to where orders are given, if that is elsewhere.
    pub(crate) fn report(&self, word: impl FnOnce() -> Word) {
        if !self.config.leads() {
            lock(&self.queues).words.push(word());
            self.meter.wake(0);
        }
    }

    /// Gives a sign of life now and then, and looks who gave none: an engine that lacks a process stands still.
    pub(crate) fn look_at_processes(&self) {
        if self.config.processes() < 2 || self.is_dead() {
            return;
        }
        let now_ms = self.clock.monotonic_ns() / 1_000_000;
        if now_ms.saturating_sub(self.alive_ms.load(Ordering::Relaxed)) < ALIVE_EVERY_MS {
            return;
        }
        self.alive_ms.store(now_ms, Ordering::Relaxed);
        self.look_at_wires(now_ms);
        let (process, figures) = (self.config.process(), self.process_figures());
        lock(&self.queues).words.push(Word::Alive { process, figures });
        // The others speak to the first one only.
        let mut others = if self.config.leads() { 1..self.config.processes() } else { 0..1 };
        let silent = {
            let heard = lock(&self.heard);
            let is_silent = |there: &usize| now_ms.saturating_sub(heard[*there].0) > SILENT_MAX_MS;
            others.find(is_silent)
        };
        if let Some(process) = silent {
            let seconds = SILENT_MAX_MS / 1000;
            self.die(None, &format!("process {process} has said nothing for {seconds} s"));
        }
    }

    /// Rows between processes wait in queues without an end: when they are too many, the largest query goes, and
    /// when that has had time to help and did not, the next one.
    fn look_at_wires(&self, now_ms: u64) {
        let between = self.wires.as_ref().map_or(0, |wires| wires.between_bytes());
        let max = self.config.limits.between_bytes_max;
        let ended_ms = self.ended_ms.load(Ordering::Relaxed);
        if between > max && now_ms.saturating_sub(ended_ms) > SILENT_MAX_MS {
            self.ended_ms.store(now_ms, Ordering::Relaxed);
            end_for_processes(self, between, max);
        }
    }

    fn process_figures(&self) -> ProcessFigures {
        let sum = |of: fn(&WorkerGauges) -> &AtomicU64| {
            self.gauges.iter().map(|gauges| of(gauges).load(Ordering::Relaxed)).sum::<u64>()
        };
        ProcessFigures {
            held_bytes: self.meter.held_bytes(),
            between_bytes: self.wires.as_ref().map_or(0, |wires| wires.between_bytes()),
            read_bytes: self.deposits().map_or(0, Deposits::read_bytes),
            cpu_ns: sum(|gauges| &gauges.cpu_ns),
            dataflows: sum(|gauges| &gauges.dataflows),
        }
    }

    /// What the other processes said of themselves.
    pub(crate) fn elsewhere(&self) -> Vec<ProcessFigures> {
        lock(&self.heard).iter().skip(1).map(|(_, figures)| figures.clone()).collect()
    }

    /// Another process has spoken.
    pub(crate) fn hear(self: &Arc<Self>, word: Word) {
        match word {
            Word::Failed { query, message } => {
                if let Some(query) = self.query(query) {
                    query.fail(self, &message);
                }
            }
            Word::Cuts { query, cuts } => {
                if let Some(query) = self.query(query) {
                    query.cut(self, &cuts);
                }
            }
            Word::Passed { process, query, tick_ms } => {
                if let Some(query) = self.query(query) {
                    query.passed(process, tick_ms);
                }
            }
            Word::Take { number, query, exchange, tick_ms, .. } => {
                self.take_deposit(number, query, exchange, tick_ms);
            }
            Word::Drop { number, .. } => {
                drop(self.deposits().and_then(|deposits| deposits.take(number)));
            }
            Word::Alive { process, figures } => {
                let now_ms = self.clock.monotonic_ns() / 1_000_000;
                if let Some(heard) = lock(&self.heard).get_mut(process) {
                    *heard = (now_ms, figures);
                }
            }
            Word::Order { number, order } => {
                let expected = {
                    let mut queues = lock(&self.queues);
                    queues.orders += 1;
                    queues.orders - 1
                };
                // Dataflows that differ from process to process would be wrong without a word.
                assert_eq!(number, expected, "orders come one after another");
                self.follow(order);
            }
        }
    }

    fn deposits(&self) -> Option<&Deposits> {
        self.config.mesh.as_ref().map(Mesh::deposits)
    }

    /// Changes that wait here are for a query. That they are not here must not be: an answer would lack them.
    fn take_deposit(
        self: &Arc<Self>,
        number: u64,
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
    ) {
        let changes = self.deposits().and_then(|deposits| deposits.take(number));
        match (self.query(query), changes) {
            (Some(_), Some(changes)) => self.push_changes(query, exchange, tick_ms, changes),
            (Some(query), None) => {
                query.fail(self, "changes of a node were lost between processes")
            }
            (None, _) => {}
        }
    }

    /// In the first process: says of changes that wait in another where they belong, or that nobody wants them.
    pub(crate) fn say_of_deposit(
        &self,
        (process, number): (usize, u64),
        to: Option<(QueryId, ExchangeId, u64)>,
    ) {
        let is_there = (1..self.config.processes()).contains(&process) && self.config.leads();
        let word = match to {
            Some((query, exchange, tick_ms)) if is_there => {
                Word::Take { process, number, query, exchange, tick_ms }
            }
            Some((query, ..)) => {
                if let Some(query) = self.query(query) {
                    query.fail(self, "changes of a node wait in a process that is not there");
                }
                return;
            }
            None if is_there => Word::Drop { process, number },
            None => return,
        };
        // Of one that is over nothing waits.
        if !self.is_dead() {
            lock(&self.queues).words.push(word);
            self.meter.wake(0);
        }
    }

    /// Does what was ordered elsewhere.
    fn follow(&self, order: Order) {
        match order {
            Order::Install(install) => {
                // It was prepared from the same value there.
                let entered =
                    self.program(&install).and_then(|program| self.enter(&install, program));
                if let Err(message) = entered {
                    panic!("a query that the first process runs cannot be run here: {message}");
                }
            }
            Order::Remove(query) => {
                if let Some(shared) = self.take_query(query) {
                    shared.end();
                }
                self.broadcast(Command::Remove(query));
            }
            Order::GoLive(query) => self.broadcast(Command::GoLive(query)),
            Order::Hold { query, held } => self.broadcast(Command::Hold { query, held }),
            Order::CloseTick(tick_ms) => self.broadcast(Command::CloseTick(tick_ms)),
            Order::CloseQueryTick { query, tick_ms } => {
                self.broadcast(Command::CloseQueryTick { query, tick_ms });
            }
            Order::Shutdown => {
                self.closes();
                self.broadcast(Command::Shutdown);
            }
        }
    }

    /// Other processes may go from now on.
    pub(crate) fn closes(&self) {
        self.wires.iter().for_each(|wires| wires.closes());
    }
}
