//! Hellos and alerts as a row of `tls_events`. What a hello does not say is not in its object.

use weir_types::BatchBuilder;
use weir_types::tables::TlsEventsRow;

use super::types::{ClientHello, HANDSHAKE, Request, Response, ServerHello};
use crate::json_text::JsonText;

/// Bytes of names that a column shows.
const TEXT_BYTES_MAX: usize = 1_024;

/// `TLS1.3`; a number that stands for no version as it is.
fn version_text(version: u16) -> String {
    match version {
        0x0300 => "SSL3.0".to_string(),
        0x0301..=0x0304 => format!("TLS1.{}", version - 0x0301),
        other => format!("0x{other:04x}"),
    }
}

/// The whole object.
pub(super) fn client_text(hello: &ClientHello<'_>) -> Vec<u8> {
    let mut json = JsonText::new(Vec::new(), TEXT_BYTES_MAX);
    json.raw("{").key("version").whole(version_text(hello.version).as_bytes());
    if let Some(sni) = hello.sni {
        json.key("sni").string(sni);
    }
    if !hello.alpn.is_empty() {
        json.key("alpn").raw("[");
        for name in &hello.alpn {
            json.comma().string(name);
        }
        json.raw("]");
    }
    if !hello.versions.is_empty() {
        json.key("versions").raw("[");
        for version in &hello.versions {
            json.comma().whole(version_text(*version).as_bytes());
        }
        json.raw("]");
    }
    json.raw("}");
    json.finish()
}

/// The members, to which an alert may be added.
pub(super) fn server_members(hello: &ServerHello<'_>) -> Vec<u8> {
    let mut json = JsonText::new(Vec::new(), TEXT_BYTES_MAX);
    json.key("version").whole(version_text(hello.version).as_bytes());
    json.key("cipher").whole(format!("0x{:04x}", hello.cipher).as_bytes());
    if let Some(alpn) = hello.alpn {
        json.key("alpn").string(alpn);
    }
    json.finish()
}

/// Writes the columns behind the endpoints'.
pub(super) fn write_columns(builder: &mut BatchBuilder, request: &Request, response: &Response) {
    let alert = response.alert.map(|alert| format!("\"alert\":{alert}")).unwrap_or_default();
    let joint = if response.members.is_empty() || alert.is_empty() { "" } else { "," };
    let resp_body =
        [b"{", response.members.as_slice(), joint.as_bytes(), alert.as_bytes(), b"}"].concat();
    let row = TlsEventsRow {
        req_type: i64::from(HANDSHAKE),
        req_body: &request.body,
        resp_body: &resp_body,
        latency: response.begin_ns.saturating_sub(request.begin_ns).max(0),
    };
    row.write(builder);
}
