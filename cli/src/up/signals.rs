//! How a server is asked to stop.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

/// The first signal asks for an orderly stop, the second ends the process.
pub(super) struct Signals {
    pub(super) asked: Arc<AtomicBool>,
    /// Gets a byte with each signal.
    woken: UnixStream,
}

impl Signals {
    pub(super) fn watch() -> Result<Signals, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let register = || -> std::io::Result<UnixStream> {
            let (woken, wakes) = UnixStream::pair()?;
            for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
                signal_hook::flag::register_conditional_shutdown(signal, 130, asked.clone())?;
                signal_hook::flag::register(signal, asked.clone())?;
                signal_hook::low_level::pipe::register(signal, wakes.try_clone()?)?;
            }
            woken.set_nonblocking(true)?;
            Ok(woken)
        };
        let woken =
            register().map_err(|error| Failure::No(format!("could not watch signals: {error}")))?;
        Ok(Signals { asked, woken })
    }

    /// Ends once a stop is asked for, however often it is waited for.
    pub(super) async fn wait(&self) -> Result<(), Failure> {
        let failed = |error| Failure::No(format!("could not wait for signals: {error}"));
        let woken = self.woken.try_clone().and_then(tokio::net::UnixStream::from_std);
        let woken = woken.map_err(failed)?;
        while !self.asked.load(Ordering::SeqCst) {
            woken.readable().await.map_err(failed)?;
            let mut bytes = [0; 16];
            // Nothing to read yet is no failure: the next wait ends when there is.
            let _ = woken.try_read(&mut bytes);
        }
        Ok(())
    }
}
