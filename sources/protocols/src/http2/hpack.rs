//! Header blocks of one direction: fields, of which many are references to ones that were sent before.
//!
//! Fields that nobody saw being sent are unknown, and everything else is not the worse for it: the table
//! counts from its newest end.

use std::collections::VecDeque;
use std::sync::Arc;

use super::huffman;
use super::memo::Order;
use super::static_table::STATIC_TABLE;
use super::types::TABLE_BYTES_MAX;

/// What the protocol counts for a field beside its texts.
const ENTRY_COST_BYTES: usize = 32;
/// Until the peers agree on another one.
const TABLE_BYTES_DEFAULT: usize = 4_096;

/// A field's name. Fields name it by its place, so that those with the same name share it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Static(&'static [u8]),
    Sent(Arc<[u8]>),
    /// Nobody saw it being sent.
    Unknown,
}

impl Name {
    fn text(&self) -> Option<&[u8]> {
        match self {
            Name::Static(text) => Some(text),
            Name::Sent(text) => Some(text),
            Name::Unknown => None,
        }
    }
}

/// A name with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Name,
    value: Vec<u8>,
}

impl Entry {
    fn cost_bytes(&self) -> usize {
        ENTRY_COST_BYTES + self.name.text().map_or(0, <[u8]>::len) + self.value.len()
    }

    fn name(&self) -> Name {
        self.name.clone()
    }

    /// Whether they are the same, as far as this one is known.
    fn may_be(&self, other: &Entry) -> bool {
        let name = self.name.text();
        self.value == other.value && (name.is_none() || name == other.name.text())
    }
}

/// What a program has of a direction.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    bytes_max: usize,
}

impl Table {
    pub(super) fn with_room_for(bytes_max: usize) -> Table {
        Table { entries: VecDeque::new(), bytes_max }
    }

    /// A newer entry.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.entries.push_front(Entry { name: Name::Sent(name.into()), value: value.to_vec() });
    }

    /// Whether this is what the protocol counts for it, and it has room for that.
    pub(super) fn is_of(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max && bytes == self.held_bytes()
    }

    /// As the protocol counts.
    pub(super) fn held_bytes(&self) -> usize {
        self.entries.iter().map(Entry::cost_bytes).sum()
    }
}

