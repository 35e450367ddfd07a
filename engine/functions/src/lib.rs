//! Every PxL function once: name, overloads, semantic rule, documentation and Arrow implementation
//! stand together.
//!
//! * [`scalar`]: row functions and operators, one module per domain; [`eval`] runs expressions of
//!   them over batches.
//! * [`aggregate`]: what is added to an accumulator and how the result is read.
//! * [`table_functions`]: sources that are not tables; those answered by the registries run here.
//! * [`guess`]: what expressions will give, before rows are seen, for estimates.
//! * [`describe`]: the documentation of all of them, for `weir funcs` and the editor.
//!
//! It does *not* choose overloads with casts (there are none in PxL), schedule anything, or do IO:
//! what a function reads of the world is in [`EvalCtx`].
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod cuts;
pub mod describe;
mod error;
pub mod eval;
pub mod guess;
mod json;
mod kmeans;
mod operand;
mod output;
mod pattern;
pub mod scalar;
mod semantic;
pub mod table_functions;
mod wants;
pub mod work;

use std::sync::Arc;

use weir_types::metadata::MetadataSnapshot;

pub use error::FunctionError;
pub use semantic::SemanticRule;
pub use wants::{WANTED_MAX, Wants};

/// What functions may read besides their arguments.
#[derive(Clone, Debug, Default)]
pub struct EvalCtx {
    /// The tick's time.
    pub now_unix_ns: i64,
    pub metadata: Arc<MetadataSnapshot>,
    /// Where they note what they do not know.
    pub wants: Arc<Wants>,
}

/// Where a function may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    Anywhere,
    /// On the node that the row comes from: it reads that node's processes or sockets.
    Node,
    /// In the cluster part: it reads what only the whole cluster knows.
    Cluster,
}

impl Placement {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Placement::Anywhere => "anywhere",
            Placement::Node => "node",
            Placement::Cluster => "cluster",
        }
    }
}
