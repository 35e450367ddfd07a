//! All flows of a capture: packets in, capture events out. Bounded; what goes for room is ended, and
//! counted.

use std::net::{IpAddr, SocketAddr};

use super::flow::{Events, Flow, Segment, TcpCounters};
use super::fragments::Fragments;
use super::packet::{Cut, Found, Skip, Tcp, Transport, of_link, of_protocol};
use super::table::{Pair, Table};
use crate::capture::{
    CaptureEvent, ConnKey, DataEvent, Direction, Family, Opened, Process, Socket, SocketEvent,
    SocketType,
};

/// TCP connections at a time: with those of datagrams fewer than a tracker has room for.
const CONNECTIONS_MAX: usize = 40_000;
/// Pairs of ends that exchange datagrams, at a time.
const DATAGRAM_FLOWS_MAX: usize = 20_000;
/// Bytes that wait in all connections; beyond it the one at hand gives up what it waits for.
const HELD_BYTES_MAX: usize = 64 << 20;
/// A connection that is over is known for so long: packets of it may still come.
const OVER_NS: i64 = 10_000_000_000;
/// A connection that is silent for so long is taken for closed.
const SILENT_NS: i64 = 3_600_000_000_000;
/// The same for datagrams: nobody answers later.
const DATAGRAMS_SILENT_NS: i64 = 65_000_000_000;

/// Datagrams between two ends.
#[derive(Debug)]
struct Datagrams {
    key: ConnKey,
    ends: [SocketAddr; 2],
    /// Bytes that each end sent.
    sent: [u64; 2],
    is_unwatched: bool,
}

#[derive(Debug)]
pub(super) struct Flows {
    connections: Table<Flow>,
    datagrams: Table<Datagrams>,
    fragments: Fragments,
    /// Connections that wait for time to pass.
    attention: Vec<u32>,
    held_bytes: usize,
    next_serial: u64,
    pub(super) tcp: TcpCounters,
    /// Flows of datagrams that ended for room.
    pub(super) datagrams_evicted: u64,
    now_unix_ns: i64,
}

impl Flows {
    pub(super) fn new() -> Flows {
        Flows {
            connections: Table::new(CONNECTIONS_MAX),
            datagrams: Table::new(DATAGRAM_FLOWS_MAX),
            fragments: Fragments::default(),
            attention: Vec::new(),
            held_bytes: 0,
            next_serial: 0,
            tcp: TcpCounters::default(),
            datagrams_evicted: 0,
            now_unix_ns: 0,
        }
    }

