//! What this node tells the cluster part of its entities: after each tick what changed, and all that there
//! is when it is asked for. Whoever keeps the names publishes snapshots here and says which entries were
//! touched; the node's core tells these entries as they are by then, before the tick's progress. It outlives
//! the node's thread, like the ledger.
//!
//! A message is bounded in bytes. Entries that are touched and not told yet are bounded, too: of more
//! everything is told anew. It finds nothing out and knows no bus.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_proto::envelope::encoded_bytes;
use weir_proto::message::Entities;
use weir_types::metadata::{EntityChange, EntityKey, Machine, MetadataSnapshot};

/// What one message takes, however much there is to tell: far below what the bus takes, so that others are
/// not kept waiting.
const BYTES_PER_MESSAGE: u64 = 1 << 20;
/// A single entry that is larger is not told: names and command lines have a kilobyte or two.
const ENTITY_BYTES_MAX: u64 = 256 << 10;
/// Entries that wait to be told. As many as a node may know connections.
const TOUCHED_MAX: usize = 131_072;

/// One message's worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub sequence: u64,
    pub part: Entities,
    pub machine: Option<Machine>,
    pub changes: Vec<EntityChange>,
}

#[derive(Default)]
struct State {
    snapshot: Arc<MetadataSnapshot>,
    /// Since it was told last.
    touched: HashSet<EntityKey>,
    tell_whole: bool,
    /// As it was told last.
    machine: Option<Machine>,
    sequence: u64,
    /// Entries that were too large to be told.
    left_out_total: u64,
}

/// A handle; clones are the same.
#[derive(Clone, Default)]
pub struct NodeEntities(Arc<Mutex<State>>);

impl NodeEntities {
    /// Entities that never change.
    #[must_use]
    pub fn of(snapshot: Arc<MetadataSnapshot>) -> NodeEntities {
        let entities = NodeEntities::default();
        entities.publish(snapshot, Vec::new());
        entities
    }

    /// A thread that panicked left whole values behind: it only assigns.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known now, and where it differs from what was known before.
    pub fn publish(&self, snapshot: Arc<MetadataSnapshot>, touched: Vec<EntityKey>) {
        let mut state = self.state();
        let former = std::mem::replace(&mut state.snapshot, snapshot);
        state.touched.extend(touched);
        if state.touched.len() > TOUCHED_MAX {
            state.touched = HashSet::new();
            state.tell_whole = true;
        }
        drop(state);
        // Outside the lock: it may be large, and this its last owner.
        drop(former);
    }

    /// The cluster part does not know what was told before.
    pub fn tell_whole(&self) {
        self.state().tell_whole = true;
    }

    /// How many messages were told.
    #[must_use]
    pub fn told_total(&self) -> u64 {
        self.state().sequence
    }

    /// Entries that were too large to be told, since the start.
    #[must_use]
    pub fn left_out_total(&self) -> u64 {
        self.state().left_out_total
    }

    /// Hands what is to be told to `send`, message by message. If that says that it could not, the rest is
    /// told again with what comes next.
    pub fn tell(&self, send: &mut dyn FnMut(Told) -> bool) {
        let mut state = self.state();
        let snapshot = Arc::clone(&state.snapshot);
        let touched = std::mem::take(&mut state.touched);
        let whole = std::mem::take(&mut state.tell_whole);
        let machine = snapshot.machine();
        let is_new = whole || state.machine.as_ref() != Some(&machine);
        drop(state);
        let machine = is_new.then_some(machine);
        if whole {
            if self.tell_all(machine, &mut snapshot.entities(), true, send).is_err() {
                self.state().tell_whole = true;
            }
        } else if machine.is_some() || !touched.is_empty() {
            let mut rest = touched.into_iter();
            let mut changes = rest.by_ref().map(|key| snapshot.entity(&key));
            let sent = self.tell_all(machine, &mut changes, false, send);
            if let Err(unsent) = sent {
                self.state().touched.extend(unsent.into_iter().chain(rest));
            }
        }
    }

    /// Cuts into messages. The error is what could not be sent of those that were begun; of all there is
    /// no such list.
    fn tell_all(
        &self,
        mut machine: Option<Machine>,
        changes: &mut dyn Iterator<Item = EntityChange>,
        whole: bool,
        send: &mut dyn FnMut(Told) -> bool,
    ) -> Result<(), Vec<EntityKey>> {
        let (mut first, mut next) = (true, None);
        loop {
            let changes = self.slice(&mut next, changes);
            let last = next.is_none();
            let (part, again) = match whole {
                true => (Entities::Whole { first, last }, Vec::new()),
                false => (Entities::Changes, changes.iter().map(EntityChange::key).collect()),
            };
            let sequence = self.told_total();
            if !send(Told { sequence, part, machine: machine.clone(), changes }) {
                return Err(again.into_iter().chain(next.map(|change| change.key())).collect());
            }
            let mut state = self.state();
            state.sequence += 1;
            if let Some(machine) = machine.take() {
                state.machine = Some(machine);
            }
            drop(state);
            first = false;
            if last {
                return Ok(());
            }
        }
    }

