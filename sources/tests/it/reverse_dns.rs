//! Reverse DNS: what is asked, how often, what is kept, and that nobody waits.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use weir_sources::dns::{
    ADDRESSES_MAX, LOOKUPS_AT_ONCE, MISS_TTL_NS, NAME_TTL_NS, QUEUE_MAX, Resolve, ReverseDns,
    SystemResolver,
};

fn ip(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 | number))
}

/// Gives the names it was told, and says what it was asked. While its gate is held, it waits.
#[derive(Default)]
struct Told {
    names: Mutex<BTreeMap<IpAddr, String>>,
    asked: Mutex<Vec<IpAddr>>,
    gate: Mutex<()>,
}

impl Resolve for Told {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        self.asked.lock().unwrap().push(address);
        drop(self.gate.lock().unwrap());
        if address == ip(666) {
            panic!("a resolver may have a bug");
        }
        self.names.lock().unwrap().get(&address).cloned()
    }
}

impl Told {
    fn tell(&self, address: IpAddr, name: &str) {
        self.names.lock().unwrap().insert(address, name.to_string());
    }
    fn asked_count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// Polls until nothing more is on its way: `done` answers in all since the start.
fn settle(dns: &mut ReverseDns, now_ns: i64, done: u64) -> bool {
    let mut changed = false;
    loop {
        changed |= dns.poll(now_ns, &[]);
        let counters = dns.counters();
        if counters.found_total + counters.missed_total >= done {
            return changed;
        }
        std::thread::yield_now();
    }
}

/// A name is asked for once, kept for its time, asked again when it is wanted after that, and
/// forgotten when it is not: catches a lookup per row, and a name that never changes.
#[test]
fn names_are_kept_for_their_time() {
    let told = Arc::new(Told::default());
    told.tell(ip(1), "one.example");
    let mut dns = ReverseDns::start(told.clone());
    assert!(!dns.poll(0, &[ip(1), ip(2)]), "no answer yet: nobody waits");
    assert!(settle(&mut dns, 0, 2));
    assert_eq!(dns.names().len(), 1);
    assert_eq!(dns.names()["10.0.0.1"], "one.example");

    for _ in 0..100 {
        dns.poll(MISS_TTL_NS - 1, &[ip(1), ip(2)]);
    }
    assert_eq!(told.asked_count(), 2, "hits and misses are both kept");
    told.tell(ip(2), "two.example");
    dns.poll(MISS_TTL_NS, &[ip(1), ip(2)]);
    assert!(settle(&mut dns, MISS_TTL_NS, 3));
    assert_eq!(told.asked_count(), 3, "a miss is asked again sooner than a name");
    assert_eq!(dns.names()["10.0.0.2"], "two.example");

    told.tell(ip(1), "moved.example");
    let gate = told.gate.lock().unwrap();
    assert!(!dns.poll(NAME_TTL_NS, &[ip(1)]));
    assert_eq!(dns.names()["10.0.0.1"], "one.example", "the old name is good until the new one");
    drop(gate);
    assert!(settle(&mut dns, NAME_TTL_NS, 4));
    assert_eq!(dns.names()["10.0.0.1"], "moved.example");
    assert!(dns.poll(10 * NAME_TTL_NS, &[]), "nobody asked for a long time");
    assert!(dns.names().is_empty());
    let counters = dns.counters();
    assert_eq!((counters.found_total, counters.missed_total), (3, 1));
}

/// A resolver that hangs fills the queue, not memory, and polling goes on; what did not fit is
/// counted and asked again later.
#[test]
fn a_hanging_resolver_costs_a_bounded_queue() {
    let told = Arc::new(Told::default());
    let mut dns = ReverseDns::start(told.clone());
    let gate = told.gate.lock().unwrap();
    let many: Vec<IpAddr> = (0..2_000).map(ip).filter(|at| *at != ip(666)).collect();
    assert!(!dns.poll(0, &many));
    let left_out = dns.counters().left_out_total;
    let fits = (QUEUE_MAX + LOOKUPS_AT_ONCE) as u64;
    assert!(left_out >= many.len() as u64 - fits, "{left_out}");
    assert_eq!(dns.counters().evicted_total, 0, "what was left out is not kept");
    drop(gate);
    let asked = many.len() as u64 - left_out;
    settle(&mut dns, 0, asked);
    dns.poll(0, &many[1_000..1_100]);
    settle(&mut dns, 0, asked + 100);
}

/// The least recently wanted go first: catches an unbounded cache, and one that throws away what
/// every tick asks for.
#[test]
fn the_cache_is_bounded() {
    let told = Arc::new(Told::default());
    (0..4_000).for_each(|at| told.tell(ip(at), &format!("host-{at}")));
    let mut dns = ReverseDns::start(told.clone());
    let mut done = 0;
    for from in (1_000..3_000).step_by(QUEUE_MAX / 2) {
        let mut wanted: Vec<IpAddr> = (from..from + QUEUE_MAX as u32 / 2).map(ip).collect();
        wanted.push(ip(7));
        dns.poll(0, &wanted);
        done += QUEUE_MAX as u64 / 2 + u64::from(from == 1_000);
        settle(&mut dns, 0, done);
    }
    let names = dns.names();
    assert_eq!(names.len(), ADDRESSES_MAX);
    assert!(names.contains_key("10.0.0.7") && !names.contains_key(&ip(1_000).to_string()));
    assert_eq!(dns.counters().evicted_total, done - ADDRESSES_MAX as u64);
}

/// A panic in the resolver is a miss; its thread goes on.
#[test]
fn a_panicking_resolver_is_a_miss() {
    let told = Arc::new(Told::default());
    told.tell(ip(1), "one.example");
    let mut dns = ReverseDns::start(told);
    for round in 1..=LOOKUPS_AT_ONCE as i64 + 1 {
        dns.poll(round * MISS_TTL_NS, &[ip(666)]);
        settle(&mut dns, round * MISS_TTL_NS, round as u64);
    }
    dns.poll(0, &[ip(1)]);
    settle(&mut dns, 0, LOOKUPS_AT_ONCE as u64 + 2);
    assert_eq!(dns.names()["10.0.0.1"], "one.example");
}

/// The real thing: every machine has a name for its loopback address.
#[test]
fn the_system_knows_loopback() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names: Vec<&str> = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter(|line| line.split_ascii_whitespace().next() == Some("127.0.0.1"))
        .flat_map(|line| line.split_ascii_whitespace().skip(1))
        .collect();
    let found = SystemResolver.name_of(IpAddr::V4(Ipv4Addr::LOCALHOST));
    match found {
        Some(name) => assert!(names.is_empty() || names.contains(&name.as_str()), "{name}"),
        None => assert!(names.is_empty(), "{names:?}"),
    }
}

/// Dropping it ends its threads even while a lookup hangs: nobody joins them.
#[test]
fn dropping_does_not_wait() {
    struct Hanging(Mutex<Receiver<()>>);
    impl Resolve for Hanging {
        fn name_of(&self, _address: IpAddr) -> Option<String> {
            let _ = self.0.lock().unwrap().recv();
            None
        }
    }
    let (release, hang): (SyncSender<()>, _) = sync_channel(0);
    let mut dns = ReverseDns::start(Arc::new(Hanging(Mutex::new(hang))));
    dns.poll(0, &[ip(1)]);
    drop(dns);
    drop(release);
}
