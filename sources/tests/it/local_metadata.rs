//! Local entities over made-up processes: names, pods, addresses, what changes and what ends.

use std::sync::Arc;

use weir_sources::capture::{CaptureEvent, Process, ProcessEvent};
use weir_sources::conn::SocketOwner;
use weir_sources::metadata::{ENDED_MAX, LocalMetadata};
use weir_types::Upid;
use weir_types::metadata::MetadataSnapshot;

use crate::fixture::{HOST_NETNS, Machine, Proc};

fn upid(pid: u32, start_ticks: u64) -> Upid {
    Upid::new(7, pid, start_ticks)
}

fn metadata(machine: &Machine) -> LocalMetadata {
    LocalMetadata::with_root(7, "laptop", machine.root())
}

/// (pod name, service name) of a process.
fn names(snapshot: &MetadataSnapshot, upid: Upid) -> (String, String) {
    let pod = snapshot.pod_of(upid).unwrap();
    let service = snapshot.service(&pod.service_ids[0]).unwrap();
    assert_eq!(snapshot.pod_by_name(&pod.name).unwrap().id, pod.id);
    (pod.name.clone(), service.name.clone())
}

fn comm(text: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..text.len()].copy_from_slice(text.as_bytes());
    comm
}

/// Service, namespace and pod follow the rules; node, start and command line are there.
#[test]
fn processes_have_local_names() {
    let id = "ab".repeat(32);
    let machine = Machine::new();
    machine.run(&Proc { pid: 10, ..Proc::default() });
    machine.run(&Proc {
        pid: 11,
        exe: "/usr/bin/python3.11",
        cmdline: "python3 /srv/app.py -v",
        ..Proc::default()
    });
    machine.run(&Proc { pid: 12, environ: "A=1 OTEL_SERVICE_NAME=cart", ..Proc::default() });
    machine.run(&Proc {
        pid: 13,
        cgroup: "0::/system.slice/web.service\n".to_string(),
        ..Proc::default()
    });
    machine.run(&Proc {
        pid: 14,
        cgroup: format!("0::/system.slice/docker-{id}.scope\n"),
        ..Proc::default()
    });
    machine.write(
        &format!("var/lib/docker/containers/{id}/config.v2.json"),
        r#"{"Name":"/shop-cart-1","Config":{"Labels":{"com.docker.compose.project":"shop",
            "com.docker.compose.service":"cart"}}}"#,
    );
    let snapshot = metadata(&machine).refresh();
    let check = |pid, pod: &str, service: &str| {
        assert_eq!(names(&snapshot, upid(pid, 5_000)), (pod.to_string(), service.to_string()));
    };
    check(10, "local/nginx-10", "local/nginx");
    check(11, "local/python3.11-11", "local/app.py");
    check(12, "local/nginx-12", "local/cart");
    check(13, "system/nginx-13", "system/web");
    check(14, "shop/nginx-14", "shop/cart");
    let process = snapshot.process(upid(11, 5_000)).unwrap();
    assert_eq!(process.cmdline, "python3 /srv/app.py -v");
    assert_eq!((process.node.as_str(), process.node_num_cpus), ("laptop", 2));
    let pod = snapshot.pod_of(upid(11, 5_000)).unwrap();
    assert_eq!(pod.start_unix_ns, 1_700_000_050_000_000_000);
    assert_eq!(snapshot.process(upid(14, 5_000)).unwrap().container_id, id);
    assert_eq!(snapshot.containers[&id].name, "shop-cart-1");
    assert_eq!(snapshot.container_names["shop-cart-1"], id);
    assert_eq!(snapshot.namespaces.len(), 3);
}

