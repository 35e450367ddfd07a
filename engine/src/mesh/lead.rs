//! The first process: waits for all others and names the generation. Who is there waits with it, and is told that it
//! does.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpStream;

use super::hello::{Line, hear, say};
use super::{Guest, Met, SILENCE_MAX_MS, STOPPED, Shared, WAITING_EVERY_MS};

pub(super) fn meet(shared: &Shared) -> Result<Met, String> {
    loop {
        let guests = gather(shared)?;
        match found(guests, shared.config.addresses.len()) {
            Ok(met) => return Ok(met),
            // They come again.
            Err(why) => tracing::info!(why, "no generation of all processes yet"),
        }
    }
}

/// Until all others have come.
fn gather(shared: &Shared) -> Result<BTreeMap<usize, Guest>, String> {
    let mut said_ms = 0;
    let mut state = shared.lock();
    loop {
        if shared.is_stopping() {
            return Err(STOPPED.to_string());
        }
        let is_missing = |process: &usize| !state.guests.contains_key(process);
        let missing: Vec<usize> = (1..shared.config.addresses.len()).filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(std::mem::take(&mut state.guests));
        }
        if state.status.missing != missing {
            tracing::info!(?missing, "waiting for the other processes of the cluster part");
            state.status.missing.clone_from(&missing);
        }
        let now_ms = shared.now_ms();
        if now_ms.saturating_sub(said_ms) >= WAITING_EVERY_MS {
            said_ms = now_ms;
            let waiting = Line::Waiting(missing);
            state.guests.retain(|_, guest| say(&mut guest.stream, &waiting).is_ok());
        }
        state = shared.wait(state);
    }
}

/// A name that no generation had before.
fn name() -> String {
    let random = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// Tells all that they are all there, and waits until they are connected.
fn found(mut guests: BTreeMap<usize, Guest>, processes: usize) -> Result<Met, String> {
    let generation = name();
    let gone = |process: &usize, error: std::io::Error| format!("process {process}: {error}");
    for (process, guest) in &mut guests {
        let line = Line::Generation(generation.clone());
        say(&mut guest.stream, &line).map_err(|error| gone(process, error))?;
    }
    for (process, guest) in &mut guests {
        match hear::<Line>(&mut guest.stream, SILENCE_MAX_MS)
            .map_err(|error| gone(process, error))?
        {
            Line::Met => {}
            other => return Err(format!("process {process} says {other:?}")),
        }
    }
    for (process, guest) in &mut guests {
        say(&mut guest.stream, &Line::Go).map_err(|error| gone(process, error))?;
    }
    let blamed = guests.values().filter_map(|guest| guest.hello.died_of).collect();
    let mut sockets: Vec<Option<TcpStream>> = (0..processes).map(|_| None).collect();
    for (process, guest) in guests {
        sockets[process] = Some(guest.stream);
    }
    Ok(Met { generation, sockets, blamed })
}
