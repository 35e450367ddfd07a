//! The port of a process: whoever connects says a line, and is refused or becomes a guest, of whom the newest of a
//! process counts. What becomes of guests is not decided here.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::hello::{Hello, Line, hear, say};
use super::{Guest, LINE_MS_MAX, LOOK_EVERY, Shared, prepare, timeless};

/// First lines that are read at the same time; further connections are closed.
const KNOCKING_MAX: u64 = 32;

pub(super) fn serve(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.is_stopping() {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely.
            shared.pause(LOOK_EVERY);
            continue;
        };
        if shared.knocking.fetch_add(1, Ordering::AcqRel) >= KNOCKING_MAX {
            shared.knocking.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let own = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name("mesh-hello".to_string()).spawn(move || {
            receive(&own, stream);
            own.knocking.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            shared.knocking.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A way for what nodes say.
fn relay(shared: &Shared, process: usize, mut stream: TcpStream) {
    let relays = shared.relays.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(relays) = relays
        && say(&mut stream, &Line::Met).is_ok()
        && timeless(&stream).is_ok()
    {
        // Without its taker it is for nobody.
        drop(relays.send((process, stream)));
    }
}

fn receive(shared: &Shared, mut stream: TcpStream) {
    if prepare(&stream).is_err() {
        return;
    }
    // Whoever says nothing that can be read is nobody.
    let Ok(hello) = hear::<Hello>(&mut stream, LINE_MS_MAX) else { return };
    if let Some(why) = hello.misfit(&shared.config) {
        shared.note_refused(&why);
        drop(say(&mut stream, &Line::Refused(why)));
        return;
    }
    if hello.relays {
        return relay(shared, hello.process, stream);
    }
    shared.lock().guests.insert(hello.process, Guest { hello, stream });
    shared.news.notify_all();
}