/// So many entries were put into a table by the last bytes of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inserted {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// A field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// These bytes are no header block, or one that refers to what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    table_bytes: usize,
    table_bytes_max: usize,
    /// There may be entries behind the ones that are known.
    has_unknown: bool,
    /// Ever.
    inserted: usize,
    /// By the last block: how much of it was left then. Not told where everything is known.
    inserted_before: Vec<usize>,
    /// Names of the next entries, where they are known from elsewhere.
    coming: VecDeque<Name>,
    /// Storage for what a literal spells.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// `from_start`: no block was sent before those that are told.
    pub(super) fn new(from_start: bool) -> Decoder {
        Decoder {
            entries: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES_DEFAULT,
            has_unknown: !from_start,
            inserted: 0,
            inserted_before: Vec::new(),
            coming: VecDeque::new(),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Blocks are missing: what they have put into the table is unknown, and where.
    pub(super) fn forget(&mut self) {
        self.entries = VecDeque::new();
        self.coming = VecDeque::new();
        self.table_bytes = 0;
        self.has_unknown = true;
    }

    /// Storage, as it is.
    pub(super) fn held_bytes(&self) -> usize {
        self.table_bytes
            + self.entries.capacity() * size_of::<Entry>()
            + self.coming.capacity() * size_of::<Name>()
            + self.inserted_before.capacity() * size_of::<usize>()
            + self.name.capacity()
            + self.value.capacity()
    }

    /// Whether there is something that a table of the program's could tell.
    pub(super) fn lacks(&self) -> bool {
        self.has_unknown
    }

    /// Takes over what is not known from a table of a later place: `blocks` are those in between. False: something that
    /// both know differs, the last bytes before that place have put more or less into the table than is told, or these
    /// blocks make no sense with it; and all is as it was.
    pub(super) fn adopt(&mut self, table: &Table, last: Inserted, blocks: &[Vec<u8>]) -> bool {
        let mut ahead = self.clone();
        let is_same = |own: &Decoder| {
            own.entries.iter().zip(&table.entries).all(|(own, entry)| own.may_be(entry))
        };
        let is_read = self.has_unknown && ahead.decode_all(blocks).is_some();
        if !is_read || ahead.inserted_by(last.bytes) != last.entries || !is_same(&ahead) {
            return false;
        }
        let added = ahead.inserted.wrapping_sub(self.inserted);
        let mut with = self.clone();
        let room = table.bytes_max.min(TABLE_BYTES_MAX);
        with.table_bytes_max = with.table_bytes_max.max(room);
        // Those that were evicted since are known only if they were before.
        let older = self.entries.iter().skip(table.entries.len().saturating_sub(added));
        with.entries = table.entries.iter().skip(added).chain(older).cloned().collect();
        with.table_bytes = with.entries.iter().map(Entry::cost_bytes).sum();
        with.evict();
        // A name may be that of an entry that the same blocks evict.
        let name = |place: usize| table.entries.get(place).map_or(Name::Unknown, Entry::name);
        with.coming = (0..added).rev().map(name).collect();
        let mut behind = with.clone();
        let is_taken = behind.decode_all(blocks).is_some() && is_same(&behind);
        if is_taken {
            *self = with;
        }
        is_taken
    }

    /// By the fields that end in the last bytes of the last block.
    fn inserted_by(&self, bytes: usize) -> usize {
        self.inserted_before.iter().filter(|left| **left < bytes).count()
    }

    /// `None`: they are none, or what they say is no message.
    fn decode_all(&mut self, blocks: &[Vec<u8>]) -> Option<()> {
        for block in blocks {
            let mut order = Order::default();
            self.decode(block, |field| order.see(field.name)).ok()?;
            if order.is_broken {
                return None;
            }
        }
        Some(())
    }

    /// Reads a whole block. After an error nothing of what was sent before is known.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>),
    ) -> Result<(), Invalid> {
        let mut rest = block;
        let mut may_resize = true;
        self.inserted_before.clear();
        while let Some(&first) = rest.first() {
            let inserted = self.inserted;
            let done = match first {
                0x80.. => self.indexed(&mut rest, &mut each),
                0x40.. => self.literal(&mut rest, 6, true, &mut each),
                0x20.. if may_resize => self.resize(&mut rest),
                0x20.. => Err(Invalid),
                _ => self.literal(&mut rest, 4, false, &mut each),
            };
            if let Err(invalid) = done {
                self.forget();
                return Err(invalid);
            }
            may_resize &= (0x20..0x40).contains(&first);
            if self.has_unknown && self.inserted != inserted {
                self.inserted_before.push(rest.len());
            }
        }
        Ok(())
    }

    fn indexed(
        &mut self,
        rest: &mut &[u8],
        each: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Invalid> {
        let number = integer(rest, 7)?;
        match number.checked_sub(1).ok_or(Invalid)? {
            at if at < STATIC_TABLE.len() => {
                let (name, value) = STATIC_TABLE[at];
                each(Field { name: Some(name.as_bytes()), value: Some(value.as_bytes()) });
            }
            at => match self.entries.get(at - STATIC_TABLE.len()) {
                Some(Entry { name, value }) => {
                    each(Field { name: name.text(), value: Some(value) });
                }
                None => {
                    self.check_unknown(at - STATIC_TABLE.len())?;
                    each(Field { name: None, value: None });
                }
            },
        }
        Ok(())
    }

    /// Whether there can be an entry at a place where none is known.
    fn check_unknown(&self, at: usize) -> Result<(), Invalid> {
        let can_be = self.has_unknown && at < TABLE_BYTES_MAX / ENTRY_COST_BYTES;
        if can_be { Ok(()) } else { Err(Invalid) }
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix_bits: u32,
        is_kept: bool,
        each: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Invalid> {
        let known = match integer(rest, prefix_bits)?.checked_sub(1) {
            None => {
                self.name.clear();
                string(rest, &mut self.name)?;
                None
            }
            Some(at) => match (self.name_at(at)?, self.coming.front()) {
                (Name::Unknown, Some(name)) if is_kept => Some(name.clone()),
                (name, _) => Some(name),
            },
        };
        self.value.clear();
        string(rest, &mut self.value)?;
        let name = known.as_ref().map_or(Some(self.name.as_slice()), Name::text);
        each(Field { name, value: Some(&self.value) });
        if is_kept {
            let name = known.unwrap_or_else(|| Name::Sent(self.name.as_slice().into()));
            self.insert(Entry { name, value: self.value.clone() });
        }
        Ok(())
    }

    /// The name of the field at a place.
    fn name_at(&self, at: usize) -> Result<Name, Invalid> {
        let Some(place) = at.checked_sub(STATIC_TABLE.len()) else {
            return Ok(Name::Static(STATIC_TABLE[at].0.as_bytes()));
        };
        match self.entries.get(place) {
            Some(entry) => Ok(entry.name.clone()),
            None => self.check_unknown(place).map(|()| Name::Unknown),
        }
    }

    fn resize(&mut self, rest: &mut &[u8]) -> Result<(), Invalid> {
        let bytes = integer(rest, 5)?;
        self.has_unknown |= bytes > TABLE_BYTES_MAX;
        self.table_bytes_max = bytes.min(TABLE_BYTES_MAX);
        self.evict();
        // Nothing fits into it: so nothing is in it that nobody knows.
        self.has_unknown &= bytes > 0;
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        self.inserted = self.inserted.wrapping_add(1);
        self.coming.pop_front();
        self.table_bytes += entry.cost_bytes();
        self.entries.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        while self.table_bytes > self.table_bytes_max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.table_bytes -= oldest.cost_bytes();
        }
    }
}

/// A number that begins in the low bits of the first byte.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Invalid> {
    let (&first, mut left) = rest.split_first().ok_or(Invalid)?;
    let mask = (1_u8 << prefix_bits) - 1;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        // No number here has more than three bytes behind its first.
        for shift in [0, 7, 14, 21] {
            let (&byte, behind) = left.split_first().ok_or(Invalid)?;
            if shift == 21 {
                return Err(Invalid);
            }
            left = behind;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = left;
    Ok(value)
}

fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let is_coded = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let bytes = integer(rest, 7)?;
    let (text, left) = rest.split_at_checked(bytes).ok_or(Invalid)?;
    match is_coded {
        true => huffman::decode(text, out).ok_or(Invalid)?,
        false => out.extend_from_slice(text),
    }
    *rest = left;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Invalid> {
        let mut all = Vec::new();
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"?")).into_owned();
        decoder.decode(block, |field| all.push((text(field.name), text(field.value))))?;
        Ok(all)
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// RFC 7541, appendix C.4: three requests on one connection, in Huffman code.
    #[test]
    fn requests_of_the_rfc() {
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let mut decoder = Decoder::new(true);
        let common = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        assert_eq!(fields(&mut decoder, first), Ok(pairs(&common)));
        let more = [&common[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(fields(&mut decoder, second), Ok(pairs(&more)));
        let other = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(fields(&mut decoder, third), Ok(pairs(&other)));
        // Joined behind the first request: what it has put into the table is not known, all else is.
        let mut joined = Decoder::new(false);
        let unknown = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("?", "?"),
            ("cache-control", "no-cache"),
        ];
        assert_eq!(fields(&mut joined, second), Ok(pairs(&unknown)));
        // Of a connection that is known from its beginning the same is none.
        assert_eq!(fields(&mut Decoder::new(true), second), Err(Invalid));
    }

    /// Appendix C.6: responses in a table of 256 bytes, so that fields are evicted.
    #[test]
    fn responses_of_the_rfc() {
        let mut decoder = Decoder::new(true);
        let first = b"\x3f\xe1\x01\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        let all = fields(&mut decoder, first).unwrap();
        assert_eq!(all[0], (":status".into(), "302".into()));
        assert_eq!(all[3], ("location".into(), "https://www.example.com".into()));
        let second = fields(&mut decoder, b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf").unwrap();
        assert_eq!(second[0], (":status".into(), "307".into()));
        assert_eq!(second[1..], all[1..]);
        assert_eq!(decoder.entries.len(), 4);
        assert_eq!(fields(&mut decoder, b"\xc2"), Err(Invalid));
    }

    /// A name that is known is not copied, however many fields have it.
    #[test]
    fn names_are_shared() {
        let mut decoder = Decoder::new(true);
        fields(&mut decoder, b"\x40\x03x-a\x011\x7e\x012\x7e\x013\x41\x01h").unwrap();
        let [authority, third, second, first] = [0, 1, 2, 3].map(|at| &decoder.entries[at].name);
        let Name::Sent(name) = first else { panic!("{first:?}") };
        assert_eq!((&**name, Arc::strong_count(name)), (&b"x-a"[..], 3));
        assert!([second, third].iter().all(|other| *other == first));
        assert_eq!(authority, &Name::Static(b":authority"));
    }

    /// Numbers without an end, texts that are longer than their block, a table of gigabytes, a size in the
    /// middle: an error each, and nothing is taken for it.
    #[test]
    fn blocks_that_lie() {
        for wrong in [
            &b"\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\xff",
            b"\x80",
            b"\x40\x7f\xff\xff\x7f",
            b"\x40\x05ab",
            b"\x82\x20",
            b"\x00\x81\xff\x00",
        ] {
            assert_eq!(fields(&mut Decoder::new(true), wrong), Err(Invalid), "{wrong:?}");
        }
        let mut decoder = Decoder::new(true);
        fields(&mut decoder, b"\x3f\xff\xff\x7f").unwrap();
        let long = [&b"\x40\x01a\x7f\x81\x07"[..], &[b'x'; 1_024]].concat();
        for _ in 0..1_000 {
            fields(&mut decoder, &long).unwrap();
        }
        assert!(decoder.held_bytes() < 2 * TABLE_BYTES_MAX, "{}", decoder.held_bytes());
        // A size of nothing: from here on everything is known.
        let mut joined = Decoder::new(false);
        assert!(fields(&mut joined, b"\xbe").is_ok());
        fields(&mut joined, b"\x20\x3f\xe1\x1f\x82").unwrap();
        assert_eq!(fields(&mut joined, b"\xbe"), Err(Invalid));
    }
}
