//! Records and hellos: a slice in, what is in it out.

use super::types::{
    ALERT, APPLICATION, CHANGE_CIPHER, CLIENT_HELLO, ClientHello, HANDSHAKE, HEARTBEAT, LIST_MAX,
    SERVER_HELLO, ServerHello,
};
use crate::Side;
use crate::cursor::Cursor;
use crate::frames::{Framing, Head};
use crate::protocol::{Beginning, Verdict};

pub(super) const RECORD_HEAD_BYTES: usize = 5;
/// Kind and length of a handshake message.
pub(super) const MESSAGE_HEAD_BYTES: usize = 4;
/// Longest record: 2¹⁴ bytes, and what old ciphers may add.
const RECORD_BYTES_MAX: usize = 16_384 + 2_048;
/// Shortest hello: version, random, and lengths.
const HELLO_BYTES_MIN: usize = 38;

/// By this random number a ServerHello is a HelloRetryRequest (RFC 8446 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// How records are told apart.
pub(super) struct Records;

impl Framing for Records {
    fn head(&self, side: Side, bytes: &[u8]) -> Head {
        match (side, old_hello(bytes)) {
            (Side::Request, Some(Some(hello))) => return Head::Bytes(hello.total_bytes),
            (Side::Request, Some(None)) => return Head::Short,
            _ => {}
        }
        let &[kind, major, minor, high, low, ..] = bytes else { return Head::Short };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let is_kind = (CHANGE_CIPHER..=HEARTBEAT).contains(&kind);
        match is_kind && major == 3 && minor <= 4 && length <= RECORD_BYTES_MAX {
            true => Head::Bytes((RECORD_HEAD_BYTES + length) as u64),
            false => Head::Invalid,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        let is_record = matches!(self.head(side, bytes), Head::Bytes(_));
        let is_found = match bytes {
            [HANDSHAKE, ..] => hello_side(bytes) == Some(Some(side)),
            [CHANGE_CIPHER, _, _, 0, 1, 1, ..] => true,
            [ALERT, _, _, 0, 2, 1 | 2, ..] => true,
            [APPLICATION, 3, 3, ..] => true,
            _ => false,
        };
        (is_record && is_found).then_some(0)
    }
}

/// A ClientHello in the form of SSL 2.0, by which older programs ask for newer versions too
/// (RFC 5246 E.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldHello {
    pub(super) version: u16,
    pub(super) total_bytes: u64,
}

/// `Some(None)`: the bytes are too few to tell. Its length is that of its three lists, of which each is
/// bounded: hardly anything else is.
pub(super) fn old_hello(bytes: &[u8]) -> Option<Option<OldHello>> {
    const HEAD_BYTES: usize = 2;
    const FIXED_BYTES: usize = 9;
    let fits =
        |at: usize, holds: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|byte| holds(*byte));
    let is_begun = !bytes.is_empty()
        && fits(0, &|byte| byte & 0x80 != 0)
        && fits(2, &|byte| byte == CLIENT_HELLO)
        && fits(3, &|byte| byte == 3)
        && fits(4, &|byte| byte <= 3);
    if !is_begun {
        return None;
    }
    let Some(head) = bytes.get(..HEAD_BYTES + FIXED_BYTES) else { return Some(None) };
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let length = usize::from(word(0) & 0x7fff);
    let [ciphers, session, challenge] = [5, 7, 9].map(|at| usize::from(word(at)));
    let is_hello = ciphers > 0
        && ciphers % 3 == 0
        && matches!(session, 0 | 16)
        && (16..=32).contains(&challenge)
        && length == FIXED_BYTES + ciphers + session + challenge;
    let total_bytes = (HEAD_BYTES + length) as u64;
    is_hello.then_some(Some(OldHello { version: word(3), total_bytes }))
}

/// Versions of TLS 1.3 before it was one, that have numbers of their own.
fn is_draft(version: u16) -> bool {
    (0x7f0e..=0x7f1c).contains(&version)
}

