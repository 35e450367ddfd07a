//! BSON and messages, made by hand from the specification.

use std::io::Write as _;

use crate::Side;
use crate::mongodb::types::{
    OP_COMPRESSED, OP_DELETE, OP_GET_MORE, OP_INSERT, OP_KILL_CURSORS, OP_MSG, OP_QUERY, OP_REPLY,
    OP_UPDATE,
};
use crate::testing::Call;

pub(super) const MORE: u32 = 2;
pub(super) const EXHAUST: u32 = 1 << 16;

/// A value of any type, under a name.
pub(super) fn element(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0], value].concat()
}

pub(super) fn counted(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32 + 1).to_le_bytes(), text, &[0]].concat()
}

pub(super) fn int(name: &str, value: i32) -> Vec<u8> {
    element(0x10, name, &value.to_le_bytes())
}

pub(super) fn long(name: &str, value: i64) -> Vec<u8> {
    element(0x12, name, &value.to_le_bytes())
}

pub(super) fn double(name: &str, value: f64) -> Vec<u8> {
    element(0x01, name, &value.to_le_bytes())
}

pub(super) fn text(name: &str, value: &str) -> Vec<u8> {
    element(0x02, name, &counted(value.as_bytes()))
}

pub(super) fn bool(name: &str, value: bool) -> Vec<u8> {
    element(0x08, name, &[u8::from(value)])
}

pub(super) fn binary(name: &str, subtype: u8, bytes: &[u8]) -> Vec<u8> {
    element(0x05, name, &[&(bytes.len() as u32).to_le_bytes()[..], &[subtype], bytes].concat())
}

pub(super) fn sub(name: &str, elements: &[Vec<u8>]) -> Vec<u8> {
    element(0x03, name, &doc(elements))
}

pub(super) fn array(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let element = |(n, document): (usize, &Vec<u8>)| element(0x03, &n.to_string(), document);
    let elements: Vec<Vec<u8>> = documents.iter().enumerate().map(element).collect();
    self::element(0x04, name, &doc(&elements))
}

pub(super) fn doc(elements: &[Vec<u8>]) -> Vec<u8> {
    let inside = elements.concat();
    [&(inside.len() as u32 + 5).to_le_bytes(), &inside[..], &[0]].concat()
}

pub(super) fn message(id: i32, to: i32, op_code: u32, inside: &[u8]) -> Vec<u8> {
    let length = (inside.len() + 16) as u32;
    let head = [length.to_le_bytes(), id.to_le_bytes(), to.to_le_bytes(), op_code.to_le_bytes()];
    [&head.concat(), inside].concat()
}

/// OP_MSG of sections.
pub(super) fn sections(id: i32, to: i32, flags: u32, sections: &[Vec<u8>]) -> Vec<u8> {
    message(id, to, OP_MSG, &[&flags.to_le_bytes()[..], &sections.concat()].concat())
}

pub(super) fn body(elements: &[Vec<u8>]) -> Vec<u8> {
    [vec![0], doc(elements)].concat()
}

pub(super) fn sequence(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let inside = [name.as_bytes(), &[0], &documents.concat()].concat();
    [&[1][..], &(inside.len() as u32 + 4).to_le_bytes(), &inside].concat()
}

/// A command.
pub(super) fn asked(id: i32, flags: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    sections(id, 0, flags, &[body(&[elements, &[text("$db", "shop")]].concat())])
}

/// Its response, with `ok` at its end.
pub(super) fn answered(id: i32, to: i32, flags: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    sections(id, to, flags, &[body(&[elements, &[double("ok", 1.0)]].concat())])
}

/// A find of `w{n}-` in a collection, answered with it.
pub(super) fn find(n: usize, id: i32) -> [Call; 2] {
    let word = format!("w{n}-");
    let filter = sub("filter", &[text("t", &word)]);
    let request = asked(id, 0, &[text("find", "lines"), filter]);
    let found = doc(&[int("_id", n as i32), text("t", &word)]);
    let cursor = [array("firstBatch", &[found]), long("id", 0), text("ns", "shop.lines")];
    let response = answered(id + 7_000, id, 0, &[sub("cursor", &cursor)]);
    [(Side::Request, request), (Side::Response, response)]
}

pub(super) fn query(id: i32, flags: u32, of: &str, skip: i32, count: i32, query: &[u8]) -> Vec<u8> {
    let numbers = [skip.to_le_bytes(), count.to_le_bytes()].concat();
    let inside = [&flags.to_le_bytes()[..], of.as_bytes(), &[0], &numbers, query].concat();
    message(id, 0, OP_QUERY, &inside)
}

pub(super) fn reply(id: i32, to: i32, flags: u32, cursor: i64, documents: &[Vec<u8>]) -> Vec<u8> {
    let front = [
        &flags.to_le_bytes()[..],
        &cursor.to_le_bytes(),
        &0i32.to_le_bytes(),
        &(documents.len() as u32).to_le_bytes(),
    ];
    message(id, to, OP_REPLY, &[front.concat(), documents.concat()].concat())
}

fn named(number: u32, of: &str, behind: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], of.as_bytes(), &[0], behind].concat()
}

pub(super) fn insert(id: i32, to: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    message(id, 0, OP_INSERT, &named(0, to, &documents.concat()))
}

pub(super) fn update(id: i32, to: &str, flags: u32, which: &[u8], change: &[u8]) -> Vec<u8> {
    let behind = [&flags.to_le_bytes()[..], which, change].concat();
    message(id, 0, OP_UPDATE, &named(0, to, &behind))
}

pub(super) fn delete(id: i32, to: &str, flags: u32, which: &[u8]) -> Vec<u8> {
    message(id, 0, OP_DELETE, &named(0, to, &[&flags.to_le_bytes()[..], which].concat()))
}

pub(super) fn get_more(id: i32, of: &str, count: i32, cursor: i64) -> Vec<u8> {
    let behind = [&count.to_le_bytes()[..], &cursor.to_le_bytes()].concat();
    message(id, 0, OP_GET_MORE, &named(0, of, &behind))
}

pub(super) fn kill_cursors(id: i32, cursors: &[i64]) -> Vec<u8> {
    let numbers: Vec<u8> = cursors.iter().flat_map(|cursor| cursor.to_le_bytes()).collect();
    let count = (cursors.len() as u32).to_le_bytes();
    message(id, 0, OP_KILL_CURSORS, &[&[0; 4], &count[..], &numbers].concat())
}

/// The message packed, by the protocol's number of how.
pub(super) fn packed(message: &[u8], compressor: u8) -> Vec<u8> {
    let inside = &message[16..];
    let bytes = match compressor {
        1 => snap::raw::Encoder::new().compress_vec(inside).unwrap(),
        2 => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
            encoder.write_all(inside).unwrap();
            encoder.finish().unwrap()
        }
        3 => zstd::stream::encode_all(inside, 3).unwrap(),
        _ => inside.to_vec(),
    };
    let number = |at: usize| i32::from_le_bytes(message[at..at + 4].try_into().unwrap());
    let front = [&message[12..16], &(inside.len() as u32).to_le_bytes(), &[compressor]].concat();
    self::message(number(4), number(8), OP_COMPRESSED, &[front, bytes].concat())
}
