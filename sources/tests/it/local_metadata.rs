//! Local entities over made-up processes: names, pods, addresses, what changes and what ends.

use std::sync::Arc;

use weir_sources::capture::{CaptureEvent, Process, ProcessEvent};
use weir_sources::conn::SocketOwner;
use weir_sources::metadata::LocalMetadata;
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
    let service = &snapshot.services[&pod.service_ids[0]];
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
    metadata.on_event(&CaptureEvent::Exec { at });
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
    let owner = |ip: &str, port| snapshot.sockets.get(&(ip.to_string(), port)).copied();
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
    };
    metadata.observed(&seen("127.0.0.1:50000", HOST_NETNS));
    metadata.observed(&seen("127.0.0.1:50001", 99));
    metadata.observed(&seen("10.9.9.9:50001", 99));
    let snapshot = metadata.look_up(upid(43, 4_300)).unwrap();
    let owner = |ip: &str, port| snapshot.sockets.get(&(ip.to_string(), port)).copied();
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
