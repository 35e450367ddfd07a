//! What every crate's tests say when the machine lacks something they need. Nothing but tests calls
//! it.

use std::io::Write as _;

/// Says on stderr that a test did not run, and why. Where everything is required, as in CI
/// (`WEIR_REQUIRE_ALL`), a test that did not run has failed.
///
/// # Panics
/// If `WEIR_REQUIRE_ALL` is set.
#[track_caller]
pub fn skipped(why: impl std::fmt::Display) {
    assert!(
        std::env::var_os("WEIR_REQUIRE_ALL").is_none(),
        "skipped, though WEIR_REQUIRE_ALL is set: {why}"
    );
    // A closed stderr is no reason to fail.
    drop(writeln!(std::io::stderr(), "skipped: {why}"));
}
