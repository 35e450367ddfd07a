//! The eight columns that every table of a protocol begins with: who talked to whom. The table of TLS
//! handshakes has no `encrypted`.

use super::typed::Cells;
use super::{ColumnDef, column, label};
use crate::batch::BatchBuilder;
use crate::value::{DataType, SemanticType};

/// How many columns [`Endpoints`] are, with `encrypted`.
pub const ENDPOINT_COLUMNS: usize = 8;

/// The first eight columns of a protocol's row.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints<'a> {
    pub time_unix_ns: i64,
    pub upid: u128,
    /// IP text, `-` if unknown, `unix_socket:<path>` for Unix sockets.
    pub remote_addr: &'a str,
    /// −1 if unknown; of Unix sockets the inode.
    pub remote_port: i64,
    pub local_addr: &'a str,
    pub local_port: i64,
    /// 1 client, 2 server, 4 unknown.
    pub trace_role: i64,
    pub encrypted: bool,
}

impl Endpoints<'_> {
    /// Writes them as the first columns of a row; the protocol's own follow.
    pub fn write(&self, builder: &mut BatchBuilder) {
        self.put(&mut Cells::of(builder));
    }

    /// The same for a table that has no `encrypted`.
    pub fn write_without_encrypted(&self, builder: &mut BatchBuilder) {
        self.put_without_encrypted(&mut Cells::of(builder));
    }

    pub(super) fn put(&self, cells: &mut Cells<'_>) {
        self.put_without_encrypted(cells);
        cells.put(self.encrypted);
    }

    pub(super) fn put_without_encrypted(&self, cells: &mut Cells<'_>) {
        cells.put(self.time_unix_ns);
        cells.put(self.upid);
        cells.put(self.remote_addr.as_bytes());
        cells.put(self.remote_port);
        cells.put(self.local_addr.as_bytes());
        cells.put(self.local_port);
        cells.put(self.trace_role);
    }
}

pub(super) const fn time(desc: &'static str) -> ColumnDef {
    column("time_", DataType::Time64Ns, SemanticType::None, desc)
}

pub(super) const UPID: ColumnDef =
    column("upid", DataType::Uint128, SemanticType::Upid, "The traced process.");
pub(super) const REMOTE_ADDR: ColumnDef = label(
    "remote_addr",
    SemanticType::IpAddress,
    "IP address of the peer; `-` when unknown, `unix_socket:<path>` for Unix peers.",
);
pub(super) const REMOTE_PORT: ColumnDef = column(
    "remote_port",
    DataType::Int64,
    SemanticType::Port,
    "Port of the peer, inode of a Unix one; -1 when unknown.",
);
pub(super) const LOCAL_ADDR: ColumnDef = label(
    "local_addr",
    SemanticType::IpAddress,
    "IP address of the traced side; `-` when unknown.",
);
pub(super) const LOCAL_PORT: ColumnDef = column(
    "local_port",
    DataType::Int64,
    SemanticType::Port,
    "Port of the traced side, inode of a Unix one; -1 when unknown.",
);
pub(super) const TRACE_ROLE: ColumnDef = column(
    "trace_role",
    DataType::Int64,
    SemanticType::None,
    "The traced side: 1 client, 2 server, 4 unknown.",
);
pub(super) const ENCRYPTED: ColumnDef =
    column("encrypted", DataType::Boolean, SemanticType::None, "Captured above TLS.");
