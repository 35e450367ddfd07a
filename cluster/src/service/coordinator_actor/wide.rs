//! What is known of the whole cluster, told by whoever watches it in this process.

use actix::prelude::*;
use weir_types::metadata::EntityChange;

use super::CoordinatorActor;

/// What changed since the last message. The answer is false if that one never came to this life of the coordinator:
/// then everything is to be told.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct TakeWide {
    /// Everything is told, in place of what was told before.
    pub whole: bool,
    pub cidrs: Vec<String>,
    pub changes: Vec<EntityChange>,
}

impl Handler<TakeWide> for CoordinatorActor {
    type Result = bool;

    fn handle(&mut self, message: TakeWide, _ctx: &mut Self::Context) -> bool {
        let TakeWide { whole, cidrs, changes } = message;
        self.core.take_wide_entities(whole, cidrs, changes)
    }
}
