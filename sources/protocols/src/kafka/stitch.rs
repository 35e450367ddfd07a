//! Which response answers which request: the one with its correlation id ([`crate::by_id`]). Requests
//! that ask for no answer (Produce with `acks` 0) wait for none.

use super::parse::Pairing;
use crate::by_id::{ById, Limits};

pub(super) fn pairing(from_start: bool) -> Pairing {
    ById::new(from_start, Limits::default())
}
