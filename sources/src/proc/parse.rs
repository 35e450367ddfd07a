//! Texts of `/proc`, as bytes in, numbers out. Wrong or shorter texts (an older kernel, a file that
//! was cut) give `None` or zeros, never a panic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Units;
use crate::agent::Mapping;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const FLAG_KERNEL_THREAD: u64 = 0x0020_0000;

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) flags: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) user_ticks: u64,
    pub(crate) kernel_ticks: u64,
    pub(crate) threads: u64,
    pub(crate) start_ticks: u64,
    pub(crate) vsize_bytes: u64,
    pub(crate) rss_pages: u64,
}

impl Stat {
    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & FLAG_KERNEL_THREAD != 0
    }
}

/// The name stands in parentheses and may hold any byte, also `)`: the last one ends it.
pub(crate) fn stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    // Fields are numbered from 1; the state is field 3.
    let mut fields = [0u64; 25];
    for (idx, field) in std::str::from_utf8(&text[close + 1..])
        .ok()?
        .split_ascii_whitespace()
        .take(fields.len() - 3)
        .enumerate()
    {
        // Negative ones (priorities, an unset terminal) are none of those used here.
        fields[idx + 3] = field.parse().unwrap_or(0);
    }
    (fields[22] > 0 || fields[20] > 0).then_some(Stat {
        comm,
        flags: fields[9],
        minor_faults: fields[10],
        major_faults: fields[12],
        user_ticks: fields[14],
        kernel_ticks: fields[15],
        threads: fields[20],
        start_ticks: fields[22],
        vsize_bytes: fields[23],
        rss_pages: fields[24],
    })
}

/// Fields of `/proc/PID/io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    pub(crate) rchar_bytes: u64,
    pub(crate) wchar_bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
}

pub(crate) fn io(text: &[u8]) -> Io {
    let mut io = Io::default();
    for line in String::from_utf8_lossy(text).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim().parse().unwrap_or(0);
        match name {
            "rchar" => io.rchar_bytes = value,
            "wchar" => io.wchar_bytes = value,
            "read_bytes" => io.read_bytes = value,
            "write_bytes" => io.write_bytes = value,
            _ => {}
        }
    }
    io
}

/// Sums of `/proc/PID/net/dev`: received bytes, packets, errors, drops; sent the same.
pub(crate) type NetDev = [u64; 8];

