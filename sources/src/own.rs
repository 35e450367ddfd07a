//! Which connections are Weir's own: what it does itself must not become rows, from neither end, or watching
//! would create what is watched.
//!
//! They are known by this process, which holds one end of them; by the address of that end, under which the other
//! end may be seen on this machine before ours is; and by marks in what is said, since the other parts of a cluster
//! speak over the same bus server. A connection once known is so until it is closed. What is known is told to
//! whoever can have the kernel leave it out ([`OwnSockets::take_new`]).

use std::net::SocketAddr;
use std::path::Path;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::capture::{CaptureEvent, ConnKey, IN_PROGRESS, Liveness, Socket, SocketType};
use crate::proc::fs::ProcFs;
use crate::proc::parse;

/// Connections that are known at once: a bus server's to the nodes of a large cluster, on its machine. Of more
/// only what bears a mark is left out.
const KNOWN_MAX: usize = 4_096;
/// Descriptors of this process that are looked at.
const FDS_MAX: usize = 16_384;
/// A mark stands in so much of what is said at once, or is not looked for: messages begin with it.
const MARK_WITHIN_BYTES: usize = 1 << 10;

/// Both ends of a connection.
pub type Pair = (SocketAddr, SocketAddr);

/// What is known to be ours.
pub struct OwnSockets {
    pid: u32,
    netns: u32,
    /// What only our own bus says, each a sign of it.
    marks: Vec<Vec<u8>>,
    /// Addresses of our ends of connections, and the socket if it was seen.
    ends: HashMap<SocketAddr, Option<ConnKey>, FixedState>,
    known: HashMap<ConnKey, Pair, FixedState>,
    new: Vec<Pair>,
    over: Vec<Pair>,
    full_total: u64,
}

impl OwnSockets {
    /// Of a process, which is in this network namespace.
    #[must_use]
    pub fn new(pid: u32, netns: u32, marks: Vec<Vec<u8>>) -> OwnSockets {
        OwnSockets {
            pid,
            netns,
            marks,
            ends: HashMap::default(),
            known: HashMap::default(),
            new: Vec::new(),
            over: Vec::new(),
            full_total: 0,
        }
    }

    /// Of the process that this is.
    #[must_use]
    pub fn of_this_process(marks: Vec<Vec<u8>>) -> OwnSockets {
        let netns = ProcFs::new(Path::new("/proc")).link_number(std::process::id(), "ns/net");
        let netns = netns.and_then(|netns| u32::try_from(netns).ok()).unwrap_or(0);
        OwnSockets::new(std::process::id(), netns, marks)
    }

    /// Whether an event is of a connection of ours.
    pub fn is_own(&mut self, event: &CaptureEvent<'_>) -> bool {
        let Some(socket) = event.socket() else { return false };
        let is_ours = event.process_pid() == Some(self.pid);
        if socket.socket_type == SocketType::Datagram {
            return is_ours && event.data().is_some();
        }
        let (Some(local), Some(remote)) = (socket.local, socket.remote) else { return false };
        if self.known.contains_key(&socket.key) {
            if let CaptureEvent::Close { last: true, .. } = event {
                self.forget(socket.key);
            }
            return true;
        }
        if let CaptureEvent::Connect { error, .. } = event
            && ![0, IN_PROGRESS].contains(error)
        {
            return is_ours;
        }
        let is_own = is_ours || self.is_of_our_end(socket, remote) || self.has_mark(event);
        if !is_own || matches!(event, CaptureEvent::Close { last: true, .. }) {
            return is_own;
        }
        if self.known.len() >= KNOWN_MAX {
            self.full_total += 1;
            return true;
        }
        self.known.insert(socket.key, (local, remote));
        self.new.push((local, remote));
        if is_ours {
            self.ends.insert(local, Some(socket.key));
        }
        true
    }

    /// Whether the other end is one of ours. A loopback address means that in our own namespace only.
    fn is_of_our_end(&self, socket: &Socket, remote: SocketAddr) -> bool {
        let is_near = socket.netns == self.netns || !remote.ip().is_loopback();
        is_near && !self.ends.is_empty() && self.ends.contains_key(&remote)
    }

