//! What is looked at, and what never is.

use super::*;

/// Connections to our own listener are not seen from either end, those to another port are.
#[test]
fn own_listener_is_excluded() {
    let (own, other) = (listen(), listen());
    let Some(mut source) = start(&follow_self()) else { return };
    source.exclude_listener(own.local_addr().unwrap()).unwrap();
    let mut excluded = Pair::connect(&own);
    let mut watched = Pair::connect(&other);
    excluded.say("secret");
    watched.say("public");
    let seen = drain(&mut source);
    assert!(!seen.iter().any(|event| event.is_from(excluded.client_addr)));
    assert!(!seen.iter().any(|event| event.is_from(excluded.server_addr)));
    assert_eq!(text(&seen, watched.client_addr, Direction::Egress), "public");
    assert_eq!(text(&seen, watched.server_addr, Direction::Ingress), "public");
    assert!(source.counters().excluded >= 4);
}

/// A listener on the wildcard address excludes connections to it over any of our addresses.
#[test]
fn wildcard_listener_is_excluded() {
    let own = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = own.local_addr().unwrap().port();
    let Some(mut source) = start(&follow_port(port)) else { return };
    source.exclude_listener(own.local_addr().unwrap()).unwrap();
    let mut client = TcpStream::connect(("127.0.0.2", port)).unwrap();
    let (mut server, _) = own.accept().unwrap();
    client.write_all(b"secret").unwrap();
    server.read_exact(&mut [0; 6]).unwrap();
    let seen = drain(&mut source);
    assert_eq!(seen, []);
}

/// A pair can be excluded while its connection is open, in either order of its ends, and be
/// forgotten again; positions go on counting meanwhile.
#[test]
fn pair_is_excluded_and_forgotten() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.say("before;");
    source.exclude_pair(pair.server_addr, pair.client_addr).unwrap();
    pair.say("secret;");
    source.forget_pair(pair.server_addr, pair.client_addr).unwrap();
    pair.say("after");
    let seen = drain(&mut source);
    for (local, way) in
        [(pair.client_addr, Direction::Egress), (pair.server_addr, Direction::Ingress)]
    {
        let found = data(&seen, local, way);
        let texts: Vec<&[u8]> = found.iter().map(|(_, _, payload)| payload.as_slice()).collect();
        assert_eq!(texts, [b"before;".as_slice(), b"after"]);
    }
}

/// What is seen of a word that goes from a client and, over another connection, to a server.
fn say_to_both(
    source: &mut EbpfSource,
    first: &mut Pair,
    second: &mut Pair,
    word: &str,
) -> [String; 2] {
    first.say(&format!("{word} to a"));
    second.say(&format!("{word} to b"));
    let seen = drain(source);
    [
        text(&seen, first.client_addr, Direction::Egress),
        text(&seen, second.server_addr, Direction::Ingress),
    ]
}

/// Filters change while programs run: by port, by process, denied, and back to everything.
#[test]
fn filters_change_at_run_time() {
    let (a, b) = (listen(), listen());
    let ports = |listener: &TcpListener| BTreeSet::from([listener.local_addr().unwrap().port()]);
    let only = |listener: &TcpListener| Filters { ports: ports(listener), ..Filters::default() };
    let own = BTreeSet::from([std::process::id()]);
    let Some(mut source) = start(&follow_port(a.local_addr().unwrap().port())) else { return };
    let (mut first, mut second) = (Pair::connect(&a), Pair::connect(&b));
    let mut say =
        |source: &mut EbpfSource, word: &str| say_to_both(source, &mut first, &mut second, word);
    assert_eq!(say(&mut source, "one"), ["one to a", ""]);
    source.set_filters(&only(&b)).unwrap();
    assert_eq!(say(&mut source, "two"), ["", "two to b"]);
    source.set_filters(&Filters { pids: own.clone(), ..only(&b) }).unwrap();
    assert_eq!(say(&mut source, "three"), ["three to a", "three to b"]);
    source.set_filters(&Filters { denied_pids: own, ..only(&b) }).unwrap();
    assert_eq!(say(&mut source, "four"), ["", ""]);
    source.set_filters(&Filters { pids: BTreeSet::from([1]), ..Filters::default() }).unwrap();
    assert_eq!(say(&mut source, "five"), ["", ""]);
    assert!(source.counters().filtered > 0);
}

/// Filters that find no room change nothing, and a full list is replaced by another full one. Catches an order
/// of which half was done, after which the programs look at what nobody asked for.
#[test]
fn filters_change_as_a_whole() {
    let (a, b) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let Some(mut source) = start(&follow_port(port(&a))) else { return };
    let (mut first, mut second) = (Pair::connect(&a), Pair::connect(&b));
    let mut say =
        |source: &mut EbpfSource, word: &str| say_to_both(source, &mut first, &mut second, word);
    let ports = BTreeSet::from([port(&b)]);
    // No process has such a number.
    let pids = |from: u32, count: u32| (from..from + count).collect::<BTreeSet<u32>>();
    let too_many = Filters { ports, pids: pids(1 << 30, 1_025), ..Filters::default() };
    assert!(source.set_filters(&too_many).is_err());
    assert_eq!(say(&mut source, "one"), ["one to a", ""]);
    for from in [1 << 30, 1 << 29] {
        let ports = BTreeSet::from([port(&b)]);
        let full = Filters { ports, pids: pids(from, 1_024), ..Filters::default() };
        source.set_filters(&full).unwrap();
    }
    assert_eq!(say(&mut source, "two"), ["", "two to b"]);
}

/// A process is followed by its cgroup.
#[test]
fn cgroups() {
    let listener = listen();
    let Some(mut source) = start(&follow_port(listener.local_addr().unwrap().port())) else {
        return;
    };
    let mut pair = Pair::connect(&listener);
    pair.say("by port");
    let mut cgroup_id = None;
    source.drain(&mut |event| {
        if let CaptureEvent::Data(data) = event {
            cgroup_id = Some(data.cgroup_id);
        }
    });
    let cgroup_id = cgroup_id.unwrap();
    assert_ne!(cgroup_id, 0);
    let only = |id| Filters { cgroup_ids: BTreeSet::from([id]), ..Filters::default() };
    source.set_filters(&only(cgroup_id)).unwrap();
    pair.say("by cgroup");
    let seen = drain(&mut source);
    assert_eq!(text(&seen, pair.client_addr, Direction::Egress), "by cgroup");
    source.set_filters(&only(cgroup_id + 1_000_000)).unwrap();
    pair.say("by another cgroup");
    assert!(!drain(&mut source).iter().any(|event| event.is_from(pair.client_addr)));
}

/// Datagrams are dropped where UDP is not wanted, and files and pipes always are.
#[test]
fn other_descriptors_and_sockets() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = follow_self();
    config.filters.udp = false;
    let Some(mut source) = start(&config) else { return };
    let before = source.counters();
    udp.send_to(b"nobody listens", "127.0.0.1:9").unwrap();
    std::fs::read("/proc/self/stat").unwrap();
    let addr = udp.local_addr().unwrap();
    assert!(!drain(&mut source).iter().any(|event| event.is_from(addr)));
    let after = source.counters();
    assert!(after.other_sockets > before.other_sockets);
    assert!(after.non_sockets > before.non_sockets);
}
