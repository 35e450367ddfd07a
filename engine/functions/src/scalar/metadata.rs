//! Who is who: processes, pods, services, workloads and this machine, read from the metadata
//! snapshot. A miss is the type's zero. Names are `namespace/name`; several services are one JSON
//! array, in bytewise order.
//!
//! Lookups are made once per distinct key of a batch and come out as dictionaries. Each says for which row it is made
//! ([`reads`]): with only what a row asked for unchanged, it is not looked at again.

mod host;
mod pods;
mod processes;
mod services;
mod workloads;

use std::hash::Hash;

use arrow_array::ArrayRef;
use hashbrown::HashMap;
use weir_types::metadata::{MetadataSnapshot, reads};

use super::ScalarDef;
use crate::json;
use crate::operand::Call;
use crate::output;

pub(super) const DOMAINS: &[&[ScalarDef]] =
    &[host::DEFS, processes::DEFS, pods::DEFS, services::DEFS, workloads::DEFS];

/// `lookup!("name", S => S, "argument", kernel, "doc")`: a function of one key that reads metadata.
macro_rules! lookup {
    ($name:literal, $arg:ident => $result:ident, $key:literal, $kernel:expr, $doc:literal) => {
        $crate::scalar::def(
            $name,
            $crate::scalar::overloads![$arg => $result, $kernel],
            &[$key],
            $doc,
            concat!("df.found = px.", $name, "(df.", $key, ")"),
        )
        .reads_context()
    };
}
use lookup;

/// One text per distinct key.
pub(super) fn coded<K: Hash + Eq + Copy>(
    rows: usize,
    key: impl Fn(usize) -> K,
    write: impl Fn(K, &mut Vec<u8>),
) -> ArrayRef {
    let mut codes: HashMap<K, i32> = HashMap::new();
    let mut distinct: Vec<K> = Vec::new();
    let mut last: Option<(K, i32)> = None;
    let keys: Vec<i32> = (0..rows)
        .map(|row| {
            reads::of_row(row);
            let key = key(row);
            let code = match last {
                Some((same, code)) if same == key => code,
                _ => *codes.entry(key).or_insert_with(|| {
                    distinct.push(key);
                    i32::try_from(distinct.len() - 1).expect("a batch has fewer rows")
                }),
            };
            last = Some((key, code));
            code
        })
        .collect();
    let (texts, asked) = reads::during(|| {
        output::strings(distinct.len(), |idx, out| {
            reads::of_row(idx);
            write(distinct[idx], out);
        })
    });
    if let Some(asked) = asked {
        put_for_codes(asked, &keys);
    }
    output::dictionary(keys, texts)
}

/// What was asked for each of some codes was asked for all rows that have it.
pub(crate) fn put_for_codes(mut asked: Vec<reads::Read>, codes: &[i32]) {
    asked.sort_unstable();
    let of_all = asked.partition_point(|(code, _)| *code < reads::ALL_ROWS);
    reads::put(asked.drain(of_all..));
    let of_code = |code: u32| {
        let from = asked.partition_point(|(have, _)| *have < code);
        asked[from..].iter().take_while(move |(have, _)| *have == code)
    };
    for (row, code) in (0_u32..).zip(codes) {
        reads::put(of_code(code.cast_unsigned()).map(|(_, key)| (row, *key)));
    }
}

/// A text for each text; keys that are not UTF-8 are unknown.
fn text_of(call: &Call<'_>, write: impl Fn(&MetadataSnapshot, &str, &mut Vec<u8>)) -> ArrayRef {
    let key = call.str(0);
    let metadata = &*call.ctx.metadata;
    coded(
        call.rows,
        |row| key.get(row),
        |key, out| {
            if let Ok(key) = std::str::from_utf8(key) {
                write(metadata, key, out);
            }
        },
    )
}

/// A time for each text.
fn time_of(call: &Call<'_>, time: impl Fn(&MetadataSnapshot, &str) -> Option<i64>) -> ArrayRef {
    let key = call.str(0);
    let metadata = &*call.ctx.metadata;
    let value = |row| {
        reads::of_row(row);
        std::str::from_utf8(key.get(row)).ok().and_then(|key| time(metadata, key)).unwrap_or(0)
    };
    output::times((0..call.rows).map(value).collect())
}

/// The namespace of a name: what stands before its only `/`.
fn namespace_of(name: &str) -> Option<&str> {
    let (namespace, name) = name.split_once('/')?;
    (!name.contains('/')).then_some(namespace)
}

/// Nothing, one plain text, or a JSON array.
fn push_list(out: &mut Vec<u8>, mut texts: Vec<&str>) {
    texts.sort_unstable();
    match texts.as_slice() {
        [] => {}
        [one] => out.extend_from_slice(one.as_bytes()),
        _ => push_array(out, &texts),
    }
}

fn push_array(out: &mut Vec<u8>, texts: &[&str]) {
    out.push(b'[');
    for (idx, text) in texts.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        json::push_quoted(out, text.as_bytes());
    }
    out.push(b']');
}

/// A member of an object that the caller opens and closes.
fn push_member(out: &mut Vec<u8>, key: &str, text: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    json::push_quoted(out, key.as_bytes());
    out.push(b':');
    json::push_quoted(out, text.as_bytes());
}

/// (uid, kind, name) each as an object, in one array.
fn push_owners(out: &mut Vec<u8>, owners: &[(String, String, String)]) {
    out.push(b'[');
    for (idx, (uid, kind, name)) in owners.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        out.push(b'{');
        push_member(out, "uid", uid);
        push_member(out, "kind", kind);
        push_member(out, "name", name);
        out.push(b'}');
    }
    out.push(b']');
}
