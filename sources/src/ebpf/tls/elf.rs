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
/// Each place is looked for in all of them; programs have a dozen.
const SEGMENTS_MAX: u64 = 256;
/// No function that is looked for has a longer name.
const NAME_BYTES_MAX: usize = 160;

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

/// A function as the table of symbols has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ebpf) struct Symbol {
    pub(in crate::ebpf) address: u64,
    /// 0 if the file does not say.
    pub(in crate::ebpf) bytes: u64,
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
        if segments > SEGMENTS_MAX {
            return Err(ElfError::TooLarge("segment table"));
        }
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

    /// Calls `f` with each function that has a name of no more than [`NAME_BYTES_MAX`], dynamic symbols first.
    pub(in crate::ebpf) fn functions(
        &self,
        f: &mut dyn FnMut(&[u8], Symbol),
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
                    // A name without an end is not looked for through all of the table, millions of times.
                    let name = &name[..name.len().min(NAME_BYTES_MAX + 1)];
                    if let Some(end) = name.iter().position(|byte| *byte == 0) {
                        let (address, bytes) = (u64_at(symbol, 8), u64_at(symbol, 16));
                        f(&name[..end], Symbol { address, bytes });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the file has a function.
    pub(in crate::ebpf) fn function(&self, symbol: Symbol) -> Option<Function> {
        let Symbol { address, bytes } = symbol;
        Some(Function { offset: self.file_offset(address)?, bytes })
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

    /// The first bytes of a section, or as many as it has.
    pub(in crate::ebpf) fn section_begin(
        &self,
        name: &str,
        bytes: u64,
    ) -> Result<Vec<u8>, ElfError> {
        let Some(section) = self.section_named(name) else { return Ok(Vec::new()) };
        read(self.file, section.offset, section.bytes.min(bytes), "section")
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

pub(in crate::ebpf) fn u16_at(bytes: &[u8], at: usize) -> u16 {
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
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    fn of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A file with these functions (where its name is in the strings, address), of which all is loaded as it is.
    pub(in crate::ebpf) fn made(symbols: &[(u32, u64)], strings: &[u8], segments: u16) -> File {
        let symbols_bytes = (symbols.len() * SYMBOL_BYTES) as u64;
        let segments_at = HEADER_BYTES as u64;
        let sections_at = segments_at + u64::from(segments) * SEGMENT_BYTES;
        let symbols_at = sections_at + 2 * SECTION_BYTES;
        let strings_at = symbols_at + symbols_bytes;
        let put = |bytes: &mut Vec<u8>, at: usize, value: u64, width: usize| {
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        };
        let mut file = vec![0; usize::try_from(strings_at).unwrap()];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        put(&mut file, 18, MACHINE.into(), 2);
        put(&mut file, 32, segments_at, 8);
        put(&mut file, 40, sections_at, 8);
        put(&mut file, 56, segments.into(), 2);
        put(&mut file, 60, 2, 2);
        for idx in 0..usize::from(segments) {
            let at = HEADER_BYTES + idx * SEGMENT_BYTES as usize;
            put(&mut file, at, PT_LOAD.into(), 4);
            put(&mut file, at + 32, u32::MAX.into(), 8);
        }
        let sections =
            [(SHT_SYMTAB, symbols_at, symbols_bytes, 1), (3, strings_at, strings.len() as u64, 0)];
        for (idx, (kind, offset, bytes, link)) in sections.into_iter().enumerate() {
            let at = usize::try_from(sections_at).unwrap() + idx * SECTION_BYTES as usize;
            put(&mut file, at + 4, kind.into(), 4);
            put(&mut file, at + 24, offset, 8);
            put(&mut file, at + 32, bytes, 8);
            put(&mut file, at + 40, link, 4);
        }
        for (idx, (name, address)) in symbols.iter().enumerate() {
            let at = usize::try_from(symbols_at).unwrap() + idx * SYMBOL_BYTES;
            put(&mut file, at, u64::from(*name), 4);
            put(&mut file, at + 4, STT_FUNC.into(), 1);
            put(&mut file, at + 6, 1, 2);
            put(&mut file, at + 8, *address, 8);
        }
        file.extend_from_slice(strings);
        of(&file)
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

    /// A million functions whose names have no end are passed over at once, each in a few steps, and so are many
    /// segments. Catches a file that keeps the prober, and whoever waits for it, for hours.
    #[test]
    fn what_a_file_costs_has_a_bound() {
        let endless = vec![b'x'; 16 << 20];
        assert_eq!(names(&made(&vec![(0, 0); 1 << 20], &endless, 1)).unwrap(), 0);
        let long = [vec![b'x'; NAME_BYTES_MAX], b"\0y\0".to_vec()].concat();
        let behind = u32::try_from(NAME_BYTES_MAX).unwrap() + 1;
        let symbols = [(0, 0), (behind, 0), (behind + 2, 0)];
        assert_eq!(names(&made(&symbols, &long, 1)).unwrap(), 2);
        let many = made(&[], b"", u16::try_from(SEGMENTS_MAX).unwrap() + 1);
        assert!(matches!(names(&many), Err(ElfError::TooLarge("segment table"))));
    }
}
