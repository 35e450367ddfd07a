//! Alert rules without the world around them: rule files and their templates, the states of alerts over changes of
//! rows, and the bytes that receivers are sent.
//!
//! Pure by intent: no IO, no clock, no actors, no compiler. Files come in as text, rows as values, times as
//! numbers; what comes out are verdicts, alerts and bytes. Who compiles `expr`, feeds rows and sends bytes is
//! elsewhere (the command line, the cluster part).
#![forbid(unsafe_code)]

pub mod check;
pub mod duration;
pub mod file;
pub mod labels;
pub mod notify;
pub mod pack;
pub mod preview;
pub mod state;
pub mod template;
pub mod unit;
pub mod yaml;
