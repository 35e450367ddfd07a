//! Tests of the whole dataflow: model, functions, engine and compiler against each other.

mod compiler;
mod engine;
mod functions;
mod harness;
mod model;
mod operators;
mod support;
mod windows;
