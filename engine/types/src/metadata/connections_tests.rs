//! Tests of the connections' table.

use super::*;

const HOST: u32 = 1;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// (local, remote, namespace, owner, since, until) in seconds.
type Seen = (&'static str, &'static str, u32, u128, i64, i64);

fn connections(seen: &[Seen]) -> Connections {
    let mut connections = Connections::default();
    for &(local, remote, netns, owner, since, until) in seen {
        let pair = (at(local), at(remote));
        let mut uses = connections.ends.get(&pair).map_or(Vec::new(), |uses| uses.to_vec());
        uses.push(ConnectionEnd {
            netns,
            owner: Upid(owner),
            since_unix_ns: since * 1_000_000_000,
            until_unix_ns: until.saturating_mul(1_000_000_000),
        });
        connections.ends.insert(pair, uses.into());
    }
    connections
}

fn peer(
    connections: &Connections,
    owner: u128,
    netns: u32,
    local: &str,
    remote: &str,
    second: i64,
) -> Option<u128> {
    let (pair, time) = ((at(local), at(remote)), second * 1_000_000_000);
    let netns = connections.netns_of(Upid(owner), pair, time).unwrap_or(netns);
    connections.other_end(pair, netns, time).map(|end| end.owner.0)
}

/// A client (1) asks nginx (2) from the port that nginx itself uses towards the API (3): each end
/// has its own peer. Catches a look-up by address and port, which draws `nginx → nginx`.
#[test]
fn a_port_in_two_connections_has_two_peers() {
    let known = connections(&[
        ("127.0.0.1:40000", "127.0.0.1:80", HOST, 1, 10, 20),
        ("127.0.0.1:80", "127.0.0.1:40000", HOST, 2, 10, 20),
        ("127.0.0.1:40000", "127.0.0.1:8080", HOST, 2, 12, 20),
        ("127.0.0.1:8080", "127.0.0.1:40000", HOST, 3, 12, 20),
    ]);
    assert_eq!(peer(&known, 2, HOST, "127.0.0.1:80", "127.0.0.1:40000", 15), Some(1));
    assert_eq!(peer(&known, 2, HOST, "127.0.0.1:40000", "127.0.0.1:8080", 15), Some(3));
    assert_eq!(peer(&known, 3, HOST, "127.0.0.1:8080", "127.0.0.1:40000", 15), Some(2));
    assert_eq!(peer(&known, 1, HOST, "127.0.0.1:40000", "127.0.0.1:80", 15), Some(2));
}

/// Loopback of another namespace is another loopback: no process of the host is its peer, also
/// where the addresses are the same.
#[test]
fn loopback_stays_in_its_namespace() {
    let known = connections(&[
        ("127.0.0.1:40000", "127.0.0.1:80", HOST, 1, 10, 20),
        ("127.0.0.1:80", "127.0.0.1:40000", HOST, 2, 10, 20),
        ("127.0.0.1:80", "127.0.0.1:40001", HOST, 2, 10, 20),
        ("127.0.0.1:40000", "127.0.0.1:80", 7, 8, 10, 20),
        ("127.0.0.1:80", "127.0.0.1:40000", 7, 9, 10, 20),
    ]);
    assert_eq!(peer(&known, 8, 7, "127.0.0.1:40000", "127.0.0.1:80", 15), Some(9));
    assert_eq!(peer(&known, 8, 7, "127.0.0.1:40001", "127.0.0.1:80", 15), None);
    assert_eq!(peer(&known, 8, 0, "127.0.0.1:40001", "127.0.0.1:80", 15), None);
}

