//! What nodes tell of their entities, put together into one snapshot for the engine here.
//!
//! Each life of a node has a snapshot of its own, kept true by what it tells: everything once, then what
//! changed, numbered without gaps. Who misses something asks for everything. Of a name that several lives
//! tell, the life that came last says what it means. What means something on its own machine only (ends of
//! connections) is kept by machine.
//!
//! Taking a change in costs the paths to the entries that it is of, whatever is known; with one life there
//! is nothing to put together, and its maps are shared. A life that is over, or a node that is silent, is
//! kept as long as rows are, then its entities go.

mod wide;

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;
use weir_proto::ToNode;
use weir_proto::envelope::encoded_bytes;
use weir_proto::message::Entities;
use weir_types::metadata::{EntityChange, EntityKey, Machine, MetadataSnapshot};

use super::{BusCounters, Coordinator};

/// Entries that one node may tell: several times what a node remembers. More is not taken, counted, and
/// makes answers that ask for names incomplete.
const ENTRIES_MAX: usize = 2 << 20;
/// And their bytes, as they came: four times what a node has for processes. Of changes so many are taken on top
/// of each other, then everything is asked for, since some of them replaced others.
const BYTES_MAX: u64 = 512 << 20;
/// Lives that are over and remembered; of more the oldest go before their time.
const FORMER_MAX: usize = 8;
/// How long what is over is kept where no retention says it.
const KEEP_MS: u64 = 3_600_000;
/// Everything is asked for again if it has not come by then.
const WHOLE_WAIT_MS: u64 = 1_000;

/// A life of a node's process.
struct OfLife {
    name: String,
    incarnation: u64,
    asid: u32,
    snapshot: MetadataSnapshot,
    /// Everything, while it comes in parts.
    coming: Option<MetadataSnapshot>,
    /// There was no room for something of it.
    coming_is_full: bool,
    next_sequence: u64,
    /// How many messages it has told, as far as is known.
    told: u64,
    /// Of all that was told since it began to tell everything.
    bytes: u64,
    is_whole: bool,
    /// There was no room for something.
    is_full: bool,
    asked_ms: Option<u64>,
    /// Since when it is over, or silent.
    gone_ms: Option<u64>,
}

/// One message of a life.
pub(super) struct Told {
    pub(super) sequence: u64,
    pub(super) part: Entities,
    pub(super) machine: Option<Machine>,
    pub(super) changes: Vec<EntityChange>,
}

/// All that nodes told.
pub(super) struct Merged {
    /// In the order in which they came.
    lives: Vec<OfLife>,
    all: MetadataSnapshot,
    /// What is known of the whole cluster, if anybody tells it.
    wide: Option<MetadataSnapshot>,
    /// Of each machine what means something there only.
    machines: BTreeMap<u32, MetadataSnapshot>,
    keep_ms: u64,
    /// Entries that were put in or removed.
    touched_total: u64,
}

/// What became of a message.
enum Taken {
    Repeat,
    /// Something before it is missing.
    Gap,
    /// More of everything is still to come.
    Part,
    Changes(Vec<EntityKey>),
    /// In place of what was known before.
    Whole {
        former: Box<MetadataSnapshot>,
    },
}

impl OfLife {
    fn is_behind(&self) -> bool {
        !self.is_whole || self.told > self.next_sequence || self.is_full
    }

    /// Takes a message in if it is the next.
    fn take(&mut self, told: Told) -> Taken {
        let Told { sequence, part, machine, changes } = told;
        self.told = self.told.max(sequence.saturating_add(1));
        if sequence < self.next_sequence {
            return Taken::Repeat;
        }
        if let Entities::Whole { first: true, .. } = part {
            self.coming = Some(MetadataSnapshot::default());
            (self.bytes, self.coming_is_full) = (0, false);
        } else if sequence > self.next_sequence {
            self.lost_some();
            return Taken::Gap;
        }
        self.next_sequence = sequence.saturating_add(1);
        let bytes = encoded_bytes(&changes).unwrap_or(u64::MAX);
        let fits = self.bytes.saturating_add(bytes) <= BYTES_MAX;
        self.bytes = self.bytes.saturating_add(bytes);
        match part {
            // There is no room, and asking does not make any.
            Entities::Changes if !fits && self.is_full => Taken::Changes(Vec::new()),
            Entities::Changes if !fits => {
                self.lost_some();
                Taken::Gap
            }
            Entities::Changes => self.take_changes(machine, changes),
            Entities::Whole { last, .. } => {
                let changes = if fits { changes } else { Vec::new() };
                self.take_part(last, machine, changes, !fits)
            }
        }
    }

