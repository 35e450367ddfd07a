//! The data directory: 0700, the invoking user's also under sudo, used by one server at a time, with
//! the token in it (0600, made once and kept) and the sessions of browsers. Server and command line
//! open it with the same care ([`safe`]).

mod safe;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags, flock};
use weir_cluster::service::{STATE_BYTES_MAX, StateStore};

use crate::failure::Failure;
use crate::text_file;
use safe::{Missing, Privacy, PrivateDir};

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 24;
/// Longer is no token.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;
/// All sessions there may be take 8 KiB.
const SESSIONS_FILE_BYTES_MAX: u64 = 64 << 10;

const TOKEN: &str = "token";
const SESSIONS: &str = "sessions";
const WINDOWS: &str = "windows.db";
const ALERTS: &str = "alerts";
const ALERTS_HISTORY: &str = "alerts-history";
const NODES: &str = "nodes";
const LOCK: &str = "lock";
const BEAT: &str = "alive";
/// No sign of life is longer.
const BEAT_FILE_BYTES_MAX: u64 = 64;
/// A token that is given is not shorter: it would be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// A data directory that this process has taken.
pub(crate) struct DataDir {
    pub(crate) token: String,
    dir: Arc<PrivateDir>,
    /// Held as long as the server runs.
    _lock: File,
}

/// Home of the invoking user, also under sudo.
fn invoking_user_home() -> Option<PathBuf> {
    if let Some((uid, _)) = safe::sudo_user()
        && let Ok(passwd) = std::fs::read_to_string("/etc/passwd")
    {
        let home = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse::<u32>().ok()? == uid).then(|| fields.get(5).copied())?
        });
        if let Some(home) = home {
            return Some(PathBuf::from(home));
        }
    }
    std::env::var_os("HOME").map(PathBuf::from)
}

/// `~/.local/state/weir` of the invoking user.
pub(crate) fn default_path() -> PathBuf {
    let home = invoking_user_home().unwrap_or_else(|| PathBuf::from("."));
    home.join(".local/state/weir")
}

/// The token of a server's directory, for its clients. `None`: there is none, or not for this user.
pub(crate) fn token_in(path: &Path) -> Result<Option<String>, Failure> {
    match PrivateDir::open(path, Missing::Leave)? {
        Some(dir) => read_token(&dir),
        None => Ok(None),
    }
}

fn read_token(dir: &PrivateDir) -> Result<Option<String>, Failure> {
    let text = dir.read(TOKEN, TOKEN_FILE_BYTES_MAX)?;
    Ok(text.map(|text| text.trim().to_string()).filter(|token| !token.is_empty()))
}

/// A token that somebody else keeps, such as a mounted secret: its file may be a link, and others may read it.
pub(crate) fn token_of_file(path: &Path) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--token-file {}: {why}", path.display()));
    let text = text_file::read(path, TOKEN_FILE_BYTES_MAX);
    let text = text.map_err(|error| wrong(&error.to_string()))?;
    let text = text.ok_or_else(|| wrong("it is too long for a token"))?;
    let token = text.trim();
    if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("a token has at least 16 letters, digits or signs, and no blanks"));
    }
    Ok(token.to_string())
}

/// What a node wrote down last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) is_ready: bool,
    pub(crate) at_unix_ns: i64,
}

/// The last sign of life of the node of a directory; `None`: there is none, or none that could be read.
pub(crate) fn last_beat(path: &Path) -> Result<Option<Beat>, Failure> {
    let Some(dir) = PrivateDir::open(path, Missing::Leave)? else { return Ok(None) };
    let text = dir.read(BEAT, BEAT_FILE_BYTES_MAX)?.unwrap_or_default();
    let Some((state, at)) = text.trim().split_once(' ') else { return Ok(None) };
    Ok(at.parse().ok().map(|at_unix_ns| Beat { is_ready: state == "ready", at_unix_ns }))
}

