//! Go programs: where `crypto/tls` reads and writes, also in programs without symbols.
//!
//! Functions are found in the symbol table or, in stripped programs, in the table that Go's own runtime needs
//! (`.gopclntab`). Return probes would end a Go program, so each return instruction is found instead.

use super::elf::{Elf, ElfError, Function, u32_at, u64_at};
use super::library::{Points, PointsError, Probe};

/// What is probed, and by which program at its returns.
const FUNCTIONS: [(&str, Probe); 2] =
    [("crypto/tls.(*Conn).Read", Probe::GoRead), ("crypto/tls.(*Conn).Write", Probe::GoWrite)];

/// What keeps tables of header fields: of programs that have `golang.org/x/net`, and of `net/http`.
const HPACK: [&str; 2] = ["golang.org/x/net/http2/hpack.", "vendor/golang.org/x/net/http2/hpack."];
const HPACK_FUNCTIONS: [(&str, Probe); 2] =
    [("(*Decoder).Write", Probe::GoDecodes), ("(*Encoder).WriteField", Probe::GoEncodes)];

/// The table of functions, as the linkers call it.
const TABLES: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// `.gopclntab` of Go 1.18 and 1.19, and from 1.20 on. Before, arguments were passed in another way.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Where `runtime.moduledata`, which has a section of its own from 1.26 on, has the address of the code.
const MODULE_TEXT_AT: usize = 176;
/// Bytes of one function that are looked at: the largest of these have 3,000.
const FUNCTION_BYTES_MAX: u64 = 64 << 10;

/// Its functions; none if it is no Go program, or has no TLS in it.
pub(super) fn points(elf: &Elf<'_>) -> Result<Option<Points>, PointsError> {
    let Some(name) = TABLES.into_iter().find(|name| elf.section_address(name).is_some()) else {
        return Ok(None);
    };
    if !MAGICS.contains(&u32_at(&elf.section_begin(name, 4)?, 0)) {
        return Err(PointsError::TooOld);
    }
    let names = names();
    let mut found: Vec<Option<Function>> = vec![None; names.len()];
    elf.functions(&mut |name, function| {
        for (wanted, found) in names.iter().zip(&mut found) {
            if wanted.as_bytes() == name && function.bytes > 0 {
                *found = elf.function(function).or(*found);
            }
        }
    })?;
    if found[..FUNCTIONS.len()].iter().any(Option::is_none) {
        // Tens of megabytes, which only a program without symbols needs.
        let table = elf.section(name)?.map_or(Vec::new(), |(_, table)| table);
        let start = text_start(elf, &table)?.ok_or(PointsError::NoTable)?;
        for (found, of_table) in found.iter_mut().zip(in_table(&table, &names)) {
            *found = of_table.and_then(|(from, bytes)| {
                let offset = elf.file_offset(start.checked_add(from)?)?;
                Some(Function { offset, bytes })
            });
        }
    }
    let mut points = Points { library: "go", ..Points::default() };
    let (tls, hpack) = found.split_at(FUNCTIONS.len());
    for (idx, function) in hpack.iter().enumerate() {
        let (_, probe) = HPACK_FUNCTIONS[idx % HPACK_FUNCTIONS.len()];
        points.passing.extend(function.map(|function| (probe, function.offset)));
    }
    for (idx, function) in tls.iter().enumerate() {
        let (name, probe) = FUNCTIONS[idx];
        // A program that never reads, say, has no such function.
        let Some(Function { offset, bytes }) = *function else { continue };
        let code = elf.bytes(offset, bytes.min(FUNCTION_BYTES_MAX))?;
        let returns = returns(&code);
        if returns.is_empty() {
            return Err(PointsError::NoReturns(name));
        }
        points.at.insert((Probe::GoBegin, offset));
        if !points.passing.is_empty() && probe == Probe::GoRead {
            points.passing.insert((Probe::GoReads, offset));
        }
        points.at.extend(returns.into_iter().map(|at| (probe, offset + at)));
    }
    Ok((!points.at.is_empty()).then_some(points))
}