    fn lost_some(&mut self) {
        self.is_whole = false;
        self.coming = None;
    }

    fn take_changes(&mut self, machine: Option<Machine>, changes: Vec<EntityChange>) -> Taken {
        if let Some(machine) = machine {
            self.snapshot.set_machine(machine);
        }
        if self.snapshot.entity_count() + changes.len() > ENTRIES_MAX {
            self.is_full = true;
            return Taken::Changes(Vec::new());
        }
        let keys = changes.iter().map(EntityChange::key).collect();
        changes.into_iter().for_each(|change| self.snapshot.apply(change));
        Taken::Changes(keys)
    }

    fn take_part(
        &mut self,
        last: bool,
        machine: Option<Machine>,
        changes: Vec<EntityChange>,
        left_out: bool,
    ) -> Taken {
        // Its first part was lost, or nobody asked.
        let Some(coming) = &mut self.coming else { return Taken::Gap };
        if let Some(machine) = machine {
            coming.set_machine(machine);
        }
        let room = ENTRIES_MAX.saturating_sub(coming.entity_count());
        self.coming_is_full |= left_out || changes.len() > room;
        changes.into_iter().take(room).for_each(|change| coming.apply(change));
        if !last {
            return Taken::Part;
        }
        let former = std::mem::take(&mut self.snapshot);
        self.snapshot = self.coming.take().unwrap_or_default();
        (self.is_whole, self.is_full, self.asked_ms) = (true, self.coming_is_full, None);
        Taken::Whole { former: Box::new(former) }
    }
}

impl Merged {
    pub(super) fn new(retention_ns: Option<i64>) -> Merged {
        let retention_ms = retention_ns.and_then(|ns| u64::try_from(ns / 1_000_000).ok());
        Merged {
            lives: Vec::new(),
            all: MetadataSnapshot::default(),
            wide: None,
            machines: BTreeMap::new(),
            keep_ms: retention_ms.unwrap_or(KEEP_MS),
            touched_total: 0,
        }
    }

    fn at(&self, name: &str, incarnation: u64) -> Option<usize> {
        let is_it = |life: &OfLife| life.name == name && life.incarnation == incarnation;
        self.lives.iter().position(is_it)
    }

    /// A life begins, or goes on anew: it has to tell everything.
    pub(super) fn came(&mut self, name: &str, incarnation: u64, asid: u32, mono_ms: u64) {
        for former in self.lives.iter_mut().filter(|life| life.name == name) {
            former.gone_ms.get_or_insert(mono_ms);
        }
        if let Some(at) = self.at(name, incarnation) {
            let life = &mut self.lives[at];
            (life.gone_ms, life.is_whole, life.asked_ms) = (None, false, None);
            return;
        }
        if self.lives.len() == 1 && !self.is_merged() {
            self.part_machines();
        }
        self.lives.push(OfLife {
            name: name.to_string(),
            incarnation,
            asid,
            snapshot: MetadataSnapshot::default(),
            coming: None,
            coming_is_full: false,
            next_sequence: 0,
            told: 0,
            bytes: 0,
            is_whole: false,
            is_full: false,
            asked_ms: None,
            gone_ms: None,
        });
        let gone = self.lives.iter().filter(|life| life.gone_ms.is_some()).count();
        if gone > FORMER_MAX
            && let Some(oldest) = self.lives.iter().position(|life| life.gone_ms.is_some())
        {
            warn!(
                node = name,
                "a node begins anew again and again: what it knew is forgotten early"
            );
            self.forget(oldest);
        }
    }

    /// Until now there was one life, and nothing to put together.
    fn part_machines(&mut self) {
        let one = &self.lives[0].snapshot;
        let connections = one.connections.clone();
        self.all = MetadataSnapshot { connections: Default::default(), ..one.clone() };
        self.machines.clear();
        let of_machine = MetadataSnapshot { connections, ..MetadataSnapshot::default() };
        self.machines.insert(self.lives[0].asid, of_machine);
    }

