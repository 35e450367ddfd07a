//! The thread that writes and reads a store: whoever keeps sources hands over what was added and goes on. What waits
//! for the disk is counted in bytes; an addition is written whole, once its tick is sealed.
//!
//! While the disk refuses, what is sealed waits, of each source as one addition, and is tried again. What turns out to
//! be damaged is thrown away, and said to be gone. A thread that died keeps nothing more: its holder is told, and lets
//! go of what it kept.

mod budget;
mod stats;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{error, warn};
use weir_types::split::Change;

use self::stats::note_dropped;
pub use self::stats::{KeeperStats, STORE_SOURCE};
use self::waiting::{Open, Sealed, weight};
use super::{
    Addition, Identity, KEEPING_BYTES_MAX, PaneStore, STORE_BYTES_MIN, StoreError, Stored,
};

/// Pages that wait for whoever reads; the thread then waits, too.
const PAGES_MAX: usize = 4;
/// A seal on its way: a disk that hangs must not let them pile up, though they carry nothing themselves.
const SEAL_BYTES: u64 = 256;

/// Number of a reading.
pub type LoadId = u64;

/// Held by whoever wants the pages of a reading: without, the thread reads no more of them.
pub(crate) type Wanted = Arc<()>;

enum ToKeeper {
    Changes {
        identity: Identity,
        /// The tick they are of: one that is closed later may be handed over before an earlier one is sealed.
        tick_ms: u64,
        changes: Vec<Change>,
        bytes: u64,
    },
    /// All changes up to a tick were handed over.
    Seal(Addition),
    /// What is not sealed is void.
    Restart(Identity),
    Load {
        load: LoadId,
        identity: Identity,
        first_pane: i64,
        wanted: Weak<()>,
    },
    Forget(Identity),
    /// Says so when all of before is written.
    Sync(Sender<()>),
}

/// What the store says.
#[derive(Debug)]
pub enum FromKeeper {
    /// A reading begins: all up to this tick follows. `None`: there is nothing of it.
    Opened {
        load: LoadId,
        to_ms: Option<u64>,
    },
    Page {
        load: LoadId,
        changes: Vec<Change>,
    },
    /// `whole`: nothing is missing.
    End {
        load: LoadId,
        whole: bool,
    },
}

/// The source is kept no longer. `damaged`: it could be again.
#[derive(Debug)]
pub struct Gone {
    pub identity: Identity,
    pub damaged: bool,
}