/// A snapshot is the same one until something changes; new processes, another program under the
/// same pid and an end show; an ended process is still known, its pid's next owner is another.
#[test]
fn changes_show_and_ends_are_remembered() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    let first = metadata.refresh();
    assert!(Arc::ptr_eq(&first, &metadata.refresh()));

    machine.run(&Proc { pid: 20, exe: "/bin/sh", cmdline: "sh", ..Proc::default() });
    assert_eq!(names(&metadata.refresh(), upid(20, 5_000)).1, "local/sh");
    machine.run(&Proc { pid: 20, ..Proc::default() });
    assert_eq!(names(&metadata.refresh(), upid(20, 5_000)).1, "local/nginx");

    machine.exit(20);
    let snapshot = metadata.refresh();
    assert_eq!(names(&snapshot, upid(20, 5_000)).1, "local/nginx");
    assert_eq!(snapshot.pod_of(upid(20, 5_000)).unwrap().phase, "Terminated");

    machine.run(&Proc { pid: 20, start_ticks: 9_000, exe: "/bin/cat", ..Proc::default() });
    let snapshot = metadata.refresh();
    assert_eq!(names(&snapshot, upid(20, 9_000)).0, "local/cat-20");
    assert_eq!(names(&snapshot, upid(20, 5_000)).0, "local/nginx-20");
}

/// A process that a row mentions is read at once; a known or unknowable one costs nothing.
#[test]
fn processes_are_looked_up_on_arrival() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    metadata.refresh();
    machine.run(&Proc { pid: 30, ..Proc::default() });
    let snapshot = metadata.look_up(upid(30, 5_000)).unwrap();
    assert_eq!(names(&snapshot, upid(30, 5_000)).0, "local/nginx-30");
    assert!(metadata.look_up(upid(30, 5_000)).is_none());
    assert!(metadata.look_up(upid(31, 1)).is_none());
    assert!(metadata.look_up(Upid::new(8, 30, 5_000)).is_none());
    assert_eq!(metadata.lookup_now(30).unwrap().service, "nginx");
    assert!(metadata.lookup_now(31).is_none());
}

/// A process that lived for a moment is known by what its events said.
#[test]
fn short_lived_processes_are_known_by_their_events() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let at = ProcessEvent {
        time_unix_ns: 1,
        process: Process { pid: 31, start_ticks: 77 },
        parent_pid: 1,
        cgroup_id: 0,
        comm: comm("curl"),
    };
    metadata.on_event(&CaptureEvent::Exec { at, cmdline: b"", is_cut: false });
    metadata.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
    let snapshot = metadata.look_up(upid(31, 77)).unwrap();
    assert_eq!(names(&snapshot, upid(31, 77)), ("local/curl-31".into(), "local/curl".into()));
}

/// An address with a port resolves to the socket's owner: the worker among those that share it,
/// every local address for a listener on all. An address of one process alone resolves to its pod.
#[test]
fn addresses_resolve_to_processes() {
    let machine = Machine::new();
    let server = |pid, start_ticks, sockets: &[u64]| Proc {
        pid,
        start_ticks,
        sockets: sockets.to_vec(),
        ..Proc::default()
    };
    machine.run(&server(40, 4_000, &[501]));
    machine.run(&server(41, 4_100, &[501, 502]));
    machine.run(&server(42, 4_200, &[503]));
    machine.run(&server(43, 4_300, &[504]));
    machine.tcp(&[
        ("0100007F:1F90", "0A", 501),
        ("0100007F:1F90", "01", 502),
        ("0B00007F:0050", "0A", 503),
        ("00000000:0051", "0A", 504),
        ("0100007F:9999", "06", 0),
    ]);
    let mut metadata = metadata(&machine);
    let snapshot = metadata.refresh();
    let owner = |ip: &str, port| snapshot.socket_owner(ip, port, None);
    assert_eq!(owner("127.0.0.1", 8080), Some(upid(41, 4_100)));
    assert_eq!(owner("127.0.0.11", 80), Some(upid(42, 4_200)));
    assert_eq!(owner("127.0.0.1", 81), Some(upid(43, 4_300)));
    assert_eq!(owner("10.0.0.5", 81), Some(upid(43, 4_300)));
    assert_eq!(owner("127.0.0.1", 0x9999), None);
    assert_eq!(snapshot.pod_by_ip("127.0.0.11", None).unwrap().name, "local/nginx-42");
    assert!(snapshot.pod_by_ip("127.0.0.1", None).is_none());

    // What capture saw counts at once; loopback of another namespace is another loopback.
    let seen = |local: &str, netns: u64| SocketOwner {
        local: local.parse().unwrap(),
        netns: netns as u32,
        process: Process { pid: 43, start_ticks: 4_300 },
        since_unix_ns: 1,
        shared: false,
    };
    metadata.observed(&seen("127.0.0.1:50000", HOST_NETNS));
    metadata.observed(&seen("127.0.0.1:50001", 99));
    metadata.observed(&seen("10.9.9.9:50001", 99));
    let snapshot = metadata.look_up(upid(43, 4_300)).unwrap();
    let owner = |ip: &str, port| snapshot.socket_owner(ip, port, None);
    assert_eq!(owner("127.0.0.1", 50_000), Some(upid(43, 4_300)));
    assert_eq!(owner("127.0.0.1", 50_001), None);
    assert_eq!(owner("10.9.9.9", 50_001), Some(upid(43, 4_300)));
}