    fn take(&mut self, at: usize, told: Told) -> Taken {
        let taken = self.lives[at].take(told);
        match &taken {
            Taken::Changes(keys) => {
                self.end_in_former_lives(at, keys);
                self.show_all(at, keys);
            }
            // One life alone has no former ones, and is shown as it is.
            Taken::Whole { former } if self.is_merged() => {
                let present = &self.lives[at].snapshot;
                let differs = |key: &EntityKey| former.entity(key) != present.entity(key);
                let gone = former.entities().map(|change| change.key());
                let gone = gone.filter(|key| !present.has_entity(key));
                let there = present.entities().map(|change| change.key()).filter(differs);
                let keys: Vec<EntityKey> = gone.chain(there).collect();
                self.end_in_former_lives(at, &keys);
                self.show_all(at, &keys);
            }
            Taken::Whole { .. } | Taken::Repeat | Taken::Gap | Taken::Part => {}
        }
        taken
    }

    /// What a node says is over is over for its former lives, too.
    fn end_in_former_lives(&mut self, at: usize, keys: &[EntityKey]) {
        let (former, present) = self.lives.split_at_mut(at);
        let Some(present) = present.first() else { return };
        for life in former.iter_mut().filter(|life| life.name == present.name) {
            for key in keys.iter().filter(|key| !present.snapshot.has_entity(key)) {
                life.snapshot.apply(key.over());
            }
        }
    }

    fn show_all(&mut self, at: usize, keys: &[EntityKey]) {
        self.touched_total += keys.len() as u64;
        if self.is_merged() {
            let asid = self.lives[at].asid;
            keys.iter().for_each(|key| self.show(asid, key));
        }
    }

    /// Who knows the whole cluster says what an entry is, else the last life that has it.
    fn show(&mut self, asid: u32, key: &EntityKey) {
        let is_of_machine = key.is_of_machine();
        let mut lives = self.lives.iter().rev();
        let last = lives
            .find(|life| (!is_of_machine || life.asid == asid) && life.snapshot.has_entity(key));
        let last = last.map(|life| &life.snapshot);
        let wide = self.wide.as_ref().filter(|wide| !is_of_machine && wide.has_entity(key));
        let change = wide.or(last).map_or_else(|| key.over(), |known| known.entity(key));
        let shown = match is_of_machine {
            true => self.machines.entry(asid).or_default(),
            false => &mut self.all,
        };
        shown.apply(change);
    }

    fn forget(&mut self, at: usize) {
        let gone = self.lives.remove(at);
        let keys: Vec<EntityKey> = gone.snapshot.entities().map(|change| change.key()).collect();
        self.touched_total += keys.len() as u64;
        if self.is_merged() {
            keys.iter().for_each(|key| self.show(gone.asid, key));
        }
        if !self.lives.iter().any(|life| life.asid == gone.asid) {
            self.machines.remove(&gone.asid);
        }
    }

    /// Time has passed: what was over for long enough goes. `lives`: whether a node is heard of. True if
    /// anything went.
    fn pass(&mut self, mono_ms: u64, lives: &dyn Fn(&str, u64) -> bool) -> bool {
        for life in &mut self.lives {
            if lives(&life.name, life.incarnation) {
                life.gone_ms = None;
            } else {
                life.gone_ms.get_or_insert(mono_ms);
            }
        }
        let is_over = |life: &OfLife| {
            life.gone_ms.is_some_and(|gone_ms| mono_ms.saturating_sub(gone_ms) >= self.keep_ms)
        };
        let over: Vec<usize> =
            (0..self.lives.len()).rev().filter(|&at| is_over(&self.lives[at])).collect();
        over.iter().for_each(|&at| self.forget(at));
        !over.is_empty()
    }

    /// Everything, as the engine here reads it.
    pub(super) fn snapshot(&self) -> Arc<MetadataSnapshot> {
        let Some(last) = self.lives.last() else { return Arc::default() };
        if !self.is_merged() {
            return Arc::new(last.snapshot.clone());
        }
        let mut all = self.all.clone();
        all.set_machine(last.snapshot.machine());
        let mut known = std::collections::BTreeSet::new();
        let cidrs = self.lives.iter().flat_map(|life| &life.snapshot.cidrs);
        let cidrs = cidrs.chain(self.wide_cidrs());
        all.cidrs = cidrs.filter(|cidr| known.insert(*cidr)).cloned().collect();
        let mut by_node = BTreeMap::new();
        for (asid, machine) in &self.machines {
            let mut connections = machine.connections.clone();
            let own = self.lives.iter().rev().find(|life| life.asid == *asid);
            connections.own_netns = own.map_or(0, |life| life.snapshot.connections.own_netns);
            by_node.insert(*asid, connections);
        }
        all.by_node = Arc::new(by_node);
        Arc::new(all)
    }
}

