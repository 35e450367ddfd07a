//! Takes everything and keeps nothing: to measure what a view and its elements cost, and to try a
//! configuration without a receiver.

use crate::element::Element;
use crate::sink::{SinkError, Writer};

#[derive(Debug, Default)]
pub struct BlackholeSink;

impl Writer for BlackholeSink {
    fn is_lasting(&self) -> bool {
        false
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        *safe = batch.len();
        Ok(())
    }
}
