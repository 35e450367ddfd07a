//! Capture files: pcap and pcapng, also within gzip, packet after packet, however large the file is.
//!
//! One packet is held at a time, in storage that is used again. What a file says of lengths is not
//! believed before it is there: a packet keeps [`PACKET_BYTES_MAX`], the rest of it is stepped over.
//! It does *not* know what packets hold.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::input::Input;
use super::pcapng::{self, Sections};
use super::{Ending, ReplayError};

/// Bytes of a packet that are kept; captures of one machine hold up to 64 KiB a packet, with large
/// offloads a little more.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1024;
/// A packet that claims more is none: the file is damaged.
const CLAIMED_BYTES_MAX: u32 = 256 << 20;
/// Of the field for the link type the bits that are one; others tell of check sums.
const LINK_TYPE_BITS: u32 = 0x03ff_ffff;
/// Packets are read through storage of this size.
const READ_BYTES: usize = 256 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Beginnings of files that are captures, but not as they are.
const OTHERS: [(&[u8], &str); 7] = [
    (&GZIP, "what is in its gzip is neither pcap nor pcapng"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "it is compressed by zstd: unpack it first"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "it is compressed by xz: unpack it first"),
    (b"BZh", "it is compressed by bzip2: unpack it first"),
    (&[0x04, 0x22, 0x4d, 0x18], "it is compressed by lz4: unpack it first"),
    (b"PK\x03\x04", "it is a zip file: unpack it first"),
    (b"snoop\0", "it is of snoop: `editcap -F pcapng` makes a pcapng of it"),
];

/// Why a file that begins like this is no capture.
fn what_else(begins: &[u8]) -> &'static str {
    let other = OTHERS.iter().find(|(magic, _)| begins.starts_with(magic));
    other.map_or("it is neither pcap nor pcapng", |(_, why)| why)
}

/// What was compressed is broken, not the disk.
pub(super) fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) time_unix_ns: i64,
    pub(super) link_type: u32,
    /// As it was on the wire.
    pub(super) wire_bytes: u32,
}

/// Byte order of a file's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    pub(super) fn u32(self, bytes: &[u8]) -> u32 {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    pub(super) fn u64(self, bytes: &[u8]) -> u64 {
        let (first, second) = (u64::from(self.u32(bytes)), u64::from(self.u32(&bytes[4..])));
        if self == Order::Little { second << 32 | first } else { first << 32 | second }
    }
}

/// The older format: one header, then packets.
#[derive(Debug)]
struct Pcap {
    order: Order,
    /// Nanoseconds that one unit of the second number of a time is.
    unit_ns: i64,
    link_type: u32,
    /// Bytes of a packet's header: a variant has eight more.
    header_bytes: usize,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Sections),
}

/// See the module's documentation.
pub(super) struct CaptureFile {
    input: Input<Box<dyn Read + Send>>,
    format: Format,
    bytes: Vec<u8>,
}

/// What comes next in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Packet(Packet),
    End(Ending),
}

impl CaptureFile {
    pub(super) fn open(path: &Path) -> Result<CaptureFile, ReplayError> {
        let unreadable = |source| ReplayError::Read { path: path.to_path_buf(), source };
        let is_none = |why| ReplayError::NotACapture { path: path.to_path_buf(), why };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(is_none("it is a directory"));
        }
        let mut from = BufReader::with_capacity(READ_BYTES, file);
        let begins = from.fill_buf().map_err(unreadable)?;
        let (is_gzip, why) = (begins.starts_with(&GZIP), what_else(begins));
        let from: Box<dyn Read + Send> = match is_gzip {
            true => Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(from))),
            false => Box::new(from),
        };
        match CaptureFile::new(from) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(is_none(why)),
            Err(source) if is_damage(&source) => Err(is_none(why)),
            Err(source) => Err(unreadable(source)),
        }
    }

    /// `None`: it does not begin as a capture does.
    pub(super) fn new(from: Box<dyn Read + Send>) -> std::io::Result<Option<CaptureFile>> {
        let mut input = Input::new(from);
        let mut magic = [0; 4];
        if !input.read(&mut magic)? {
            return Ok(None);
        }
        let format = match pcapng::is_section(magic) {
            true => Sections::first(&mut input)?.map(Format::Pcapng),
            false => Pcap::first(magic, &mut input)?.map(Format::Pcap),
        };
        Ok(format.map(|format| CaptureFile { input, format, bytes: Vec::new() }))
    }

    /// Steps to the next packet.
    pub(super) fn next(&mut self) -> std::io::Result<Next> {
        let CaptureFile { input, format, bytes } = self;
        match format {
            Format::Pcap(pcap) => pcap.next(input, bytes),
            Format::Pcapng(sections) => sections.next(input, bytes),
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.input.at()
    }

    /// What was kept of the packet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pcap {
    fn first(
        magic: [u8; 4],
        input: &mut Input<Box<dyn Read + Send>>,
    ) -> std::io::Result<Option<Pcap>> {
        let of = |order: Order| match order.u32(&magic) {
            0xa1b2_c3d4 => Some((order, 1_000, 16)),
            0xa1b2_3c4d => Some((order, 1, 16)),
            0xa1b2_cd34 => Some((order, 1_000, 24)),
            _ => None,
        };
        let Some((order, unit_ns, header_bytes)) = of(Order::Little).or_else(|| of(Order::Big))
        else {
            return Ok(None);
        };
        let mut rest = [0; 20];
        if !input.read(&mut rest)? {
            return Ok(None);
        }
        let link_type = order.u32(&rest[16..]) & LINK_TYPE_BITS;
        Ok(Some(Pcap { order, unit_ns, link_type, header_bytes }))
    }

    fn next(
        &self,
        input: &mut Input<Box<dyn Read + Send>>,
        bytes: &mut Vec<u8>,
    ) -> std::io::Result<Next> {
        let at = input.at();
        let mut header = [0; 24];
        match input.read_or_end(&mut header[..self.header_bytes])? {
            None => return Ok(Next::End(Ending::Whole)),
            Some(false) => return Ok(Next::End(Ending::Truncated { at })),
            Some(true) => {}
        }
        let number = |idx: usize| self.order.u32(&header[4 * idx..]);
        let (kept, wire_bytes) = (number(2), number(3));
        if kept > CLAIMED_BYTES_MAX {
            return Ok(Next::End(Ending::Damaged { at, what: "a packet of more than 256 MiB" }));
        }
        if !input.read_packet(kept, bytes)? {
            return Ok(Next::End(Ending::Truncated { at }));
        }
        let time_unix_ns =
            i64::from(number(0)) * 1_000_000_000 + i64::from(number(1)) * self.unit_ns;
        let wire_bytes = wire_bytes.max(kept);
        Ok(Next::Packet(Packet { time_unix_ns, link_type: self.link_type, wire_bytes }))
    }
}