/// The handle on a store and its thread. Dropped, it waits until all that was sealed is written.
pub struct Keeper {
    orders: Option<Sender<ToKeeper>>,
    said: Option<Receiver<FromKeeper>>,
    gone: Receiver<Gone>,
    stored: Vec<Stored>,
    stats: Arc<KeeperStats>,
    next_load: LoadId,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Opens the store. One that cannot be opened is tried again with the first addition.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        mut store: Box<dyn PaneStore>,
        bytes_max: u64,
        now_ms: u64,
    ) -> std::io::Result<Keeper> {
        let stats = Arc::<KeeperStats>::default();
        let stored = match store.open(now_ms) {
            Ok((stored, dropped)) => {
                note_dropped(&stats, dropped);
                stored
            }
            Err(error) => {
                warn!(%error, "long windows are not kept for now");
                KeeperStats::count(&stats.errors_total, 1);
                stats.set_reason(error.to_string());
                Vec::new()
            }
        };
        let (orders, received) = unbounded();
        let (says, said) = bounded(PAGES_MAX);
        // Once a source at the most.
        let (goes, gone) = unbounded();
        let mut writer = Writer {
            store,
            bytes_max: bytes_max.max(STORE_BYTES_MIN),
            open: BTreeMap::new(),
            sealed: Vec::new(),
            known: stored.iter().map(|stored| Arc::clone(&stored.identity)).collect(),
            past: Some(BTreeMap::new()),
            says,
            goes,
            stats: Arc::clone(&stats),
        };
        let thread = std::thread::Builder::new()
            .name("store".to_string())
            .spawn(move || writer.run(&received))?;
        let (orders, said, thread) = (Some(orders), Some(said), Some(thread));
        Ok(Keeper { orders, said, gone, stored, stats, next_load: 1, thread })
    }

    /// What was there when it was opened; given once.
    pub(crate) fn take_stored(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.stored)
    }

    #[must_use]
    pub fn stats(&self) -> &Arc<KeeperStats> {
        &self.stats
    }

    fn order(&self, order: ToKeeper) {
        // Without its thread nothing is kept any more.
        drop(self.orders.as_ref().map(|orders| orders.send(order)));
    }

    /// Takes changes of a source at a tick; false: too much waits for the disk.
    #[must_use]
    pub(crate) fn changes(&self, identity: &Identity, tick_ms: u64, changes: Vec<Change>) -> bool {
        let bytes = weight(&changes);
        let taken = self.takes(bytes);
        if taken {
            let identity = Arc::clone(identity);
            self.order(ToKeeper::Changes { identity, tick_ms, changes, bytes });
        }
        taken
    }

    /// Counts what is to wait, if there is room for it.
    fn takes(&self, bytes: u64) -> bool {
        let waiting = self.stats.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let has_room = waiting <= KEEPING_BYTES_MAX;
        if !has_room {
            self.stats.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        has_room
    }

    /// All changes up to a tick were handed over; false: too much waits for the disk.
    #[must_use]
    pub(crate) fn seal(&self, addition: Addition) -> bool {
        let taken = self.takes(SEAL_BYTES);
        if taken {
            self.order(ToKeeper::Seal(addition));
        }
        taken
    }

    pub(crate) fn restart(&self, identity: &Identity) {
        self.order(ToKeeper::Restart(Arc::clone(identity)));
    }

    pub(crate) fn forget(&self, identity: &Identity) {
        self.order(ToKeeper::Forget(Arc::clone(identity)));
    }

    /// Asks for what a source holds from a pane on, for as long as it is wanted.
    pub(crate) fn load(&mut self, identity: &Identity, first_pane: i64) -> (LoadId, Wanted) {
        let load = self.next_load;
        self.next_load += 1;
        let held = Arc::new(());
        let wanted = Arc::downgrade(&held);
        self.order(ToKeeper::Load { load, identity: Arc::clone(identity), first_pane, wanted });
        (load, held)
    }

    /// The thread has died, and all that it said was heard: nothing is kept or read any more.
    pub(crate) fn is_dead(&self) -> bool {
        let is_over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        // In this order: what it said last is there once it is over.
        is_over && self.said.as_ref().is_none_or(Receiver::is_empty)
    }

    /// Says from now on that it keeps nothing.
    pub(crate) fn note_death(&self) {
        if !self.stats.has_died.swap(true, Ordering::Relaxed) {
            error!("the store's thread died: long windows are kept no longer");
            self.stats.set_reason("its thread died: long windows are kept no longer".to_string());
            for gauge in [&self.stats.sources, &self.stats.bytes, &self.stats.waiting_bytes] {
                gauge.store(0, Ordering::Relaxed);
            }
        }
    }

    /// What it said next, if anything.
    pub(crate) fn heard(&self) -> Option<FromKeeper> {
        self.said.as_ref()?.try_recv().ok()
    }

    /// Panes stay for a while after they have left their windows.
    pub(crate) fn keeps_past(&self) -> bool {
        !self.stats.without_past.load(Ordering::Acquire)
    }

    pub(crate) fn heard_gone(&self) -> Option<Gone> {
        self.gone.try_recv().ok()
    }

    /// Waits until all that was sealed before is written; of no use while something is read.
    pub fn sync(&self) {
        let (done, is_done) = bounded(1);
        self.order(ToKeeper::Sync(done));
        // An error says that the thread is gone: then nothing is written any more.
        let _gone = is_done.recv();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Whoever read is gone, too.
        self.said = None;
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Writer {
    store: Box<dyn PaneStore>,
    bytes_max: u64,
    /// What is not sealed yet.
    open: BTreeMap<Identity, Open>,
    /// One a source.
    sealed: Vec<Sealed>,
    /// What may be in the store.
    known: BTreeSet<Identity>,
    /// What was sealed last of each source, without its changes; `None`: there is no room for panes that have left.
    past: Option<BTreeMap<Identity, Addition>>,
    says: Sender<FromKeeper>,
    goes: Sender<Gone>,
    stats: Arc<KeeperStats>,
}

impl Writer {
    fn run(&mut self, orders: &Receiver<ToKeeper>) {
        self.keep_to_budget();
        while let Ok(order) = orders.recv() {
            self.follow(order);
            while let Ok(order) = orders.try_recv() {
                self.follow(order);
            }
            self.write();
        }
        self.write();
    }

    fn follow(&mut self, order: ToKeeper) {
        match order {
            ToKeeper::Changes { identity, tick_ms, changes, bytes } => {
                self.open.entry(identity).or_default().take(tick_ms, changes, bytes);
            }
            ToKeeper::Seal(addition) => {
                self.stats.waiting_bytes.fetch_sub(SEAL_BYTES, Ordering::Relaxed);
                let open = self.open.get_mut(&addition.identity);
                let (changes, bytes) =
                    open.map_or_else(Default::default, |open| open.seal(addition.to_ms));
                self.known.insert(Arc::clone(&addition.identity));
                let addition = self.with_past(Addition { changes, ..addition });
                self.seal(Sealed { addition, bytes });
            }
            ToKeeper::Restart(identity) => self.void(&identity),
            ToKeeper::Load { load, identity, first_pane, wanted } => {
                if wanted.strong_count() > 0 {
                    self.write();
                    self.load(load, &identity, first_pane, &wanted);
                }
            }
            ToKeeper::Forget(identity) => {
                self.void(&identity);
                self.take_back(|addition| addition.identity == identity);
                self.known.remove(&identity);
                self.forget_past(&identity);
                if let Err(error) = self.store.forget(&identity) {
                    self.failed(&error);
                }
            }
            ToKeeper::Sync(done) => {
                self.write();
                // Whoever asked does not wait any more.
                let _gone = done.send(());
            }
        }
    }

    /// What the disk refused waits with what came since, as one addition.
    fn seal(&mut self, sealed: Sealed) {
        let same = |waiting: &&mut Sealed| waiting.addition.identity == sealed.addition.identity;
        let gone = match self.sealed.iter_mut().find(same) {
            Some(waiting) => waiting.fold(sealed),
            None => {
                self.sealed.push(sealed);
                0
            }
        };
        self.stats.waiting_bytes.fetch_sub(gone, Ordering::Relaxed);
    }

    fn void(&mut self, identity: &Identity) {
        if let Some(open) = self.open.remove(identity) {
            self.stats.waiting_bytes.fetch_sub(open.bytes(), Ordering::Relaxed);
        }
    }

    /// Lets go of additions.
    fn take_back(&mut self, which: impl Fn(&Addition) -> bool) {
        let stats = Arc::clone(&self.stats);
        self.sealed.retain(|sealed| {
            let goes = which(&sealed.addition);
            if goes {
                stats.waiting_bytes.fetch_sub(sealed.bytes, Ordering::Relaxed);
            }
            !goes
        });
    }

    fn write(&mut self) {
        if self.sealed.is_empty() {
            return;
        }
        let additions: Vec<Addition> =
            self.sealed.iter_mut().map(|sealed| taken(&mut sealed.addition)).collect();
        match self.store.add(&additions) {
            Ok(()) => {
                KeeperStats::count(&self.stats.additions_total, additions.len() as u64);
                self.take_back(|_| true);
                self.stats.set_reason(String::new());
                self.keep_to_budget();
            }
            Err(error) => {
                for (sealed, addition) in self.sealed.iter_mut().zip(additions) {
                    sealed.addition = addition;
                }
                self.failed(&error);
            }
        }
    }

    pub(super) fn gone(&mut self, identity: Identity, damaged: bool) {
        self.void(&identity);
        self.take_back(|addition| addition.identity == identity);
        self.known.remove(&identity);
        self.forget_past(&identity);
        drop(self.goes.send(Gone { identity, damaged }));
    }

    fn load(&mut self, load: LoadId, identity: &Identity, first_pane: i64, wanted: &Weak<()>) {
        let says = self.says.clone();
        let result = self.store.read(
            identity,
            first_pane,
            &mut |to_ms| drop(says.send(FromKeeper::Opened { load, to_ms })),
            &mut |changes| {
                // Whoever does not want it any more must not keep others from theirs.
                wanted.strong_count() > 0 && says.send(FromKeeper::Page { load, changes }).is_ok()
            },
        );
        let whole = result.is_ok();
        drop(self.says.send(FromKeeper::End { load, whole }));
        match result {
            Ok(()) => {}
            Err(StoreError::Damaged(why)) => {
                warn!(why, "a kept source is damaged and is dropped");
                KeeperStats::count(&self.stats.damaged_total, 1);
                // What cannot even be taken away is thrown away with all the rest.
                if self.store.forget(identity).is_err() {
                    return self.throw_away();
                }
                self.gone(Arc::clone(identity), true);
            }
            Err(error) => self.failed(&error),
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError) {
        KeeperStats::count(&self.stats.errors_total, 1);
        match error {
            StoreError::Damaged(why) => {
                error!(why, "the store is damaged: all of it is dropped");
                KeeperStats::count(&self.stats.damaged_total, self.known.len().max(1) as u64);
                self.throw_away();
            }
            StoreError::Unwritable(why) => {
                warn!(why, "the store cannot be written for now");
                self.stats.set_reason(why.clone());
            }
        }
    }

    fn throw_away(&mut self) {
        if let Err(error) = self.store.clear() {
            self.stats.set_reason(error.to_string());
        }
        self.stats.sources.store(0, Ordering::Relaxed);
        self.stats.bytes.store(0, Ordering::Relaxed);
        let known = std::mem::take(&mut self.known);
        known.into_iter().for_each(|identity| self.gone(identity, true));
    }
}

fn taken(addition: &mut Addition) -> Addition {
    let changes = std::mem::take(&mut addition.changes);
    Addition { changes, ..addition.clone() }
}
