//! Whether every source of the nodes runs or was refused, for those who wait for it.
//!
//! What a watch lends is a lock that its writer, the coordinator, waits for, and with it all that runs on
//! that thread: so nothing of it leaves this file, and nobody can hold it over an await.

use std::time::Duration;

use tokio::sync::watch;

/// Told by the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct TellSettled(watch::Sender<bool>);

impl TellSettled {
    pub(crate) fn tell(&self, settled: bool) {
        self.0.send_if_modified(|known| std::mem::replace(known, settled) != settled);
    }
}

/// False while sources start: a table that nothing produces may still come.
#[derive(Clone, Debug)]
pub struct Settled(watch::Receiver<bool>);

impl Settled {
    pub(crate) fn new() -> (TellSettled, Settled) {
        let (sender, receiver) = watch::channel(false);
        (TellSettled(sender), Settled(receiver))
    }

    #[must_use]
    pub fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// False if it takes longer than this.
    pub async fn within(&mut self, at_most: Duration) -> bool {
        let waited = tokio::time::timeout(at_most, self.0.wait_for(|settled| *settled)).await;
        matches!(waited, Ok(Ok(_)))
    }
}
