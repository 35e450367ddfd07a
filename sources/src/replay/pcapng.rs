//! The newer format: sections of blocks; some describe interfaces, some hold packets, all others are
//! stepped over.

use std::io::Read;

use super::Ending;
use super::file::{Next, Order, Packet};
use super::input::Input;

const SECTION: u32 = 0x0a0d_0d0a;
const SECTION_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
/// Obsolete, and still found.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Type, length, and the length again at the end.
const FRAME_BYTES: u32 = 12;
/// Interfaces of a section: as many as there are numbers of 16 bits, of which the obsolete block has
/// room for one.
const INTERFACES_MAX: usize = 65_536;
/// Of an interface's options so much is read; those that matter are short.
const OPTIONS_BYTES_MAX: u32 = 16 * 1024;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

type From = Input<Box<dyn Read + Send>>;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    snap_bytes: u32,
    /// As the option has it: a power of ten, or with the top bit of two.
    resolution: u8,
    offset_s: i64,
}

/// A file of sections, within one of them.
#[derive(Debug)]
pub(super) struct Sections {
    order: Order,
    interfaces: Vec<Interface>,
    /// Of the packet before: simple ones have none.
    time_unix_ns: i64,
}

pub(super) fn is_section(magic: [u8; 4]) -> bool {
    u32::from_be_bytes(magic) == SECTION
}

/// How a block went.
enum Block {
    Other,
    Packet(Packet),
    Ends(Ending),
}

/// Ends with `false` as with an end of the file within a block.
macro_rules! or_truncated {
    ($done:expr, $at:expr) => {
        if !$done {
            return Ok(Block::Ends(Ending::Truncated { at: $at }));
        }
    };
}

impl Sections {
    /// Reads the first block's header behind its type. `None`: it is none.
    pub(super) fn first(input: &mut From) -> std::io::Result<Option<Sections>> {
        let mut sections =
            Sections { order: Order::Little, interfaces: Vec::new(), time_unix_ns: 0 };
        let mut length = [0; 4];
        if !input.read(&mut length)? {
            return Ok(None);
        }
        Ok(match sections.section(input, length, 0)? {
            Block::Other => Some(sections),
            Block::Packet(_) | Block::Ends(_) => None,
        })
    }

    pub(super) fn next(&mut self, input: &mut From, bytes: &mut Vec<u8>) -> std::io::Result<Next> {
        loop {
            let at = input.at();
            let mut header = [0; 8];
            match input.read_or_end(&mut header)? {
                None => return Ok(Next::End(Ending::Whole)),
                Some(false) => return Ok(Next::End(Ending::Truncated { at })),
                Some(true) => {}
            }
            let length = [header[4], header[5], header[6], header[7]];
            let block = match is_section([header[0], header[1], header[2], header[3]]) {
                true => self.section(input, length, at)?,
                false => self.block(self.order.u32(&header), length, input, bytes, at)?,
            };
            match block {
                Block::Other => {}
                Block::Packet(packet) => return Ok(Next::Packet(packet)),
                Block::Ends(ending) => return Ok(Next::End(ending)),
            }
        }
    }

    /// A section begins: its byte order is its own, and its interfaces are.
    fn section(&mut self, input: &mut From, length: [u8; 4], at: u64) -> std::io::Result<Block> {
        let mut magic = [0; 4];
        or_truncated!(input.read(&mut magic)?, at);
        let of = |order: Order| (order.u32(&magic) == SECTION_MAGIC).then_some(order);
        let Some(order) = of(Order::Little).or_else(|| of(Order::Big)) else {
            return Ok(damaged(at, "a section without byte order"));
        };
        (self.order, self.interfaces) = (order, Vec::new());
        let length = order.u32(&length);
        if length < FRAME_BYTES + 4 {
            return Ok(damaged(at, "a block that is shorter than its frame"));
        }
        self.rest(input, length, length - FRAME_BYTES - 4, at)
    }

