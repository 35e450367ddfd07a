//! Addresses whose names `nslookup` was asked for. A function cannot wait for DNS: it notes the
//! addresses here, known or not; whoever resolves takes the notes and puts names into the metadata
//! snapshot.

use std::net::IpAddr;

use crate::notes::Notes;

/// As many addresses are noted at a time.
pub const WANTED_MAX: usize = 1024;

static WANTED: Notes<IpAddr> = Notes::new(WANTED_MAX);

pub(crate) fn want(addresses: &[IpAddr]) {
    WANTED.add(addresses);
}

/// The addresses noted since the last time.
#[must_use]
pub fn take_wanted() -> Vec<IpAddr> {
    WANTED.take()
}

/// How many were left out since the start.
#[must_use]
pub fn left_out() -> u64 {
    WANTED.left_out()
}
