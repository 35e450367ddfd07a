//! Incremental dataflow over plans, on timely and differential dataflow.
//!
//! An [`Engine`] owns worker threads that keep the results of installed parts of plans true: a *node*
//! part turns the rows of tables into changes on exchanges; *feeds* and *queries*, in the cluster part, keep
//! windows of such changes and turn them into changed result rows. Everything that timely and differential
//! are called stays inside this crate. It does *not* compile, read clocks for event time or know where rows
//! come from.
//!
//! How it fits together:
//!
//! * `api` has what goes in and out; `engine` is the handle that any thread may use;
//! * each worker thread has a queue (`queue`). A command that concerns all workers is put into all
//!   queues under one short lock, so every worker sees installs, drops and closed ticks in the same
//!   order, which timely requires of dataflow construction;
//! * `mesh` is how the processes of an engine find each other, `order` says such commands on to them, in that
//!   order;
//! * `budget` has what a query may hold and how long it may work before others have their turn;
//! * `operators` counts what each operator does;
//! * `worker` applies commands, steps timely and reports frontiers;
//! * `prepare` checks and compiles a part once, off the workers; `render` builds its operators;
//! * `render/publish` hands what a feed's windows tell to the dataflows of the queries that read them;
//! * `generations` replaces an engine that died;
//! * `sizes` says what operators will keep, for estimates;
//! * `history` keeps the recent rows of tables for back-fill. It is not used by the engine itself.
//!
//! Logical time is `u64` milliseconds since the epoch; every timestamp of a query is a multiple of
//! its refresh. Event time (`time_`) is data, in nanoseconds.
#![forbid(unsafe_code)]

mod api;
mod budget;
mod engine;
mod generations;
pub mod history;
mod memory;
mod mesh;
mod operators;
mod order;
mod prepare;
mod query;
mod queue;
mod render;
pub mod sizes;
mod weigh;
mod worker;

pub use api::{
    EngineConfig, EngineError, EngineEvent, EngineStats, FeedExchange, Install, Intake, Limits,
    Part, ProcessFigures, QueryId, QueryStats, TEST_DEATH_LITERAL, TEST_DEATHS_LITERAL,
    TEST_PANIC_LITERAL, TableStats, Unread, WorkerStats, failure_code,
};
pub use engine::Engine;
pub use generations::{EmitOfGeneration, Generations, RestartPace};
pub use mesh::{Deposits, Mesh, MeshConfig, MeshStatus};
pub use prepare::{PlanPrograms, ReadyProgram, preparations_here};
pub use weir_functions::cuts::Cuts;
/// What expressions and aggregates will give, guessed.
pub use weir_functions::guess;
pub use weir_functions::scalar::pii::push_redacted as push_without_pii;
/// Whether names that were lost concern a call's result.
pub use weir_functions::scalar::reads_names;
/// The columns of table functions: whoever answers one gives rows of them.
pub use weir_functions::table_functions;
