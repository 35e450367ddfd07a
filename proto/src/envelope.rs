//! The envelope around every message: four bytes magic, two bytes version, then bincode with a byte
//! limit on both sides, so that a wrong or hostile length never becomes an allocation. bincode is
//! used nowhere else, and so can be replaced here.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: [u8; 4] = *b"WEIR";
/// Raised with every change of a message's form.
pub const VERSION: u16 = 5;
/// The oldest that is understood: nodes may be one minor version of Weir behind the cluster part. There was none
/// before this one.
pub const VERSION_MIN: u16 = 5;
/// No message is larger: senders split before this.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;
const HEADER_BYTES: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("message is not of Weir's bus (wrong first bytes)")]
    Magic,
    #[error("message has version {have}, this build speaks {VERSION_MIN} to {VERSION}")]
    Version { have: u16 },
    #[error("could not encode or decode a message of the bus")]
    Body(#[from] bincode::Error),
}

/// Whether messages of a version are understood here.
#[must_use]
pub fn is_spoken(version: u16) -> bool {
    (VERSION_MIN..=VERSION).contains(&version)
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MESSAGE_BYTES_MAX)
}

/// How large a part of a message will be.
pub fn encoded_bytes<T: Serialize>(part: &T) -> Result<u64, EnvelopeError> {
    Ok(options().serialized_size(part)?)
}

pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, EnvelopeError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    // With a limit bincode would measure the message before it writes it: two passes for one.
    options().with_no_limit().serialize_into(&mut bytes, message)?;
    if bytes.len() as u64 > MESSAGE_BYTES_MAX + HEADER_BYTES as u64 {
        return Err(EnvelopeError::Body(Box::new(bincode::ErrorKind::SizeLimit)));
    }
    Ok(bytes)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    if bytes.len() < HEADER_BYTES || bytes[..4] != MAGIC {
        return Err(EnvelopeError::Magic);
    }
    let have = u16::from_le_bytes([bytes[4], bytes[5]]);
    if !is_spoken(have) {
        return Err(EnvelopeError::Version { have });
    }
    Ok(options().deserialize(&bytes[HEADER_BYTES..])?)
}

#[cfg(test)]
mod golden_tests;

#[cfg(test)]
mod tests {
    use weir_types::PackedRow;
    use weir_types::acc::Acc;
    use weir_types::split::Change;

    use super::*;
    use crate::message::{FromNode, Place};

    fn update() -> FromNode {
        FromNode::Update {
            query: 7,
            place: Place { epoch: 2, sequence: 3 },
            exchange: 1,
            tick_ms: 1_000,
            changes: vec![
                Change::Row { row: PackedRow(vec![1, 2]), pane: -3, diff: -1 },
                Change::Partial {
                    key: PackedRow(vec![]),
                    pane: 5,
                    rows: 2,
                    accs: vec![Acc::Count(2), Acc::SumInt(-9)],
                },
            ],
        }
    }

    /// A message survives the way; foreign, newer and cut messages are refused, not misread.
    #[test]
    fn round_trips_and_refuses() {
        let bytes = encode(&update()).unwrap();
        assert_eq!(decode::<FromNode>(&bytes).unwrap(), update());
        assert!(matches!(decode::<FromNode>(b"hello world"), Err(EnvelopeError::Magic)));
        let mut newer = bytes.clone();
        newer[4] = 99;
        assert!(matches!(decode::<FromNode>(&newer), Err(EnvelopeError::Version { have: 99 })));
        for len in HEADER_BYTES..bytes.len() {
            assert!(decode::<FromNode>(&bytes[..len]).is_err(), "cut at {len}");
        }
    }
}
