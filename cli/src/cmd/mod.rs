//! One file a command. A command asks (a server, or the compiler at hand) and prints.

pub(crate) mod alert_add;
pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod explain_cost;
pub(crate) mod explain_live;
pub(crate) mod lists;
pub(crate) mod live;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod rules;
pub(crate) mod run;
