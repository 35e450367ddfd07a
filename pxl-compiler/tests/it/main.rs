//! Tests of the compiler through its public interface, by data: goldens in `tests/goldens` are
//! rewritten with `UPDATE_GOLDEN=1`.

mod bundle;
mod diagnostics;
mod frames;
mod golden;
mod never_panics;
mod plans;
mod split;
mod vis;