/// Libraries are read for the processes that somebody asks about, once for a while, and again later:
/// catches maps of every process read on every refresh, and libraries of a pid's former owner.
#[test]
fn libraries_are_read_when_asked_for() {
    let machine = Machine::new();
    machine.run(&Proc { pid: 10, ..Proc::default() });
    let line = |path: &str, permissions: &str| {
        format!("7f00-7f10 {permissions} 00000000 08:01 123                 {path}\n")
    };
    let code = |path: &str| line(path, "r-xp");
    let maps = code("/usr/sbin/nginx")
        + &code("/lib/libc.so.6")
        + &line("/lib/libc.so.6", "rw-p")
        + &line("/usr/share/locale", "r--p")
        + &code("[vdso]")
        + &code("/lib/libssl.so.3");
    machine.write("proc/10/maps", &maps);
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let of = |snapshot: &MetadataSnapshot| snapshot.libraries.get(&upid(10, 5_000)).cloned();
    assert_eq!(of(&metadata.refresh()), None);
    let other = [upid(10, 4_999), Upid::new(8, 10, 5_000)];
    metadata.read_libraries(&other);
    assert!(metadata.take_changed().is_none(), "another process of that pid, another machine's");
    metadata.read_libraries(&[upid(10, 5_000)]);
    let snapshot = metadata.take_changed().unwrap();
    assert_eq!(of(&snapshot).unwrap(), r#"["/lib/libc.so.6","/lib/libssl.so.3"]"#);
    machine.write("proc/10/maps", &code("/lib/libz.so.1"));
    metadata.read_libraries(&[upid(10, 5_000)]);
    assert!(metadata.take_changed().is_none(), "they were read just now");
    (0..30).for_each(|_| drop(metadata.refresh()));
    metadata.read_libraries(&[upid(10, 5_000)]);
    assert_eq!(of(&metadata.take_changed().unwrap()).unwrap(), r#"["/lib/libz.so.1"]"#);

    // Many at once: some at a time, all in the end, without being asked for again.
    let pids = 100..200;
    for pid in pids.clone() {
        machine.run(&Proc { pid, ..Proc::default() });
        machine.write(&format!("proc/{pid}/maps"), &code("/lib/libc.so.6"));
    }
    metadata.refresh();
    metadata.read_libraries(&pids.map(|pid| upid(pid, 5_000)).collect::<Vec<_>>());
    let known = metadata.take_changed().unwrap().libraries.len();
    assert!((2..101).contains(&known), "{known}");
    (0..100).for_each(|_| metadata.read_libraries(&[]));
    assert_eq!(metadata.take_changed().unwrap().libraries.len(), 101);
}

/// Names of addresses are part of every snapshot from then on.
#[test]
fn names_of_addresses_are_in_the_snapshot() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let names = [("10.0.0.1".to_string(), "one.example".to_string())];
    metadata.set_names(names.clone().into_iter().collect());
    assert_eq!(metadata.take_changed().unwrap().dns["10.0.0.1"], "one.example");
    metadata.set_names(names.into_iter().collect());
    assert!(metadata.take_changed().is_none(), "nothing new");
    machine.run(&Proc { pid: 10, ..Proc::default() });
    assert_eq!(metadata.refresh().dns["10.0.0.1"], "one.example");
}

/// What is over keeps its names: a client that ended, and its port that others have used since, at
/// the time of its rows; and a server whose workers share a port is no series of owners. Catches a
/// view that is opened later and shows addresses, or the names of whoever came after.
#[test]
fn what_is_over_keeps_its_names() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    let worker = |pid, start_ticks| Proc { pid, start_ticks, ..Proc::default() };
    machine.run(&worker(60, 6_000));
    machine.run(&worker(61, 6_100));
    let mut time_unix_ns = 1_000;
    let mut seen = |pid, start_ticks, local: &str, shared| {
        time_unix_ns += 1_000;
        SocketOwner {
            local: local.parse().unwrap(),
            netns: HOST_NETNS as u32,
            process: Process { pid, start_ticks },
            since_unix_ns: time_unix_ns,
            shared,
        }
    };
    metadata.refresh();
    for client in 0..3 {
        let pid = 70 + client;
        let exe = ["/bin/curl", "/bin/wget", "/bin/ab"][client as usize];
        machine.run(&Proc { pid, start_ticks: 7_000, exe, ..Proc::default() });
        metadata.look_up(upid(pid, 7_000));
        metadata.observed(&seen(pid, 7_000, "127.0.0.1:40000", false));
        // In turn, as accepting workers come.
        for worker in [60, 61, 60] {
            let start_ticks = u64::from(worker) * 100;
            metadata.observed(&seen(worker, start_ticks, "127.0.0.1:80", true));
        }
        machine.exit(pid);
        metadata.refresh();
    }
    // Long after: sockets have been forgotten as open ones by then.
    let mut snapshot = metadata.refresh();
    for _ in 0..100 {
        snapshot = metadata.refresh();
    }
    let pod_at = |port, time| {
        let owner = snapshot.socket_owner("127.0.0.1", port, Some(time)).unwrap();
        snapshot.pod_of(owner).unwrap().name.clone()
    };
    assert_eq!(pod_at(40_000, 2_000), "local/curl-70");
    assert_eq!(pod_at(40_000, 5_999), "local/curl-70");
    assert_eq!(pod_at(40_000, 6_000), "local/wget-71");
    assert_eq!(pod_at(40_000, 10_000), "local/ab-72");
    assert_eq!(snapshot.socket_owner("127.0.0.1", 40_000, None), Some(upid(72, 7_000)));
    assert_eq!(pod_at(80, 3_000), "local/nginx-60");
    let owners = |part: &MetadataSnapshot| {
        part.sockets.get(&("127.0.0.1".to_string(), 80)).map_or(0, Vec::len)
    };
    let all: usize = snapshot.past.iter().map(|part| owners(part)).sum();
    assert_eq!(all + owners(&snapshot), 1);
}

