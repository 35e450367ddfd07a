//! A view as samples that are pushed by Prometheus' remote write (1.0): one series a row and number, labelled by
//! the row's key, each at its tick. A row that is gone is a stale marker. What does not change is said again every
//! minute, as Prometheus would hold it for gone.

mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;

use crate::delivery::OutputInfo;
use crate::element::{Body, Described, Element};
use crate::http_client::{Client, Target};
use crate::series::{self, Pushed, REFRESH_EVERY, Receiver, Row, names};
use crate::sink::{Notes, SinkError, Writer};

use self::message::{Label, Sample, TimeSeries, WriteRequest};

/// The one NaN that says that a series has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Name → value, sorted and each there once.
type Labels = BTreeMap<String, String>;

/// Samples of one request: of a series, in the order of their instants, one each.
#[derive(Default)]
struct Samples {
    series: BTreeMap<Labels, BTreeMap<i64, f64>>,
    cleaned: u64,
}

/// The other end.
struct Sender {
    client: Client,
    prefix: String,
    notes: Notes,
}

pub struct RemoteWriteSink {
    sender: Sender,
    pushed: Pushed,
}

/// # Errors
/// As for the exporter.
pub fn judge(prefix: &str, outputs: &[OutputInfo]) -> Result<(), SinkError> {
    names::judge_all(prefix, outputs).map_err(SinkError::Refused)
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Samples {
    fn push(&mut self, labels: Labels, at_ms: u64, value: f64) {
        self.series.entry(labels).or_default().insert(millis(at_ms), value);
    }

    /// A row's series, or those of a key, which end.
    fn push_row(&mut self, prefix: &str, output: &Described, row: Row<'_>, at_ms: u64) {
        for (labels, value, cleaned) in series_of(prefix, output, row) {
            self.cleaned += cleaned;
            self.push(labels, at_ms, value);
        }
    }

    fn into_request(self) -> WriteRequest {
        let timeseries = self.series.into_iter().map(|(labels, samples)| TimeSeries {
            labels: labels.into_iter().map(|(name, value)| Label { name, value }).collect(),
            samples: samples
                .into_iter()
                .map(|(timestamp, value)| Sample { value, timestamp })
                .collect(),
        });
        WriteRequest { timeseries: timeseries.collect() }
    }
}

/// The series of a row with their values, and how many texts were cleaned for each.
fn series_of(prefix: &str, output: &Described, row: Row<'_>) -> Vec<(Labels, f64, u64)> {
    let Ok(columns) = names::columns_of(&output.info) else { return Vec::new() };
    let prefix = names::prefix(prefix, output);
    let (key, values) = match row {
        Row::There(row) => {
            let values = output.values(row);
            (output.key_of(&values), Some(values))
        }
        Row::Gone(key) => (output.key_values(&Body::Key(key.clone())), None),
    };
    let (mut labels, mut cleaned) = (Labels::new(), 0);
    for (at, value) in output.key.iter().zip(&key) {
        let name = columns.labels.iter().find(|(column, _)| column == at);
        let (text, was_cleaned) = series::label(value);
        cleaned += u64::from(was_cleaned);
        // An empty label is none.
        if let Some((_, name)) = name.filter(|_| !text.is_empty()) {
            labels.insert(name.clone(), text);
        }
    }
    let one = |(at, name): &(usize, String)| {
        let mut labels = labels.clone();
        labels.insert("__name__".to_string(), format!("{prefix}_{name}"));
        let value = match &values {
            Some(values) => values.get(*at).and_then(series::number).map_or(f64::NAN, quiet),
            None => f64::from_bits(STALE),
        };
        (labels, value, cleaned)
    };
    columns.values.iter().map(one).collect()
}

/// A NaN of the view is a value, not an end.
fn quiet(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0001) } else { value }
}

impl RemoteWriteSink {
    #[must_use]
    pub fn new(target: Target, prefix: &str) -> RemoteWriteSink {
        let (client, prefix) = (Client::new(target), prefix.to_string());
        let sender = Sender { client, prefix, notes: Notes::default() };
        RemoteWriteSink { sender, pushed: Pushed::default() }
    }
}

impl Receiver for Sender {
    type Made = Samples;

    fn push(&self, made: &mut Samples, output: &Described, row: Row<'_>, at_ms: u64) {
        made.push_row(&self.prefix, output, row, at_ms);
    }

    fn send(&mut self, samples: Samples) -> Result<u64, SinkError> {
        if samples.series.is_empty() {
            return Ok(samples.cleaned);
        }
        let cleaned = samples.cleaned;
        let bytes = samples.into_request().encode_to_vec();
        let packed = snap::raw::Encoder::new().compress_vec(&bytes);
        let packed = packed.map_err(|error| SinkError::Unfit(error.to_string()))?;
        self.client.post(&HEADERS, &packed)?;
        Ok(cleaned)
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }
}

impl Writer for RemoteWriteSink {
    fn write(&mut self, elements: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let RemoteWriteSink { sender, pushed } = self;
        let mut batch = pushed.begin(sender, safe)?;
        for (at, element) in elements.iter().enumerate() {
            pushed.take(sender, &mut batch, (at, element))?;
        }
        pushed.end(sender, batch, elements.len())
    }

    fn refreshes(&self) -> Option<Duration> {
        Some(REFRESH_EVERY)
    }

    fn refresh(&mut self) -> Result<(), SinkError> {
        self.pushed.refresh(&mut self.sender)
    }

    fn check(&mut self) -> Result<(), SinkError> {
        self.sender.client.reach()
    }

    fn notes(&self) -> Notes {
        self.sender.notes
    }
}
