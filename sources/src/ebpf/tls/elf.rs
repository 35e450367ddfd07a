//! A reader of ELF files, as far as probes need it: where a function is in the file.
//!
//! Files belong to whoever runs them: nothing in them is trusted, and each read has a bound.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of one symbol table or string table: those of large runtimes have 40 MB. Two are held at a time.
const TABLE_BYTES_MAX: u64 = 128 << 20;
/// Sections and segments that are looked at; more than twice what the largest known files have.
const HEADERS_MAX: u64 = 4_096;

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const SYMBOL_BYTES: usize = 24;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const PT_LOAD: u32 = 1;
const STT_FUNC: u8 = 2;
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::ebpf) enum ElfError {
    #[error("it is no ELF file")]
    NotElf,
    #[error("it is of a 32-bit program")]
    Bits32,
    #[error("it is for another processor")]
    OtherMachine,
    #[error("its {0} reaches beyond what is looked at")]
    TooLarge(&'static str),
    #[error("it could not be read")]
    Read(#[from] io::Error),
}

#[derive(Clone, Copy, Debug)]
struct Section {
    name: u32,
    kind: u32,
    address: u64,
    offset: u64,
    bytes: u64,
    link: u32,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    bytes: u64,
}

/// A function's place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ebpf) struct Function {
    pub(in crate::ebpf) offset: u64,
    /// 0 if the file does not say.
    pub(in crate::ebpf) bytes: u64,
}

/// An open ELF file of this machine's kind.
pub(in crate::ebpf) struct Elf<'a> {
    file: &'a File,
    sections: Vec<Section>,
    names: Vec<u8>,
    segments: Vec<Segment>,
}

impl<'a> Elf<'a> {
    pub(in crate::ebpf) fn open(file: &'a File) -> Result<Elf<'a>, ElfError> {
        if file.metadata()?.len() < HEADER_BYTES as u64 {
            return Err(ElfError::NotElf);
        }
        let header = read(file, 0, HEADER_BYTES as u64, "header")?;
        if !header.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if header[4] != 2 {
            return Err(ElfError::Bits32);
        }
        if header[5] != 1 || u16_at(&header, 18) != MACHINE {
            return Err(ElfError::OtherMachine);
        }
        let (segments_at, sections_at) = (u64_at(&header, 32), u64_at(&header, 40));
        let segments = u64::from(u16_at(&header, 56));
        let sections = u64::from(u16_at(&header, 60));
        let names_idx = usize::from(u16_at(&header, 62));
        let mut elf = Elf { file, sections: vec![], names: vec![], segments: vec![] };
        let table = read(file, segments_at, segments * SEGMENT_BYTES, "segment table")?;
        elf.segments = table.chunks_exact(SEGMENT_BYTES as usize).filter_map(segment).collect();
        if sections > HEADERS_MAX {
            return Err(ElfError::TooLarge("section table"));
        }
        if sections_at != 0 && sections != 0 {
            let table = read(file, sections_at, sections * SECTION_BYTES, "section table")?;
            elf.sections = table.chunks_exact(SECTION_BYTES as usize).map(section).collect();
        }
        if let Some(names) = elf.sections.get(names_idx) {
            elf.names = read(file, names.offset, names.bytes, "section names")?;
        }
        Ok(elf)
    }

    /// Calls `f` with each function that has a name, dynamic symbols first.
    pub(in crate::ebpf) fn functions(
        &self,
        f: &mut dyn FnMut(&[u8], Function),
    ) -> Result<(), ElfError> {
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            // There is one of each; a file may claim thousands.
            if let Some(table) = self.sections.iter().find(|section| section.kind == kind) {
                let Some(strings) = self.sections.get(table.link as usize) else { continue };
                let symbols = read(self.file, table.offset, table.bytes, "symbol table")?;
                let strings = read(self.file, strings.offset, strings.bytes, "string table")?;
                for symbol in symbols.chunks_exact(SYMBOL_BYTES) {
                    let is_function = symbol[4] & 0xf == STT_FUNC && u16_at(symbol, 6) != 0;
                    let name = strings.get(u32_at(symbol, 0) as usize..);
                    let (true, Some(name)) = (is_function, name) else { continue };
                    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                    if let Some(offset) = self.file_offset(u64_at(symbol, 8)) {
                        f(name, Function { offset, bytes: u64_at(symbol, 16) });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the file has what is at this address once it is loaded.
    pub(in crate::ebpf) fn file_offset(&self, address: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            address >= segment.address && address - segment.address < segment.bytes
        };
        let segment = self.segments.iter().find(holds)?;
        segment.offset.checked_add(address - segment.address)
    }
}

impl Elf<'_> {
    fn section_named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| {
            let rest = self.names.get(section.name as usize..).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|end| end.first() == Some(&0))
        })
    }

