//! Elements on the server's stderr, which is where all that it says goes (stdout has one line, `ready`).
//! What others wrote passes the sanitiser. What a terminal or pipe has taken is safe, as far as a console
//! knows.

#[cfg(test)]
mod tests;

use std::io::Write;

use crate::element::Element;
use crate::encode::{self, Codec};
use crate::sink::{SinkError, Writer};

pub struct ConsoleSink<W> {
    out: W,
    codec: Codec,
    has_header: bool,
}

impl<W: Write + Send> ConsoleSink<W> {
    #[must_use]
    pub fn new(out: W, codec: Codec) -> ConsoleSink<W> {
        ConsoleSink { out, codec, has_header: false }
    }

    fn line(&mut self, line: &str) -> Result<(), SinkError> {
        let text = format!("{}\n", weir_types::text::line(line));
        // A line at a time, so that a log line comes between two and not into one.
        self.out
            .write_all(text.as_bytes())
            .map_err(|error| SinkError::Retry(format!("could not write: {error}")))
    }
}

impl<W: Write + Send> Writer for ConsoleSink<W> {
    fn is_lasting(&self) -> bool {
        false
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        for element in batch {
            if !self.has_header
                && let Some(header) = encode::header(self.codec, &element.output)
            {
                self.line(header.trim_end())?;
            }
            self.has_header = true;
            let mut text = String::new();
            encode::push_line(&mut text, self.codec, element);
            // Of a value with line ends one line, too: what follows them could be taken for a line of the log.
            if let Some(text) = text.strip_suffix('\n') {
                self.line(text)?;
            }
            *safe += 1;
        }
        Ok(())
    }
}
