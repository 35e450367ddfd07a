//! A reader of BTF, as far as we need it: the id of a kernel function, and the layout of structs.
//!
//! Relocation is left to the loader; this knows neither relocations nor C.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_FUNC: u32 = 12;

/// A struct's size and the byte offsets of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub size_bytes: u32,
    pub member_offset_bytes: BTreeMap<String, u32>,
}

struct Type<'a> {
    id: u32,
    kind: u32,
    name: &'a [u8],
    /// A struct's size; what else it means does not concern us.
    size: u32,
    /// What follows the type, by its kind.
    members: &'a [u8],
}

/// The BTF id of a kernel function. `None`: not in this kernel, or not BTF at all.
#[must_use]
pub fn function_id(btf: &[u8], name: &str) -> Option<u32> {
    types(btf)?
        .find(|found| found.kind == KIND_FUNC && found.name == name.as_bytes())
        .map(|found| found.id)
}

/// The layout of a struct.
#[must_use]
pub fn struct_layout(btf: &[u8], name: &str) -> Option<Layout> {
    let strings = strings(btf)?;
    let found =
        types(btf)?.find(|found| found.kind == KIND_STRUCT && found.name == name.as_bytes())?;
    let member_offset_bytes = found
        .members
        .chunks_exact(12)
        .map(|member| {
            let name = string(strings, u32_at(member, 0)?)?;
            Some((String::from_utf8_lossy(name).into_owned(), u32_at(member, 8)? / 8))
        })
        .collect::<Option<_>>()?;
    Some(Layout { size_bytes: found.size, member_offset_bytes })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// A part of the data after the header, named by an offset and a length in it.
fn section(btf: &[u8], header_at: usize) -> Option<&[u8]> {
    let magic = u16::from_le_bytes(*btf.first_chunk()?);
    if magic != MAGIC {
        return None;
    }
    let data = btf.get(u32_at(btf, 4)? as usize..)?;
    let start = u32_at(btf, header_at)? as usize;
    data.get(start..start.checked_add(u32_at(btf, header_at + 4)? as usize)?)
}

fn strings(btf: &[u8]) -> Option<&[u8]> {
    section(btf, 16)
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(at as usize..)?.split(|byte| *byte == 0).next()
}

fn types(btf: &[u8]) -> Option<impl Iterator<Item = Type<'_>>> {
    let strings = strings(btf)?;
    let mut rest = section(btf, 8)?;
    // Ids count from 1: 0 is void.
    Some((1..).map_while(move |id| {
        let (name, info, size) = (u32_at(rest, 0)?, u32_at(rest, 4)?, u32_at(rest, 8)?);
        let kind = info >> 24 & 0x1f;
        let members = rest.get(12..12 + members_bytes(kind, info & 0xffff)?)?;
        rest = &rest[12 + members.len()..];
        Some(Type { id, kind, name: string(strings, name)?, size, members })
    }))
}

/// By `Documentation/bpf/btf.rst`; `None` for kinds that are not in it yet.
fn members_bytes(kind: u32, count: u32) -> Option<usize> {
    let count = count as usize;
    Some(match kind {
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * count,
        6 | 13 => 8 * count,
        _ => return None,
    })
}
