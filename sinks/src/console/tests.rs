//! What a terminal or pipe is given.

use std::sync::{Arc, Mutex};

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};

/// Takes so many writes, then none until it is told otherwise.
#[derive(Clone, Default)]
struct Out {
    text: Arc<Mutex<Vec<u8>>>,
    takes: Arc<Mutex<Option<usize>>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut takes = self.takes.lock().unwrap();
        match &mut *takes {
            Some(0) => return Err(std::io::ErrorKind::BrokenPipe.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A line an element, each by one write; what a terminal would obey is shown instead; what was not taken comes again, and
/// what was does not; of values with commas between the columns come first, once. Catches text of the traffic that moves
/// the cursor or looks like a line of the log.
#[test]
fn a_line_an_element() {
    for (codec, wanted) in [
        (
            Codec::Json,
            [
                r#"{"op":"append","seq":1,"tick":"1970-01-01T00:00:01.000000000Z","row":{"k":"a","n":1}}"#,
                r#"{"op":"append","seq":2,"tick":"1970-01-01T00:00:01.000000000Z","row":{"k":"\u001b[2J\nERROR","n":2}}"#,
                r#"{"op":"append","seq":3,"tick":"1970-01-01T00:00:01.000000000Z","row":{"k":"c","n":3}}"#,
            ]
            .as_slice(),
        ),
        (
            Codec::Csv,
            [
                "op,seq,tick,k,n",
                "append,1,1970-01-01T00:00:01.000000000Z,a,1",
                "append,2,1970-01-01T00:00:01.000000000Z,\" [2J ERROR\",2",
                "append,3,1970-01-01T00:00:01.000000000Z,c,3",
            ]
            .as_slice(),
        ),
    ] {
        let out = Out::default();
        *out.takes.lock().unwrap() = Some(wanted.len() - 1);
        let mut line = Line::in_memory(Mode::Append, Box::new(ConsoleSink::new(out.clone(), codec)));
        line.start(false).unwrap();
        let rows = [("a", 1, 1), ("\u{1b}[2J\nERROR", 2, 1), ("c", 3, 1)];
        line.deliver(&delivery(1_000, &rows, true)).unwrap();
        assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
        assert_eq!(line.health().rows_sent, 2);
        *out.takes.lock().unwrap() = None;
        line.flush().unwrap();
        let text = String::from_utf8(out.text.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
        assert_eq!((line.health().rows_sent, line.health().rows_refused), (3, 0));
    }
}
