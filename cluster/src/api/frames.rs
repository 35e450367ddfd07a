//! What goes out on one websocket: control frames and the messages of its subscriptions in turn. Frames
//! are made when the socket has room for them, so that nothing waits beside the outboxes but one frame.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use actix_web::body::BoxBody;
use actix_web::web::Bytes;
use tokio::sync::Notify;
use weir_sinks::json::with_id;
use weir_types::Clock;
use weir_types::clock::tick_unix_ns;

use super::stream::{Asked, Pieces, StreamBody};
use crate::service::{Client, Freshness, Outbox, Outgoing, Popped, Service};

/// Answers to the client's own messages that may wait; above, it is not read until it takes some.
const CONTROL_BYTES_MAX: usize = 256 << 10;
/// What a control frame may carry (RFC 6455).
const CONTROL_PAYLOAD_MAX: usize = 125;

/// The longest head of an unmasked frame.
const FRAME_HEAD_BYTES: usize = 10;
/// That and what a message's type and the names of its members take before its body.
const MESSAGE_HEAD_BYTES: usize = 64;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

#[derive(Default)]
struct Inner {
    control: VecDeque<Bytes>,
    control_bytes: usize,
    subscriptions: Vec<(String, Arc<Outbox>)>,
    /// Whose turn it is.
    next: usize,
    /// Nothing follows what waits.
    closing: bool,
    /// Since when something waits that the socket does not ask for.
    waits_from_ns: Option<u64>,
    closed: bool,
}

pub(super) struct Frames {
    inner: Mutex<Inner>,
    asked: Arc<Asked>,
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    freshness: Arc<Freshness>,
    closed: Notify,
}

/// An unmasked frame of a server.
fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + FRAME_HEAD_BYTES);
    push_frame(&mut out, opcode, payload);
    out.into()
}

/// A message's frames: most are one, a delivery may be several.
fn frames_of(id: &str, message: &Outgoing) -> Bytes {
    let texts = message.live();
    let bytes = texts.iter().map(|text| text.body.len() + id.len() + MESSAGE_HEAD_BYTES).sum();
    let mut out = Vec::with_capacity(bytes);
    for text in &*texts {
        push_frame(&mut out, TEXT, with_id(text.kind, id, &text.body).as_bytes());
    }
    out.into()
}

fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        len @ 126..=0xFFFF => {
            out.push(126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

impl Frames {
    pub(super) fn new(service: &Service) -> Frames {
        Frames {
            inner: Mutex::default(),
            asked: Arc::default(),
            client: Client::new(&service.readers.limits),
            clock: Arc::clone(&service.clock),
            freshness: Arc::clone(&service.freshness),
            closed: Notify::new(),
        }
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_control(&self, frame: Bytes) {
        let mut inner = self.lock();
        inner.control_bytes += frame.len();
        inner.control.push_back(frame);
        drop(inner);
        self.client.wake();
    }

    /// A message that belongs to no outbox.
    pub(super) fn say(&self, id: &str, message: &Outgoing) {
        self.push_control(frames_of(id, message));
    }

    pub(super) fn ping(&self) {
        self.push_control(frame(PING, b""));
    }

    pub(super) fn pong(&self, payload: &[u8]) {
        self.push_control(frame(PONG, &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)]));
    }

    /// What waits goes out, then a close frame, then the connection ends.
    pub(super) fn close(&self, reason: Option<(u16, &str)>) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.closing, true) {
            return;
        }
        drop(inner);
        let mut payload = Vec::new();
        if let Some((code, text)) = reason {
            payload.extend(code.to_be_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        self.push_control(frame(CLOSE, &payload));
    }

    pub(super) fn takes_more(&self) -> bool {
        self.lock().control_bytes < CONTROL_BYTES_MAX
    }

    pub(super) fn add(&self, id: &str, outbox: &Arc<Outbox>) {
        self.lock().subscriptions.push((id.to_string(), Arc::clone(outbox)));
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().subscriptions.retain(|(have, _)| have != id);
    }

    /// False once the subscription's last message is out.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.lock().subscriptions.iter().any(|(have, _)| have == id)
    }

    /// For how long something has waited for which the socket does not ask, in ns.
    pub(super) fn waits_since(&self, now_ns: u64) -> u64 {
        let mut inner = self.lock();
        let waiting = !inner.control.is_empty()
            || inner.subscriptions.iter().any(|(_, outbox)| outbox.has_waiting());
        let polled_ns = self.asked.last_ns();
        let from_ns = inner.waits_from_ns.filter(|&from_ns| waiting && from_ns >= polled_ns);
        inner.waits_from_ns = waiting.then_some(from_ns.unwrap_or(now_ns));
        from_ns.map_or(0, |from_ns| now_ns.saturating_sub(from_ns))
    }

    /// Ready when the connection is gone.
    pub(super) async fn closed(&self) {
        let closed = self.closed.notified();
        if !self.lock().closed {
            closed.await;
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.client.register(cx.waker());
        let mut inner = self.lock();
        if let Some(frame) = inner.control.pop_front() {
            inner.control_bytes -= frame.len();
            return Poll::Ready(Some(frame));
        }
        if inner.closing {
            return Poll::Ready(None);
        }
        let mut idx = inner.next;
        for _ in 0..inner.subscriptions.len() {
            idx = if idx < inner.subscriptions.len() { idx } else { 0 };
            let Some((id, outbox)) = inner.subscriptions.get(idx) else { break };
            match outbox.pop() {
                Popped::Message(message) => {
                    let id = id.clone();
                    inner.next = idx + 1;
                    drop(inner);
                    let frames = frames_of(&id, &message);
                    self.handed_over(&message);
                    return Poll::Ready(Some(frames));
                }
                Popped::Empty => idx += 1,
                Popped::Finished => drop(inner.subscriptions.remove(idx)),
            }
        }
        Poll::Pending
    }

    fn handed_over(&self, message: &Outgoing) {
        let Outgoing::Delivery(delivery) = message else { return };
        if !delivery.snapshot && !delivery.changes.is_empty() {
            let (now_unix_ns, tick) = (self.clock.now_unix_ns(), tick_unix_ns(delivery.tick_ms));
            self.freshness.handed_over(now_unix_ns, tick, &delivery.events_unix_ns);
        }
    }
}

/// The body of the upgrade's response.
pub(super) struct FramePieces {
    frames: Arc<Frames>,
    /// Tells the reading side, by its drop, that the connection is gone.
    _inner: BoxBody,
}

impl FramePieces {
    pub(super) fn body(frames: &Arc<Frames>, inner: BoxBody) -> StreamBody<FramePieces> {
        let pieces = FramePieces { frames: Arc::clone(frames), _inner: inner };
        StreamBody::new(pieces, Arc::clone(&frames.asked), Arc::clone(&frames.clock))
    }
}

impl Pieces for FramePieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.frames.poll(cx)
    }
}

impl Drop for FramePieces {
    fn drop(&mut self) {
        let mut inner = self.frames.lock();
        inner.closed = true;
        inner.control.clear();
        inner.control_bytes = 0;
        drop(inner);
        self.frames.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths at the edges of the three forms of RFC 6455.
    #[test]
    fn frames_have_the_right_length() {
        let head = |len: usize| frame(TEXT, &vec![b'x'; len])[..4].to_vec();
        assert_eq!(frame(PING, b"")[..], [0x89, 0]);
        assert_eq!(head(125)[..2], [0x81, 125]);
        assert_eq!(head(126), [0x81, 126, 0, 126]);
        assert_eq!(head(65_535), [0x81, 126, 0xFF, 0xFF]);
        let long = frame(TEXT, &vec![b'x'; 65_536]);
        assert_eq!(long[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(long.len(), 65_546);
    }
}
