//! The waist of Weir: every other crate speaks in these types and none of them in another's.
//!
//! Values and their types, schemas and the table registry, Arrow batches, packed rows, expressions,
//! plans and their parts, accumulators, diagnostics, live messages, the ledger of losses and the clock. It does *not*
//! evaluate expressions (`weir-functions`), run plans (`weir-engine`), compile text (`weir-pxl`) or
//! do any IO; timely, actix, tokio and eBPF are unknown here.
#![forbid(unsafe_code)]

pub mod acc;
pub mod batch;
pub mod canonical;
pub mod clock;
pub mod diagnostic;
pub mod expr;
pub mod figures;
pub mod json;
pub mod ledger;
pub mod live;
pub mod metadata;
pub mod plan;
pub mod random;
pub mod row;
pub mod schema;
pub mod shared;
pub mod source;
pub mod split;
pub mod tables;
pub mod testing;
pub mod text;
pub mod upid;
pub mod value;
mod wire;

pub use batch::{BatchBuilder, RecordBatch};
pub use clock::{Clock, ManualClock, SteadyClock, WallClock};
pub use diagnostic::{Diagnostic, Severity};
pub use expr::Expr;
pub use plan::{Op, OpId, OpKind, Plan, Scan};
pub use row::PackedRow;
pub use schema::{Column, Relation};
pub use upid::Upid;
pub use value::{DataType, SemanticType, Value};
