//! Orders to the sources of nodes, as messages to the coordinator.

use actix::prelude::*;
use weir_types::source::{OrderId, OrderOutcome, SourceOrder};

use super::coordinator_actor::CoordinatorActor;
use crate::coordinator::CoordinatorError;

/// Give a node's sources an order; it is given until the node tells what became of it.
#[derive(Message)]
#[rtype(result = "Result<OrderId, CoordinatorError>")]
pub struct GiveOrder {
    pub node: String,
    pub order: SourceOrder,
}

/// What became of an order; `None` while that is not known.
#[derive(Message)]
#[rtype(result = "Option<OrderOutcome>")]
pub struct AskOrder {
    pub node: String,
    pub id: OrderId,
}

impl Handler<GiveOrder> for CoordinatorActor {
    type Result = Result<OrderId, CoordinatorError>;
    fn handle(&mut self, message: GiveOrder, _ctx: &mut Self::Context) -> Self::Result {
        self.core.order(&message.node, message.order)
    }
}

impl Handler<AskOrder> for CoordinatorActor {
    type Result = Option<OrderOutcome>;
    fn handle(&mut self, message: AskOrder, _ctx: &mut Self::Context) -> Self::Result {
        self.core.outcome(&message.node, message.id).cloned()
    }
}
