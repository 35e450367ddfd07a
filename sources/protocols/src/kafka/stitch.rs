//! Which response answers which request: the one with its correlation id ([`crate::by_id`]). Requests
//! that ask for no answer (Produce with `acks` 0) wait for none.

use crate::by_id::{ById, Limits};

use super::parse::Pairing;

pub(super) fn pairing(from_start: bool) -> Pairing {
    // Clients count their requests.
    ById::new(from_start, Limits { ids_repeat: false, ..Limits::default() })
}
