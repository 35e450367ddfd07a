//! Runs properties with a fixed seed, so that CI tests the same cases until somebody asks for
//! others, and a failure can be repeated by what its message says.
//!
//! `WEIR_PROPTEST_CASES` sets the number of cases of every property, `WEIR_PROPTEST_SEED` the seed,
//! `WEIR_PROPTEST_WORKERS` the number of workers, which is otherwise one, two or four by chance.

use std::fmt;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const SEED: u64 = 0x5765_6972;
/// Shrinking runs real engines: it may not take for ever.
const SHRINK_MS_MAX: u32 = 40_000;

/// What a variable asks for, such as more cases or a longer run.
///
/// # Panics
/// It is set, and no number.
#[must_use]
pub fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The number of workers that is asked for.
#[must_use]
pub fn workers_asked_for() -> Option<usize> {
    number_from_env("WEIR_PROPTEST_WORKERS").and_then(|workers| usize::try_from(workers).ok())
}

/// Checks the property on `cases` random values unless the environment asks for another number.
///
/// # Panics
/// If a case fails: with the seed, the smallest failing value found, and why.
#[track_caller]
pub fn check<S: Strategy, E: fmt::Display>(
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), E>,
) {
    let seed = number_from_env("WEIR_PROPTEST_SEED").unwrap_or(SEED);
    let cases = number_from_env("WEIR_PROPTEST_CASES")
        .map_or(cases, |cases| u32::try_from(cases).unwrap_or(u32::MAX));
    let config = Config {
        cases,
        // The largest number means something else to proptest.
        max_shrink_iters: u32::MAX - 1,
        max_shrink_time: SHRINK_MS_MAX,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&strategy, |value| {
        property(value).map_err(|why| TestCaseError::fail(why.to_string()))
    });
    if let Err(failure) = outcome {
        panic!("WEIR_PROPTEST_SEED={seed} WEIR_PROPTEST_CASES={cases}\n{failure}");
    }
}
