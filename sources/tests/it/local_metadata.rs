//! Local entities over made-up processes: names, pods, addresses, what changes and what ends.

use std::sync::Arc;

use weir_sources::capture::{CaptureEvent, Opened, Process, ProcessEvent};
use weir_sources::conn::{EndOf, SocketOwner};
use weir_sources::metadata::{ENDED_MAX, Found};
use weir_types::Upid;
use weir_types::metadata::{Address, MetadataSnapshot};

use crate::fixture::{HOST_NETNS, LocalMetadata, Machine, Proc};

fn upid(pid: u32, start_ticks: u64) -> Upid {
    Upid::new(7, pid, start_ticks)
}

fn metadata(machine: &Machine) -> LocalMetadata {
    LocalMetadata::new(machine)
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
}

fn event(pid: u32, start_ticks: u64, name: &str) -> ProcessEvent {
    ProcessEvent {
        time_unix_ns: 1,
        process: Process { pid, start_ticks },
        parent_pid: 1,
        cgroup_id: 0,
        comm: comm(name),
    }
}

/// A process that lived for a moment is known by what its events said, its arguments too: nothing
/// is left in `/proc` by the time that somebody could look. Catches a `curl` without a command line.
#[test]
fn short_lived_processes_are_known_by_their_events() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let at = event(31, 77, "curl");
    let cmdline = b"curl\0-s\0http://localhost/\0";
    metadata.on_event(&CaptureEvent::Exec { at, cmdline, is_cut: false });
    metadata.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
    let snapshot = metadata.refresh();
    assert_eq!(names(&snapshot, upid(31, 77)), ("local/curl-31".into(), "local/curl".into()));
    let process = snapshot.process(upid(31, 77)).unwrap();
    assert_eq!(process.cmdline, "curl -s http://localhost/");
    assert!(process.ended);

    // Read while it ends: its memory is gone, and with it what could be read.
    machine.run(&Proc { pid: 33, start_ticks: 79, exe: "", cmdline: "", ..Proc::default() });
    let at = event(33, 79, "curl");
    metadata.on_event(&CaptureEvent::Exec { at, cmdline, is_cut: false });
    assert_eq!(metadata.refresh().process(upid(33, 79)).unwrap().cmdline, process.cmdline);

    // Of one that was seen only when it ended, the name is left.
    metadata.on_event(&CaptureEvent::Exit { at: event(32, 78, "wget"), exit_code: 0 });
    let snapshot = metadata.refresh();
    assert_eq!(names(&snapshot, upid(32, 78)), ("local/wget-32".into(), "local/wget".into()));
}

/// A forked child is what its parent is, container and network included, from its first moment;
/// until it runs another program. Then its arguments name it, and what its control group says stays.
/// Catches children of a forking server that are nobody's, and a shell's `curl` that stays a shell.
#[test]
fn children_are_what_their_parents_are() {
    let id = "ab".repeat(32);
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    let server = |pid, cgroup: String| Proc {
        pid,
        cgroup,
        exe: "/usr/bin/python3",
        cmdline: "python3 /srv/app.py",
        netns: 77,
        ..Proc::default()
    };
    machine.run(&server(40, format!("0::/docker/{id}\n")));
    machine.run(&server(41, "0::/system.slice/web.service\n".to_string()));
    metadata.refresh();
    let fork = |pid: u32, parent: u32| CaptureEvent::Fork {
        at: event(pid, 90, "python3"),
        parent: Process { pid: parent, start_ticks: 5_000 },
    };
    for event in [fork(50, 40), fork(51, 41), fork(52, 99)] {
        metadata.on_event(&event);
    }
    let snapshot = metadata.observed_only();
    let child = snapshot.process(upid(50, 90)).unwrap();
    assert_eq!(child.cmdline, "python3 /srv/app.py");
    assert_eq!((child.container_id.as_str(), child.netns), (id.as_str(), 77));
    assert_eq!(names(&snapshot, upid(50, 90)), ("local/python3-50".into(), "local/app.py".into()));
    assert_eq!(names(&snapshot, upid(51, 90)).1, "system/web");
    assert!(snapshot.process(upid(52, 90)).is_none(), "nothing is known of its parent");

    let exec = |pid: u32| CaptureEvent::Exec {
        at: event(pid, 90, "curl"),
        cmdline: b"/usr/bin/curl\0-s\0",
        is_cut: false,
    };
    metadata.on_event(&exec(50));
    metadata.on_event(&exec(51));
    let snapshot = metadata.observed_only();
    assert_eq!(names(&snapshot, upid(50, 90)), ("local/curl-50".into(), "local/curl".into()));
    assert_eq!(snapshot.process(upid(50, 90)).unwrap().container_id, id);
    assert_eq!(names(&snapshot, upid(51, 90)), ("system/curl-51".into(), "system/web".into()));
    assert_eq!(snapshot.containers[&id].state, "Running");
    for pid in [50, 40] {
        let start_ticks = if pid == 50 { 90 } else { 5_000 };
        let at = event(pid, start_ticks, "x");
        metadata.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
    }
    assert_eq!(metadata.observed_only().containers[&id].state, "Terminated");
}