/// Interfaces whose traffic is another one's too, or never leaves the machine.
const SKIPPED_INTERFACES: [&str; 11] =
    ["lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "cali", "vnet", "ifb", "bond"];

pub(crate) fn net_dev(text: &[u8]) -> NetDev {
    let mut sums = NetDev::default();
    for line in String::from_utf8_lossy(text).lines().skip(2) {
        let Some((name, values)) = line.split_once(':') else { continue };
        let name = name.trim();
        let skipped =
            |prefix: &&str| name == *prefix || (name.starts_with(*prefix) && *prefix != "lo");
        if SKIPPED_INTERFACES.iter().any(skipped) {
            continue;
        }
        let values: Vec<u64> =
            values.split_ascii_whitespace().map(|value| value.parse().unwrap_or(0)).collect();
        for (sum, column) in sums.iter_mut().zip([0, 1, 2, 3, 8, 9, 10, 11]) {
            *sum = sum.saturating_add(values.get(column).copied().unwrap_or(0));
        }
    }
    sums
}

/// The number in `name:[number]`.
pub(crate) fn bracketed(text: &str) -> Option<u64> {
    text.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// Page size and clock ticks from the auxiliary vector (pairs of machine words).
pub(crate) fn auxv(bytes: &[u8]) -> Option<Units> {
    const AT_PAGESZ: u64 = 6;
    const AT_CLKTCK: u64 = 17;
    let mut units = Units::default();
    for pair in bytes.chunks_exact(16) {
        let word = |at: usize| Some(u64::from_ne_bytes(pair.get(at..at + 8)?.try_into().ok()?));
        match (word(0)?, word(8)?) {
            (AT_PAGESZ, value) if value > 0 => units.page_bytes = value,
            (AT_CLKTCK, value) if value > 0 => units.ticks_per_second = value,
            _ => {}
        }
    }
    Some(units)
}

/// A line of `/proc/PID/net/tcp` or `tcp6` that belongs to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) inode: u64,
}

/// The connections of the table; those that no process holds any more have no inode and are left
/// out, and so is what only listens.
pub(crate) fn tcp(text: &[u8]) -> impl Iterator<Item = TcpSocket> {
    text.split(|byte| *byte == b'\n').skip(1).filter_map(tcp_line)
}

fn tcp_line(line: &[u8]) -> Option<TcpSocket> {
    const ESTABLISHED: &str = "01";
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let local = hex_address(fields.nth(1)?)?;
    let remote = hex_address(fields.next()?)?;
    let state = fields.next()?;
    let inode: u64 = fields.nth(5)?.parse().ok()?;
    (inode > 0 && state == ESTABLISHED).then_some(TcpSocket { local, remote, inode })
}

/// `0100007F:1F90`: the address in words of the machine's byte order, the port in hex.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (idx, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(idx * 8)?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Addresses of this machine: `/proc/net/fib_trie` (IPv4).
pub(crate) fn fib_trie(text: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    found
}

/// Addresses of this machine: `/proc/net/if_inet6`.
pub(crate) fn if_inet6(text: &[u8]) -> Vec<IpAddr> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok())
        .map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
        .collect()
}

/// `Name: 12 kB` and `name: 12` lines; kilobytes become bytes.
pub(crate) fn number_fields(text: &[u8]) -> BTreeMap<String, i64> {
    let lines = String::from_utf8_lossy(text);
    lines.lines().filter_map(number_field).collect()
}

fn number_field(line: &str) -> Option<(String, i64)> {
    let (name, value) = line.split_once(':')?;
    let mut words = value.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let scale = if words.next() == Some("kB") { 1024 } else { 1 };
    Some((name.to_string(), number.saturating_mul(scale)))
}

/// Mappings of `/proc/PID/smaps`: a head line as in `maps`, then a line a field.
pub(crate) fn smaps(text: &[u8], mappings_max: usize) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        if let Some(head) = map_line(line) {
            if found.len() == mappings_max {
                break;
            }
            let MapLine { address, offset, pathname, .. } = head;
            found.push(Mapping {
                address: address.to_string(),
                offset: offset.to_string(),
                pathname: pathname.to_string(),
                fields: BTreeMap::new(),
            });
        } else if let (Some(mapping), Some((name, value))) = (found.last_mut(), number_field(line))
        {
            mapping.fields.insert(name, value);
        }
    }
    found
}

struct MapLine<'a> {
    address: &'a str,
    permissions: &'a str,
    offset: &'a str,
    pathname: &'a str,
}

/// `7f00-7f10 r-xp 00000000 08:01 123   /lib/libc.so.6`
fn map_line(line: &str) -> Option<MapLine<'_>> {
    let mut fields = line.splitn(6, ' ');
    let address = fields.next()?;
    let (begin, end) = address.split_once('-')?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let permissions = fields.next().filter(|_| is_hex(begin) && is_hex(end))?;
    let offset = fields.next()?;
    let pathname = fields.nth(2).unwrap_or("").trim_start();
    Some(MapLine { address, permissions, offset, pathname })
}

/// Files whose code is mapped, but for the program itself; each once, in order of address.
pub(crate) fn mapped_code(maps: &[u8], program: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(maps).lines().filter_map(map_line) {
        let is_code = line.permissions.contains('x') && line.pathname.starts_with('/');
        if is_code && line.pathname != program && !found.iter().any(|have| have == line.pathname) {
            found.push(line.pathname.to_string());
        }
    }
    found
}
