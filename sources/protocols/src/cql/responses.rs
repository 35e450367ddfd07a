//! Responses as their rows show them, and what preparing a statement has told.

use super::requests::{push_strings, token};
use super::types::{Head, Version, opcode};
use super::values::{TYPES_MAX, Type, address};
use super::walk::{Stop, Walk, Walked};
use crate::Config;
use crate::json_text::{JsonText, cut};

/// Kinds of results.
pub(super) mod kind {
    pub(crate) const VOID: u32 = 1;
    pub(crate) const ROWS: u32 = 2;
    pub(crate) const SET_KEYSPACE: u32 = 3;
    pub(crate) const PREPARED: u32 = 4;
    pub(crate) const SCHEMA_CHANGE: u32 = 5;
}

/// Flags of the description of columns.
const ONE_TABLE: u32 = 0x01;
const HAS_MORE_PAGES: u32 = 0x02;
const NO_COLUMNS: u32 = 0x04;
const HAS_CHANGED: u32 = 0x08;
/// Names of a result's columns that are shown; tables have some hundreds at the most.
const NAMES_BYTES_MAX: usize = 8 * 1024;

/// The text of `resp_body`: as far as the body was seen.
pub(super) fn text(head: &Head, walk: Walk<'_>, config: &Config) -> Vec<u8> {
    let mut out = Vec::new();
    // What was not seen is left out.
    let _ = match head.opcode {
        opcode::ERROR => push_error(&mut out, walk, config),
        opcode::AUTHENTICATE => push_cut(&mut out, walk, config),
        opcode::SUPPORTED => {
            out = supported(walk);
            Ok(())
        }
        opcode::RESULT => push_result(&mut out, walk, config),
        opcode::EVENT => push_event(&mut out, walk),
        opcode::AUTH_CHALLENGE | opcode::AUTH_SUCCESS => {
            out = token(walk, config);
            Ok(())
        }
        _ => Ok(()),
    };
    out
}

fn push_cut(out: &mut Vec<u8>, mut walk: Walk<'_>, config: &Config) -> Walked<()> {
    out.extend_from_slice(cut(walk.string()?, config.body_bytes_max));
    Ok(())
}

fn push_error(out: &mut Vec<u8>, mut walk: Walk<'_>, config: &Config) -> Walked<()> {
    let code = walk.u32()?.cast_signed();
    out.extend_from_slice(format!("[{code}] ").as_bytes());
    push_cut(out, walk, config)
}

fn supported(mut walk: Walk<'_>) -> Vec<u8> {
    let mut json = JsonText::new(vec![b'{'], NAMES_BYTES_MAX);
    let mut push = || {
        for _ in 0..walk.u16()? {
            if json.is_full() {
                break;
            }
            json.comma().string(walk.whole_string()?).raw(":[");
            let strings = push_strings(&mut json, &mut walk);
            json.raw("]");
            strings?;
        }
        Ok::<(), Stop>(())
    };
    let _ = push();
    json.raw("}");
    json.finish()
}

fn push_result(out: &mut Vec<u8>, mut walk: Walk<'_>, config: &Config) -> Walked<()> {
    let name: &[u8] = match walk.u32()? {
        kind::VOID => b"VOID",
        kind::ROWS => b"ROWS",
        kind::SET_KEYSPACE => b"SET_KEYSPACE",
        kind::PREPARED => b"PREPARED",
        kind::SCHEMA_CHANGE => b"SCHEMA_CHANGE",
        _ => return Err(Stop::Wrong),
    };
    out.extend_from_slice(b"Response type = ");
    out.extend_from_slice(name);
    match name {
        b"ROWS" => push_rows(out, walk),
        b"SET_KEYSPACE" => {
            out.extend_from_slice(b"\nKeyspace = ");
            push_cut(out, walk, config)
        }
        _ => Ok(()),
    }
}