/// What was read of a process before it ran another program does not take the place of what its
/// event said since: catches a `curl` that is called `bash` because the reader was late.
#[test]
fn late_answers_are_of_the_former_program() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    machine.run(&Proc { pid: 60, exe: "/bin/bash", cmdline: "bash", ..Proc::default() });
    metadata.refresh();
    metadata.look_up(upid(61, 5_000));
    metadata.on_event(&CaptureEvent::Exec {
        at: event(60, 5_000, "bash"),
        cmdline: b"bash\0",
        is_cut: false,
    });
    let late = metadata.answers();
    metadata.on_event(&CaptureEvent::Exec {
        at: event(60, 5_000, "curl"),
        cmdline: b"curl\0-v\0",
        is_cut: false,
    });
    metadata.give(late);
    assert_eq!(metadata.observed_only().process(upid(60, 5_000)).unwrap().cmdline, "curl -v");
}

fn end(pid: u32, local: &str, remote: &str, netns: u64, at_unix_ns: i64) -> SocketOwner {
    SocketOwner {
        end: EndOf::Ip { local: local.parse().unwrap(), remote: remote.parse().unwrap() },
        netns: netns as u32,
        process: Process { pid, start_ticks: 5_000 },
        opened: if pid.is_multiple_of(2) { Opened::Accepted } else { Opened::Connected },
        at_unix_ns,
        ended: false,
    }
}

fn address(text: &str) -> Address {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Address { ip: Some(address.ip()), is_unix: false, port: i64::from(address.port()) }
}

fn peer(snapshot: &MetadataSnapshot, pid: u32, local: &str, remote: &str) -> Option<u32> {
    let (local, remote) = (address(local), address(remote));
    snapshot.peer(upid(pid, 5_000), local, remote, 50).map(|upid| upid.pid())
}

/// Ends that capture saw are each other's peers; a process alone on an address is found by it, but
/// not by somebody in a namespace whose loopback is another. Catches `nginx → nginx`, and a host
/// process as the peer of a container's.
#[test]
fn ends_are_peers() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    for (pid, netns) in [(41, HOST_NETNS), (42, HOST_NETNS), (44, HOST_NETNS), (43, 99)] {
        machine.run(&Proc { pid, netns, ..Proc::default() });
    }
    metadata.refresh();
    for seen in [
        end(41, "127.0.0.1:40000", "127.0.0.1:80", HOST_NETNS, 10),
        end(42, "127.0.0.1:80", "127.0.0.1:40000", HOST_NETNS, 11),
        end(42, "127.0.0.1:40000", "127.0.0.1:81", HOST_NETNS, 12),
        end(44, "127.0.0.1:81", "127.0.0.1:40000", HOST_NETNS, 13),
        end(43, "127.0.0.1:41000", "127.0.0.1:80", 99, 14),
        end(41, "127.0.0.5:1000", "127.0.0.1:80", HOST_NETNS, 15),
    ] {
        metadata.observed(&seen);
    }
    let snapshot = metadata.observed_only();
    assert_eq!(peer(&snapshot, 42, "127.0.0.1:80", "127.0.0.1:40000"), Some(41));
    assert_eq!(peer(&snapshot, 42, "127.0.0.1:40000", "127.0.0.1:81"), Some(44));
    assert_eq!(peer(&snapshot, 43, "127.0.0.1:41000", "127.0.0.1:80"), None);
    assert_eq!(peer(&snapshot, 42, "127.0.0.1:80", "127.0.0.5:9"), Some(41), "its own address");
    assert_eq!(peer(&snapshot, 43, "127.0.0.1:80", "127.0.0.5:9"), None, "not over there");
    assert_eq!(snapshot.pod_by_ip("127.0.0.5", None).unwrap().name, "local/nginx-41");
    assert!(snapshot.pod_by_ip("127.0.0.1", None).is_none());
    let met = snapshot.peer_met(upid(41, 5_000), address("127.0.0.1:80"), 50);
    assert_eq!(met, Some(upid(42, 5_000)));
}

