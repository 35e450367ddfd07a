//! The cluster part: which query runs where, the maintained views, and the API through which people
//! and programs read them.
//!
//! [`planner`] compiles and splits a request, [`coordinator`] installs it over feeds that it shares
//! with other queries and keeps its frontier, [`view`] holds its rows; these three are plain data.
//! [`judge`] looks at rule files with the compiler, and runs nothing. [`service`] gives them life as
//! actors, [`api`] serves HTTP and websockets. Rows are never computed here: that is the engine's.
#![forbid(unsafe_code)]

pub mod api;
pub mod coordinator;
pub mod cost;
mod feed;
pub mod judge;
pub mod planner;
pub mod service;
pub mod view;
