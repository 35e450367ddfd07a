//! What judges Weir: a slow, obvious evaluator of plans (`model`), generators of tables, plans and
//! PxL texts (`generate`), a driver that runs the real engine in both roles tick by tick against the
//! model (`drive`), and a harness for tests with real processes (`harness`).
//!
//! Nothing here is part of the product; the tests themselves are in `tests/`.
#![forbid(unsafe_code)]

pub mod check;
pub mod choices;
pub mod drive;
pub mod faulty_bus;
pub mod generate;
pub mod harness;
pub mod model;
