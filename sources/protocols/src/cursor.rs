//! Reading numbers and strings off a slice, front to back; past its end there is nothing.

/// See the module's documentation. Once something was missing, everything is.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

macro_rules! ints {
    ($($name:ident $type:ty, $from:ident;)+) => {
        $(pub fn $name(&mut self) -> Option<$type> {
            self.array().map(<$type>::$from)
        })+
    };
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            self.rest = &[];
            return None;
        };
        self.rest = rest;
        Some(bytes)
    }

    /// The next `count` bytes, or what there is of them.
    pub fn up_to(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    ints! {
        u16_be u16, from_be_bytes;
        u32_be u32, from_be_bytes;
        u64_be u64, from_be_bytes;
        i16_be i16, from_be_bytes;
        i32_be i32, from_be_bytes;
        i64_be i64, from_be_bytes;
        u16_le u16, from_le_bytes;
        u32_le u32, from_le_bytes;
        u64_le u64, from_le_bytes;
    }

    /// Bytes up to a zero byte, which is read and not given.
    pub fn until_zero(&mut self) -> Option<&'a [u8]> {
        let Some(end) = memchr::memchr(0, self.rest) else {
            self.rest = &[];
            return None;
        };
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(text)
    }
}