/// Of all functions, those of TLS first.
fn names() -> Vec<String> {
    let tls = FUNCTIONS.iter().map(|(name, _)| (*name).to_string());
    let hpack = HPACK.iter().flat_map(|package| {
        HPACK_FUNCTIONS.iter().map(move |(name, _)| format!("{package}{name}"))
    });
    tls.chain(hpack).collect()
}

/// The address that the table's offsets begin at.
fn text_start(elf: &Elf<'_>, table: &[u8]) -> Result<Option<u64>, ElfError> {
    // Since 1.26 it is not in the table any more.
    match u64_at(table, 24) {
        0 => {}
        start => return Ok(Some(start)),
    }
    let module = elf.section(".go.module")?;
    let start = module.map_or(0, |(_, module)| u64_at(&module, MODULE_TEXT_AT));
    Ok(match start {
        // Of a program that may be anywhere it is filled in when that is known.
        0 => elf.section_address(".text"),
        start => Some(start),
    })
}

/// Offset and length of functions in the code, by the runtime's table.
fn in_table(table: &[u8], wanted: &[String]) -> Vec<Option<(u64, u64)>> {
    let mut found = vec![None; wanted.len()];
    let count = usize::try_from(u64_at(table, 8)).unwrap_or(usize::MAX);
    for idx in 0..count.min(table.len() / 8) {
        // What leads out of the table leads nowhere, and so does what follows.
        let Some((name, from, to)) = entry_of_table(table, idx) else { break };
        for (wanted, found) in wanted.iter().zip(&mut found) {
            let rest = name.strip_prefix(wanted.as_bytes());
            if found.is_none() && rest.is_some_and(|rest| rest.first() == Some(&0)) {
                *found = to.checked_sub(from).map(|bytes| (u64::from(from), u64::from(bytes)));
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

/// Where the name of an entry begins, and from where to where its function is.
fn entry_of_table(table: &[u8], idx: usize) -> Option<(&[u8], u32, u32)> {
    let at = |field: usize| usize::try_from(u64_at(table, field)).ok();
    let (names, functions) = (at(32)?, at(64)?);
    let entry = functions.checked_add(idx * 8)?;
    let about = functions.checked_add(u32_at(table, entry.checked_add(4)?) as usize)?;
    let name = names.checked_add(u32_at(table, about.checked_add(4)?) as usize)?;
    let (from, to) = (u32_at(table, entry), u32_at(table, entry.checked_add(8)?));
    Some((table.get(name..)?, from, to))
}

/// Where in a function's code it returns. Instructions are decoded: the byte of a return may be in others.
#[cfg(target_arch = "x86_64")]
fn returns(code: &[u8]) -> Vec<u64> {
    let mut decoder = iced_x86::Decoder::with_ip(64, code, 0, iced_x86::DecoderOptions::NONE);
    let mut found = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.mnemonic() == iced_x86::Mnemonic::Ret {
            found.push(instruction.ip());
        }
    }
    found
}

/// Instructions have four bytes; Go returns by the link register only.
#[cfg(target_arch = "aarch64")]
fn returns(code: &[u8]) -> Vec<u64> {
    const RET: [u8; 4] = 0xd65f_03c0_u32.to_le_bytes();
    let instructions = code.chunks_exact(4).enumerate();
    instructions.filter(|(_, code)| *code == RET).map(|(idx, _)| idx as u64 * 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A return's byte within another instruction is none. Catches a probe that breaks an instruction in two.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn returns_are_instructions() {
        // mov eax, 0xc3c3c3c3; ret; mov rax, [rbx+0xc3]; ret
        let code = [0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0x48, 0x8b, 0x83, 0xc3, 0, 0, 0, 0xc3];
        assert_eq!(returns(&code), [5, 13]);
        assert!(returns(&[]).is_empty());
    }

    /// A table whose numbers lead anywhere gives nothing, and no panic.
    #[test]
    fn tables_are_not_trusted() {
        let mut random = weir_types::random::SplitMix(3);
        for _ in 0..5_000 {
            let mut table = vec![0u8; 200];
            for byte in &mut table {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
            if random.below(2) == 0 {
                for field in [8, 32, 64] {
                    table[field + 1..field + 8].fill(0);
                }
            }
            assert!(in_table(&table, &names()).iter().all(Option::is_none));
        }
    }
}
