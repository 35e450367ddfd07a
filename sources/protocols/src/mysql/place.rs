//! Where a packet stands in its exchange: each side goes on with the number behind the other's last one.
//!
//! In a packed session packets are numbered anew with each flush, if at all; what counts there is the number
//! of the pack that a packet begins in. Not here: what packets say.

use super::parse::{HEAD_BYTES, Packet};
use super::types::OK;
use crate::frames::Loss;

/// What numbers say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its own number, or its pack's.
    pub(super) number: u8,
    /// It is the one that has the number: the first one that begins in its pack.
    pub(super) is_first: bool,
    /// It has the number behind the one before of its side.
    pub(super) follows: bool,
    /// It is in a pack that goes on with what the client has begun.
    pub(super) continues: bool,
}

impl Place {
    /// By a packet's own number; `before`: that of the last one of its side, if that is known.
    pub(super) fn of_packet(packet: &Packet<'_>, before: Option<u8>) -> Place {
        let follows = before.is_some_and(|before| before.wrapping_add(1) == packet.number);
        Place { number: packet.number, is_first: true, follows, continues: false }
    }

    /// Nothing of what was read before can go on so.
    pub(super) fn begins(self) -> bool {
        self.is_first && !self.follows
    }
}

/// The pack that was unpacked last of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pack {
    last: Numbered,
    /// The one before it in which unread bytes begin.
    front: Numbered,
    /// When bytes of it, or what came behind it, were lost.
    lost: Option<Loss>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbered {
    number: u8,
    /// Position of its first byte in the unpacked stream.
    begin: u64,
    follows: bool,
    continues: bool,
}

impl Pack {
    /// The next pack, behind this one. Unread bytes begin at `unread_at`; `is_behind_loss`: others may be missing
    /// before it.
    pub(super) fn next(self, number: u8, begin: u64, unread_at: u64, is_behind_loss: bool) -> Pack {
        let before = self.last;
        let follows = !is_behind_loss && before.number.wrapping_add(1) == number;
        let continues = number > 0 || (follows && before.number == u8::MAX);
        let front = if unread_at < before.begin { self.front } else { before };
        Pack { last: Numbered { number, begin, follows, continues }, front, lost: None }
    }

    pub(super) fn number(self) -> u8 {
        self.last.number
    }

    /// It goes on with what the client has begun.
    pub(super) fn continues(self) -> bool {
        self.last.continues
    }

    /// The place of a packet that begins there.
    pub(super) fn place(self, position: u64) -> Place {
        let is_before = position < self.last.begin;
        let Numbered { number, begin, follows, continues } =
            if is_before { self.front } else { self.last };
        Place { number, is_first: position == begin, follows, continues }
    }

    /// Bytes of it are missing, or packs behind it.
    pub(super) fn lose(&mut self, loss: Loss) {
        self.lost = Some(self.lost.map_or(loss, |lost| lost.and(loss)));
    }

    /// When bytes were lost that are missing in the unpacked stream: there all of them are of one time.
    pub(super) fn loss(self, unpacked: Loss) -> Loss {
        self.lost.map_or(unpacked, |lost| lost.and(unpacked))
    }
}

/// Fewest bytes of a packet.
const PACKET_BYTES_MIN: u64 = HEAD_BYTES as u64;
/// So many packets have different numbers.
const NUMBERS: u64 = 256;

/// Behind a loss in what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// Where the last packet before it ended.
    pub(super) from: u64,
    /// Number of a response's packet of which the next ones are missing.
    pub(super) within: Option<u8>,
}

impl Behind {
    /// Whether what begins there with number 1 may be a row: far enough behind there can be one with that number,
    /// and a row can look like an OK packet. Not like an error or a count of columns.
    pub(super) fn may_be_row(self, packet: &Packet<'_>, position: u64) -> bool {
        let missing = match self.within {
            // From the next one to the one in front of number 1.
            Some(last) => u64::from(0_u8.wrapping_sub(last)),
            None => NUMBERS,
        };
        let bytes = position.saturating_sub(self.from);
        packet.first() == Some(OK) && bytes >= missing * PACKET_BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a response have other numbers than 1, unless enough is missing.
    #[test]
    fn rows_that_look_like_responses() {
        let bytes = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
        let packet = Packet::of(bytes, bytes.len() as u64).unwrap();
        for (within, least) in [(None, 1_024), (Some(2), 1_016), (Some(254), 8), (Some(0), 0)] {
            let behind = Behind { from: 100, within };
            assert!(behind.may_be_row(&packet, 100 + least), "{within:?}");
            assert!(least == 0 || !behind.may_be_row(&packet, 99 + least), "{within:?}");
        }
        let bytes = b"\x01\0\0\x01\x03";
        let packet = Packet::of(bytes, bytes.len() as u64).unwrap();
        assert!(!Behind { from: 0, within: None }.may_be_row(&packet, 1 << 20));
    }

    /// Packs go on where they are numbered on, also over the highest number; behind a loss nobody knows.
    #[test]
    fn packs_that_go_on() {
        let first = Pack::default().next(0, 0, 0, true);
        assert!(!first.continues() && first.place(0).begins());
        let second = first.next(1, 100, 90, false);
        assert!(second.continues() && !second.place(100).begins());
        assert_eq!((second.place(90).number, second.place(90).continues), (0, false));
        assert_eq!((second.place(110).number, second.place(110).is_first), (1, false));
        let third = second.next(2, 200, 90, false);
        assert_eq!((third.place(90).number, third.place(90).continues), (0, false));
        assert!(third.place(0).is_first && !third.place(90).is_first);
        assert_eq!(second.next(2, 200, 110, false).place(110).number, 1);
        let highest = third.next(255, 300, 300, true);
        assert!(highest.continues() && highest.place(300).begins());
        let next = |is_behind_loss| highest.next(0, 400, 400, is_behind_loss);
        assert!(next(false).continues() && !next(true).continues());
    }
}
