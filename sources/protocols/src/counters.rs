//! What the parser of a connection counts: exchanges, what was lost, and what was nobody's loss. The
//! same for all protocols.

/// What the parser counts; all of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub exchanges: u64,
    /// Lost: exchanges of which a half or both were seen, and not paired because bytes were
    /// missing on the connection. Of HTTP/2 also those that are told and of whose bodies parts may be missing.
    pub gap: u64,
    /// Lost: halves of exchanges that had begun before the connection was watched.
    pub unpaired: u64,
    /// Lost: requests that were forgotten because too many waited, or for room.
    pub given_up: u64,
    /// Not lost: requests that the other end left without an answer.
    pub unanswered: u64,
    /// Not lost: responses that nobody had asked for (a server's 408 before it closes).
    pub unasked: u64,
    /// Times that pairing became uncertain.
    pub resyncs: u64,
}

impl Counters {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Counters) {
        self.exchanges += other.exchanges;
        self.gap += other.gap;
        self.unpaired += other.unpaired;
        self.given_up += other.given_up;
        self.unanswered += other.unanswered;
        self.unasked += other.unasked;
        self.resyncs += other.resyncs;
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(self, before: Counters) -> Counters {
        Counters {
            exchanges: self.exchanges - before.exchanges,
            gap: self.gap - before.gap,
            unpaired: self.unpaired - before.unpaired,
            given_up: self.given_up - before.given_up,
            unanswered: self.unanswered - before.unanswered,
            unasked: self.unasked - before.unasked,
            resyncs: self.resyncs - before.resyncs,
        }
    }
}
