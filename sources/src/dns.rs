//! Names of addresses by reverse DNS, looked up off to the side and kept for a while.
//!
//! `nslookup` notes addresses (`weir_functions::dns`); [`ReverseDns::poll`] takes the notes, hands
//! new and stale ones to threads that may wait for DNS, and gives what came back. It never waits
//! itself. A name stays in use while it is looked up anew.
//!
//! Bounds: [`ADDRESSES_MAX`] addresses are known, those asked for the longest ago go first;
//! [`QUEUE_MAX`] wait for the [`LOOKUPS_AT_ONCE`] threads, more are left out and counted (a reader
//! asks again with its next rows). An answer is good for [`NAME_TTL_NS`], the knowledge that there
//! is none for [`MISS_TTL_NS`]: the system's resolver does not say for how long.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

/// As many as Pixie keeps.
pub const ADDRESSES_MAX: usize = 1_024;
/// Addresses that wait for a thread.
pub const QUEUE_MAX: usize = 256;
/// A lookup of a dead server takes seconds: one thread would hold up all others.
pub const LOOKUPS_AT_ONCE: usize = 4;
pub const NAME_TTL_NS: i64 = 300_000_000_000;
pub const MISS_TTL_NS: i64 = 60_000_000_000;

/// Who knows names; may take long.
pub trait Resolve: Send + Sync + 'static {
    /// `None`: there is no name, or it could not be asked.
    fn name_of(&self, address: IpAddr) -> Option<String>;
}

/// `getnameinfo`: `/etc/hosts`, DNS, whatever the machine is set up for.
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        let name = dns_lookup::lookup_addr(&address).ok()?;
        // Some resolvers write the address where they have no name.
        (!name.is_empty() && name.parse::<IpAddr>().is_err()).then_some(name)
    }
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// Names that were found.
    pub found_total: u64,
    /// Lookups that found none.
    pub missed_total: u64,
    /// Addresses forgotten to make room.
    pub evicted_total: u64,
    /// Addresses that found the queue full.
    pub left_out_total: u64,
}

#[derive(Debug, Default)]
struct Known {
    name: Option<String>,
    /// Until then nothing is asked; 0 before the first answer.
    fresh_until_ns: i64,
    /// When it was last asked for, in polls.
    asked_poll: u64,
    pending: bool,
}

/// See the module's documentation.
pub struct ReverseDns {
    known: HashMap<IpAddr, Known>,
    queue: SyncSender<IpAddr>,
    answers: Receiver<(IpAddr, Option<String>)>,
    /// Names that came, changed or went since they were taken last: at most one an answer or a
    /// forgotten address of the polls in between.
    changes: Vec<(IpAddr, Option<String>)>,
    polls: u64,
    counters: DnsCounters,
}

impl ReverseDns {
    /// Starts the threads; they end when this is dropped and their lookup is over.
    #[must_use]
    pub fn start(resolver: Arc<dyn Resolve>) -> ReverseDns {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let (answer, answers) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..LOOKUPS_AT_ONCE {
            let (resolver, waiting, answer) = (resolver.clone(), waiting.clone(), answer.clone());
            let thread = std::thread::Builder::new().name(format!("dns-{number}"));
            // Without a single thread no answer comes, and every address stays as it is.
            drop(thread.spawn(move || look_up(&*resolver, &waiting, &answer)));
        }
        let known = HashMap::new();
        let (changes, counters) = (Vec::new(), DnsCounters::default());
        ReverseDns { known, queue, answers, changes, polls: 0, counters }
    }

    /// Takes in what was found and asks for what is wanted and not known. True if a name came,
    /// changed or went.
    pub fn poll(&mut self, now_ns: i64, wanted: &[IpAddr]) -> bool {
        self.polls += 1;
        let mut changed = false;
        while let Ok((address, name)) = self.answers.try_recv() {
            changed |= self.learn(address, name, now_ns);
        }
        for &address in wanted {
            self.ask(address, now_ns);
        }
        changed | self.forget_stale(now_ns) | self.make_room()
    }

    fn learn(&mut self, address: IpAddr, name: Option<String>, now_ns: i64) -> bool {
        let ttl_ns = if name.is_some() { NAME_TTL_NS } else { MISS_TTL_NS };
        self.counters.found_total += u64::from(name.is_some());
        self.counters.missed_total += u64::from(name.is_none());
        let Some(known) = self.known.get_mut(&address) else { return false };
        known.pending = false;
        known.fresh_until_ns = now_ns.saturating_add(ttl_ns);
        let changed = known.name != name;
        if changed {
            self.changes.push((address, name.clone()));
        }
        known.name = name;
        changed
    }

    fn ask(&mut self, address: IpAddr, now_ns: i64) {
        let known = self.known.entry(address).or_default();
        known.asked_poll = self.polls;
        if known.pending || now_ns < known.fresh_until_ns {
            return;
        }
        match self.queue.try_send(address) {
            Ok(()) => known.pending = true,
            Err(_) => {
                self.counters.left_out_total += 1;
                if known.fresh_until_ns == 0 {
                    self.known.remove(&address);
                }
            }
        }
    }

    /// What nobody asked for since it went stale.
    fn forget_stale(&mut self, now_ns: i64) -> bool {
        let before = self.changes.len();
        let changes = &mut self.changes;
        self.known.retain(|address, known| {
            let keep = known.pending || now_ns < known.fresh_until_ns.saturating_add(MISS_TTL_NS);
            if !keep && known.name.is_some() {
                changes.push((*address, None));
            }
            keep
        });
        changes.len() > before
    }

    fn make_room(&mut self) -> bool {
        let over = self.known.len().saturating_sub(ADDRESSES_MAX);
        if over == 0 {
            return false;
        }
        let mut oldest: Vec<(u64, IpAddr)> =
            self.known.iter().map(|(address, known)| (known.asked_poll, *address)).collect();
        oldest.sort_unstable();
        let mut changed = false;
        for (_, address) in &oldest[..over] {
            if self.known.remove(address).is_some_and(|known| known.name.is_some()) {
                self.changes.push((*address, None));
                changed = true;
            }
        }
        self.counters.evicted_total += over as u64;
        changed
    }

    /// Names that came, changed or went (`None`) since the last call, in that order.
    pub fn take_changes(&mut self) -> Vec<(IpAddr, Option<String>)> {
        std::mem::take(&mut self.changes)
    }

    /// Address text → name, all that are known.
    #[must_use]
    pub fn names(&self) -> HashMap<String, String> {
        let named =
            |(address, known): (&IpAddr, &Known)| Some((address.to_string(), known.name.clone()?));
        self.known.iter().filter_map(named).collect()
    }

    #[must_use]
    pub fn counters(&self) -> DnsCounters {
        self.counters
    }
}

/// One thread: an address after the other, until nobody asks any more.
fn look_up(
    resolver: &dyn Resolve,
    waiting: &Mutex<Receiver<IpAddr>>,
    answers: &Sender<(IpAddr, Option<String>)>,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(address) = next else { return };
        // A resolver that panics has no name to give; the thread goes on.
        let name = std::panic::catch_unwind(AssertUnwindSafe(|| resolver.name_of(address)));
        if answers.send((address, name.unwrap_or(None))).is_err() {
            return;
        }
    }
}
