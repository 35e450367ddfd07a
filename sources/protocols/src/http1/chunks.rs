//! The chunked coding, decoded as it comes.
//!
//! The decoder knows how many bytes it could do without: a gap that lies inside a chunk's data is stepped
//! over, one that touches a size line is not.

/// Longest chunk size line or trailer line.
const CHUNK_LINE_BYTES_MAX: u32 = 8192;

/// Incremental decoder of the chunked coding (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedDecoder {
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In a size line: value so far, whether a digit came, whether an extension began.
    Size {
        value: u64,
        digits: bool,
        extension: bool,
        line_bytes: u32,
    },
    Data {
        left: u64,
    },
    /// Behind the data: `\r\n` or `\n`.
    DataEnd,
    /// In the lines behind the last chunk; an empty one ends the body.
    Trailer {
        line_bytes: u32,
    },
    Done,
}

/// What one step of the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// So many bytes of framing were used.
    Framing(usize),
    /// The first so many bytes are body.
    Data(usize),
    /// The body ended after so many bytes of framing.
    Done(usize),
    Invalid,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder { state: ChunkState::size_line() }
    }
}

impl ChunkState {
    fn size_line() -> ChunkState {
        ChunkState::Size { value: 0, digits: false, extension: false, line_bytes: 0 }
    }
}

impl ChunkedDecoder {
    /// Looks at the next bytes (at least one) and takes a run of body or of framing.
    pub fn step(&mut self, bytes: &[u8]) -> ChunkStep {
        if let ChunkState::Data { left } = self.state {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.take_data(count as u64);
            return ChunkStep::Data(count);
        }
        for (idx, &byte) in bytes.iter().enumerate() {
            self.state = match self.framing_byte(byte) {
                Some(ChunkState::Done) => {
                    self.state = ChunkState::Done;
                    return ChunkStep::Done(idx + 1);
                }
                Some(state) => state,
                None => return ChunkStep::Invalid,
            };
            if matches!(self.state, ChunkState::Data { .. }) {
                return ChunkStep::Framing(idx + 1);
            }
        }
        ChunkStep::Framing(bytes.len())
    }

    fn framing_byte(&self, byte: u8) -> Option<ChunkState> {
        match self.state {
            ChunkState::Size { value, digits, extension, line_bytes } => {
                if line_bytes >= CHUNK_LINE_BYTES_MAX {
                    return None;
                }
                let line_bytes = line_bytes + 1;
                match (byte, char::from(byte).to_digit(16)) {
                    (b'\n', _) if digits && value == 0 => {
                        Some(ChunkState::Trailer { line_bytes: 0 })
                    }
                    (b'\n', _) if digits => Some(ChunkState::Data { left: value }),
                    (b'\n', _) => None,
                    (_, Some(digit)) if !extension => {
                        let value = value.checked_mul(16)?.checked_add(u64::from(digit))?;
                        Some(ChunkState::Size { value, digits: true, extension, line_bytes })
                    }
                    (b';' | b'\r' | b' ' | b'\t', _) if digits => {
                        Some(ChunkState::Size { value, digits, extension: true, line_bytes })
                    }
                    _ if extension => {
                        Some(ChunkState::Size { value, digits, extension, line_bytes })
                    }
                    _ => None,
                }
            }
            ChunkState::DataEnd => match byte {
                b'\r' => Some(ChunkState::DataEnd),
                b'\n' => Some(ChunkState::size_line()),
                _ => None,
            },
            ChunkState::Trailer { line_bytes } => match (byte, line_bytes) {
                (b'\n', 0) => Some(ChunkState::Done),
                (b'\n', _) => Some(ChunkState::Trailer { line_bytes: 0 }),
                (b'\r', _) => Some(ChunkState::Trailer { line_bytes }),
                (_, CHUNK_LINE_BYTES_MAX..) => None,
                (_, _) => Some(ChunkState::Trailer { line_bytes: line_bytes + 1 }),
            },
            ChunkState::Data { .. } | ChunkState::Done => None,
        }
    }

    fn take_data(&mut self, count: u64) {
        if let ChunkState::Data { left } = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data { left } };
        }
    }

    /// How many of the next bytes may be missing without harm to the framing.
    #[must_use]
    pub fn skippable_bytes(&self) -> u64 {
        match self.state {
            ChunkState::Data { left } => left,
            _ => 0,
        }
    }

    /// Steps over missing bytes of data, at most [`ChunkedDecoder::skippable_bytes`].
    pub fn skip(&mut self, count: u64) {
        self.take_data(count);
    }
}
