//! Tests of what needs no server; what does is in `server_tests`.

use std::time::Duration;

use super::*;

/// Waits grow up to the last, and are not the same for all.
#[test]
fn waits_are_bounded_and_spread() {
    let pace = Pace::default();
    let at = |errors: u32, spread: u64| pace.wait(errors, spread);
    assert!(at(1, 0) >= pace.retry_first && at(1, 0) < 2 * pace.retry_first);
    assert!(at(4, 0) > at(2, 0));
    for errors in [1, 7, 100, u32::MAX] {
        for spread in [0, 13, u64::MAX] {
            assert!(at(errors, spread) <= pace.retry_last * 3 / 2);
        }
    }
    assert_ne!(at(20, 1), at(20, 2));
}

/// A server that is not there is no end of anything: it is said of each kind, and tried again.
#[test]
fn nobody_answers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
";
    std::fs::write(file.path(), text).unwrap();
    let access = Access::of_file(file.path()).unwrap();
    let pace = Pace { retry_first: Duration::from_millis(10), ..Pace::default() };
    let mut watches = Watches::start(access, Scope::Node("n".to_string()), pace).unwrap();
    let failed_twice = |watches: &Watches| {
        let states = watches.states();
        states.len() == WATCHED.len() && states.values().all(|kind| kind.errors_total > 1)
    };
    for _ in 0..500 {
        if failed_twice(&watches) {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(failed_twice(&watches), "{:?}", watches.states());
    assert!(watches.missing().contains("pods: "), "{}", watches.missing());
    assert!(watches.take().is_none() && !watches.are_synced());
}

/// What is wrong with a file is said with its place, and nothing that is in it: it may be a token.
#[test]
fn wrong_files_are_not_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "apiVersion: v1\nusers: [{name: u, user: {token: [s3cret]}}]\n";
    std::fs::write(file.path(), text).unwrap();
    let said = Access::of_file(file.path()).unwrap_err().to_string();
    assert!(said.contains("line 2") && !said.contains("s3cret"), "{said}");
}
