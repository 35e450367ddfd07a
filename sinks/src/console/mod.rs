//! Elements on the server's stderr, which is where all that it says goes (stdout has one line, `ready`).
//! What others wrote passes the sanitiser. What a terminal or pipe has taken is safe, as far as a console
//! knows.

use std::io::Write;
use std::sync::Arc;

use crate::delivery::{Delivery, OutputInfo};
use crate::elements::{Elements, Encoding};
use crate::sink::{Sink, SinkError, SinkHealth};

pub struct ConsoleSink<W> {
    out: W,
    elements: Elements,
    started: bool,
    resets: bool,
    /// Sanitised, and not written yet.
    pending: Vec<u8>,
    pending_ms: Option<u64>,
    health: SinkHealth,
}

impl<W: Write + Send> ConsoleSink<W> {
    #[must_use]
    pub fn new(out: W, encoding: Encoding) -> ConsoleSink<W> {
        ConsoleSink {
            out,
            elements: Elements::new(encoding),
            started: false,
            resets: false,
            pending: Vec::new(),
            pending_ms: None,
            health: SinkHealth::default(),
        }
    }

    fn push(&mut self, text: &str) {
        for line in text.lines() {
            self.pending.extend_from_slice(weir_types::text::line(line).as_bytes());
            self.pending.push(b'\n');
        }
    }
}

impl<W: Write + Send> Sink for ConsoleSink<W> {
    fn start(&mut self, output: &OutputInfo, goes_on: bool) -> Result<(), SinkError> {
        self.elements.describe(output)?;
        if !std::mem::replace(&mut self.started, true) {
            if let Some(header) = self.elements.header() {
                self.push(&header);
            }
        } else {
            self.resets |= !goes_on;
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>) {
        let mut text = String::new();
        if std::mem::take(&mut self.resets) {
            self.health.resets += 1;
            self.elements.push_reset(&mut text, delivery.tick_ms);
        }
        self.elements.push_delivery(&mut text, delivery);
        self.push(&text);
        if delivery.completeness.is_some() {
            self.pending_ms = Some(delivery.tick_ms);
        }
    }

    fn flush(&mut self) -> Result<Option<u64>, SinkError> {
        self.elements.whole()?;
        // A line at a time, so that a log line comes between two and not into one.
        let mut written = 0;
        for line in self.pending.split_inclusive(|byte| *byte == b'\n') {
            if let Err(error) = self.out.write_all(line) {
                self.pending.drain(..written);
                return Err(SinkError::Retry(format!("could not write: {error}")));
            }
            written += line.len();
        }
        self.pending.clear();
        self.health.rows_sent = self.elements.rows();
        self.health.acked_ms = self.pending_ms.take().or(self.health.acked_ms);
        Ok(self.health.acked_ms)
    }

    fn stop(&mut self) {}

    fn health(&self) -> SinkHealth {
        let buffer_bytes = self.pending.len() as u64;
        let rows_waiting = self.elements.rows() - self.health.rows_sent;
        SinkHealth { buffer_bytes, rows_waiting, ..self.health.clone() }
    }
}