fn push_rows(out: &mut Vec<u8>, mut walk: Walk<'_>) -> Walked<()> {
    let columns = Columns::read(&mut walk)?;
    out.extend_from_slice(format!("\nNumber of columns = {}\n[", columns.count).as_bytes());
    let mut json = JsonText::new(std::mem::take(out), NAMES_BYTES_MAX);
    let read = columns.each(&mut walk, |idx, name, _| {
        json.raw(if idx > 0 { "," } else { "" }).string(name);
    });
    *out = json.finish();
    out.push(b']');
    read?;
    out.extend_from_slice(format!("\nNumber of rows = {}", walk.u32()?).as_bytes());
    Ok(())
}

/// How columns, or parameters, are described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) count: u32,
    flags: u32,
}

impl Columns {
    /// Of rows.
    pub(super) fn read(walk: &mut Walk<'_>) -> Walked<Columns> {
        let (flags, count) = (walk.u32()?, walk.u32()?);
        if flags & HAS_MORE_PAGES != 0 {
            walk.value()?;
        }
        if flags & HAS_CHANGED != 0 {
            walk.string()?;
        }
        Columns::checked(flags, count)
    }

    /// Of a prepared statement's parameters.
    pub(super) fn of_parameters(walk: &mut Walk<'_>, version: Version) -> Walked<Columns> {
        let (flags, count) = (walk.u32()?, walk.u32()?);
        if version.has_keys() {
            for _ in 0..walk.u32()? {
                walk.u16()?;
            }
        }
        Columns::checked(flags, count)
    }

    /// DataStax' versions have flags of their own, high above.
    fn checked(flags: u32, count: u32) -> Walked<Columns> {
        match flags & 0xfff0 == 0 && count <= u32::from(u16::MAX) {
            true => Ok(Columns { count, flags }),
            false => Err(Stop::Wrong),
        }
    }

    /// Reads them; each with its name.
    pub(super) fn each<'a>(
        &self,
        walk: &mut Walk<'a>,
        mut column: impl FnMut(u32, &'a [u8], Type),
    ) -> Walked<()> {
        if self.flags & NO_COLUMNS != 0 {
            return Ok(());
        }
        let skip_table = |walk: &mut Walk<'a>| walk.string().and_then(|_| walk.string());
        let has_one_table = self.flags & ONE_TABLE != 0;
        if has_one_table && self.count > 0 {
            skip_table(walk)?;
        }
        let mut left = TYPES_MAX.max(self.count as usize);
        for idx in 0..self.count {
            if !has_one_table {
                skip_table(walk)?;
            }
            let name = walk.whole_string()?;
            let of = Type::read(walk, &mut left)?;
            column(idx, name, of);
        }
        Ok(())
    }
}

/// What a statement that was prepared is called, and its parameters' types, as far as they were seen.
pub(super) fn prepared<'a>(head: &Head, mut walk: Walk<'a>) -> Option<(&'a [u8], Vec<Type>)> {
    if head.opcode != opcode::RESULT || walk.u32() != Ok(kind::PREPARED) {
        return None;
    }
    let id = walk.whole_string().ok().filter(|id| !id.is_empty())?;
    let mut types = Vec::new();
    let mut read = || {
        if head.version.has_result_ids() {
            walk.string()?;
        }
        let columns = Columns::of_parameters(&mut walk, head.version)?;
        if columns.count as usize > TYPES_MAX {
            return Err(Stop::Wrong);
        }
        columns.each(&mut walk, |_, _, of| types.push(of))
    };
    let _ = read();
    Some((id, types))
}

fn push_event(out: &mut Vec<u8>, mut walk: Walk<'_>) -> Walked<()> {
    let event = walk.whole_string()?;
    out.extend_from_slice(event);
    out.push(b' ');
    out.extend_from_slice(walk.whole_string()?);
    if event != b"SCHEMA_CHANGE" {
        let count = walk.u8()?;
        if let Some(address) = address(walk.bytes(usize::from(count))?) {
            out.extend_from_slice(format!(" {address}").as_bytes());
        }
        return Ok(());
    }
    let target = walk.whole_string()?;
    out.extend_from_slice(b" keyspace=");
    out.extend_from_slice(walk.whole_string()?);
    out.extend_from_slice(b" name=");
    if target != b"KEYSPACE" {
        out.extend_from_slice(walk.whole_string()?);
    }
    Ok(())
}