    /// What goes into the next message; `next`: the first that did not fit.
    fn slice(
        &self,
        next: &mut Option<EntityChange>,
        changes: &mut dyn Iterator<Item = EntityChange>,
    ) -> Vec<EntityChange> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(change) = next.take().or_else(|| changes.next()) {
            let size = encoded_bytes(&change).unwrap_or(u64::MAX);
            if size > ENTITY_BYTES_MAX {
                self.state().left_out_total += 1;
                continue;
            }
            if bytes + size > BYTES_PER_MESSAGE {
                *next = Some(change);
                break;
            }
            bytes += size;
            part.push(change);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use weir_types::Upid;
    use weir_types::metadata::ProcessMeta;
    use weir_types::metadata::connections::ConnectionEnd;

    use super::*;

    /// What is told until nothing is left, of a bus that takes `room` messages.
    fn told(entities: &NodeEntities, room: usize) -> Vec<Told> {
        let mut all = Vec::new();
        entities.tell(&mut |told| {
            let fits = all.len() < room;
            if fits {
                all.push(told);
            }
            fits
        });
        all
    }

    fn known(ends: u16) -> MetadataSnapshot {
        let mut snapshot = MetadataSnapshot::default();
        for port in 0..ends {
            let local = ([10, 0, 0, 1], port).into();
            let remote = ([10, 0, 0, 2], 80).into();
            let end = ConnectionEnd {
                netns: 1,
                owner: Upid::new(1, 2, 3),
                since_unix_ns: 1_700_000_000_000_000_000,
                until_unix_ns: i64::MAX,
            };
            snapshot.connections.ends.insert((local, remote), Arc::from(vec![end]));
        }
        snapshot.follow();
        snapshot
    }

    /// Everything goes in messages of a bounded size, a change after that alone: what is told grows with
    /// what changed, not with what is known. Catches one huge message, and the whole told each time.
    #[test]
    fn what_changed_is_told_in_bounded_messages() {
        let mut snapshot = known(60_000);
        let entities = NodeEntities::of(Arc::new(snapshot.clone()));
        entities.tell_whole();
        let whole = told(&entities, usize::MAX);
        assert!(whole.len() > 2, "{} messages", whole.len());
        let last = whole.len() - 1;
        for (at, told) in whole.iter().enumerate() {
            let bytes: u64 = told.changes.iter().map(|one| encoded_bytes(one).unwrap()).sum();
            assert!(bytes <= BYTES_PER_MESSAGE && told.sequence == at as u64);
            assert_eq!(told.part, Entities::Whole { first: at == 0, last: at == last });
            assert_eq!(told.machine.is_some(), at == 0);
        }
        assert_eq!(whole.iter().map(|told| told.changes.len()).sum::<usize>(), 60_000);
        assert!(told(&entities, usize::MAX).is_empty(), "nothing new");
        let upid = Upid::new(1, 7, 1);
        let meta = ProcessMeta { upid, ..ProcessMeta::default() };
        snapshot.follow();
        snapshot.processes.insert(upid, Arc::new(meta));
        let touched = snapshot.take_touched();
        entities.publish(Arc::new(snapshot.clone()), touched);
        let one = told(&entities, usize::MAX);
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].changes.len(), one[0].sequence), (1, whole.len() as u64));
        assert_eq!(one[0].part, Entities::Changes);
    }

    /// What could not be sent is sent later, once, as it is by then; a whole begins anew. Catches entries
    /// that a full bus swallows.
    #[test]
    fn what_was_refused_is_told_again() {
        let mut snapshot = known(60_000);
        let entities = NodeEntities::default();
        entities.publish(Arc::new(snapshot.clone()), snapshot.take_touched());
        assert!(entities.state().touched.is_empty(), "nothing was touched since it is followed");
        let all: Vec<EntityKey> = snapshot.entities().map(|one| one.key()).collect();
        entities.publish(Arc::new(snapshot.clone()), all);
        let some = told(&entities, 2);
        let rest = told(&entities, usize::MAX);
        let mut keys: HashSet<EntityKey> = HashSet::new();
        let changes = some.iter().chain(&rest).flat_map(|told| &told.changes);
        assert!(changes.map(EntityChange::key).all(|key| keys.insert(key)), "told twice");
        assert_eq!(keys.len(), 60_000);
        entities.tell_whole();
        assert_eq!(told(&entities, 1).len(), 1);
        let again = told(&entities, usize::MAX);
        assert_eq!(again[0].part, Entities::Whole { first: true, last: false });
        assert_eq!(again.iter().map(|told| told.changes.len()).sum::<usize>(), 60_000);
    }

    /// More than has room to wait is told as a whole; what is too large is left out and counted, and holds
    /// up nothing else.
    #[test]
    fn too_many_and_too_large() {
        let mut snapshot = known(3);
        let address = |at: usize| {
            EntityKey::DnsName(
                std::net::Ipv4Addr::from_bits(u32::try_from(at).unwrap()).to_string(),
            )
        };
        snapshot.dns.insert("10.0.0.9".to_string(), "x".repeat(300_000));
        let entities = NodeEntities::of(Arc::new(snapshot));
        let same = entities.state().snapshot.clone();
        entities.publish(same, (0..=TOUCHED_MAX).map(address).collect());
        let whole = told(&entities, usize::MAX);
        assert_eq!(whole[0].part, Entities::Whole { first: true, last: true });
        assert_eq!(whole[0].changes.len(), 3);
        assert_eq!(entities.left_out_total(), 1);
    }
}
