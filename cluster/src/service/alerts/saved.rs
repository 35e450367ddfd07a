//! What outlives a restart: rules' states, what was told, and what waits for receivers that are told things once.
//! One line of a header (name, version, checksum, length) and JSON; a text that is not whole, or of another
//! version, is not used.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_rules::state::{Notice, Saved};

/// Most that is kept, and read.
pub const STATE_BYTES_MAX: usize = 64 << 20;
const NAME: &str = "weir-alerts";
const VERSION: u32 = 1;

/// Keeps a text in place of the one before, or says why not.
pub(super) type SaveState = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Where a text is kept over a restart.
#[derive(Clone)]
pub struct StateStore {
    /// What the last server left. `Err`: there is something, and it cannot be read.
    pub saved: Result<String, String>,
    pub save: SaveState,
}

impl StateStore {
    /// Nothing is kept.
    #[must_use]
    pub fn none() -> StateStore {
        StateStore { saved: Ok(String::new()), save: Arc::new(|_| Ok(())) }
    }

    /// Keeps something over a restart; how many bytes it takes. Should its owner panic, its successor begins here,
    /// even if it could not be written.
    ///
    /// # Errors
    /// It is too long, or could not be written.
    pub(super) fn keep<T: Serialize>(&mut self, state: &T) -> Result<u64, String> {
        let text = text_of(state)?;
        let (written, bytes) = ((self.save)(&text), text.len() as u64);
        self.saved = Ok(text);
        written.map(|()| bytes)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) rules: Saved,
    /// Receiver → what it has not been told yet.
    pub(super) queues: BTreeMap<String, Vec<Arc<Notice>>>,
}

/// # Errors
/// It would be too long to be read again.
pub(super) fn text_of<T: Serialize>(state: &T) -> Result<String, String> {
    // Its head is as long whatever it says, so that it can be put before what follows once that is known.
    let head = |sum: u32, len: usize| format!("{NAME} {VERSION} {sum:08x} {len:020}\n");
    let mut text = head(0, 0).into_bytes();
    let from = text.len();
    serde_json::to_writer(&mut text, state).map_err(|error| error.to_string())?;
    let (sum, len) = (crc32fast::hash(&text[from..]), text.len() - from);
    if len > STATE_BYTES_MAX {
        return Err(format!("the state has {len} bytes, more than {STATE_BYTES_MAX}"));
    }
    text[..from].copy_from_slice(head(sum, len).as_bytes());
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| error.to_string())
}

/// # Errors
/// It is not what was written, or of another version.
pub(super) fn parse<T: for<'de> Deserialize<'de> + Default>(text: &str) -> Result<T, String> {
    if text.is_empty() {
        return Ok(T::default());
    }
    let (head, rest) = text.split_once('\n').ok_or("it has no header")?;
    let parts: Vec<&str> = head.split(' ').collect();
    let [NAME, version, sum, len] = parts.as_slice() else {
        return Err("it has no header".to_string());
    };
    if *version != VERSION.to_string() {
        return Err(format!("it is of version {version}, not {VERSION}"));
    }
    let len: usize = len.parse().map_err(|_| "it has no length")?;
    let body = rest.get(..len).ok_or("it is cut off")?;
    if format!("{:08x}", crc32fast::hash(body.as_bytes())) != *sum {
        return Err("its checksum does not fit".to_string());
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written is read again; cut anywhere, or with a byte changed, it is refused and never half used.
    /// Catches a state that is taken for whole because its JSON happens to be.
    #[test]
    fn damage_is_noticed() {
        let state: BTreeMap<String, i64> = (0..9).map(|n| (n.to_string(), n)).collect();
        let text = text_of(&state).unwrap();
        assert_eq!(parse::<BTreeMap<String, i64>>(&text), Ok(state));
        assert_eq!(parse::<BTreeMap<String, i64>>(""), Ok(BTreeMap::new()));
        for cut in 1..text.len() - 1 {
            let found = parse::<BTreeMap<String, i64>>(&text[..cut]);
            assert!(found.is_err(), "{cut}: {found:?}");
        }
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let flipped = String::from_utf8(bytes).unwrap();
            assert!(parse::<BTreeMap<String, i64>>(&flipped).is_err(), "{at}: {flipped}");
        }
    }
}
