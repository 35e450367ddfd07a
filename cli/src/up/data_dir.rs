//! The data directory: 0700, owned by the invoking user also under sudo, used by one server at a
//! time, with the token in it (0600, made once and kept).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 24;

pub(crate) struct DataDir {
    pub(crate) token: String,
    /// Held as long as the server runs.
    _lock: File,
}

/// (uid, gid) of who called sudo.
fn sudo_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

/// Home of the invoking user, also under sudo.
pub(crate) fn invoking_user_home() -> Option<PathBuf> {
    if let Some((uid, _)) = sudo_user()
        && let Ok(passwd) = fs::read_to_string("/etc/passwd")
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

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    Failure::No(format!("could not {what} {}: {error}; choose another --data-dir", path.display()))
}

/// Gives a path to who called sudo.
fn hand_over(path: &Path) -> Result<(), Failure> {
    match sudo_user() {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid))
            .map_err(|error| failed(path, "change the owner of", &error)),
        None => Ok(()),
    }
}

/// Creates the directory and its parents; what is new belongs to the invoking user.
fn create(path: &Path) -> Result<(), Failure> {
    let mut missing = Vec::new();
    let mut at = Some(path);
    while let Some(part) = at
        && !part.is_dir()
        && !part.as_os_str().is_empty()
    {
        missing.push(part.to_path_buf());
        at = part.parent();
    }
    for part in missing.iter().rev() {
        let mode = if part == path { 0o700 } else { 0o755 };
        fs::DirBuilder::new()
            .mode(mode)
            .create(part)
            .map_err(|error| failed(part, "create", &error))?;
        hand_over(part)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|error| failed(path, "protect", &error))
}

fn new_token() -> Result<String, Failure> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0u8; TOKEN_BYTES];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| failed(source, "read", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_or_create_token(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_string()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(path, "read", &error)),
    }
    let token = new_token()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, "create", &error))?;
    writeln!(file, "{token}").map_err(|error| failed(path, "write", &error))?;
    hand_over(path)?;
    Ok(token)
}

impl DataDir {
    /// Creates what is missing and takes the directory for this process.
    pub(crate) fn open(path: &Path) -> Result<DataDir, Failure> {
        create(path)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed(&lock_path, "create", &error))?;
        hand_over(&lock_path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::No(format!(
                "another server uses {}: stop it, or choose another --data-dir",
                path.display()
            ))
        })?;
        let token = read_or_create_token(&path.join("token"))?;
        Ok(DataDir { token, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token is private, survives restarts, and two servers do not share a directory.
    #[test]
    fn keeps_the_token_and_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(first.token.len(), 2 * TOKEN_BYTES);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("token")), 0o600);
        assert!(
            matches!(DataDir::open(&path), Err(Failure::No(text)) if text.contains("another server"))
        );
        let token = first.token.clone();
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().token, token);
    }
}
