//! Where changes go. A [`delivery`] is what every subscriber of a view receives; encoders make text of
//! it, and a [`sink`] writes it somewhere.
//!
//! Encoders, one folder a form: [`json`] (objects and live messages, written straight from packed rows),
//! [`csv`], [`table`] (text for people), and [`elements`], the lines of sinks. They are used by the API,
//! the command line and files alike, so that a row looks the same everywhere. Sinks, one folder a kind:
//! [`console`], [`file`]. No subscriptions and no retries here.
#![forbid(unsafe_code)]

pub mod console;
pub mod csv;
pub mod delivery;
pub mod elements;
pub mod file;
pub mod json;
pub mod sink;
pub mod table;