/// Across a bridge the other end is in another namespace, if only one can be meant: two networks
/// with the same addresses are two networks, and a translated address is nobody's.
#[test]
fn another_namespace_only_without_doubt() {
    let one = [
        ("10.1.0.1:5000", "10.1.0.2:80", HOST, 1, 10, 20),
        ("10.1.0.2:80", "10.1.0.1:5000", 7, 2, 10, 20),
    ];
    let known = connections(&one);
    assert_eq!(peer(&known, 1, HOST, "10.1.0.1:5000", "10.1.0.2:80", 15), Some(2));
    assert_eq!(peer(&known, 2, 7, "10.1.0.2:80", "10.1.0.1:5000", 15), Some(1));
    assert_eq!(peer(&known, 1, HOST, "10.1.0.1:5000", "192.168.0.9:8080", 15), None);

    let again = ("10.1.0.2:80", "10.1.0.1:5000", 8, 3, 10, 20);
    let known = connections(&[one[0], one[1], again]);
    assert_eq!(peer(&known, 1, HOST, "10.1.0.1:5000", "10.1.0.2:80", 15), None);
    let again = ("10.1.0.1:5000", "10.1.0.2:80", 9, 3, 10, 20);
    let known = connections(&[one[0], one[1], again]);
    assert_eq!(peer(&known, 1, HOST, "10.1.0.1:5000", "10.1.0.2:80", 15), None);
    assert_eq!(peer(&known, 3, 9, "10.1.0.1:5000", "10.1.0.2:80", 15), None);
}

/// A pair that is used again belongs at each time to whom it belonged then, and to nobody in
/// between: catches the owner of now for rows of then, and one that has been gone for long.
#[test]
fn ends_have_their_time() {
    let known = connections(&[
        ("127.0.0.1:80", "127.0.0.1:40000", HOST, 1, 10, 20),
        ("127.0.0.1:80", "127.0.0.1:40000", HOST, 2, 30, 40),
        ("127.0.0.1:80", "127.0.0.1:40000", HOST, 3, 40, i64::MAX),
    ]);
    let at = |second| peer(&known, 9, HOST, "127.0.0.1:40000", "127.0.0.1:80", second);
    let cases = [(8, None), (9, Some(1)), (20, Some(1)), (25, None), (30, Some(2)), (39, Some(2))];
    for (second, expected) in cases.into_iter().chain([(40, Some(3)), (9_999, Some(3))]) {
        assert_eq!(at(second), expected, "at {second}");
    }
}

/// Rows without a local address know whom their process met at the remote one; of several clients
/// behind one address none is picked.
#[test]
fn a_process_knows_whom_it_met() {
    let mut known = Connections::default();
    let holder = |owner, since_unix_ns| Holder {
        owner: Upid(owner),
        since_unix_ns,
        until_unix_ns: i64::MAX,
    };
    let server = at("10.0.0.5:80");
    known.met.insert((Upid(1), server), vec![holder(2, 10), holder(3, 20)].into());
    known.met.insert((Upid(2), at("10.0.0.9:0")), vec![holder(1, 10)].into());
    known.met.insert((Upid(3), at("10.0.0.9:0")), vec![holder(1, 10), holder(4, 20)].into());
    let met = |owner, remote, time| known.met(Upid(owner), at(remote), time).map(|upid| upid.0);
    assert_eq!(met(1, "10.0.0.5:80", 5), Some(2));
    assert_eq!(met(1, "10.0.0.5:80", 19), Some(2));
    assert_eq!(met(1, "[::ffff:10.0.0.5]:80", 20), Some(3));
    assert_eq!(met(9, "10.0.0.5:80", 20), None);
    assert_eq!(met(2, "10.0.0.9:0", 20), Some(1));
    assert_eq!(met(3, "10.0.0.9:0", 20), None);
}

/// An address is a process's if nobody else used it at that time.
#[test]
fn an_address_of_one_process() {
    let mut known = Connections::default();
    let user = |owner, since_unix_ns, until_unix_ns| Holder {
        owner: Upid(owner),
        since_unix_ns,
        until_unix_ns,
    };
    let ip = at("10.9.0.1:0").ip();
    known.users.insert(ip, vec![user(1, 10, 20), user(2, 15, 30), user(3, 40, 50)].into());
    let at = |time| known.user(ip, time).map(|upid| upid.0);
    assert_eq!((at(Some(12)), at(Some(17)), at(Some(25))), (Some(1), None, Some(2)));
    assert_eq!((at(Some(35)), at(None)), (None, Some(3)));
}