pub(crate) fn new_token() -> Result<String, Failure> {
    let mut bytes = [0u8; TOKEN_BYTES];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got.ok() != Some(TOKEN_BYTES) {
        return Err(Failure::No("the kernel gave no randomness for a token".to_string()));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lock(dir: &PrivateDir, path: &Path) -> Result<File, Failure> {
    let file = match dir.create(LOCK)? {
        Some(file) => file,
        None => dir
            .file(LOCK, OFlags::RDWR, Privacy::Own)?
            .ok_or_else(|| Failure::No(format!("{}: the lock went away", path.display())))?,
    };
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::No(format!(
            "another server uses {}: stop it, or choose another --data-dir",
            path.display()
        ))
    })?;
    Ok(file)
}

impl DataDir {
    /// Creates what is missing and takes the directory for this process. `given`: the token, in place of its own;
    /// it is kept there as well, for commands of the same user.
    pub(crate) fn open(path: &Path, given: Option<String>) -> Result<DataDir, Failure> {
        let dir = PrivateDir::open(path, Missing::Create)?
            .ok_or_else(|| Failure::No(format!("{} cannot be made", path.display())))?;
        let lock = lock(&dir, path)?;
        let kept = read_token(&dir)?;
        let token = match (given, &kept) {
            (Some(token), _) => token,
            (None, Some(token)) => token.clone(),
            (None, None) => new_token()?,
        };
        if kept.as_ref() != Some(&token) {
            dir.replace(TOKEN, &format!("{token}\n"))?;
        }
        Ok(DataDir { token, dir: Arc::new(dir), _lock: lock })
    }

    /// The file in which long windows are kept, made if it is not there, and the directory's owner's.
    pub(crate) fn windows(&self) -> Result<PathBuf, Failure> {
        if self.dir.create(WINDOWS)?.is_none() {
            self.dir.file(WINDOWS, OFlags::RDWR, Privacy::Own)?;
        }
        self.dir.real_path_of(WINDOWS)
    }

    /// What was kept under a name, and how to keep it again.
    fn kept(&self, name: &'static str) -> StateStore {
        let said = |failure: Failure| match failure {
            Failure::No(text) => text,
            other => format!("{other:?}"),
        };
        let saved = self.dir.read(name, 2 * STATE_BYTES_MAX as u64).map_err(said);
        let saved = saved.map(Option::unwrap_or_default);
        let dir = self.dir.clone();
        StateStore { saved, save: Arc::new(move |text| dir.replace(name, text).map_err(said)) }
    }

    /// States of alerts, and what happened to them.
    pub(crate) fn alerts(&self) -> (StateStore, StateStore) {
        (self.kept(ALERTS), self.kept(ALERTS_HISTORY))
    }

    /// Writes down that this process lives.
    pub(crate) fn beat(&self) -> impl Fn(Beat) -> Result<(), Failure> + Clone + Send + use<> {
        let dir = self.dir.clone();
        move |beat| {
            let state = if beat.is_ready { "ready" } else { "starting" };
            dir.replace(BEAT, &format!("{state} {}\n", beat.at_unix_ns))
        }
    }

    /// The names of the nodes of a cluster, a line each.
    pub(crate) fn nodes(&self) -> StateStore {
        self.kept(NODES)
    }

    /// What was saved of the sessions of browsers, and how to save them again.
    pub(crate) fn sessions(&self) -> Result<weir_cluster::api::SessionStore, Failure> {
        let saved = self.dir.read(SESSIONS, SESSIONS_FILE_BYTES_MAX)?.unwrap_or_default();
        let dir = self.dir.clone();
        let save = move |text: &str| {
            dir.replace(SESSIONS, text).map_err(|failure| match failure {
                Failure::No(text) => std::io::Error::other(text),
                other => std::io::Error::other(format!("{other:?}")),
            })
        };
        Ok(weir_cluster::api::SessionStore { saved, save: Arc::new(save) })
    }
}