    fn has_mark(&self, event: &CaptureEvent<'_>) -> bool {
        let Some(data) = event.data() else { return false };
        let begin = &data.payload[..data.payload.len().min(MARK_WITHIN_BYTES)];
        self.marks.iter().any(|mark| memchr::memmem::find(begin, mark).is_some())
    }

    /// Looks which connections this process has, whether or not anything of them was seen. Gives how many bytes had
    /// to be read for that: all connections of the namespace are among them.
    pub fn look(&mut self) -> usize {
        let mut fs = ProcFs::new(Path::new("/proc"));
        let mut inodes = Vec::new();
        fs.socket_inodes(self.pid, FDS_MAX, &mut inodes);
        let (mut ends, mut bytes) = (Vec::new(), 0);
        for table in ["net/tcp", "net/tcp6"] {
            let Ok(text) = fs.read(self.pid, table) else { continue };
            bytes += text.len();
            let own = parse::tcp(text).filter(|socket| inodes.contains(&socket.inode));
            ends.extend(own.map(|socket| socket.local));
        }
        self.has_ends(&ends);
        bytes
    }

    /// These are our ends, beside those that were seen.
    fn has_ends(&mut self, ends: &[SocketAddr]) {
        self.ends.retain(|end, key| key.is_some() || ends.contains(end));
        for end in ends {
            self.ends.entry(*end).or_insert(None);
        }
    }

    /// Asks which of what is known is closed: of what the kernel leaves out no end is told.
    pub fn check(&mut self, liveness: &mut dyn FnMut(ConnKey) -> Liveness) {
        let gone = |key: &&ConnKey| liveness(**key) == Liveness::Gone;
        let gone: Vec<ConnKey> = self.known.keys().filter(gone).copied().collect();
        gone.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: ConnKey) {
        if let Some(pair) = self.known.remove(&key) {
            self.over.push(pair);
            self.ends.retain(|_, of| *of != Some(key));
        }
    }

    /// Connections that were found since this was asked last.
    pub fn take_new(&mut self) -> Vec<Pair> {
        std::mem::take(&mut self.new)
    }

    /// And those that are closed, and known from no other end.
    pub fn take_over(&mut self) -> Vec<Pair> {
        let over = std::mem::take(&mut self.over);
        let is_same = |(a, b): Pair, other: Pair| other == (a, b) || other == (b, a);
        over.into_iter()
            .filter(|pair| !self.known.values().any(|known| is_same(*known, *pair)))
            .collect()
    }

