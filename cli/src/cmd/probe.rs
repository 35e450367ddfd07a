//! `weir probe`: whether a server or a node is well, for whoever starts it anew if it is not. A server is asked by its
//! port; a node has none, and writes down that it lives.

use std::path::PathBuf;
use std::time::Duration;

use weir_types::{Clock, WallClock};

use crate::args::{ProbeArgs, ProbeWhat};
use crate::client::Connection;
use crate::data_dir::{self, Beat};
use crate::failure::Failure;

/// A node that was silent for longer does not live.
const SILENCE_NS_MAX: i64 = 30_000_000_000;
/// A server that takes longer does not answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

pub(crate) fn run(
    connection: &Connection,
    directory: Option<PathBuf>,
    args: &ProbeArgs,
) -> Result<(), Failure> {
    if args.node {
        let path = directory.unwrap_or_else(data_dir::default_path);
        let beat = data_dir::last_beat(&path)?;
        return judge(beat, args.what, WallClock.now_unix_ns()).map_err(Failure::No);
    }
    let path = match args.what {
        ProbeWhat::Alive => "/healthz",
        ProbeWhat::Ready => "/readyz",
    };
    connection.probe(path, ANSWER_TIME_MAX)
}

/// What a node wrote last, against what is asked.
fn judge(beat: Option<Beat>, what: ProbeWhat, now_unix_ns: i64) -> Result<(), String> {
    let Some(beat) = beat else {
        return Err("no node has written down that it lives (--data-dir)".to_string());
    };
    // Either way: a clock that was set back is no sign of life.
    let silent_ns = now_unix_ns.saturating_sub(beat.at_unix_ns).saturating_abs();
    if silent_ns > SILENCE_NS_MAX {
        return Err(format!("the node was last seen alive {} s ago", silent_ns / 1_000_000_000));
    }
    if what == ProbeWhat::Ready && !beat.is_ready {
        return Err("the node lives, but its sources or its bus are not ready".to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node lives while it says so, and is ready when it says that; silence, and a clock that jumped, is no life.
    #[test]
    fn judged() {
        let beat = |is_ready, at_unix_ns| Some(Beat { is_ready, at_unix_ns });
        let now = 1_000_000_000_000;
        assert_eq!(judge(beat(true, now), ProbeWhat::Ready, now), Ok(()));
        assert_eq!(judge(beat(false, now - SILENCE_NS_MAX), ProbeWhat::Alive, now), Ok(()));
        assert!(judge(beat(false, now), ProbeWhat::Ready, now).is_err());
        assert!(judge(None, ProbeWhat::Alive, now).is_err());
        for at in [0, now - SILENCE_NS_MAX - 1, now + SILENCE_NS_MAX + 1, i64::MAX, i64::MIN] {
            assert!(judge(beat(true, at), ProbeWhat::Alive, now).is_err(), "{at}");
        }
    }
}
