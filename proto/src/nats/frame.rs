//! Frames: what goes through the bus server. Their form is written by hand and has a version of its own, so
//! that two ends of different builds can still tell each other why they do not understand each other. A
//! message is one frame or several; which belong together is said by order and flags. No state here.

/// First bytes of every frame.
const MAGIC: [u8; 2] = *b"WB";
/// Of the frames, not of the messages in them.
pub(super) const FRAME_VERSION: u8 = 1;

/// What stands in whatever says a frame to a bus server, and in nothing that is not ours: the end of the server's
/// own line and the beginning of a frame.
pub(super) fn mark() -> Vec<u8> {
    [b"\r\n".as_slice(), &MAGIC, &[FRAME_VERSION]].concat()
}

const COMMON_BYTES: usize = 16;
/// What a data frame has beside its part of a message.
pub(super) const DATA_HEADER_BYTES: usize = COMMON_BYTES + 9;

/// More frames of the same message follow.
pub(super) const MORE: u8 = 1;
/// The message is deflated.
pub(super) const DEFLATED: u8 = 2;

/// In an acknowledgement: there is no room now.
const BUSY: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// A message, or a part of one. `sequence` counts frames from 0 in a session.
    Data { sequence: u64, flags: u8, part: &'a [u8] },
    /// I live, and have sent all before `sent_to`.
    Ping { sent_to: u64 },
    /// All before `received_to` is here, all before `applied_to` has been done and is not needed again;
    /// something before `saw_to` was seen or announced under this attempt.
    Ack { received_to: u64, applied_to: u64, saw_to: u64, busy: bool },
    /// This session is not known here: begin another one.
    Unknown,
    /// I stop in an orderly way.
    Bye,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) session: u64,
    /// Raised whenever the sender of the data begins to send some again; acknowledgements repeat it.
    pub(super) attempt: u32,
    pub(super) body: Body<'a>,
}

impl Frame<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let kind = match self.body {
            Body::Data { .. } => 1,
            Body::Ping { .. } => 2,
            Body::Ack { .. } => 3,
            Body::Unknown => 4,
            Body::Bye => 5,
        };
        let part = if let Body::Data { part, .. } = self.body { part.len() } else { 0 };
        let mut bytes = Vec::with_capacity(COMMON_BYTES + 25 + part);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[FRAME_VERSION, kind]);
        bytes.extend_from_slice(&self.session.to_le_bytes());
        bytes.extend_from_slice(&self.attempt.to_le_bytes());
        match self.body {
            Body::Data { sequence, flags, part } => {
                bytes.extend_from_slice(&sequence.to_le_bytes());
                bytes.push(flags);
                bytes.extend_from_slice(part);
            }
            Body::Ping { sent_to } => bytes.extend_from_slice(&sent_to.to_le_bytes()),
            Body::Ack { received_to, applied_to, saw_to, busy } => {
                for place in [received_to, applied_to, saw_to] {
                    bytes.extend_from_slice(&place.to_le_bytes());
                }
                bytes.push(if busy { BUSY } else { 0 });
            }
            Body::Unknown | Body::Bye => {}
        }
        bytes
    }

    /// `None`: no frame of ours, or of another version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
        let (common, rest) = bytes.split_at_checked(COMMON_BYTES)?;
        if common[..2] != MAGIC || common[2] != FRAME_VERSION {
            return None;
        }
        let session = u64_at(common, 4)?;
        let attempt = u32::from_le_bytes(common.get(12..16)?.try_into().ok()?);
        let body = match common[3] {
            1 => {
                let flags = *rest.get(8)?;
                Body::Data { sequence: u64_at(rest, 0)?, flags, part: rest.get(9..)? }
            }
            2 => Body::Ping { sent_to: u64_at(rest, 0)? },
            3 => Body::Ack {
                received_to: u64_at(rest, 0)?,
                applied_to: u64_at(rest, 8)?,
                saw_to: u64_at(rest, 16)?,
                busy: rest.get(24)? & BUSY != 0,
            },
            4 => Body::Unknown,
            5 => Body::Bye,
            _ => return None,
        };
        Some(Frame { session, attempt, body })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(Frame<'static>, &'static str)> {
        let frame = |body| Frame { session: 0x0102, attempt: 7, body };
        vec![
            (
                frame(Body::Data { sequence: 3, flags: MORE | DEFLATED, part: b"ab" }),
                "5742010102010000000000000700000003000000000000000361 62",
            ),
            (frame(Body::Ping { sent_to: 9 }), "574201020201000000000000070000000900000000000000"),
            (
                frame(Body::Ack { received_to: 1, applied_to: 2, saw_to: 3, busy: true }),
                "57420103020100000000000007000000 0100000000000000 0200000000000000 0300000000000000 01",
            ),
            (frame(Body::Unknown), "57420104020100000000000007000000"),
            (frame(Body::Bye), "57420105020100000000000007000000"),
        ]
    }

    /// Every frame has these bytes, whichever build wrote it, and is read back; whatever is cut, foreign or of
    /// another version is no frame. Catches a form that changed under its version.
    #[test]
    fn golden_bytes() {
        for (frame, golden) in all() {
            let bytes = frame.encode();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden.replace(' ', ""), "{frame:?}");
            assert_eq!(Frame::decode(&bytes), Some(frame));
            let fixed =
                if let Body::Data { .. } = frame.body { DATA_HEADER_BYTES } else { hex.len() / 2 };
            for len in 0..fixed {
                assert_eq!(Frame::decode(&bytes[..len]), None, "{frame:?} cut at {len}");
            }
            for (at, value) in [(0, b'X'), (2, FRAME_VERSION + 1), (3, 99)] {
                let mut other = bytes.clone();
                other[at] = value;
                assert_eq!(Frame::decode(&other), None);
            }
        }
    }
}