    pub(super) fn fragments_dropped(&self) -> u64 {
        self.fragments.dropped
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes a packet as it was captured.
    pub(super) fn packet(
        &mut self,
        link_type: u32,
        packet: Cut<'_>,
        time_unix_ns: i64,
        out: &mut dyn Events,
    ) -> Result<(), Skip> {
        self.now_unix_ns = self.now_unix_ns.max(time_unix_ns);
        match of_link(link_type, packet)? {
            Found::Message { from, to, transport } => {
                self.message(from, to, &transport, time_unix_ns, out);
                Ok(())
            }
            Found::Fragment(part) => {
                let Some(whole) = self.fragments.take(&part, time_unix_ns) else { return Ok(()) };
                let (key, wire_bytes) = (part.key, whole.len());
                let whole = Cut { bytes: &whole, wire_bytes };
                match of_protocol(key.from, key.to, key.protocol, whole, 0)? {
                    Found::Message { from, to, transport } => {
                        self.message(from, to, &transport, time_unix_ns, out);
                        Ok(())
                    }
                    Found::Fragment(_) => Err(Skip::Nesting),
                }
            }
        }
    }

    fn message(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        transport: &Transport<'_>,
        time_unix_ns: i64,
        out: &mut dyn Events,
    ) {
        let ends = |ports: &[u16; 2]| {
            Pair::of(SocketAddr::new(from, ports[0]), SocketAddr::new(to, ports[1]))
        };
        match transport {
            Transport::Tcp(tcp) => self.segment(ends(&tcp.ports), tcp, time_unix_ns, out),
            Transport::Udp { ports, payload } => {
                self.datagram(ends(ports), *payload, time_unix_ns, out);
            }
        }
    }

    fn new_key(&mut self) -> ConnKey {
        self.next_serial += 1;
        ConnKey { sock: self.next_serial, inode: 0, generation: 0 }
    }

    fn segment(
        &mut self,
        (pair, side): (Pair, usize),
        tcp: &Tcp<'_>,
        time_unix_ns: i64,
        out: &mut dyn Events,
    ) {
        let mut at = self.connections.find(&pair, self.now_unix_ns);
        if let Some(there) = at
            && self.connections.get_mut(there).is_some_and(|flow| flow.is_other(side, tcp))
        {
            // The same ends speak anew.
            let flow = self.connections.remove(there);
            self.end(flow, out);
            at = None;
        }
        let at = match at {
            Some(at) => at,
            // Of a connection that is not known its end tells nothing.
            None if tcp.rst => return,
            None => {
                let flow = Flow::new(self.new_key(), pair.0, time_unix_ns);
                let (at, gone) = self.connections.insert(pair, flow, self.now_unix_ns);
                self.tcp.evicted += u64::from(gone.as_ref().is_some_and(|flow| !flow.is_over()));
                self.end(gone, out);
                at
            }
        };
        let Some(flow) = self.connections.get_mut(at) else { return };
        flow.placed(at);
        let before = flow.held_bytes();
        flow.packet(side, &Segment { time_unix_ns, tcp: *tcp }, &mut self.tcp, out);
        if self.held_bytes + flow.held_bytes() > HELD_BYTES_MAX + before {
            flow.give_up(time_unix_ns, &mut self.tcp, out);
        }
        self.held_bytes = (self.held_bytes + flow.held_bytes()).saturating_sub(before);
        if flow.needs_time() && !std::mem::replace(&mut flow.in_attention, true) {
            self.attention.push(at);
        }
    }

    fn end(&mut self, flow: Option<Flow>, out: &mut dyn Events) {
        let Some(mut flow) = flow else { return };
        self.held_bytes = self.held_bytes.saturating_sub(flow.held_bytes());
        flow.finish(self.now_unix_ns, &mut self.tcp, out);
    }

    fn datagram(
        &mut self,
        (pair, side): (Pair, usize),
        payload: Cut<'_>,
        time_unix_ns: i64,
        out: &mut dyn Events,
    ) {
        let at = match self.datagrams.find(&pair, self.now_unix_ns) {
            Some(at) => at,
            None => {
                let key = self.new_key();
                let flow = Datagrams { key, ends: pair.0, sent: [0; 2], is_unwatched: false };
                let (at, gone) = self.datagrams.insert(pair, flow, self.now_unix_ns);
                if let Some(flow) = gone {
                    self.datagrams_evicted += 1;
                    flow.end(self.now_unix_ns, out);
                }
                at
            }
        };
        let Some(flow) = self.datagrams.get_mut(at) else { return };
        // Keys of datagrams are told from those of connections by the upper half.
        flow.key.inode = DATAGRAMS_FROM + u64::from(at);
        if flow.is_unwatched {
            return;
        }
        let event = DataEvent {
            time_unix_ns,
            process: Process::default(),
            cgroup_id: 0,
            fd: 0,
            socket: flow.socket(),
            direction: if side == flow.local() { Direction::Egress } else { Direction::Ingress },
            position: flow.sent[side],
            total_bytes: u32::try_from(payload.wire_bytes).unwrap_or(u32::MAX),
            payload: payload.bytes,
        };
        flow.sent[side] += payload.wire_bytes as u64;
        out.event(&CaptureEvent::Data(event));
    }

    /// Nobody wants the bytes of this flow any more.
    pub(super) fn unwatch(&mut self, key: ConnKey) {
        if let Some(at) = key.inode.checked_sub(DATAGRAMS_FROM) {
            let flow = self.datagrams.get_mut(at as u32);
            if let Some(flow) = flow.filter(|flow| flow.key == key) {
                flow.is_unwatched = true;
            }
        } else if let Some(flow) = self.connections.get_mut(key.inode as u32)
            && flow.key() == key
        {
            self.held_bytes = self.held_bytes.saturating_sub(flow.held_bytes());
            flow.unwatch();
        }
    }

    /// Time has passed.
    pub(super) fn pass_time(&mut self, now_unix_ns: i64, out: &mut dyn Events) {
        self.now_unix_ns = self.now_unix_ns.max(now_unix_ns);
        let mut waiting = std::mem::take(&mut self.attention);
        // A place may have been given anew.
        waiting.sort_unstable();
        waiting.dedup();
        for at in waiting {
            let Some(flow) = self.connections.get_mut(at) else { continue };
            let before = flow.held_bytes();
            flow.pass_time(now_unix_ns, &mut self.tcp, out);
            self.held_bytes = (self.held_bytes + flow.held_bytes()).saturating_sub(before);
            flow.in_attention = flow.needs_time();
            if flow.in_attention {
                self.attention.push(at);
            }
        }
        let may_ns = |flow: &Flow| if flow.is_over() { OVER_NS } else { SILENT_NS };
        for flow in self.connections.silent(now_unix_ns, may_ns) {
            self.end(Some(flow), out);
        }
        for flow in self.datagrams.silent(now_unix_ns, |_| DATAGRAMS_SILENT_NS) {
            flow.end(now_unix_ns, out);
        }
    }

    /// The capture is over.
    pub(super) fn finish(&mut self, out: &mut dyn Events) {
        for flow in self.connections.drain() {
            self.end(Some(flow), out);
        }
        for flow in self.datagrams.drain() {
            flow.end(self.now_unix_ns, out);
        }
        self.fragments.finish();
        (self.attention, self.held_bytes, self.now_unix_ns) = (Vec::new(), 0, 0);
    }
}

/// Places of flows of datagrams, as keys have them, begin here.
const DATAGRAMS_FROM: u64 = 1 << 32;

impl Datagrams {
    /// Servers have the smaller ports; rows do not depend on it.
    fn local(&self) -> usize {
        usize::from(self.ends[1].port() < self.ends[0].port())
    }

    fn socket(&self) -> Socket {
        let local = self.ends[self.local()];
        Socket {
            key: self.key,
            family: if local.is_ipv4() { Family::Inet } else { Family::Inet6 },
            socket_type: SocketType::Datagram,
            opened: Opened::Unknown,
            local: Some(local),
            remote: Some(self.ends[1 - self.local()]),
            netns: 0,
        }
    }

    fn end(self, time_unix_ns: i64, out: &mut dyn Events) {
        let (process, socket) = (Process::default(), self.socket());
        let at = SocketEvent { time_unix_ns, process, cgroup_id: 0, fd: 0, socket };
        let (egress_bytes, ingress_bytes) = (self.sent[self.local()], self.sent[1 - self.local()]);
        out.event(&CaptureEvent::Close { at, last: true, egress_bytes, ingress_bytes });
        out.over(self.key);
    }
}
