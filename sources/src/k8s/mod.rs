//! Watches of the API server of Kubernetes: a thread that lists and watches each kind of object that is
//! read, and hands on what changes in bounded batches. Whoever takes too little makes it wait, and nothing
//! else.
//!
//! * Each kind is for itself: what may not be read is asked for again, later and later, while the rest works.
//! * A watch that breaks is resumed where it was; where that is too long ago, or it was never there, the kind
//!   is listed anew, and what the list does not have is gone.
//! * A server that says nothing for longer than a watch may last is asked again.
//! * Of an object only what is read stays ([`crate::metadata::k8s::objects`]); one that is too large, or
//!   has a field of another type, is left out and counted.
//!
//! Not here: what objects mean ([`crate::metadata::k8s`]), and whether there is a Kubernetes at all
//! (whoever starts it says so).

mod access;
mod client;
mod kinds;
mod state;
mod watch;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

pub use access::{Access, AccessError, kubeconfig};
pub use client::{AnswerLimits, client};
pub use kinds::{Scope, WATCHED, Watched};
pub use state::{KindState, WatchState};
pub use watch::{Pace, Watches};
