//! What others lay into, or leave in, a data directory. Tests of another owner need root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refusal(path: &Path) -> String {
    match DataDir::open(path, None) {
        Err(Failure::No(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{} was taken", path.display()),
    }
}

fn client_refusal(path: &Path) -> String {
    match token_in(path) {
        Err(Failure::No(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The token is private, survives restarts, and two servers do not share a directory.
#[test]
fn keeps_the_token_and_locks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let first = DataDir::open(&path, None).unwrap();
    assert_eq!(first.token.len(), 2 * TOKEN_BYTES);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("token")), 0o600);
    assert!(refusal(&path).contains("another server"));
    let token = first.token.clone();
    assert_eq!(token_in(&path).unwrap(), Some(token.clone()));
    drop(first);
    assert_eq!(DataDir::open(&path, None).unwrap().token, token);
}

/// A directory that is not there has no token, and looking makes none: catches a client that creates.
#[test]
fn a_client_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    assert_eq!(token_in(&path).unwrap(), None);
    assert!(!dir.path().join("a").try_exists().unwrap());
}

/// Links in place of our files are refused by name, and what they point to stays as it was: neither
/// changed, nor created, nor read.
#[test]
fn links_are_not_followed() {
    for name in ["lock", "token", "sessions"] {
        for there in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("data");
            let victim = dir.path().join("victim");
            if there {
                fs::write(&victim, "root's own").unwrap();
                fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
            }
            drop(DataDir::open(&path, None).unwrap());
            let _ = fs::remove_file(path.join(name));
            symlink(&victim, path.join(name)).unwrap();
            let said = match DataDir::open(&path, None) {
                Ok(data) => match data.sessions() {
                    Err(Failure::No(text)) => text,
                    _ => panic!("{name} was followed"),
                },
                Err(Failure::No(text)) => text,
                Err(other) => panic!("{other:?}"),
            };
            assert!(said.contains(name) && said.contains("symbolic link"), "{said}");
            assert!(!said.contains("root's own"), "{said}");
            assert_eq!(victim.try_exists().unwrap(), there);
            if there {
                assert_eq!(fs::read_to_string(&victim).unwrap(), "root's own");
            }
        }
    }
}

/// A client hands nothing to a server that it found behind a link, and says so.
#[test]
fn a_client_follows_no_links() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "root's own").unwrap();
    let path = dir.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    symlink(&secret, path.join("token")).unwrap();
    assert!(client_refusal(&path).contains("symbolic link"));
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(client_refusal(&link).contains("symbolic link"));
}

/// The directory itself may be no link, also not with something behind its name.
#[test]
fn the_directory_is_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = dir.path().join("link");
    symlink(&real, &link).unwrap();
    for name in ["link", "link/", "link/."] {
        assert!(refusal(&dir.path().join(name)).contains("symbolic link"), "{name}");
    }
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    // Our own link further up is a way like any other.
    assert!(DataDir::open(&link.join("below"), None).is_ok());
}

/// Hard links, pipes, devices and directories are no files of ours; a pipe does not keep us waiting.
#[test]
fn only_plain_files() {
    for name in ["lock", "token"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(DataDir::open(&path, None).unwrap());
        let file = path.join(name);
        fs::hard_link(&file, dir.path().join("elsewhere")).unwrap();
        assert!(refusal(&path).contains("hard link"));
        fs::remove_file(&file).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(refusal(&path).contains("plain file"));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(refusal(&path).contains(name));
    }
}

/// What others may write is not ours; what others may read is no secret.
#[test]
fn modes_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(DataDir::open(&path, None).unwrap());
    for (what, mode, part) in [
        ("token", 0o640, "chmod 600"),
        ("token", 0o602, "chmod 600"),
        ("lock", 0o666, "chmod 600"),
        ("", 0o770, "chmod 700"),
        ("", 0o707, "chmod 700"),
    ] {
        let file = if what.is_empty() { path.clone() } else { path.join(what) };
        let before = self::mode(&file);
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        assert!(refusal(&path).contains(part), "{what} {mode:o}");
        fs::set_permissions(&file, Permissions::from_mode(before)).unwrap();
    }
    // What others may only read is closed; but not somebody's directory for other things.
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    drop(DataDir::open(&path, None).unwrap());
    assert_eq!(mode(&path), 0o700);
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "").unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
    assert!(refusal(&other).contains("other things"));
    assert_eq!(mode(&other), 0o755);
}

