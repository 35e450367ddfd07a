//! Where changes go: encoders of rows and changes, and the writers that use them.
//!
//! One folder a form: [`json`] (objects and live messages, written straight from packed rows),
//! [`csv`], [`table`] (text for people). They are used by the API, the command line and files alike,
//! so that a row looks the same everywhere. No subscriptions and no retries here.
#![forbid(unsafe_code)]

pub mod csv;
pub mod delivery;
pub mod json;
pub mod table;