    /// Where a section is once it is loaded.
    pub(in crate::ebpf) fn section_address(&self, name: &str) -> Option<u64> {
        Some(self.section_named(name)?.address)
    }

    /// Address and contents of a section.
    pub(in crate::ebpf) fn section(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, ElfError> {
        let Some(section) = self.section_named(name) else { return Ok(None) };
        Ok(Some((section.address, read(self.file, section.offset, section.bytes, "section")?)))
    }

    /// Bytes at a place in the file.
    pub(in crate::ebpf) fn bytes(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, ElfError> {
        read(self.file, offset, bytes, "function")
    }
}

fn segment(header: &[u8]) -> Option<Segment> {
    let segment = Segment {
        offset: u64_at(header, 8),
        address: u64_at(header, 16),
        bytes: u64_at(header, 32),
    };
    (u32_at(header, 0) == PT_LOAD).then_some(segment)
}

fn section(header: &[u8]) -> Section {
    Section {
        name: u32_at(header, 0),
        kind: u32_at(header, 4),
        address: u64_at(header, 16),
        offset: u64_at(header, 24),
        bytes: u64_at(header, 32),
        link: u32_at(header, 40),
    }
}

fn read(file: &File, offset: u64, bytes: u64, what: &'static str) -> Result<Vec<u8>, ElfError> {
    // A table that claims more than the file has would be given memory for nothing.
    if bytes > TABLE_BYTES_MAX.min(file.metadata()?.len()) {
        return Err(ElfError::TooLarge(what));
    }
    let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| ElfError::TooLarge(what))?];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    chunk(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(in crate::ebpf) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(in crate::ebpf) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, u64::from_le_bytes)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn names(file: &File) -> Result<usize, ElfError> {
        let mut count = 0;
        Elf::open(file)?.functions(&mut |_, _| count += 1)?;
        Ok(count)
    }

    /// A file that is cut short anywhere, or whose headers lie about what is where, is refused or gives less:
    /// no panic, and no memory for bytes that the file does not have. Catches a process that stops the
    /// prober with a file of its own making.
    #[test]
    fn files_are_not_trusted() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(names(&of(&own)).unwrap() > 0);
        assert!(matches!(names(&of(b"#!/bin/sh\n")), Err(ElfError::NotElf)));
        assert!(matches!(names(&of(&[b'x'; 100])), Err(ElfError::NotElf)));
        for bytes in [0, 3, 63, 64, 200, 5_000, own.len() / 2] {
            drop(names(&of(&own[..bytes])));
        }
        let mut random = weir_types::random::SplitMix(7);
        let head = &own[..own.len().min(1 << 16)];
        for _ in 0..2_000 {
            let mut bytes = head.to_vec();
            for _ in 0..4 {
                let at = usize::try_from(random.below(64)).unwrap();
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            drop(names(&of(&bytes)));
        }
        let mut bits32 = own[..64].to_vec();
        bits32[4] = 1;
        assert!(matches!(names(&of(&bits32)), Err(ElfError::Bits32)));
        bits32[4] = 2;
        bits32[18] = 8;
        assert!(matches!(names(&of(&bits32)), Err(ElfError::OtherMachine)));
    }
}