impl Coordinator {
    /// A node came, in this life or another: what it knows is asked for.
    pub(super) fn entities_came(&mut self, name: &str) {
        let mono_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get(name) else { return };
        self.entities.came(name, node.info.incarnation, node.info.asid, mono_ms);
        self.ask_for_entities(name);
    }

    /// Whether something of a node's entities is missing here.
    fn is_behind(&self, name: &str) -> bool {
        let node = self.nodes.get(name);
        let at = node.and_then(|node| self.entities.at(name, node.info.incarnation));
        at.is_none_or(|at| self.entities.lives[at].is_behind())
    }

    fn ask_for_entities(&mut self, name: &str) {
        self.book.names_behind(name, self.is_behind(name));
        let now_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get(name) else { return };
        if self.entities.at(name, node.info.incarnation).is_none() {
            // It was silent for so long that it was forgotten.
            self.entities.came(name, node.info.incarnation, node.info.asid, now_ms);
        }
        let Some(at) = self.entities.at(name, node.info.incarnation) else { return };
        let life = &mut self.entities.lives[at];
        let waits = |asked_ms: u64| now_ms.saturating_sub(asked_ms) < WHOLE_WAIT_MS;
        // If there is no room, asking does not make any.
        if life.told == life.next_sequence && life.is_whole || life.asked_ms.is_some_and(waits) {
            return;
        }
        match node.link.send(&ToNode::TellEntities) {
            Ok(()) => life.asked_ms = Some(now_ms),
            Err(error) => warn!(node = name, %error, "could not ask for entities"),
        }
    }

    pub(super) fn on_entities(&mut self, name: &str, told: Told) {
        let Some(node) = self.nodes.get(name) else { return };
        let Some(at) = self.entities.at(name, node.info.incarnation) else {
            self.ask_for_entities(name);
            return;
        };
        let was_whole = self.entities.lives[at].is_whole;
        match self.entities.take(at, told) {
            Taken::Repeat => BusCounters::count(&self.counters.repeated_total),
            Taken::Gap if was_whole => BusCounters::count(&self.counters.names_broken_total),
            Taken::Gap => {}
            // It is coming: the wait for the rest begins anew.
            Taken::Part => self.entities.lives[at].asked_ms = self.mono_ms,
            Taken::Changes(_) | Taken::Whole { .. } => {
                self.engine.set_metadata(self.entities.snapshot());
            }
        }
        self.ask_for_entities(name);
    }

    /// A node has told so often by now; `tick_ms`: before the progress of that tick. Answers up to it lack
    /// names that did not arrive.
    pub(super) fn told_entities(&mut self, name: &str, told: u64, tick_ms: Option<u64>) {
        let Some(node) = self.nodes.get(name) else { return };
        if let Some(at) = self.entities.at(name, node.info.incarnation) {
            let life = &mut self.entities.lives[at];
            life.told = life.told.max(told);
            if life.next_sequence < told {
                if life.is_whole {
                    BusCounters::count(&self.counters.names_broken_total);
                }
                life.lost_some();
            }
        }
        if self.is_behind(name) {
            self.ask_for_entities(name);
            if let Some(tick_ms) = tick_ms {
                self.book.names_owed(name, tick_ms);
            }
        }
    }

    /// What nodes that are over knew is forgotten when rows of it are.
    pub(super) fn forget_entities(&mut self) {
        let mono_ms = self.mono_ms.unwrap_or(0);
        let nodes = &self.nodes;
        let lives = |name: &str, incarnation: u64| {
            let node = nodes.get(name);
            node.is_some_and(|node| node.info.incarnation == incarnation && !node.lagging)
        };
        if self.entities.pass(mono_ms, &lives) {
            self.engine.set_metadata(self.entities.snapshot());
        }
    }
}

#[cfg(test)]
mod tests;
