//! Waiting for the ring, or for somebody who ends the wait.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::attach::owned;

/// What ends a wait: a counter of the kernel's that can be waited for.
#[derive(Clone)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    #[expect(unsafe_code, reason = "std has no eventfd")]
    pub(super) fn new() -> std::io::Result<Wake> {
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        Ok(Wake(Arc::new(owned(libc::c_long::from(fd))?)))
    }

    /// Ends the wait under way, or else the next one.
    #[expect(unsafe_code, reason = "std has no eventfd")]
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // A counter that is full wakes, too.
        // SAFETY: eight bytes that outlive the call.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    #[expect(unsafe_code, reason = "std has no eventfd")]
    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes that outlive the call.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// Waits until `fd` can be read or somebody wakes, `timeout` at most; an interrupted wait is a short one.
pub(super) fn wait_readable(fd: RawFd, wake: &Wake, timeout: Duration) {
    wait_any_readable([fd], wake, timeout);
}

/// The same for several.
#[expect(unsafe_code, reason = "std has no poll")]
pub(super) fn wait_any_readable(
    fds: impl IntoIterator<Item = RawFd>,
    wake: &Wake,
    timeout: Duration,
) {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled = vec![poll(wake.0.as_raw_fd())];
    polled.extend(fds.into_iter().map(poll));
    // Rounded up: a wait of nothing would be a busy one.
    let timeout_ms = timeout.as_nanos().div_ceil(1_000_000);
    let timeout_ms = libc::c_int::try_from(timeout_ms).unwrap_or(libc::c_int::MAX);
    // SAFETY: as many pollfds, which outlive the call.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) };
    if polled[0].revents != 0 {
        wake.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wake-up is not lost when nobody waits yet, and ends one wait only. Catches an order that waits for
    /// the end of a wait that began a moment later.
    #[test]
    fn a_wake_ends_one_wait() {
        let (wake, never) = (Wake::new().unwrap(), Wake::new().unwrap());
        wake.wake();
        wake.wake();
        wait_readable(never.0.as_raw_fd(), &wake, Duration::from_secs(3_600));
        let other = wake.clone();
        let waker = std::thread::spawn(move || other.wake());
        wait_readable(never.0.as_raw_fd(), &wake, Duration::from_secs(3_600));
        waker.join().unwrap();
        // Nothing is left of it: this wait is over by its own time.
        wait_readable(never.0.as_raw_fd(), &wake, Duration::from_millis(1));
    }
}