/// Directories and files of another user are refused, and stay as they were: catches `chown` through
/// what somebody else has prepared.
#[test]
fn owners_are_judged() {
    if !rustix::process::geteuid().is_root() {
        weir_types::testing::skipped("needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(DataDir::open(&path, None).unwrap());
    for name in ["lock", "token"] {
        chown(path.join(name), Some(12_345), None).unwrap();
        assert!(refusal(&path).contains("12345"));
        assert_eq!(fs::metadata(path.join(name)).unwrap().uid(), 12_345);
        chown(path.join(name), Some(0), None).unwrap();
    }
    chown(&path, Some(12_345), None).unwrap();
    assert!(refusal(&path).contains("another user"));
    assert!(client_refusal(&path).contains("another user"));
    // A link that another user has laid on the way.
    chown(&path, Some(0), None).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
    assert!(refusal(&link.join("data")).contains("another user"));
}

/// Sessions are kept beside the token, as private.
#[test]
fn keeps_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let data = DataDir::open(&path, None).unwrap();
    let store = data.sessions().unwrap();
    assert_eq!(store.saved, "");
    (store.save)("one").unwrap();
    (store.save)("two").unwrap();
    assert_eq!(mode(&path.join("sessions")), 0o600);
    drop(store);
    drop(data);
    assert_eq!(DataDir::open(&path, None).unwrap().sessions().unwrap().saved, "two");
}

/// A token that is given is the server's, also to commands of its user, and one that would be guessed is refused.
#[test]
fn given_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let own = DataDir::open(&path, None).unwrap().token.clone();
    let file = dir.path().join("secret");
    fs::write(&file, "a-token-of-16-and-more\n").unwrap();
    let link = dir.path().join("mounted");
    symlink(&file, &link).unwrap();
    let given = token_of_file(&link).unwrap();
    assert_eq!(DataDir::open(&path, Some(given.clone())).unwrap().token, given);
    assert_eq!(token_in(&path).unwrap(), Some(given.clone()));
    assert!(given != own && mode(&path.join("token")) == 0o600);
    let blanks = " ".repeat(5_000);
    for text in [
        "",
        "short",
        "with blanks in it, and long",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        &blanks,
    ] {
        fs::write(&file, text).unwrap();
        let Err(Failure::Usage(why)) = token_of_file(&file) else { panic!("{text}") };
        assert!(why.contains("--token-file") && (text.is_empty() || !why.contains(text)), "{why}");
    }
    for path in ["/nonexistent", "/dev/zero", "/"] {
        assert!(matches!(token_of_file(Path::new(path)), Err(Failure::Usage(_))), "{path}");
    }
}

/// What a node writes down is what a probe reads; what is none is no life.
#[test]
fn signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert_eq!(last_beat(&path).unwrap(), None);
    let data = DataDir::open(&path, None).unwrap();
    assert_eq!(last_beat(&path).unwrap(), None);
    for beat in [
        Beat { is_ready: false, at_unix_ns: 1 },
        Beat { is_ready: true, at_unix_ns: 1_790_000_000_000_000_000 },
    ] {
        data.beat()(beat).unwrap();
        assert_eq!(last_beat(&path).unwrap(), Some(beat));
    }
    for text in ["", "ready", "ready x", "1 ready"] {
        fs::write(path.join("alive"), text).unwrap();
        assert_eq!(last_beat(&path).unwrap(), None, "{text}");
    }
    fs::write(path.join("alive"), "x".repeat(100)).unwrap();
    assert!(last_beat(&path).is_err());
}
