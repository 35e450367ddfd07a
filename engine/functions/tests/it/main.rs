//! What functions answer, seen from outside: expressions over batches and aggregates over rows.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod aggregates;
mod asked;
mod describe;
mod hostile;
mod metadata;
mod overloads;
mod properties;
mod scalars;
mod support;
mod texts;
mod work;
