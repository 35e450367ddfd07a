//! Elements to a webhook: each batch one POST, a JSON array or an object a line ([`crate::http_client`] says what
//! its answer means).

#[cfg(test)]
mod tests;

use crate::element::{Element, Op};
use crate::encode;
use crate::http_client::{Client, Target};
use crate::sink::{SinkError, Writer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Array,
    Lines,
}

pub struct HttpSink {
    client: Client,
    framing: Framing,
}

impl HttpSink {
    #[must_use]
    pub fn new(target: Target, framing: Framing) -> HttpSink {
        HttpSink { client: Client::new(target), framing }
    }

    fn text(&self, batch: &[&Element]) -> String {
        let leaving = batch.iter().filter(|element| element.op != Op::Progress);
        let mut text = String::new();
        let is_array = self.framing == Framing::Array;
        for element in leaving {
            if is_array {
                text.push(if text.is_empty() { '[' } else { ',' });
                encode::push_json(&mut text, element);
            } else {
                encode::push_json(&mut text, element);
                text.push('\n');
            }
        }
        if is_array && !text.is_empty() {
            text.push(']');
        }
        text
    }
}

impl Writer for HttpSink {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let text = self.text(batch);
        if !text.is_empty() {
            let content_type = match self.framing {
                Framing::Array => "application/json",
                Framing::Lines => "application/x-ndjson",
            };
            self.client.post(&[("content-type", content_type)], text.as_bytes())?;
        }
        *safe = batch.len();
        Ok(())
    }

    fn check(&mut self) -> Result<(), SinkError> {
        self.client.reach()
    }
}
