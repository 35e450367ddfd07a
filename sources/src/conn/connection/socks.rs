//! What a client says to a SOCKS proxy before anything else, and what the proxy answers: the protocol behind
//! it begins where it ends (versions 4 and 4a, and 5 of RFC 1928, with RFC 1929's passwords).
//!
//! Nothing is guessed here: both sides have to have said all of it, byte by byte.

use weir_protocols::cursor::Cursor;

/// Where what was said to the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) client_bytes: usize,
    pub(super) proxy_bytes: usize,
}

/// The names that version 4 ends with a zero are shorter.
const NAME_BYTES_MAX: usize = 256;
const CONNECT: u8 = 1;

/// `None`: these are not the beginnings of a connection through a proxy, or not all of it has come.
pub(super) fn front(client: &[u8], proxy: &[u8]) -> Option<Front> {
    let [mut asks, mut answers] = [client, proxy].map(Cursor::new);
    match asks.u8()? {
        4 => version_4(&mut asks, &mut answers)?,
        5 => version_5(&mut asks, &mut answers)?,
        _ => return None,
    }
    let client_bytes = client.len() - asks.rest().len();
    Some(Front { client_bytes, proxy_bytes: proxy.len() - answers.rest().len() })
}

fn is(said: &mut Cursor<'_>, bytes: &[u8]) -> Option<()> {
    (said.bytes(bytes.len())? == bytes).then_some(())
}

/// Over a name and the zero behind it.
fn name(said: &mut Cursor<'_>) -> Option<()> {
    (said.until_zero()?.len() < NAME_BYTES_MAX).then_some(())
}

/// Over an address and a port, as version 5 has them.
fn address(said: &mut Cursor<'_>) -> Option<()> {
    let bytes = match said.u8()? {
        1 => 4,
        3 => usize::from(said.u8()?),
        4 => 16,
        _ => return None,
    };
    said.skip(bytes + 2)
}

fn version_4(client: &mut Cursor<'_>, proxy: &mut Cursor<'_>) -> Option<()> {
    const GRANTED: [u8; 2] = [0, 90];
    is(client, &[CONNECT])?;
    let to = client.bytes(6)?;
    name(client)?;
    // An address that is none: the host's name follows.
    if to[2..5] == [0; 3] && to[5] != 0 {
        name(client)?;
    }
    is(proxy, &GRANTED)?;
    proxy.skip(6)
}

fn version_5(client: &mut Cursor<'_>, proxy: &mut Cursor<'_>) -> Option<()> {
    let offered = client.u8()?;
    let offered = client.bytes(usize::from(offered))?;
    is(proxy, &[5])?;
    let chosen = proxy.u8()?;
    match chosen {
        _ if !offered.contains(&chosen) => return None,
        0 => {}
        2 => {
            is(client, &[1])?;
            for _ in ["name", "password"] {
                let bytes = client.u8()?;
                client.skip(usize::from(bytes))?;
            }
            is(proxy, &[1, 0])?;
        }
        _ => return None,
    }
    is(client, &[5, CONNECT, 0])?;
    address(client)?;
    is(proxy, &[5, 0, 0])?;
    address(proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form ends where the next protocol begins; one byte less of either side and it has not ended, and
    /// one that is refused, binds, or is answered by another form is none.
    #[test]
    fn fronts_end_where_they_end() {
        let good: [(&[u8], &[u8]); 5] = [
            (b"\x04\x01\x00\x50\x0a\x00\x00\x01user\x00", b"\x00\x5a\x00\x50\x0a\x00\x00\x01"),
            (
                b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example\x00",
                b"\x00\x5a\x00\x00\x00\x00\x00\x00",
            ),
            (
                b"\x05\x02\x00\x01\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50",
                b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34",
            ),
            (
                b"\x05\x02\x00\x02\x01\x01u\x02pw\x05\x01\x00\x03\x09a.example\x00\x50",
                b"\x05\x02\x01\x00\x05\x00\x00\x03\x01x\x12\x34",
            ),
            (
                b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50",
                b"\x05\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34",
            ),
        ];
        for (client, proxy) in good {
            let whole = Some(Front { client_bytes: client.len(), proxy_bytes: proxy.len() });
            assert_eq!(front(client, proxy), whole);
            assert_eq!(front(&[client, b"GET /"].concat(), &[proxy, b"HTTP"].concat()), whole);
            for cut in 0..client.len() {
                assert_eq!(front(&client[..cut], proxy), None);
            }
            for cut in 0..proxy.len() {
                assert_eq!(front(client, &proxy[..cut]), None);
            }
        }
        let (client, proxy) = good[2];
        for (at, byte) in [(0, 4), (2, 7), (4, 4), (5, 2), (6, 1), (7, 2)] {
            let mut other = client.to_vec();
            other[at] = byte;
            assert_eq!(front(&other, proxy), None, "{at}");
        }
        for (at, byte) in [(0, 4), (1, 0xff), (2, 0), (3, 5), (5, 9)] {
            let mut other = proxy.to_vec();
            other[at] = byte;
            assert_eq!(front(client, &other), None, "{at}");
        }
        assert_eq!(front(good[0].0, b"\x00\x5b\x00\x50\x0a\x00\x00\x01"), None);
    }
}
