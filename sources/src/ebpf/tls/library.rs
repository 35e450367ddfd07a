//! TLS libraries by the names of their functions: which probe goes where in a file.
//!
//! Libraries are told by what they export, not by what they are called: a program with OpenSSL inside is
//! probed like the library itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use super::elf::{Elf, ElfError};
use super::go;
use super::rust::{self, RustFunctions};

/// Why a program is not probed.
#[derive(Debug, thiserror::Error)]
pub(in crate::ebpf) enum PointsError {
    #[error("it is built by Go before 1.18")]
    TooOld,
    #[error("its table of functions has another form")]
    NoTable,
    #[error("it has more than {0} places to probe")]
    TooMany(usize),
    #[error("the returns of {0} were not found")]
    NoReturns(&'static str),
    #[error("rustls is compiled into it without functions of its own for {0}")]
    Inlined(&'static str),
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// What is attached to a function, beside the program at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ebpf) enum Probe {
    /// Where any call begins.
    Begin,
    Read,
    Write,
    ReadEx,
    WriteEx,
    Sendfile,
    Handshake,
    /// Where the end of a session begins.
    Free,
    /// Go's, at a beginning and at returns.
    GoBegin,
    GoRead,
    GoWrite,
    /// Those that look for tables of header fields, at beginnings: for a while.
    GoDecodes,
    GoEncodes,
    GoReads,
    /// Those of rustls, at a beginning and at returns.
    RustBegin,
    RustRead,
    RustWrite,
    RustSent,
}

impl Probe {
    pub(super) const ALL: [Probe; 18] = [
        Probe::Begin,
        Probe::Read,
        Probe::Write,
        Probe::ReadEx,
        Probe::WriteEx,
        Probe::Sendfile,
        Probe::Handshake,
        Probe::Free,
        Probe::GoBegin,
        Probe::GoRead,
        Probe::GoWrite,
        Probe::GoDecodes,
        Probe::GoEncodes,
        Probe::GoReads,
        Probe::RustBegin,
        Probe::RustRead,
        Probe::RustWrite,
        Probe::RustSent,
    ];

    pub(super) fn program(self) -> &'static str {
        match self {
            Probe::Begin => "tls_begin",
            Probe::Read => "tls_read",
            Probe::Write => "tls_write",
            Probe::ReadEx => "tls_read_ex",
            Probe::WriteEx => "tls_write_ex",
            Probe::Sendfile => "tls_sendfile",
            Probe::Handshake => "tls_handshake",
            Probe::Free => "tls_free",
            Probe::GoBegin => "go_begin",
            Probe::GoRead => "go_read",
            Probe::GoWrite => "go_write",
            Probe::GoDecodes => "go_decodes",
            Probe::GoEncodes => "go_encodes",
            Probe::GoReads => "go_reads",
            Probe::RustBegin => "rust_begin",
            Probe::RustRead => "rust_read",
            Probe::RustWrite => "rust_write",
            Probe::RustSent => "rust_sent",
        }
    }

    /// It runs where the function returns.
    pub(super) fn is_return(self) -> bool {
        use Probe::{Begin, Free, GoBegin, GoDecodes, GoEncodes, GoRead, GoReads, GoWrite};
        use Probe::{RustBegin, RustRead};
        let is_gos = matches!(self, GoBegin | GoRead | GoWrite | GoDecodes | GoEncodes | GoReads);
        !is_gos && !matches!(self, Begin | Free | RustBegin | RustRead)
    }
}

/// Functions of the libraries that are known. Others of them are made of these.
const FUNCTIONS: [(&str, &str, Probe); 22] = [
    ("openssl", "SSL_read", Probe::Read),
    ("openssl", "SSL_write", Probe::Write),
    ("openssl", "SSL_read_ex", Probe::ReadEx),
    ("openssl", "SSL_write_ex", Probe::WriteEx),
    ("openssl", "SSL_read_early_data", Probe::ReadEx),
    ("openssl", "SSL_write_early_data", Probe::WriteEx),
    ("openssl", "SSL_sendfile", Probe::Sendfile),
    ("openssl", "SSL_do_handshake", Probe::Handshake),
    ("openssl", "SSL_free", Probe::Free),
    ("gnutls", "gnutls_record_recv", Probe::Read),
    ("gnutls", "gnutls_record_recv_seq", Probe::Read),
    ("gnutls", "gnutls_record_send", Probe::Write),
    ("gnutls", "gnutls_record_send2", Probe::Write),
    ("gnutls", "gnutls_record_send_early_data", Probe::Write),
    ("gnutls", "gnutls_handshake", Probe::Handshake),
    ("gnutls", "gnutls_deinit", Probe::Free),
    ("wolfssl", "wolfSSL_read", Probe::Read),
    ("wolfssl", "wolfSSL_write", Probe::Write),
    ("wolfssl", "wolfSSL_connect", Probe::Handshake),
    ("wolfssl", "wolfSSL_accept", Probe::Handshake),
    ("wolfssl", "wolfSSL_negotiate", Probe::Handshake),
    ("wolfssl", "wolfSSL_free", Probe::Free),
];

/// Shared libraries whose names hold one of these may have them; of programs every one may.
const NAMES: [&str; 8] =
    ["ssl", "gnutls", "tls", "conscrypt", "cygrpc", "libnode", "libpython", "libcurl"];

/// TLS that is known, and cannot be read by probes in functions with known names: parts of names of files,
/// and why.
const CLOSED: [(&str, &str); 4] = [
    ("libjvm.so", "TLS of Java's own (JSSE) is compiled as the program runs"),
    ("libssl3.so", "NSS has one function for what is encrypted and what is not"),
    ("cygrpc", "its BoringSSL has no symbols"),
    ("conscrypt", "its BoringSSL has no symbols"),
];

/// Why a file without known functions is not probed, if it is known for its TLS.
pub(super) fn why_closed(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    CLOSED.iter().find(|(part, _)| name.contains(part)).map(|(_, why)| *why)
}

/// Places in one file: libraries have forty, and each costs the kernel.
const POINTS_MAX: usize = 256;

/// Where in a file which probes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ebpf) struct Points {
    /// Of which library most functions are; empty if there are none.
    pub(super) library: &'static str,
    /// With file offsets.
    pub(super) at: BTreeSet<(Probe, u64)>,
    /// The same of probes that are there for a while, after the others: of connections that are older.
    pub(super) passing: BTreeSet<(Probe, u64)>,
}

