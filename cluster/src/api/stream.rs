//! A response that is made as its socket takes it: the frame that the websocket and the answer to `run`
//! share. It notes when the socket last asked for more, by which a client that takes nothing is told.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use weir_types::Clock;

/// What a response consists of, one piece after another.
pub(super) trait Pieces: Unpin {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// When a socket last asked for more, monotonic ns.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicU64);

impl Asked {
    pub(super) fn last_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct StreamBody<P> {
    pieces: P,
    asked: Arc<Asked>,
    clock: Arc<dyn Clock>,
}

impl<P: Pieces> StreamBody<P> {
    pub(super) fn new(pieces: P, asked: Arc<Asked>, clock: Arc<dyn Clock>) -> StreamBody<P> {
        StreamBody { pieces, asked, clock }
    }
}

impl<P: Pieces> MessageBody for StreamBody<P> {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        this.asked.0.store(this.clock.monotonic_ns(), Ordering::Relaxed);
        this.pieces.poll_piece(cx).map(|piece| piece.map(Ok))
    }
}
