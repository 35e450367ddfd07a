//! Supervised actors from outside: each test drives real actix systems; time is paused, so that
//! back-off takes none, except where a second thread is part of the case.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod actix_alone;
mod actors;
mod lifecycle;
mod mailbox;
mod parts;
mod restart;
mod switches;