impl Points {
    /// How many functions are probed.
    pub(super) fn functions(&self) -> usize {
        use Probe::{Begin, Free, GoBegin, RustBegin, RustRead};
        let begins = [Begin, Free, GoBegin, RustBegin, RustRead];
        self.at.iter().filter(|(probe, _)| begins.contains(probe)).count()
    }
}

/// Offsets by the program that goes there.
pub(super) fn by_probe(at: &BTreeSet<(Probe, u64)>) -> BTreeMap<Probe, Vec<u64>> {
    let mut by_probe: BTreeMap<Probe, Vec<u64>> = BTreeMap::new();
    for (probe, offset) in at {
        by_probe.entry(*probe).or_default().push(*offset);
    }
    by_probe
}

/// Whether a mapped file may have TLS in it, as far as its name tells.
pub(super) fn may_have_tls(path: &str, is_program: bool) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    is_program || NAMES.iter().any(|part| name.contains(part))
}

/// The functions to probe: none if the file has no way to read and none to write.
pub(in crate::ebpf) fn points(file: &File) -> Result<Points, PointsError> {
    let elf = Elf::open(file)?;
    let points = match go::points(&elf)? {
        Some(points) => points,
        None => of_libraries(&elf)?,
    };
    match points.at.len() > POINTS_MAX {
        true => Err(PointsError::TooMany(POINTS_MAX)),
        false => Ok(points),
    }
}

/// Why the functions of a program are not known, though it has TLS of its own in it.
pub(super) fn why_unknown(file: &File) -> Option<&'static str> {
    let is_inside = Elf::open(file).is_ok_and(|elf| rust::is_inside(&elf));
    is_inside.then_some("rustls is compiled into it, and it has no symbols")
}

fn of_libraries(elf: &Elf<'_>) -> Result<Points, PointsError> {
    let mut points = Points::default();
    let mut rust = RustFunctions::default();
    elf.functions(&mut |name, function| {
        rust.take(name, function);
        let known = FUNCTIONS.iter().find(|(_, known, _)| known.as_bytes() == name);
        let Some((library, _, probe)) = known else { return };
        // One more than there may be: what is refused is not collected.
        if points.at.len() > POINTS_MAX {
            return;
        }
        let Some(function) = elf.function(function) else { return };
        points.library = library;
        points.at.insert((*probe, function.offset));
        if *probe != Probe::Free {
            points.at.insert((Probe::Begin, function.offset));
        }
    })?;
    let has = |probes: [Probe; 2]| points.at.iter().any(|(probe, _)| probes.contains(probe));
    if !has([Probe::Read, Probe::ReadEx]) || !has([Probe::Write, Probe::WriteEx]) {
        points = Points::default();
    }
    rust.put_into(&mut points, elf)?;
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::made;
    use super::*;

    /// A library with thousands of places to probe is refused as a whole; each is kept by the kernel, and some
    /// kernels have a descriptor for it.
    #[test]
    fn places_have_a_bound() {
        let strings = b"SSL_read\0SSL_write\0";
        let symbols = |count: u64| -> Vec<(u32, u64)> {
            (0..count).map(|idx| (if idx % 2 == 0 { 0 } else { 9 }, 64 + idx)).collect()
        };
        let few = points(&made(&symbols(4), strings, 1)).unwrap();
        assert_eq!(few.functions(), 4);
        let many = points(&made(&symbols(5_000), strings, 1));
        assert!(many.is_err_and(|error| error.to_string().contains("places to probe")));
    }
}
