//! The columns that every protocol table begins with ("C8"): who talked to whom.
//!
//! The caller (connection tracker) knows them; a protocol's `table` module writes them in front of
//! its own.

use weir_types::BatchBuilder;

/// `trace_role` of a client: the traced process sent the request.
pub const ROLE_CLIENT: i64 = 1;
/// `trace_role` of a server: the traced process answered.
pub const ROLE_SERVER: i64 = 2;
/// `trace_role` when neither is known.
pub const ROLE_UNKNOWN: i64 = 4;

/// How many columns [`Endpoints::append`] fills.
pub const ENDPOINT_COLUMNS: usize = 8;

/// The first eight columns of a protocol table, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints<'a> {
    pub time_unix_ns: i64,
    pub upid: u128,
    /// IP text, `-` if unknown, `unix_socket:<path>` for Unix sockets.
    pub remote_addr: &'a str,
    /// −1 if unknown.
    pub remote_port: i64,
    pub local_addr: &'a str,
    pub local_port: i64,
    /// [`ROLE_CLIENT`], [`ROLE_SERVER`] or [`ROLE_UNKNOWN`].
    pub trace_role: i64,
    pub encrypted: bool,
}

impl Endpoints<'_> {
    /// Fills columns 0 to 7 of the current row.
    pub fn append(&self, builder: &mut BatchBuilder) {
        builder.int64(0, self.time_unix_ns);
        builder.uint128(1, self.upid);
        builder.string(2, self.remote_addr.as_bytes());
        builder.int64(3, self.remote_port);
        builder.string(4, self.local_addr.as_bytes());
        builder.int64(5, self.local_port);
        builder.int64(6, self.trace_role);
        builder.boolean(7, self.encrypted);
    }
}
