//! Keys that a compacted topic has and that are not said again since a reset: what the view has no more. To know them
//! the topic is read. A large one takes longer than one attempt may, so the reading goes on where the last attempt
//! ended.

use std::collections::BTreeSet;

use rskafka::client::error::Error;
use rskafka::client::partition::{OffsetAt, PartitionClient};
use rskafka::record::Record;

/// Keys of a topic that are kept.
const KEYS_BYTES_MAX: usize = 64 << 20;
const FETCH_BYTES: std::ops::Range<i32> = 1..(4 << 20);
const FETCH_WAIT_MS: i32 = 100;
/// Answers without a record before the end, after which nothing more is expected: what is left is no records.
const EMPTY_MAX: usize = 3;

/// Of one input, since one reset.
#[derive(Default)]
pub(super) struct Stale {
    /// The number of the reset.
    seq: u64,
    /// They begin so.
    prefix: Vec<u8>,
    keys: BTreeSet<Vec<u8>>,
    bytes: usize,
    /// Where to read on, by partition; before the first look the beginning is not known.
    at: Vec<Option<i64>>,
    /// Records that were read, to be shown.
    pub(super) records: u64,
}

pub(super) enum ReadError {
    Kafka(Error),
    TooManyKeys(String),
}

impl Stale {
    pub(super) fn since(seq: u64, prefix: Vec<u8>) -> Stale {
        Stale { seq, prefix, ..Stale::default() }
    }

    /// It is of this reset, in a topic of so many partitions: reading goes on.
    pub(super) fn is_of(&self, seq: u64, partitions: usize) -> bool {
        self.seq == seq && (self.at.is_empty() || self.at.len() == partitions)
    }

    /// Reads on to the end of the topic. May be given up at any time: what was read stays.
    pub(super) async fn read(&mut self, partitions: &[PartitionClient]) -> Result<(), ReadError> {
        self.at.resize(partitions.len(), None);
        for (number, partition) in partitions.iter().enumerate() {
            let offset = async |at| partition.get_offset(at).await.map_err(ReadError::Kafka);
            let mut at = match self.at[number] {
                Some(at) => at,
                None => offset(OffsetAt::Earliest).await?,
            };
            let (end, mut empty) = (offset(OffsetAt::Latest).await?, 0);
            while at < end && empty < EMPTY_MAX {
                let fetched = partition.fetch_records(at, FETCH_BYTES, FETCH_WAIT_MS).await;
                let (records, _) = fetched.map_err(ReadError::Kafka)?;
                let Some(last) = records.last() else {
                    empty += 1;
                    continue;
                };
                (at, empty) = (last.offset + 1, 0);
                self.at[number] = Some(at);
                self.records += records.len() as u64;
                records.into_iter().for_each(|it| self.note(it.record));
                if self.bytes > KEYS_BYTES_MAX {
                    return Err(ReadError::TooManyKeys(format!(
                        "the topic's keys take more than {KEYS_BYTES_MAX} bytes: use another topic"
                    )));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, Record { key, value, .. }: Record) {
        let Some(key) = key.filter(|key| key.starts_with(&self.prefix)) else { return };
        if value.is_none() {
            self.said(&key);
        } else if !self.keys.contains(&key) {
            self.bytes += key.len();
            self.keys.insert(key);
        }
    }

    /// This key is told of again.
    pub(super) fn said(&mut self, key: &[u8]) {
        if self.keys.remove(key) {
            self.bytes -= key.len();
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.keys.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<&str>) -> Record {
        Record {
            key: Some(key.as_bytes().to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: Default::default(),
            timestamp: Default::default(),
        }
    }

    /// What an attempt has read counts for the next one of the same reset, also what that attempt had written itself;
    /// another reset, or a topic of other partitions, is read from its beginning. Bytes are those of the keys.
    #[test]
    fn reading_goes_on() {
        let mut stale = Stale::since(7, b"t/".to_vec());
        assert!(stale.is_of(7, 3), "nothing was read yet");
        stale.at = vec![Some(5), None, None];
        assert!(stale.is_of(7, 3) && !stale.is_of(8, 3) && !stale.is_of(7, 4));
        for (key, value) in [("t/a", Some("1")), ("t/b", Some("1")), ("u/c", Some("1"))] {
            stale.note(record(key, value));
        }
        stale.said(b"t/a");
        // Written by the attempt that failed; it is told of again.
        stale.note(record("t/a", Some("2")));
        stale.note(record("t/a", Some("3")));
        assert_eq!((stale.keys().count(), stale.bytes), (2, 6));
        stale.said(b"t/a");
        stale.note(record("t/b", None));
        assert_eq!((stale.keys().count(), stale.bytes), (0, 0));
    }
}