/// The past has bounds, by number and by age, and what goes for want of room is counted. Catches
/// memory that grows with every process that ever ran.
#[test]
fn the_past_is_bounded() {
    let machine = Machine::new();
    let metadata = metadata(&machine);
    let mut metadata = metadata.keep(std::time::Duration::from_secs(10));
    metadata.refresh();
    let ended = |metadata: &mut LocalMetadata, from: u32, count: u32| {
        for pid in from..from + count {
            let at = ProcessEvent {
                time_unix_ns: 1,
                process: Process { pid, start_ticks: 5 },
                parent_pid: 1,
                cgroup_id: 0,
                comm: comm("short"),
            };
            metadata.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
        }
    };
    let most = ENDED_MAX as u32;
    ended(&mut metadata, 1_000, most + 1_000);
    let snapshot = metadata.refresh();
    assert!(snapshot.process(upid(1_000, 5)).is_none());
    assert!(snapshot.process(upid(most + 1_999, 5)).is_some());
    let kept: usize = snapshot.past.iter().map(|part| part.processes.len()).sum();
    assert_eq!(metadata.forgotten().processes + kept as u64, u64::from(most) + 1_000);
    assert!(kept <= ENDED_MAX && kept > ENDED_MAX / 2, "{kept}");
    // Parts that are too old go, and are not counted: nobody can ask about them.
    let forgotten = metadata.forgotten();
    for _ in 0..12 {
        metadata.refresh();
    }
    let snapshot = metadata.refresh();
    assert!(snapshot.process(upid(most + 1_000, 5)).is_none());
    assert_eq!(metadata.forgotten(), forgotten);
}