/// What capture does not see is found in the kernel's tables: both ends of an open connection,
/// whoever holds them, the worker among those that share one; and it is over once it is gone there.
#[test]
fn tables_tell_of_other_connections() {
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
    machine.tcp(&[
        ("0100007F:1F90", "00000000:0000", "0A", 501),
        ("0100007F:1F90", "0100007F:9C40", "01", 502),
        ("0100007F:9C40", "0100007F:1F90", "01", 503),
        ("0100007F:9999", "0100007F:0001", "06", 0),
    ]);
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let snapshot = metadata.refresh();
    let (server, client) = (address("127.0.0.1:8080"), address("127.0.0.1:40000"));
    let now = 1_700_000_100_000_000_000;
    assert_eq!(snapshot.peer(upid(42, 4_200), client, server, now), Some(upid(41, 4_100)));
    assert_eq!(snapshot.peer(upid(41, 4_100), server, client, now), Some(upid(42, 4_200)));
    assert_eq!(snapshot.connections.ends.len(), 2);
    machine.tcp(&[]);
    (0..70).for_each(|_| drop(metadata.refresh()));
    let snapshot = metadata.refresh();
    let later = i64::MAX - 2_000_000_000;
    assert_eq!(snapshot.peer(upid(42, 4_200), client, server, later), None);
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
}

/// Names of addresses are part of every snapshot from then on.
#[test]
fn names_of_addresses_are_in_the_snapshot() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    metadata.refresh();
    let names = [("10.0.0.1".parse().unwrap(), Some("one.example".to_string()))];
    metadata.found(Found::Names(names.to_vec()));
    assert_eq!(metadata.take_changed().unwrap().dns["10.0.0.1"], "one.example");
    metadata.found(Found::Names(Vec::new()));
    assert!(metadata.take_changed().is_none(), "nothing new");
    machine.run(&Proc { pid: 10, ..Proc::default() });
    assert_eq!(metadata.refresh().dns["10.0.0.1"], "one.example");
    metadata.found(Found::Names(vec![("10.0.0.1".parse().unwrap(), None)]));
    assert!(metadata.take_changed().unwrap().dns.is_empty());
}

/// What is over keeps its names: clients that ended, and a pair of addresses that others have used
/// since, at the time of its rows. Catches a view that is opened later and shows addresses, or the
/// names of whoever came after.
#[test]
fn what_is_over_keeps_its_names() {
    let machine = Machine::new();
    let mut metadata = metadata(&machine);
    machine.run(&Proc { pid: 60, ..Proc::default() });
    metadata.refresh();
    let second = 1_000_000_000;
    let (client, server) = ("127.0.0.1:40000", "127.0.0.1:80");
    for (number, exe) in ["/bin/curl", "/bin/wget", "/bin/ab"].into_iter().enumerate() {
        let pid = 71 + 2 * number as u32;
        let from = 10 * second * number as i64;
        machine.run(&Proc { pid, exe, ..Proc::default() });
        metadata.look_up(upid(pid, 5_000));
        for mut seen in [
            end(pid, client, server, HOST_NETNS, from),
            end(60, server, client, HOST_NETNS, from + 1),
        ] {
            metadata.observed(&seen);
            seen.ended = true;
            seen.at_unix_ns = from + 5 * second;
            metadata.observed(&seen);
        }
        machine.exit(pid);
        metadata.refresh();
    }
    (0..100).for_each(|_| drop(metadata.refresh()));
    let snapshot = metadata.refresh();
    let pod_at = |time| {
        let owner = snapshot.peer(upid(60, 5_000), address(server), address(client), time)?;
        Some(snapshot.pod_of(owner).unwrap().name.clone())
    };
    assert_eq!(pod_at(2 * second).unwrap(), "local/curl-71");
    assert_eq!(pod_at(8 * second), None);
    assert_eq!(pod_at(12 * second).unwrap(), "local/wget-73");
    assert_eq!(pod_at(25 * second).unwrap(), "local/ab-75");
}

/// The past has bounds, by number and by age, and what goes for want of room is counted. Catches
/// memory that grows with every process that ever ran.
#[test]
fn the_past_is_bounded() {
    let machine = Machine::new();
    let mut metadata = LocalMetadata::keep(&machine, std::time::Duration::from_secs(10));
    metadata.refresh();
    let most = ENDED_MAX as u32;
    for pid in 1_000..1_000 + most + 1_000 {
        let at = event(pid, 5, "short");
        metadata.on_event(&CaptureEvent::Exit { at, exit_code: 0 });
    }
    let snapshot = metadata.observed_only();
    assert!(snapshot.process(upid(1_000, 5)).is_none());
    assert!(snapshot.process(upid(most + 1_999, 5)).is_some());
    let kept = snapshot.processes.values().filter(|process| process.ended).count();
    assert_eq!(kept, ENDED_MAX);
    assert_eq!(metadata.counters().processes_forgotten_total, 1_000);
    assert_eq!(snapshot.services.len(), 3, "init, weir and short");
    // Those that are too old go, and are not counted: nobody can ask about them.
    (0..12).for_each(|_| drop(metadata.refresh()));
    let snapshot = metadata.refresh();
    assert!(snapshot.process(upid(most + 1_000, 5)).is_none());
    assert_eq!(metadata.counters().processes_forgotten_total, 1_000);
    assert!(!snapshot.services.contains_key("local-service-local/short"));
}
