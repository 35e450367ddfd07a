//! Bodies of requests: no longer than their route allows, and there in time. A websocket is a body
//! without an end, bound to the session that opened it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

use super::counters::{Counters, Refusal};

/// From the head's end to the body's: a script of 2 MB takes a second over a slow line.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

type Until = Pin<Box<dyn Future<Output = ()>>>;

/// A body that fails once it is longer than `left_bytes`, or `until` is over.
struct Bounded {
    inner: Pin<Box<Payload>>,
    left_bytes: usize,
    until: Until,
    counters: Arc<Counters>,
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.until.as_mut().poll(context).is_ready() {
            self.counters.count(Refusal::TooSlow);
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(PayloadError::Io(late))));
        }
        let next = self.inner.as_mut().poll_next(context);
        let Poll::Ready(Some(Ok(chunk))) = next else { return next };
        match self.left_bytes.checked_sub(chunk.len()) {
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                Poll::Ready(Some(Ok(chunk)))
            }
            None => {
                self.counters.count(Refusal::TooLarge);
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
        }
    }
}

/// A stream that ends when its session does.
struct Ending {
    inner: Pin<Box<Payload>>,
    until: Until,
}

impl Stream for Ending {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.inner.as_mut().poll_next(context)
    }
}

fn stream(stream: impl Stream<Item = Result<Bytes, PayloadError>> + 'static) -> Payload {
    Payload::Stream { payload: Box::pin(stream) }
}

/// The body with at most `bytes_max`, within [`BODY_TIME_MAX`] from now.
pub(super) fn bounded(inner: Payload, bytes_max: usize, counters: Arc<Counters>) -> Payload {
    let until = Box::pin(actix_web::rt::time::sleep(BODY_TIME_MAX));
    stream(Bounded { inner: Box::pin(inner), left_bytes: bytes_max, until, counters })
}

/// The body until the session that opened it is over.
pub(super) fn until(inner: Payload, until: impl Future<Output = ()> + 'static) -> Payload {
    stream(Ending { inner: Box::pin(inner), until: Box::pin(until) })
}
