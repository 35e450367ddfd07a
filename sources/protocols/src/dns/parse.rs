//! A DNS message's bytes: header, names, and where its records are. Nothing is copied here but names.
//!
//! Names may point back into the message. A pointer has to go before the place where the name part
//! that it ends began, so that a chain of them ends; a name has 255 octets at most, as the standard
//! says. Whatever does not fit ends the reading, and what was read before it stands.

/// Octets of a name on the wire.
const NAME_BYTES_MAX: usize = 255;
/// Pointers that one name is followed through: more than it can have labels, and few enough that a
/// message full of names costs no more than reading it.
const POINTERS_MAX: u32 = 128;
pub(super) const HEADER_BYTES: usize = 12;

/// The header's twelve bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    /// Queries, answers, authorities, additional ones.
    pub(super) counts: [u16; 4],
}

impl Header {
    pub(super) fn of(message: &[u8]) -> Option<Header> {
        let head = message.get(..HEADER_BYTES)?;
        let word = |at: usize| u16::from_be_bytes([head[2 * at], head[2 * at + 1]]);
        Some(Header { id: word(0), flags: word(1), counts: [word(2), word(3), word(4), word(5)] })
    }

    fn bits(self, shift: u16, mask: u16) -> u16 {
        self.flags >> shift & mask
    }
    pub(super) fn is_response(self) -> bool {
        self.bits(15, 1) == 1
    }
    pub(super) fn opcode(self) -> u16 {
        self.bits(11, 15)
    }
    /// The bit between `ra` and `ad`: nobody sets it.
    pub(super) fn reserved(self) -> u16 {
        self.bits(6, 1)
    }
    pub(super) fn rcode(self) -> u16 {
        self.bits(0, 15)
    }
    /// `aa`, `tc`, `rd`, `ra`, `ad`, `cd`.
    pub(super) fn flags(self) -> [u16; 6] {
        [10, 9, 8, 7, 5, 4].map(|shift| self.bits(shift, 1))
    }
}

/// Where a message is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) message: &'a [u8],
    pub(super) at: usize,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) rtype: u16,
    pub(super) class: u16,
}

/// A record behind its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) rtype: u16,
    /// Where its data begin, and how many bytes they are.
    pub(super) data_at: usize,
    pub(super) data_bytes: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(message: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { message, at }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// Appends the name here in presentation form, without the final dot; the root is `.`.
    pub(super) fn name(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let from = out.len();
        let (mut at, mut behind, mut wire_bytes) = (self.at, None, 0);
        // Where the part of the name began that is being read.
        let (mut part, mut pointers) = (self.at, 0);
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length {
                0 => break,
                1..=63 => {
                    wire_bytes += length + 1;
                    let label = self.message.get(at + 1..at + 1 + length)?;
                    if wire_bytes >= NAME_BYTES_MAX {
                        return None;
                    }
                    if out.len() > from {
                        out.push(b'.');
                    }
                    push_label(label, out);
                    at += 1 + length;
                }
                192.. => {
                    let low = usize::from(*self.message.get(at + 1)?);
                    let target = (length & 63) << 8 | low;
                    pointers += 1;
                    if target >= part || pointers > POINTERS_MAX {
                        return None;
                    }
                    behind = behind.or(Some(at + 2));
                    (at, part) = (target, target);
                }
                _ => return None,
            }
        }
        if out.len() == from {
            out.push(b'.');
        }
        self.at = behind.unwrap_or(at + 1);
        Some(())
    }

    pub(super) fn question(&mut self, name: &mut Vec<u8>) -> Option<Question> {
        self.name(name)?;
        Some(Question { rtype: self.u16()?, class: self.u16()? })
    }

    /// The record's head; the cursor goes behind its data, which may not all be there.
    pub(super) fn record(&mut self, name: &mut Vec<u8>) -> Option<Record> {
        self.name(name)?;
        let rtype = self.u16()?;
        self.bytes(6)?; // class and time to live
        let data_bytes = usize::from(self.u16()?);
        let data_at = self.at;
        self.at += data_bytes;
        Some(Record { rtype, data_at, data_bytes })
    }
}

/// A label as zone files have it: dots and backslashes escaped, what is not printable by number.
fn push_label(label: &[u8], out: &mut Vec<u8>) {
    for &byte in label {
        match byte {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => out.extend([b'\\', byte]),
            0x21..=0x7e => out.push(byte),
            _ => push_number(byte, out),
        }
    }
}

/// `\DDD`.
pub(super) fn push_number(byte: u8, out: &mut Vec<u8>) {
    out.extend([b'\\', b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10]);
}
