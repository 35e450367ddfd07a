//! Tests of the whole dataflow: model, functions, engine and compiler against each other.

mod appendix_a;
mod bundle;
mod bus_faults;
mod compiler;
mod costs;
mod engine;
mod frames;
mod functions;
mod harness;
mod limits;
mod losses;
mod model;
mod operators;
mod overflow;
mod scripts;
mod sharing;
mod store;
mod support;
mod takeover;
mod truth;
mod windows;
