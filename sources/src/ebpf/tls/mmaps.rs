//! What the kernel tells of files whose code is mapped: programs that start, libraries that are loaded, late
//! ones too. A few records a process, of the whole machine.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::super::attach::{PerfEventAttr, owned, perf_event_open};
use super::elf::{u16_at, u32_at, u64_at};
use super::maps::{FileId, Mapping};

/// Of each CPU's ring: room for the libraries of a thousand programs. A power of two.
const RING_PAGES: usize = 64;
const PAGE_BYTES: usize = 4_096;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const FLAG_MMAP: u64 = 1 << 8;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_MMAP2: u64 = 1 << 23;
const RECORD_LOST: u32 = 2;
const RECORD_MMAP2: u32 = 10;
/// Where `data_head` and `data_tail` are in `struct perf_event_mmap_page`.
const HEAD_AT: usize = 1_024;
const TAIL_AT: usize = 1_032;

/// A process maps a file's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) pid: u32,
    pub(super) mapping: Mapping,
}

/// The rings of all CPUs.
pub(super) struct MmapEvents {
    rings: Vec<Ring>,
}

impl MmapEvents {
    pub(super) fn open() -> io::Result<MmapEvents> {
        let rings = online_cpus()?.into_iter().map(Ring::open).collect::<io::Result<_>>()?;
        Ok(MmapEvents { rings })
    }

    /// Descriptors that can be read when there is something.
    pub(super) fn fds(&self) -> impl Iterator<Item = i32> {
        self.rings.iter().map(|ring| ring.fd.as_raw_fd())
    }

    /// Hands out what has been mapped since the last call. Returns whether any of it was lost.
    pub(super) fn drain(&mut self, f: &mut dyn FnMut(Mapped)) -> bool {
        let mut lost = false;
        for ring in &mut self.rings {
            lost |= ring.drain(f);
        }
        lost
    }
}

fn online_cpus() -> io::Result<Vec<i32>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<i32>().map_err(io::Error::other);
        cpus.extend(number(first)?..=number(last)?);
    }
    Ok(cpus)
}

/// One CPU's ring: memory that the kernel writes to.
struct Ring {
    fd: OwnedFd,
    base: *mut libc::c_void,
    /// A record, put together.
    record: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone, and is reached through it only.
#[expect(unsafe_code, reason = "a raw pointer to memory of its own")]
unsafe impl Send for Ring {}

impl Ring {
    const BYTES: usize = (1 + RING_PAGES) * PAGE_BYTES;
    const DATA_BYTES: usize = RING_PAGES * PAGE_BYTES;

    #[expect(unsafe_code, reason = "std maps no memory")]
    fn open(cpu: i32) -> io::Result<Ring> {
        let attr = PerfEventAttr {
            kind: PERF_TYPE_SOFTWARE,
            config: PERF_COUNT_SW_DUMMY,
            flags: FLAG_MMAP | FLAG_MMAP2 | FLAG_WATERMARK,
            wakeup_events: 1,
            ..PerfEventAttr::default()
        };
        let fd = owned(perf_event_open(&attr, cpu))?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of a descriptor that stays open, anywhere.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), Ring::BYTES, protection, flags, fd.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Ring { fd, base, record: Vec::new() })
    }

    #[expect(unsafe_code, reason = "memory that the kernel writes to")]
    fn cursor(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the first page, aligned, and alive as long as `self`; both sides access it
        // atomically.
        unsafe { &*self.base.cast::<u8>().add(at).cast::<AtomicU64>() }
    }

    /// Bytes of the ring from a position on, around its end.
    #[expect(unsafe_code, reason = "memory that the kernel writes to")]
    fn copy(&self, position: u64, bytes: usize, to: &mut Vec<u8>) {
        to.clear();
        let start = usize::try_from(position % Ring::DATA_BYTES as u64).unwrap_or(0);
        let first = bytes.min(Ring::DATA_BYTES - start);
        for (from, bytes) in [(start, first), (0, bytes - first)] {
            // SAFETY: within the mapping's data; the kernel does not write between tail and head.
            let slice = unsafe {
                std::slice::from_raw_parts(self.base.cast::<u8>().add(PAGE_BYTES + from), bytes)
            };
            to.extend_from_slice(slice);
        }
    }

    fn drain(&mut self, f: &mut dyn FnMut(Mapped)) -> bool {
        let head = self.cursor(HEAD_AT).load(Ordering::Acquire);
        let mut tail = self.cursor(TAIL_AT).load(Ordering::Relaxed);
        let mut lost = false;
        let mut record = std::mem::take(&mut self.record);
        while head.wrapping_sub(tail) >= 8 {
            self.copy(tail, 8, &mut record);
            let (kind, bytes) = (u32_at(&record, 0), u16_at(&record, 6));
            if bytes < 8 || u64::from(bytes) > head - tail {
                tail = head; // no record of the kernel's
                lost = true;
                break;
            }
            self.copy(tail, usize::from(bytes), &mut record);
            tail += u64::from(bytes);
            match kind {
                RECORD_MMAP2 => mapped(&record).into_iter().for_each(&mut *f),
                RECORD_LOST => lost = true,
                _ => {}
            }
        }
        self.record = record;
        fence(Ordering::SeqCst);
        self.cursor(TAIL_AT).store(tail, Ordering::Release);
        lost
    }
}

impl Drop for Ring {
    #[expect(unsafe_code, reason = "std maps no memory")]
    fn drop(&mut self) {
        // SAFETY: the mapping of `open`, which nobody uses any more.
        unsafe { libc::munmap(self.base, Ring::BYTES) };
    }
}

/// A record of kind `PERF_RECORD_MMAP2`; `None` for memory that is no file's.
fn mapped(record: &[u8]) -> Option<Mapped> {
    let name = record.get(72..)?.split(|byte| *byte == 0).next()?;
    let start = u64_at(record, 16);
    let file =
        FileId { major: u32_at(record, 40), minor: u32_at(record, 44), inode: u64_at(record, 48) };
    let path = String::from_utf8_lossy(name).into_owned();
    let mapping = Mapping { file, path, start, end: start.checked_add(u64_at(record, 24))? };
    (file.inode != 0).then_some(Mapped { pid: u32_at(record, 8), mapping })
}
