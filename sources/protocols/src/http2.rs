//! HTTP/2 is recognised, so that `conn_stats` names it; it is not read yet.

use crate::protocol::{Beginning, ProtocolDef, Verdict};
use crate::{Side, http1};

/// What a client that knows the server begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "http2",
    number: 2,
    tables: &[],
    has_datagrams: false,
    recognise,
    parsing: None,
};

fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let bytes = match beginning.at_start {
        true => http1::without_proxy_header(beginning.bytes),
        false => beginning.bytes,
    };
    match bytes.starts_with(PREFACE) && !beginning.is_datagram {
        true => Verdict::Is(Side::Request),
        false => Verdict::IsNot,
    }
}