    fn block(
        &mut self,
        kind: u32,
        length: [u8; 4],
        input: &mut From,
        bytes: &mut Vec<u8>,
        at: u64,
    ) -> std::io::Result<Block> {
        let length = self.order.u32(&length);
        if length < FRAME_BYTES {
            return Ok(damaged(at, "a block that is shorter than its frame"));
        }
        let body = length - FRAME_BYTES;
        match kind {
            INTERFACE if body >= 8 => self.interface(input, length, body, at),
            ENHANCED_PACKET | PACKET if body >= 20 => {
                let mut head = [0; 20];
                or_truncated!(input.read(&mut head)?, at);
                let number = |idx: usize| self.order.u32(&head[4 * idx..]);
                let interface = match kind {
                    PACKET => u32::from(self.order.u16(&head)),
                    _ => number(0),
                };
                let (kept, wire_bytes) = (number(3), number(4));
                let units = u64::from(number(1)) << 32 | u64::from(number(2));
                let rest = body - 20;
                self.packet(
                    input,
                    (length, rest, at),
                    (kept, wire_bytes),
                    interface,
                    Some(units),
                    bytes,
                )
            }
            SIMPLE_PACKET if body >= 4 => {
                let mut head = [0; 4];
                or_truncated!(input.read(&mut head)?, at);
                let (wire_bytes, rest) = (self.order.u32(&head), body - 4);
                let snap = self.interfaces.first().map_or(0, |interface| interface.snap_bytes);
                let snap = if snap == 0 { u32::MAX } else { snap };
                let kept = wire_bytes.min(snap).min(rest);
                self.packet(input, (length, rest, at), (kept, wire_bytes), 0, None, bytes)
            }
            _ => self.rest(input, length, body, at),
        }
    }

    fn packet(
        &mut self,
        input: &mut From,
        (length, rest, at): (u32, u32, u64),
        (kept, wire_bytes): (u32, u32),
        interface: u32,
        units: Option<u64>,
        bytes: &mut Vec<u8>,
    ) -> std::io::Result<Block> {
        if kept > rest {
            return Ok(damaged(at, "a packet that is longer than its block"));
        }
        or_truncated!(input.read_packet(kept, bytes)?, at);
        let ends = self.rest(input, length, rest - kept, at)?;
        if let Block::Ends(_) = ends {
            return Ok(ends);
        }
        // Of an interface that nobody described nothing can be read.
        let Some(interface) = self.interfaces.get(interface as usize) else {
            return Ok(Block::Packet(Packet {
                link_type: u32::MAX,
                wire_bytes,
                ..Packet::default()
            }));
        };
        self.time_unix_ns = units.map_or(self.time_unix_ns, |units| interface.time_unix_ns(units));
        let (time_unix_ns, link_type) = (self.time_unix_ns, interface.link_type);
        Ok(Block::Packet(Packet { time_unix_ns, link_type, wire_bytes: wire_bytes.max(kept) }))
    }

    fn interface(
        &mut self,
        input: &mut From,
        length: u32,
        body: u32,
        at: u64,
    ) -> std::io::Result<Block> {
        let mut head = [0; 8];
        or_truncated!(input.read(&mut head)?, at);
        let mut interface = Interface {
            link_type: u32::from(self.order.u16(&head)),
            snap_bytes: self.order.u32(&head[4..]),
            resolution: 6,
            offset_s: 0,
        };
        let mut options = vec![0; (body - 8).min(OPTIONS_BYTES_MAX) as usize];
        or_truncated!(input.read(&mut options)?, at);
        let mut left = options.as_slice();
        while let Some((head, rest)) = left.split_at_checked(4) {
            let (code, bytes) = (self.order.u16(head), usize::from(self.order.u16(&head[2..])));
            let Some(value) = rest.get(..bytes).filter(|_| code != 0) else { break };
            match (code, bytes) {
                (OPTION_RESOLUTION, 1) => interface.resolution = value[0],
                (OPTION_OFFSET, 8) => interface.offset_s = self.order.u64(value).cast_signed(),
                _ => {}
            }
            left = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        }
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.push(interface);
        }
        self.rest(input, length, body - 8 - options.len() as u32, at)
    }

    /// The rest of a block, and its length again.
    fn rest(&self, input: &mut From, length: u32, left: u32, at: u64) -> std::io::Result<Block> {
        let mut again = [0; 4];
        or_truncated!(input.skip(u64::from(left))? && input.read(&mut again)?, at);
        Ok(match self.order.u32(&again) == length {
            true => Block::Other,
            false => damaged(at, "a block whose two lengths differ"),
        })
    }
}

fn damaged(at: u64, what: &'static str) -> Block {
    Block::Ends(Ending::Damaged { at, what })
}

impl Interface {
    fn time_unix_ns(&self, units: u64) -> i64 {
        const SECOND_NS: u128 = 1_000_000_000;
        let power = u32::from(self.resolution & 0x7f);
        let per_second = match self.resolution & 0x80 {
            0 => 10_u128.checked_pow(power),
            _ => 1_u128.checked_shl(power),
        };
        // Units so small that 64 bits of them are no nanosecond.
        let since = per_second.map_or(0, |per| u128::from(units) * SECOND_NS / per);
        let since = i128::try_from(since).unwrap_or(i128::MAX);
        let ns = since.saturating_add(i128::from(self.offset_s) * SECOND_NS as i128);
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }
}
