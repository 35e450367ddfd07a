//! Whether a frame's body is what its opcode says: to the last byte, or as far as it was seen.

use super::parse::Body;
use super::responses::{Columns, kind};
use super::types::{Head, Version, flag, opcode};
use super::unpack::Packing;
use super::values::Type;
use super::walk::{Stop, Walk, Walked};

/// Longest id of a statement; servers give sixteen bytes.
const ID_BYTES_MAX: usize = 64;
/// ANY to LOCAL_ONE, and NODE_LOCAL.
const CONSISTENCY_MAX: u16 = 0x0b;
/// Entries of STARTUP, SUPPORTED and REGISTER.
const ENTRIES_MAX: u16 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Whole,
    SoFar,
    No,
}

/// Of a frame, or its beginning, whose packing is guessed.
pub(super) fn fit(head: &Head, frame: &[u8]) -> Fit {
    let packings: &[Option<Packing>] = match head.has(flag::PACKED) {
        true => &[Some(Packing::Lz4), Some(Packing::Snappy)],
        false => &[None],
    };
    let mut best = Fit::No;
    for packing in packings {
        match fit_as(head, frame, *packing) {
            Fit::Whole => return Fit::Whole,
            Fit::SoFar => best = Fit::SoFar,
            Fit::No => {}
        }
    }
    best
}

pub(super) fn fit_as(head: &Head, frame: &[u8], packing: Option<Packing>) -> Fit {
    let Some(body) = Body::of(head, frame, packing) else { return Fit::No };
    let walked = body.walk(head).and_then(|mut walk| {
        content(head, &mut walk)?;
        walk.whole()
    });
    match walked {
        Ok(()) => Fit::Whole,
        Err(Stop::Missing) => Fit::SoFar,
        Err(Stop::Wrong) => Fit::No,
    }
}

fn check(is_right: bool) -> Walked<()> {
    if is_right { Ok(()) } else { Err(Stop::Wrong) }
}

fn content(head: &Head, walk: &mut Walk<'_>) -> Walked<()> {
    // Of DataStax' versions only what is said before one is agreed upon.
    let is_first = matches!(
        head.opcode,
        opcode::OPTIONS | opcode::STARTUP | opcode::SUPPORTED | opcode::ERROR
    );
    check(is_first || !head.version.is_dse())?;
    match head.opcode {
        opcode::STARTUP => startup(walk),
        opcode::OPTIONS | opcode::READY => walk.end(),
        opcode::QUERY => {
            statement(walk)?;
            parameters(head.version, walk)
        }
        opcode::PREPARE => {
            statement(walk)?;
            let has_more = head.version.has_result_ids() && walk.left() > 0;
            if has_more && walk.u32()? != 0 {
                walk.string()?;
            }
            walk.end()
        }
        opcode::EXECUTE => {
            id(walk)?;
            if head.version.has_result_ids() {
                id(walk)?;
            }
            parameters(head.version, walk)
        }
        opcode::BATCH => batch(head.version, walk),
        opcode::REGISTER => {
            let count = walk.u16()?;
            check((1..=8).contains(&count))?;
            for _ in 0..count {
                check(is_event(walk.whole_string()?))?;
            }
            walk.end()
        }
        opcode::AUTH_RESPONSE | opcode::AUTH_CHALLENGE | opcode::AUTH_SUCCESS => {
            walk.value()?;
            walk.end()
        }
        opcode::ERROR => error(walk),
        opcode::AUTHENTICATE => {
            let class = walk.whole_string()?;
            check(class.contains(&b'.') && class.iter().all(u8::is_ascii_graphic))?;
            walk.end()
        }
        opcode::SUPPORTED => supported(walk),
        opcode::RESULT => result(head.version, walk),
        opcode::EVENT => event(walk),
        _ => Err(Stop::Wrong),
    }
}

fn event(walk: &mut Walk<'_>) -> Walked<()> {
    let event = walk.whole_string()?;
    check(is_event(event))?;
    let change = walk.whole_string()?;
    check(change.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_'))?;
    match event {
        b"SCHEMA_CHANGE" => walk.string().and_then(|_| walk.string()).map(|_| ()),
        _ => Ok(()),
    }
}

fn is_event(name: &[u8]) -> bool {
    [&b"TOPOLOGY_CHANGE"[..], b"STATUS_CHANGE", b"SCHEMA_CHANGE", b"GRAPH_CHANGE"].contains(&name)
}

fn is_option(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && !b"\"{}".contains(byte))
}

fn startup(walk: &mut Walk<'_>) -> Walked<()> {
    let count = walk.u16()?;
    check((1..=ENTRIES_MAX).contains(&count))?;
    let mut has_version = false;
    for _ in 0..count {
        let name = walk.whole_string()?;
        check(is_option(name))?;
        has_version |= name == b"CQL_VERSION";
        walk.string()?;
    }
    check(has_version)?;
    walk.end()
}

