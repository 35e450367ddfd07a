//! PxL text to plan or diagnostics. Pure: no IO, no panic.
//!
//! ```text
//! text ─syntax─▶ AST ─objects─▶ frames ─▶ ir ─passes─▶ Plan ─split─▶ node part + cluster part
//! vis.json ─vis─▶ calls ──────────┘
//! ```
//!
//! The stages, one folder each: `syntax` parses (ruff) and refuses what is not PxL; `objects`
//! evaluates the script symbolically, inlining its functions, which builds a graph of operators over
//! column *names* (`ir`); `passes` types it and makes it cheap; `split` cuts it in two. What a
//! function is and does is known only to `weir-functions`; nothing here touches a row.
#![forbid(unsafe_code)]

mod budget;
pub mod bundle;
mod codes;
mod compile;
mod diag;
mod explain;
mod export;
mod hint;
mod ir;
pub mod limits;
mod objects;
mod passes;
pub mod reference;
mod registry;
mod render;
mod row_key;
mod split;
mod syntax;
pub mod vis;

pub use budget::{Cancel, CancelOnDrop, Deadline};
pub use codes::Code;
pub use compile::{CompileOptions, Compiled, NamedView, Script, compile};
pub use explain::{Explained, OperatorTexts, SourceTexts, Stage, explain, operator_texts};
pub use export::{Export, OtelAttribute, OtelData, OtelEndpoint, OtelValue, SpanKind};
pub use hint::suggest;
pub use objects::named::ViewIndex;
pub use objects::trace::{
    AgentConfig, FunctionProbe, ProbeOutput, TraceBody, TraceProgram, TraceTarget, Tracepoint,
};
pub use render::{render_diagnostics, render_script_diagnostics};
pub use split::{Cut, split, split_with_reasons};
pub use syntax::pragmas::Pragmas;
pub use weir_functions::{describe, table_functions};
