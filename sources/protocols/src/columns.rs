//! The columns that every protocol table begins with ("C8"): who talked to whom.
//!
//! The caller (connection tracker) knows them; a protocol's `table` module writes them in front of
//! its own.

pub use weir_types::tables::Endpoints;

/// `trace_role` of a client: the traced process sent the request.
pub const ROLE_CLIENT: i64 = 1;
/// `trace_role` of a server: the traced process answered.
pub const ROLE_SERVER: i64 = 2;
