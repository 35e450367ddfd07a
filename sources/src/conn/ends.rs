//! Who talks to whom: the ends of a connection, as rows have them and as names are found by.
//!
//! What is at the other end is somebody else's question ([`crate::metadata`]).

use std::net::SocketAddr;

use weir_types::metadata::UNIX_PREFIX;

use crate::capture::{Family, Opened, Process, Socket, SocketType};

/// What tells one end of a connection from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOf {
    Ip {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// Inodes of a Unix socket and of its peer; 0 if that is not known.
    Unix {
        inode: u64,
        peer_inode: u64,
    },
}

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Ends {
    pub socket: Socket,
    /// Peer as text: an IP, `-`, or `unix_socket:`.
    pub remote_addr: String,
    pub local_addr: String,
    /// Inode of the socket at the other end of a Unix socket, 0 if not known.
    pub unix_peer_inode: u64,
    /// Who wrote to the socket last, or read from it if nobody wrote yet.
    pub process: Process,
}

impl Ends {
    pub(super) fn new(socket: Socket, process: Process) -> Ends {
        Ends {
            remote_addr: address_text(&socket, socket.remote),
            local_addr: address_text(&socket, socket.local),
            unix_peer_inode: 0,
            socket,
            process,
        }
    }

    /// What tells this end from others, if its addresses are known.
    pub(super) fn end(&self) -> Option<EndOf> {
        let Socket { key, family, local, remote, .. } = self.socket;
        match family {
            Family::Unix => {
                Some(EndOf::Unix { inode: key.inode, peer_inode: self.unix_peer_inode })
            }
            Family::Inet | Family::Inet6 => Some(EndOf::Ip { local: local?, remote: remote? }),
        }
    }

    /// Local and remote port as rows have them: of Unix sockets their inodes; −1 when unknown.
    pub(crate) fn ports(&self) -> [i64; 2] {
        let Socket { key, family, local, remote, .. } = self.socket;
        let inode = |inode: u64| i64::try_from(inode).ok().filter(|n| *n != 0).unwrap_or(-1);
        match family {
            Family::Unix => [inode(key.inode), inode(self.unix_peer_inode)],
            Family::Inet | Family::Inet6 => [port_number(local), port_number(remote)],
        }
    }

    /// An end without a name is shown by the other's: it is the connection's.
    pub(super) fn set_unix_names(&mut self, local: &[u8], remote: &[u8]) {
        let first =
            |one: &[u8], other: &[u8]| unix_address_text(if one.is_empty() { other } else { one });
        self.local_addr = first(local, remote);
        self.remote_addr = first(remote, local);
    }

    pub(super) fn update(&mut self, socket: &Socket) {
        let old = self.socket;
        let opened = if socket.opened == Opened::Unknown { old.opened } else { socket.opened };
        // Of a socket with many peers the first stands; each row names its own.
        let remote = match socket.socket_type {
            SocketType::Datagram => old.remote.or(socket.remote),
            _ => socket.remote.or(old.remote),
        };
        let local = socket.local.or(old.local);
        if remote != old.remote {
            self.remote_addr = address_text(socket, remote);
        }
        if local != old.local {
            self.local_addr = address_text(socket, local);
        }
        self.socket = Socket { opened, remote, local, ..*socket };
    }
}

/// A Unix socket's name as rows have it; zero bytes, with which abstract names begin, as `@`.
fn unix_address_text(name: &[u8]) -> String {
    // Of a path the kernel may count the zero byte at its end.
    let end = if name.first() == Some(&0) { name.len() } else { find_zero(name) };
    let text = String::from_utf8_lossy(&name[..end]);
    format!("{UNIX_PREFIX}{}", text.replace('\0', "@"))
}

fn find_zero(name: &[u8]) -> usize {
    name.iter().position(|byte| *byte == 0).unwrap_or(name.len())
}

/// An address as rows have it: IPv4-mapped addresses as IPv4, `-` when unknown.
pub(crate) fn address_text(socket: &Socket, address: Option<SocketAddr>) -> String {
    match (socket.family, address) {
        (Family::Unix, _) => UNIX_PREFIX.to_string(),
        (_, Some(address)) => address.ip().to_canonical().to_string(),
        (_, None) => "-".to_string(),
    }
}

/// A port as rows have it, −1 when unknown.
fn port_number(address: Option<SocketAddr>) -> i64 {
    address.map_or(-1, |address| i64::from(address.port()))
}
