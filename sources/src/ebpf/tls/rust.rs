//! rustls in Rust programs: where it takes and gives what is said, in programs that have symbols.
//!
//! It is compiled into each program, which may take functions apart; those that are looked for are called from
//! several places and stay whole, unless a program is built to be small. What they are given has no layout that
//! Rust promises: the programs look whether it is as it is known.
//!
//! Not here: rustls before 0.23, whose functions have other arguments (their names differ or what they are given
//! does not look right).

use super::elf::{Elf, Symbol};
use super::library::{Points, PointsError, Probe};

/// The crate, as names of functions have it.
const CRATE: &str = "6rustls";
/// Type and function, as names have them (the old way of mangling and the new one agree here), what probes go there,
/// and what the function is for.
const FUNCTIONS: [(&str, &[Probe], &str); 3] = [
    ("11CommonState23take_received_plaintext", &[Probe::RustRead], "reading"),
    ("11CommonState20send_appdata_encrypt", &[Probe::RustBegin, Probe::RustWrite], "writing"),
    ("14ChunkVecBuffer8write_to", &[Probe::Begin, Probe::RustSent], "sending"),
];
/// Copies of one function in a program: of several versions, or of parts that are compiled for themselves.
const COPIES_MAX: usize = 8;
/// In messages of errors, also of programs without symbols.
const MARK: &[u8] = b"docs.rs/rustls/";
/// Bytes of constants that are looked through for it.
const CONSTANTS_BYTES_MAX: u64 = 32 << 20;

/// The functions, as far as a table of symbols has been looked through.
#[derive(Default)]
pub(super) struct RustFunctions {
    found: [Vec<Symbol>; FUNCTIONS.len()],
}

impl RustFunctions {
    pub(super) fn take(&mut self, name: &[u8], symbol: Symbol) {
        if !(name.starts_with(b"_ZN") || name.starts_with(b"_R")) || !has(name, CRATE.as_bytes()) {
            return;
        }
        for ((part, ..), found) in FUNCTIONS.iter().zip(&mut self.found) {
            let is_new = found.len() < COPIES_MAX && !found.contains(&symbol);
            if is_new && has(name, part.as_bytes()) {
                found.push(symbol);
            }
        }
    }

    /// Adds what there is: all of it, or none.
    pub(super) fn put_into(self, points: &mut Points, elf: &Elf<'_>) -> Result<(), PointsError> {
        if self.found.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let mut at = Vec::new();
        for ((_, probes, what), symbols) in FUNCTIONS.iter().zip(self.found) {
            let offsets: Vec<u64> =
                symbols.iter().filter_map(|one| Some(elf.function(*one)?.offset)).collect();
            if offsets.is_empty() && points.at.is_empty() {
                return Err(PointsError::Inlined(what));
            }
            if offsets.is_empty() {
                return Ok(());
            }
            for probe in *probes {
                at.extend(offsets.iter().map(|offset| (*probe, *offset)));
            }
        }
        if points.library.is_empty() {
            points.library = "rustls";
        }
        points.at.extend(at);
        Ok(())
    }
}

/// Whether a program without such functions has rustls in it.
pub(super) fn is_inside(elf: &Elf<'_>) -> bool {
    elf.section_begin(".rodata", CONSTANTS_BYTES_MAX).is_ok_and(|constants| has(&constants, MARK))
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::made;
    use super::super::library::points;
    use super::*;

    const NAMES: [&str; 3] = [
        "_ZN6rustls12common_state11CommonState23take_received_plaintext17h3a8512cccad3a388E",
        "_RNvMNtCslq3JAppCVzs_6rustls12common_stateNtB2_11CommonState20send_appdata_encrypt.llvm.1692",
        "_RNvMs_NtCslq3JAppCVzs_6rustls6vecbufNtB4_14ChunkVecBuffer8write_to",
    ];

    fn of(names: &[&str]) -> Result<Points, PointsError> {
        let mut strings = Vec::new();
        let mut symbols = Vec::new();
        for (idx, name) in names.iter().enumerate() {
            symbols.push((u32::try_from(strings.len()).unwrap(), 64 + idx as u64));
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        points(&made(&symbols, &strings, 1))
    }

    /// Names of either mangling are found. With one of the functions gone nothing is probed, and it is said; half of
    /// a conversation would be rows that never end. Names of others say nothing.
    #[test]
    fn functions_by_either_name() {
        let all = of(&NAMES).unwrap();
        assert_eq!((all.library, all.functions()), ("rustls", 3));
        let at: Vec<_> = all.at.iter().map(|(probe, _)| *probe).collect();
        let rust = [Probe::RustBegin, Probe::RustRead, Probe::RustWrite, Probe::RustSent];
        assert_eq!((at[0], &at[1..]), (Probe::Begin, rust.as_slice()));
        let without = of(&NAMES[1..]).unwrap_err().to_string();
        assert!(without.contains("without functions of its own for reading"), "{without}");
        let other = "_ZN5other11CommonState23take_received_plaintext17h3a8512cccad3a388E";
        assert_eq!(of(&[other]).unwrap(), Points::default());
    }
}
