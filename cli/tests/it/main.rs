//! The command from outside: the built binary, run as a user runs it.

mod demo;
