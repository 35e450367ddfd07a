//! What programs say over TLS: finds the TLS libraries that processes run, and has them probed.
//!
//! A file is probed once, whoever runs it: probes are of the file, so they are there before a process that
//! starts later makes its first call. A thread of its own looks at all processes once and then at what the
//! kernel tells of code that is mapped (`mmaps`); it finds the functions (`library`), attaches the programs
//! (`programs`), and lets go what no process runs any more. What is said becomes events like all others,
//! see `programs/syscalls/tls.h` of `weir-bpf`.
//!
//! ```text
//! /proc/*/maps ─┐
//!               ├▶ file with code ─▶ its functions ─▶ programs at their beginnings and returns
//! mmap records ─┘   (once a file)
//! ```
//! Not here: which socket it is (the programs find out), and what the bytes mean.

mod elf;
mod go;
mod known;
mod library;
mod look;
mod maps;
mod mmaps;
mod opened;
mod prober;
mod programs;
mod rust;

#[cfg(test)]
pub(in crate::ebpf) use elf::tests::made as made_elf;
#[cfg(test)]
pub(in crate::ebpf) use library::points as file_points;
pub use look::{TlsLook, look};
pub use maps::FileId;
pub(in crate::ebpf) use prober::{Prober, start};
pub(in crate::ebpf) use programs::TlsPrograms;

/// A file with TLS in it that processes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFile {
    pub file: FileId,
    /// As the first process that was seen with it names it.
    pub path: String,
    /// `openssl`, `gnutls`, `wolfssl`, `go` or `rustls`, by its functions; empty if it could not be read.
    pub library: &'static str,
    /// Some of the processes that run it, all where they are few; not told of what is probed.
    pub pids: Vec<u32>,
    /// Functions that are probed.
    pub functions: usize,
    /// Why they are not.
    pub refused: Option<String>,
}
