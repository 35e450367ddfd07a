//! Reading a body of which the end may be missing: whether bytes are just not here, or contradict the
//! body's length, is told apart.

use crate::cursor::Cursor;

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What comes next was not seen.
    Missing,
    /// It is no such body.
    Wrong,
}

pub(super) type Walked<T> = Result<T, Stop>;

/// A value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Unset,
    /// As much of it as there is.
    Bytes(&'a [u8]),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    cursor: Cursor<'a>,
    /// So many bytes follow that are not here.
    missing: u64,
    /// Some of what was read was not here.
    is_cut: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], missing: u64) -> Walk<'a> {
        Walk { cursor: Cursor::new(bytes), missing, is_cut: false }
    }

    pub(super) fn left(&self) -> u64 {
        self.cursor.rest().len() as u64 + self.missing
    }

    pub(super) fn bytes(&mut self, count: usize) -> Walked<&'a [u8]> {
        match count as u64 <= self.left() {
            true => self.cursor.bytes(count).ok_or(Stop::Missing),
            false => Err(Stop::Wrong),
        }
    }

    /// So many bytes, or as many of them as are here.
    pub(super) fn part(&mut self, count: usize) -> Walked<&'a [u8]> {
        if count as u64 > self.left() {
            return Err(Stop::Wrong);
        }
        let part = self.cursor.up_to(count);
        self.missing -= (count - part.len()) as u64;
        self.is_cut |= part.len() < count;
        Ok(part)
    }

    pub(super) fn u8(&mut self) -> Walked<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Walked<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Walked<u32> {
        self.bytes(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn string(&mut self) -> Walked<&'a [u8]> {
        let count = self.u16()?;
        self.part(usize::from(count))
    }

    /// The same, not without its end.
    pub(super) fn whole_string(&mut self) -> Walked<&'a [u8]> {
        let count = self.u16()?;
        self.bytes(usize::from(count))
    }

    pub(super) fn long_string(&mut self) -> Walked<&'a [u8]> {
        let count = self.u32()?;
        self.part(count as usize)
    }

    pub(super) fn value(&mut self) -> Walked<Value<'a>> {
        match self.u32()?.cast_signed() {
            -1 => Ok(Value::Null),
            -2 => Ok(Value::Unset),
            count => {
                let count = usize::try_from(count).map_err(|_| Stop::Wrong)?;
                self.part(count).map(Value::Bytes)
            }
        }
    }

    /// Nothing follows.
    pub(super) fn end(&self) -> Walked<()> {
        match self.left() {
            0 => self.whole(),
            _ => Err(Stop::Wrong),
        }
    }

    /// Everything that was read was here.
    pub(super) fn whole(&self) -> Walked<()> {
        if self.is_cut { Err(Stop::Missing) } else { Ok(()) }
    }
}
