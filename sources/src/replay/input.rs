//! A file read forwards: what is asked for is there as a whole, or the file has ended.

use std::io::{ErrorKind, Read};

use super::file::PACKET_BYTES_MAX;

/// What is stepped over is read in pieces of this size.
const SKIP_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Input<R> {
    from: R,
    at: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Input<R> {
        Input { from, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// False: the file ends before.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<bool> {
        Ok(self.read_or_end(bytes)? == Some(true))
    }

    /// `None`: the file ends here, `Some(false)`: within these bytes.
    pub(super) fn read_or_end(&mut self, bytes: &mut [u8]) -> std::io::Result<Option<bool>> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.from.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Ok(Some(false)),
                Ok(count) => {
                    filled += count;
                    self.at += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What was compressed ends in the middle.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Some(false)),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(true))
    }

    /// Steps over bytes. False: the file ends before.
    pub(super) fn skip(&mut self, mut count: u64) -> std::io::Result<bool> {
        if count == 0 {
            return Ok(true);
        }
        let mut piece = [0; SKIP_BYTES];
        while count > 0 {
            let take = usize::try_from(count).unwrap_or(SKIP_BYTES).min(SKIP_BYTES);
            if !self.read(&mut piece[..take])? {
                return Ok(false);
            }
            count -= take as u64;
        }
        Ok(true)
    }

    /// Reads a packet of so many bytes and keeps its beginning. Storage grows with what comes, not
    /// with what is promised. False: the file ends before.
    pub(super) fn read_packet(&mut self, count: u32, kept: &mut Vec<u8>) -> std::io::Result<bool> {
        let wanted = (count as usize).min(PACKET_BYTES_MAX);
        kept.clear();
        while kept.len() < wanted {
            let from = kept.len();
            kept.resize(wanted.min(from + SKIP_BYTES), 0);
            if !self.read(&mut kept[from..])? {
                return Ok(false);
            }
        }
        self.skip(u64::from(count) - wanted as u64)
    }
}