/// Whose hello these bytes begin with: `Some(None)` if they are too few to tell, `None` if nobody's.
pub(super) fn hello_side(bytes: &[u8]) -> Option<Option<Side>> {
    let kind = |byte: u8| match byte {
        CLIENT_HELLO => Some(Side::Request),
        SERVER_HELLO => Some(Side::Response),
        _ => None,
    };
    let fits =
        |at: usize, holds: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|byte| holds(*byte));
    let is_hello = fits(0, &|byte| byte == HANDSHAKE)
        && fits(1, &|byte| byte == 3)
        && fits(2, &|byte| byte <= 4)
        && fits(3, &|byte| byte <= 0x40)
        && fits(5, &|byte| kind(byte).is_some())
        && fits(6, &|byte| byte == 0)
        && (fits(9, &|byte| byte == 3) && fits(10, &|byte| byte <= 4)
            // A server's choice of a draft stands where the version is; clients have a list for it.
            || fits(5, &|byte| byte == SERVER_HELLO)
                && fits(9, &|byte| byte == 0x7f)
                && fits(10, &|byte| is_draft(0x7f00 | u16::from(byte))));
    let length = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    match bytes.len() {
        _ if !is_hello => None,
        0..=10 => Some(None),
        _ if length(3) < MESSAGE_HEAD_BYTES || length(7) < HELLO_BYTES_MIN => None,
        _ => Some(kind(bytes[5])),
    }
}

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    if beginning.is_datagram || beginning.bytes.is_empty() {
        return Verdict::IsNot;
    }
    match hello_side(beginning.bytes) {
        Some(Some(side)) => Verdict::Is(side),
        Some(None) => Verdict::Unsure,
        None => match old_hello(beginning.bytes) {
            Some(Some(_)) => Verdict::Is(Side::Request),
            Some(None) if beginning.at_start => Verdict::Unsure,
            _ => Verdict::IsNot,
        },
    }
}

/// Extensions, as far as they can be read.
fn extensions<'a>(rest: &mut Cursor<'a>, mut each: impl FnMut(u16, Cursor<'a>)) {
    let Some(bytes) = rest.u16_be() else { return };
    let mut all = Cursor::new(rest.up_to(usize::from(bytes)));
    while let (Some(kind), Some(bytes)) = (all.u16_be(), all.u16_be()) {
        let Some(body) = all.bytes(usize::from(bytes)) else { return };
        each(kind, Cursor::new(body));
    }
}

/// Reads what is behind a message's head. `None`: its fixed part is no ClientHello's.
pub(super) fn client_hello(body: &[u8]) -> Option<ClientHello<'_>> {
    let mut rest = Cursor::new(body);
    let mut hello = ClientHello { version: rest.u16_be()?, ..ClientHello::default() };
    rest.skip(32)?;
    let session_bytes = rest.u8()?;
    rest.skip(usize::from(session_bytes))?;
    let cipher_bytes = rest.u16_be()?;
    rest.skip(usize::from(cipher_bytes))?;
    let compression_bytes = rest.u8()?;
    rest.skip(usize::from(compression_bytes))?;
    extensions(&mut rest, |kind, mut body| match kind {
        SERVER_NAME => hello.sni = hello.sni.or_else(|| host_name(body)),
        ALPN => hello.alpn = protocols(body),
        SUPPORTED_VERSIONS => {
            let bytes = body.u8().map_or(0, usize::from);
            let mut list = Cursor::new(body.up_to(bytes));
            hello.versions = std::iter::from_fn(|| list.u16_be()).take(LIST_MAX).collect();
        }
        _ => {}
    });
    Some(hello)
}

/// The same for a ServerHello, or a HelloRetryRequest, which has its form.
pub(super) fn server_hello(body: &[u8]) -> Option<ServerHello<'_>> {
    let mut rest = Cursor::new(body);
    let version = rest.u16_be()?;
    let is_retry = rest.bytes(32)? == RETRY_RANDOM;
    // Drafts with their number here, or that of what they were to become, have neither a session nor a
    // compression; TLS 1.3 itself has that of 1.2 here.
    let is_short = is_draft(version) || version == 0x0304;
    if !is_short {
        let session_bytes = rest.u8()?;
        rest.skip(usize::from(session_bytes))?;
    }
    let mut hello = ServerHello { version, cipher: rest.u16_be()?, alpn: None, is_retry };
    if !is_short {
        rest.skip(1)?;
    }
    extensions(&mut rest, |kind, mut body| match kind {
        ALPN => hello.alpn = protocols(body).first().copied(),
        SUPPORTED_VERSIONS => hello.version = body.u16_be().unwrap_or(hello.version),
        _ => {}
    });
    Some(hello)
}

fn host_name<'a>(mut body: Cursor<'a>) -> Option<&'a [u8]> {
    let bytes = body.u16_be()?;
    let mut list = Cursor::new(body.up_to(usize::from(bytes)));
    loop {
        let (kind, bytes) = (list.u8()?, list.u16_be()?);
        let name = list.bytes(usize::from(bytes))?;
        if kind == 0 {
            return Some(name);
        }
    }
}

fn protocols<'a>(mut body: Cursor<'a>) -> Vec<&'a [u8]> {
    let bytes = body.u16_be().map_or(0, usize::from);
    let mut list = Cursor::new(body.up_to(bytes));
    let next = || {
        let bytes = list.u8()?;
        list.bytes(usize::from(bytes))
    };
    std::iter::from_fn(next).take(LIST_MAX).collect()
}
