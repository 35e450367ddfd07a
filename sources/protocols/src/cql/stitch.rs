//! Which response answers which request: the one with its stream ([`crate::by_id`]). Clients use a
//! stream again as soon as it was answered.

use super::types::Said;
use crate::by_id::{ById, Limits};

pub(super) type Pairing = ById<i16, Said, Said>;

pub(super) fn pairing(from_start: bool) -> Pairing {
    Pairing::new(from_start, Limits::default()).with_ids_again()
}
