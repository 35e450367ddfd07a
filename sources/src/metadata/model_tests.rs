//! Tests of the metadata's model.

use std::net::SocketAddr;

use super::*;
use crate::capture::Opened;
use crate::conn::{EndOf, SocketOwner};

fn model() -> Model {
    Model::new(Machine { asid: 7, ticks_per_second: 100, ..Machine::default() }, None)
}

fn process(pid: u32) -> Process {
    Process { pid, start_ticks: 5 }
}

fn start(model: &mut Model, pid: u32, cmdline: &[u8]) {
    let started = Observation::Started {
        process: process(pid),
        comm: "x".to_string(),
        cmdline: cmdline.into(),
    };
    model.observe(started);
}

/// What an observation touches is the same with ten processes and with ten thousand, also while
/// snapshots are taken after each: catches a snapshot that is built anew.
#[test]
fn work_does_not_grow() {
    let mut model = model();
    let mut work = Vec::new();
    let mut held = Vec::new();
    for pid in 1..10_000 {
        let before = model.counters().touched_total;
        start(&mut model, pid, b"server\0");
        model.observe(Observation::Forked { process: process(20_000 + pid), parent: process(pid) });
        model.observe(Observation::Ended {
            process: process(20_000 + pid),
            comm: "server".to_string(),
        });
        work.push(model.counters().touched_total - before);
        if pid % 1_000 == 0 {
            held.push((pid, model.take_changed().unwrap().0));
        }
    }
    assert_eq!(work[5], 4, "put in, put in, taken out and put in again");
    assert!(work.iter().all(|one| *one <= work[5] + 1), "one is forgotten at most");
    for (pid, snapshot) in held {
        let live = snapshot.processes.values().filter(|process| !process.ended).count();
        assert_eq!(live, pid as usize, "each snapshot is what it was");
    }
}

/// Texts are bounded: the oldest ended processes go, then new ones have no names, and both are
/// counted; what is forgotten leaves nothing behind.
#[test]
fn bytes_are_bounded() {
    let mut model = model();
    let long = [b'a'; 1_000];
    let mut pid = 0;
    while model.counters().processes_refused_total == 0 && pid < 200_000 {
        pid += 1;
        start(&mut model, pid, &long);
    }
    assert_eq!(model.live.len(), PROCESSES_MAX.min(model.known.len()));
    assert!(model.bytes <= PROCESS_BYTES_MAX);
    let pids: Vec<u32> = model.live.keys().copied().collect();
    for pid in pids {
        model.observe(Observation::Ended { process: process(pid), comm: String::new() });
    }
    assert!(model.known.len() <= ENDED_MAX, "{}", model.known.len());
    assert!(model.counters().processes_forgotten_total > 0);
    let keep = model.keep_seconds;
    (0..=keep + 1).for_each(|_| model.second(0));
    let (snapshot, touched) = model.take_changed().unwrap();
    assert!(!touched.is_empty());
    assert_eq!((model.known.len(), model.bytes, model.ended.len()), (0, 0, 0));
    let left = (snapshot.processes.len(), snapshot.pods.len(), snapshot.services.len());
    assert_eq!(left, (0, 0, 0));
    assert_eq!((snapshot.pod_names.len(), snapshot.service_names.len()), (0, 0));
}

/// Orders that nobody takes are bounded and counted.
#[test]
fn orders_are_bounded() {
    let mut model = model();
    for pid in 1..=ORDERS_MAX as u32 + 9 {
        model.observe(Observation::Mentioned(Upid::new(7, pid, 5)));
    }
    assert_eq!(model.orders.len(), ORDERS_MAX);
    assert_eq!(model.counters().orders_left_out_total, 9);
}

/// All that is over goes once rows of it are forgotten, whoever met whom and which address was whose
/// included, and who follows the changes forgets it, too. Catches an entity that is never deleted.
#[test]
fn nothing_of_what_is_over_stays() {
    let mut model = model();
    model.second(1);
    model.found(Found::Own { addresses: vec![[192, 168, 0, 1].into()], netns: 1 });
    let mut followed = MetadataSnapshot::default();
    let mut most = 0;
    for round in 0..40_u32 {
        for pid in [2 * round + 1, 2 * round + 2] {
            start(&mut model, pid, b"server\0");
        }
        let (client, server) = (process(2 * round + 1), process(2 * round + 2));
        let at = |host: u8, port: u16| SocketAddr::from(([10, 0, round as u8, host], port));
        let end = |process, local, remote, opened, ended| {
            Observation::End(SocketOwner {
                end: EndOf::Ip { local, remote },
                netns: 1,
                process,
                opened,
                at_unix_ns: 1_000,
                ended,
            })
        };
        for ended in [false, true] {
            model.observe(end(server, at(1, 80), at(2, 999), Opened::Accepted, ended));
            model.observe(end(client, at(2, 999), at(1, 80), Opened::Connected, ended));
        }
        for process in [client, server] {
            model.observe(Observation::Ended { process, comm: "x".to_string() });
        }
        model.found(Found::Answer(Answer::Libraries {
            upid: Upid::new(7, client.pid, 5),
            text: "[]".to_string(),
        }));
        (0..=model.keep_seconds / 10).for_each(|_| model.second(1));
        if let Some((snapshot, touched)) = model.take_changed() {
            let connections = &snapshot.connections;
            assert!(round > 0 || (connections.met.len() >= 2 && connections.users.len() == 2));
            touched.iter().for_each(|key| followed.apply(snapshot.entity(key)));
            assert_eq!(followed.entity_count(), snapshot.entity_count());
            most = most.max(snapshot.entity_count());
        }
    }
    assert!(most > 0 && most < 12 * 24, "{most}: of ten rounds and a bit");
    (0..=model.keep_seconds + 1).for_each(|_| model.second(1));
    let (snapshot, touched) = model.take_changed().unwrap();
    touched.iter().for_each(|key| followed.apply(snapshot.entity(key)));
    let left: Vec<String> = snapshot.entities().map(|one| format!("{one:?}")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(followed.entity_count(), 0);
}
