//! A bus that behaves as badly as a network may: it loses, repeats, delays and so reorders messages, and
//! can be cut, each way for itself. Seeded, without threads or clocks: time is the steps that it is told.
//! It knows nothing of what it carries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use weir_proto::bus::{BusError, Carrier, ClusterPort, NodePort, cluster_port, node_port};

/// How bad it is, in percent of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u32,
    pub repeated: u32,
    /// Arrive up to [`DELAY_STEPS_MAX`] steps later, past those that were sent after them.
    pub delayed: u32,
}

/// A delayed message arrives within so many steps.
pub const DELAY_STEPS_MAX: u64 = 4;

struct Way {
    rng: SmallRng,
    faults: Faults,
    is_cut: bool,
    step: u64,
    /// (step in which it arrives, message)
    waiting: Vec<(u64, Vec<u8>)>,
    received: Option<mpsc::Sender<Vec<u8>>>,
}

/// One direction of a link.
#[derive(Clone)]
struct OneWay(Arc<Mutex<Way>>);

impl OneWay {
    fn new(seed: u64) -> OneWay {
        OneWay(Arc::new(Mutex::new(Way {
            rng: SmallRng::seed_from_u64(seed),
            faults: Faults::default(),
            is_cut: false,
            step: 0,
            waiting: Vec::new(),
            received: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Way> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on what is due. True if there was something.
    fn arrive(&self) -> bool {
        let mut way = self.lock();
        let step = way.step;
        let (due, later) =
            std::mem::take(&mut way.waiting).into_iter().partition(|(at, _)| *at <= step);
        way.waiting = later;
        let due: Vec<(u64, Vec<u8>)> = due;
        let Some(received) = way.received.clone() else { return false };
        drop(way);
        let any = !due.is_empty();
        for (_, bytes) in due {
            // A full inbox loses it, as a network would.
            drop(received.try_send(bytes));
        }
        any
    }
}

impl Carrier for OneWay {
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        let mut way = self.lock();
        let Faults { lost, repeated, delayed } = way.faults;
        let (step, is_cut) = (way.step, way.is_cut);
        let mut hits = |percent: u32| way.rng.random_range(0..100) < percent;
        let (is_lost, is_repeated) = (hits(lost), hits(repeated));
        if is_cut || is_lost {
            return Ok(());
        }
        for _ in 0..=u8::from(is_repeated) {
            let late = way.rng.random_range(0..100) < delayed;
            let wait = if late { way.rng.random_range(1..=DELAY_STEPS_MAX) } else { 0 };
            way.waiting.push((step + wait, bytes.clone()));
        }
        Ok(())
    }
}

/// A link between the cluster part and one node.
pub struct FaultyLink {
    up: OneWay,
    down: OneWay,
}

impl FaultyLink {
    /// The link, and its two ends.
    #[must_use]
    pub fn new(seed: u64) -> (FaultyLink, NodePort, ClusterPort) {
        let (up, down) = (OneWay::new(seed), OneWay::new(seed ^ 0x5DEE_CE66));
        let (to_node, node) = node_port(Arc::new(up.clone()));
        let (to_cluster, cluster) = cluster_port(Arc::new(down.clone()));
        up.lock().received = Some(to_cluster);
        down.lock().received = Some(to_node);
        (FaultyLink { up, down }, node, cluster)
    }

    pub fn set_faults(&self, faults: Faults) {
        self.up.lock().faults = faults;
        self.down.lock().faults = faults;
    }

    /// Nothing of what is sent while it is cut arrives.
    pub fn cut(&self, is_cut: bool) {
        self.up.lock().is_cut = is_cut;
        self.down.lock().is_cut = is_cut;
    }

    pub fn next_step(&self) {
        self.up.lock().step += 1;
        self.down.lock().step += 1;
    }

    /// Hands on what is due, both ways. True if there was something.
    pub fn arrive(&self) -> bool {
        self.up.arrive() | self.down.arrive()
    }
}