fn supported(walk: &mut Walk<'_>) -> Walked<()> {
    let count = walk.u16()?;
    check((1..=ENTRIES_MAX).contains(&count))?;
    for _ in 0..count {
        check(is_option(walk.whole_string()?))?;
        let texts = walk.u16()?;
        check(texts <= 4 * ENTRIES_MAX)?;
        for _ in 0..texts {
            walk.string()?;
        }
    }
    walk.end()
}

/// Text, which begins as statements do.
fn statement(walk: &mut Walk<'_>) -> Walked<()> {
    let text = walk.long_string()?;
    let is_utf8 = match std::str::from_utf8(text) {
        Ok(_) => true,
        // It was cut within a character.
        Err(error) => error.error_len().is_none() && walk.whole().is_err(),
    };
    let is_plain = |byte: &u8| !byte.is_ascii_control() || b"\t\r\n".contains(byte);
    let begins = text.trim_ascii_start().first();
    let begins_well = begins
        .map_or(walk.whole().is_err(), |byte| byte.is_ascii_alphabetic() || b"/-(".contains(byte));
    check(is_utf8 && begins_well && text.iter().all(is_plain))
}

fn id(walk: &mut Walk<'_>) -> Walked<()> {
    let id = walk.whole_string()?;
    check((1..=ID_BYTES_MAX).contains(&id.len()))
}

fn long_flags(version: Version, walk: &mut Walk<'_>) -> Walked<u32> {
    let flags = if version.has_long_flags() { walk.u32()? } else { u32::from(walk.u8()?) };
    let all = if version.has_long_flags() { 0x1ff } else { 0x7f };
    check(flags & !all == 0)?;
    Ok(flags)
}

/// Consistency, flags, and what they say.
fn parameters(version: Version, walk: &mut Walk<'_>) -> Walked<()> {
    check(walk.u16()? <= CONSISTENCY_MAX)?;
    let flags = long_flags(version, walk)?;
    let has = |flag: u32| flags & flag != 0;
    if has(0x01) {
        for _ in 0..walk.u16()? {
            if has(0x40) {
                walk.string()?;
            }
            walk.value()?;
        }
    }
    if has(0x04) {
        walk.u32()?;
    }
    if has(0x08) {
        walk.value()?;
    }
    options(flags, walk)
}

/// What queries and batches have in common, at their ends.
fn options(flags: u32, walk: &mut Walk<'_>) -> Walked<()> {
    let has = |flag: u32| flags & flag != 0;
    if has(0x10) {
        check(walk.u16()? <= CONSISTENCY_MAX)?;
    }
    if has(0x20) {
        walk.bytes(8)?;
    }
    if has(0x80) {
        walk.string()?;
    }
    if has(0x100) {
        walk.u32()?;
    }
    walk.end()
}

fn batch(version: Version, walk: &mut Walk<'_>) -> Walked<()> {
    check(walk.u8()? <= 2)?;
    for _ in 0..walk.u16()? {
        match walk.u8()? {
            0 => statement(walk)?,
            1 => id(walk)?,
            _ => return Err(Stop::Wrong),
        }
        for _ in 0..walk.u16()? {
            walk.value()?;
        }
    }
    check(walk.u16()? <= CONSISTENCY_MAX)?;
    let flags = long_flags(version, walk)?;
    options(flags & !0x40, walk)
}

fn error(walk: &mut Walk<'_>) -> Walked<()> {
    let code = walk.u32()?;
    check(matches!(code, 0 | 0x0a | 0x100 | 0x1000..=0x1700 | 0x2000..=0x2500 | 0x8000..=0x8001))?;
    let text = walk.string()?;
    let is_plain = |byte: &u8| !byte.is_ascii_control() || b"\t\r\n".contains(byte);
    check(text.iter().all(is_plain))?;
    // Others say more.
    match code {
        0 | 0x0a | 0x100 | 0x1001..=0x1003 | 0x2000..=0x2300 => walk.end(),
        _ => Ok(()),
    }
}

fn result(version: Version, walk: &mut Walk<'_>) -> Walked<()> {
    match walk.u32()? {
        kind::VOID => walk.end(),
        kind::ROWS => {
            let columns = Columns::read(walk)?;
            columns.each(walk, |_, _, _: Type| {})?;
            let values = u64::from(walk.u32()?) * u64::from(columns.count);
            check(walk.left() >= 4 * values)
        }
        kind::SET_KEYSPACE => {
            walk.string()?;
            walk.end()
        }
        kind::PREPARED => {
            id(walk)?;
            if version.has_result_ids() {
                id(walk)?;
            }
            Columns::of_parameters(walk, version)?.each(walk, |_, _, _: Type| {})?;
            Columns::read(walk)?.each(walk, |_, _, _: Type| {})?;
            walk.end()
        }
        kind::SCHEMA_CHANGE => {
            let change = walk.whole_string()?;
            check([&b"CREATED"[..], b"UPDATED", b"DROPPED"].contains(&change))?;
            walk.string()?;
            walk.string().map(|_| ())
        }
        _ => Err(Stop::Wrong),
    }
}
