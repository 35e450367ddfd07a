//! A view as OpenTelemetry's metrics and spans, pushed by OTLP over HTTP or gRPC. What rows become a [`spec`] says:
//! `px.export`'s, or gauges of all numbers of a view that is kept (its rows at their ticks; one that is gone has no
//! recorded value; what does not change is said again every minute).

mod grpc;
mod message;
mod rows;
pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use weir_types::clock::tick_unix_ns;
use weir_types::{PackedRow, Value};

use crate::delivery::OutputInfo;
use crate::element::{Body, Described, Element};
use crate::http_client::{Client, Target};
use crate::series::{self, Pushed, REFRESH_EVERY, Receiver};
use crate::sink::{Notes, SinkError, Writer};

use self::message::Answer;
use self::rows::{Made, Row};
use self::spec::Spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
}

/// Which of OTLP's two services.
#[derive(Clone, Copy)]
enum Service {
    Metrics,
    Traces,
}

enum Transport {
    Http(Client),
    Grpc(Box<grpc::Client>),
}

/// The other end, and what it said that it did not keep.
struct Sender {
    transport: Transport,
    /// What rows of each input become.
    specs: BTreeMap<u16, Spec>,
    notes: Notes,
}

pub struct OtelSink {
    sender: Sender,
    prefix: String,
    /// What was declared of inputs; of the others all numbers are gauges.
    declared: BTreeMap<u16, Spec>,
    pushed: Pushed,
}

/// # Errors
/// There is nothing to show.
pub fn judge(info: &OutputInfo) -> Result<(), SinkError> {
    spec::gauges("weir", "x", info).map(drop).map_err(SinkError::Refused)
}

/// # Errors
/// It is no address for gRPC.
pub fn judge_address(url: &str) -> Result<(), String> {
    grpc::parts_of(url).map(drop)
}

/// The address of one of the services: base and path, before what is asked.
fn address(url: &str, service: Service) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
    let base = base.trim_end_matches('/');
    let base = base.strip_suffix("/v1/metrics").or(base.strip_suffix("/v1/traces")).unwrap_or(base);
    let path = match service {
        Service::Metrics => "v1/metrics",
        Service::Traces => "v1/traces",
    };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{base}/{path}{query}")
}

fn nanos(at_ms: u64) -> u64 {
    u64::try_from(tick_unix_ns(at_ms)).unwrap_or(0)
}

impl OtelSink {
    #[must_use]
    pub fn new(
        target: Target,
        protocol: Protocol,
        prefix: &str,
        declared: BTreeMap<u16, Spec>,
    ) -> OtelSink {
        let transport = match protocol {
            Protocol::Http => Transport::Http(Client::new(target)),
            Protocol::Grpc => Transport::Grpc(Box::new(grpc::Client::new(target))),
        };
        OtelSink {
            sender: Sender { transport, specs: BTreeMap::new(), notes: Notes::default() },
            prefix: prefix.to_string(),
            declared,
            pushed: Pushed::default(),
        }
    }

    /// Known from here on.
    fn learn(&mut self, output: &Described) -> Result<(), SinkError> {
        if self.sender.specs.contains_key(&output.input) {
            return Ok(());
        }
        let spec = match self.declared.get(&output.input) {
            Some(declared) => declared.clone(),
            None => {
                let prefix = match output.is_one_of_several {
                    true => format!("{}.{}", self.prefix, output.info.table),
                    false => self.prefix.clone(),
                };
                spec::gauges("weir", &prefix, &output.info).map_err(SinkError::Refused)?
            }
        };
        self.sender.specs.insert(output.input, spec);
        Ok(())
    }
}

impl Sender {
    fn post(&mut self, service: Service, bytes: &[u8]) -> Result<(), SinkError> {
        let answer = match &mut self.transport {
            Transport::Http(client) => {
                let url = address(client.url(), service);
                client.post_to(&url, &[("content-type", "application/x-protobuf")], bytes)?
            }
            Transport::Grpc(client) => client.call(service, bytes)?,
        };
        // Not to be sent again, says OTLP; what is no such message is some proxy's.
        let partial = Answer::decode(answer.as_slice()).ok().and_then(|it| it.partial_success);
        let rejected = partial.map_or(0, |partial| partial.rejected);
        self.notes.rejected += u64::try_from(rejected).unwrap_or(0);
        Ok(())
    }
}

fn push_declared(made: &mut Made, spec: &Spec, element: &Element) {
    let Body::Row(packed) = &element.body else { return };
    let output = &*element.output;
    let values = output.values(packed);
    let time = output.info.relation.time_idx().and_then(|at| values.get(at));
    let time_unix_ns = match time {
        Some(Value::Time64Ns(time)) => u64::try_from(*time).unwrap_or(0),
        _ => nanos(element.tick_ms),
    };
    made.push(spec, Row { output, values: &values, packed, time_unix_ns, is_gone: false });
}

fn push_row(made: &mut Made, spec: &Spec, output: &Described, packed: &PackedRow, at_ms: u64) {
    let values = output.values(packed);
    let time_unix_ns = nanos(at_ms);
    made.push(spec, Row { output, values: &values, packed, time_unix_ns, is_gone: false });
}

fn push_gone(made: &mut Made, spec: &Spec, output: &Described, packed: &PackedRow, at_ms: u64) {
    // Where the key's columns stand in a row.
    let mut values = vec![Value::Boolean(false); output.info.relation.len()];
    for (at, value) in output.key.iter().zip(output.key_values(&Body::Key(packed.clone()))) {
        values[*at] = value;
    }
    let time_unix_ns = nanos(at_ms);
    made.push(spec, Row { output, values: &values, packed, time_unix_ns, is_gone: true });
}

impl Receiver for Sender {
    type Made = Made;

    fn push(&self, made: &mut Made, output: &Described, row: series::Row<'_>, at_ms: u64) {
        let Some(spec) = self.specs.get(&output.input) else { return };
        match row {
            series::Row::There(packed) => push_row(made, spec, output, packed, at_ms),
            series::Row::Gone(key) => push_gone(made, spec, output, key, at_ms),
        }
    }

    fn send(&mut self, made: Made) -> Result<u64, SinkError> {
        let left_out = made.left_out;
        let (metrics, spans) = made.into_requests();
        if let Some(metrics) = metrics {
            self.post(Service::Metrics, &metrics.encode_to_vec())?;
        }
        if let Some(spans) = spans {
            self.post(Service::Traces, &spans.encode_to_vec())?;
        }
        self.notes.rejected += left_out;
        Ok(0)
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }
}

impl Writer for OtelSink {
    fn write(&mut self, elements: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let mut batch = self.pushed.begin(&mut self.sender, safe)?;
        for (at, element) in elements.iter().enumerate() {
            self.learn(&element.output)?;
            let input = element.output.input;
            match self.sender.specs.get(&input) {
                Some(spec) if self.declared.contains_key(&input) => {
                    push_declared(batch.made(), spec, element);
                }
                _ => self.pushed.take(&mut self.sender, &mut batch, (at, element))?,
            }
        }
        self.pushed.end(&mut self.sender, batch, elements.len())
    }

    fn refreshes(&self) -> Option<Duration> {
        self.declared.is_empty().then_some(REFRESH_EVERY)
    }

    fn refresh(&mut self) -> Result<(), SinkError> {
        self.pushed.refresh(&mut self.sender)
    }

    fn check(&mut self) -> Result<(), SinkError> {
        match &mut self.sender.transport {
            Transport::Http(client) => client.reach(),
            Transport::Grpc(client) => client.reach(),
        }
    }

    fn notes(&self) -> Notes {
        self.sender.notes
    }
}
