//! Tests of `weir-sources` through its public parts: events or files in, rows out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod agent;
mod fixture;
mod local_metadata;
mod looking_away;
mod proc_source;
mod real;
mod reverse_dns;
mod rows_of;
mod socket_tracer;
mod tls;
