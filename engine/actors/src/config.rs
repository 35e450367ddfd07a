//! What bounds an actor.

use std::time::Duration;

/// Limits of one actor. The defaults suit an actor that handles some hundred messages a second.
#[derive(Clone, Debug)]
pub struct Config {
    /// Messages that may wait; past it `try_send` refuses and `send` waits. At least 1.
    pub mailbox_capacity: usize,
    /// The wait before the first restart; it doubles with each restart inside `restart_window`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// More failures than this inside `restart_window`, and the actor stays down.
    pub restarts_max: u32,
    pub restart_window: Duration,
    /// In one handler for longer than this: reported as stalled.
    pub stall_after: Duration,
    /// How long a kill switch waits for this actor before it goes on without it.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mailbox_capacity: 256,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            restarts_max: 5,
            restart_window: Duration::from_secs(60),
            stall_after: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
