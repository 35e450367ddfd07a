//! HTTP/1 as a protocol among others: how it is recognised, and its parser behind the common seam.

use super::parse::{recognise, recognise_first, without_proxy_header};
use super::stitch::{Context, Http1};
use super::table::write_columns;
use super::types::{Exchange, Pool};
use crate::protocol::{
    self, Beginning, Opening, Parser, Parsing, ProtocolDef, RowOf, Rows, Shared, Streams, Verdict,
    shared_as,
};
use crate::{Config, Counters, Side};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "http1",
    number: 1,
    tables: &["http_events"],
    has_datagrams: false,
    recognise: recognise_beginning,
    parsing: Some(Parsing {
        new: |opening: &Opening| Box::new(Http1::new(opening.from_start)),
        shared: || Box::new(OfThread::default()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Waiting requests have 1 MiB; besides, a message of either side has a head, and bodies of which
/// only a beginning is kept.
const PARSER_BYTES_MAX: usize = 2 << 20;

#[derive(Debug, Default)]
struct OfThread {
    pool: Pool,
    /// Where bodies are put together as rows show them.
    scratch: Vec<u8>,
}

impl Shared for OfThread {
    fn held_bytes(&self) -> usize {
        self.pool.held_bytes() + self.scratch.capacity()
    }
}

/// At the start of a connection that was watched from there, a server takes anything for a request.
fn recognise_beginning(beginning: &Beginning<'_>) -> Verdict {
    if beginning.is_datagram {
        return Verdict::IsNot;
    }
    let (bytes, request) = match beginning.at_start {
        true if beginning.opened => {
            let bytes = without_proxy_header(beginning.bytes);
            (bytes, recognise_first(Side::Request, bytes))
        }
        true => {
            let bytes = without_proxy_header(beginning.bytes);
            (bytes, recognise(Side::Request, bytes))
        }
        false => (beginning.bytes, recognise(Side::Request, beginning.bytes)),
    };
    if bytes.is_empty() {
        return Verdict::IsNot;
    }
    Verdict::of(request, recognise(Side::Response, bytes))
}

fn write_row(rows: &mut dyn Rows, config: &Config, scratch: &mut Vec<u8>, exchange: &Exchange<'_>) {
    config.check_fault(&exchange.request.path);
    let time_unix_ns = exchange.time_unix_ns();
    let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
    rows.row(&of, &mut |builder| write_columns(builder, exchange, &config.redactor, scratch));
}

impl Http1 {
    fn with(
        &mut self,
        streams: &mut Streams<'_>,
        ctx: &mut protocol::Context<'_>,
        step: fn(&mut Http1, &mut Streams<'_>, &mut Context<'_>),
    ) {
        let protocol::Context { now_unix_ns, config, shared, rows } = ctx;
        let OfThread { pool, scratch } = shared_as::<OfThread>(*shared);
        let mut emit = |exchange: Exchange<'_>| write_row(*rows, config, scratch, &exchange);
        let now_unix_ns = *now_unix_ns;
        step(self, streams, &mut Context { now_unix_ns, config, pool, emit: &mut emit });
    }
}

impl Parser for Http1 {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut protocol::Context<'_>) {
        self.with(streams, ctx, |http, streams, ctx| {
            http.advance(streams.requests, streams.responses, ctx);
        });
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut protocol::Context<'_>) {
        self.with(streams, ctx, |http, streams, ctx| {
            http.close(streams.requests, streams.responses, ctx);
        });
    }

    fn is_done(&self) -> bool {
        self.is_opaque()
    }

    fn is_handed_over(&self) -> bool {
        Http1::is_handed_over(self)
    }

    fn is_waiting(&self) -> bool {
        Http1::is_waiting(self)
    }

    fn counters(&self) -> Counters {
        Http1::counters(self)
    }

    fn held_bytes(&self) -> usize {
        Http1::held_bytes(self)
    }

    fn give_up(&mut self, shared: &mut dyn Shared) {
        Http1::give_up(self, &mut shared_as::<OfThread>(shared).pool);
    }
}