    /// Connections that are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Events of connections that there was no room to know.
    #[must_use]
    pub fn full_total(&self) -> u64 {
        self.full_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{DataEvent, Direction, Family, Opened, Process, SocketEvent};

    const OURS: u32 = 7;
    const NETNS: u32 = 1;
    const MARK: &[u8] = b"\r\nWB\x01";

    fn own() -> OwnSockets {
        OwnSockets::new(OURS, NETNS, vec![b"never".to_vec(), MARK.to_vec()])
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn socket(sock: u64, local: SocketAddr, remote: SocketAddr) -> Socket {
        Socket {
            key: ConnKey { sock, inode: sock, generation: 1 },
            family: Family::Inet,
            socket_type: SocketType::Stream,
            opened: Opened::Unknown,
            local: Some(local),
            remote: Some(remote),
            netns: NETNS,
        }
    }

    fn data(pid: u32, socket: Socket, payload: &[u8]) -> CaptureEvent<'_> {
        CaptureEvent::Data(DataEvent {
            time_unix_ns: 1,
            process: Process { pid, start_ticks: 1 },
            cgroup_id: 0,
            fd: 3,
            socket,
            direction: Direction::Egress,
            position: 0,
            total_bytes: 1,
            payload,
        })
    }

    fn event(pid: u32, socket: Socket) -> SocketEvent {
        let process = Process { pid, start_ticks: 1 };
        SocketEvent { time_unix_ns: 1, process, cgroup_id: 0, fd: 3, socket }
    }

    /// A connection of this process is left out from either end, whichever is seen first once it is known; nobody
    /// else's is. When it is closed its addresses may be anybody's again. Catches a server's end that is taken for
    /// traffic, a namespace that is taken for ours, and a port that is blind for ever.
    #[test]
    fn both_ends_are_ours() {
        let mut own = own();
        let (ours, theirs) = (socket(1, at(5_000), at(4_222)), socket(2, at(4_222), at(5_000)));
        assert!(!own.is_own(&data(9, theirs, b"INFO")), "nobody knows yet");
        assert!(own.is_own(&CaptureEvent::Connect { at: event(OURS, ours), error: IN_PROGRESS }));
        assert!(own.is_own(&data(9, theirs, b"INFO")));
        assert!(!own.is_own(&data(9, socket(3, at(4_222), at(5_001)), b"INFO")));
        let elsewhere = Socket { netns: 2, ..socket(4, at(4_222), at(5_000)) };
        assert!(!own.is_own(&data(9, elsewhere, b"INFO")), "of another machine's loopback");
        assert_eq!(own.take_new(), [(at(5_000), at(4_222)), (at(4_222), at(5_000))]);
        own.check(&mut |key| if key.sock == 1 { Liveness::Gone } else { Liveness::Open });
        assert!(own.take_over().is_empty(), "the other end is still there");
        own.check(&mut |_| Liveness::Gone);
        assert_eq!(own.take_over(), [(at(4_222), at(5_000))]);
        assert_eq!(own.known(), 0);
        assert!(!own.is_own(&data(9, socket(5, at(4_222), at(5_000)), b"INFO")));
        let failed = CaptureEvent::Connect { at: event(OURS, ours), error: 111 };
        assert!(own.is_own(&failed));
        assert_eq!(own.known(), 0, "nothing came of it");
    }

    /// Connections that were there before anything was seen are known by looking, as long as they are there.
    #[test]
    fn what_was_there_before_is_found() {
        let mut own = own();
        own.has_ends(&[at(5_000)]);
        own.has_ends(&[at(5_001)]);
        assert!(!own.is_own(&data(9, socket(2, at(4_222), at(5_000)), b"MSG")));
        assert!(own.is_own(&data(9, socket(3, at(4_222), at(5_001)), b"MSG")));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut real = OwnSockets::of_this_process(Vec::new());
        assert!(real.look() > 0);
        let (local, remote) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
        let far = Socket { netns: real.netns, ..socket(9, remote, local) };
        assert!(real.netns > 0 && real.is_own(&data(9, far, b"x")));
    }

    /// Whoever speaks as only our bus does is of our cluster; the mark is looked for where messages begin, and what
    /// is known is bounded.
    #[test]
    fn other_parts_are_known_by_their_mark() {
        let mut own = own();
        let said = [b"PUB weir.up.a 41".as_slice(), MARK, b"rest"].concat();
        let other = socket(2, at(4_222), at(6_000));
        assert!(!own.is_own(&data(9, other, b"PUB weir.up.a 41\r\nhello")));
        assert!(own.is_own(&data(9, other, &said)));
        assert!(own.is_own(&data(9, other, b"PING")), "from then on");
        let late = [vec![b'x'; MARK_WITHIN_BYTES], MARK.to_vec()].concat();
        assert!(!own.is_own(&data(9, socket(3, at(4_222), at(6_001)), &late)));
        for number in 0..2 * KNOWN_MAX as u64 {
            assert!(own.is_own(&data(9, socket(100 + number, at(4_222), at(7_000)), &said)));
        }
        assert_eq!((own.known(), own.full_total()), (KNOWN_MAX, KNOWN_MAX as u64 + 1));
        assert!(!OwnSockets::new(OURS, NETNS, Vec::new()).is_own(&data(9, other, &said)));
    }
}
