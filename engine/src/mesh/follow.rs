//! Every process but the first: asks to be let in until it is, then connects to those below it and is connected to by
//! those above.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::hello::{Hello, Line, hear, say};
use super::{LOOK_EVERY, Met, SILENCE_MAX_MS, STOPPED, Shared, connect, timeless};

/// Who was refused asks again after so long: the leader may be the one that is changed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why there was no generation.
enum Missed {
    Refused(String),
    /// For now.
    Lost(String),
}

impl From<io::Error> for Missed {
    fn from(error: io::Error) -> Missed {
        Missed::Lost(error.to_string())
    }
}

pub(super) fn meet(shared: &Shared) -> Result<Met, String> {
    let mut said = String::new();
    loop {
        if shared.is_stopping() {
            return Err(STOPPED.to_string());
        }
        match join(shared) {
            Ok(met) => return Ok(met),
            Err(Missed::Refused(why)) => {
                shared.deposits.close();
                shared.note_refused(&why);
                shared.pause(AGAIN_AFTER);
            }
            Err(Missed::Lost(why)) => {
                shared.deposits.close();
                if said != why {
                    tracing::info!(why, "not in a generation yet; trying on");
                    said = why;
                }
                shared.pause(LOOK_EVERY);
            }
        }
    }
}

fn join(shared: &Shared) -> Result<Met, Missed> {
    let config = &shared.config;
    let at_leader =
        |error: io::Error| Missed::Lost(format!("process 0 at {}: {error}", config.addresses[0]));
    let mut leader = connect(&config.addresses[0]).map_err(at_leader)?;
    let died_of = shared.lock().died_of;
    say(&mut leader, &Hello { died_of, ..Hello::new(config, 0) })?;
    let generation = loop {
        if shared.is_stopping() {
            return Err(Missed::Lost(STOPPED.to_string()));
        }
        match hear::<Line>(&mut leader, SILENCE_MAX_MS).map_err(at_leader)? {
            Line::Waiting(missing) => shared.lock().status.missing = missing,
            Line::Refused(why) => return Err(Missed::Refused(why)),
            Line::Generation(name) => break name,
            other => return Err(Missed::Lost(format!("process 0 says {other:?}"))),
        }
    };
    let mut sockets: Vec<Option<TcpStream>> = config.addresses.iter().map(|_| None).collect();
    let own = config.process;
    for (below, address) in config.addresses.iter().enumerate().take(own).skip(1) {
        let mut stream = connect(address)?;
        let generation = Some(generation.clone());
        say(&mut stream, &Hello { generation, ..Hello::new(config, below) })?;
        sockets[below] = Some(stream);
    }
    for (above, socket) in sockets.iter_mut().enumerate().skip(own + 1) {
        *socket = Some(guest(shared, above, &generation)?);
    }
    for (below, socket) in sockets.iter_mut().enumerate().take(own).skip(1) {
        let Some(stream) = socket else { continue };
        match hear::<Line>(stream, SILENCE_MAX_MS)? {
            Line::Met => {}
            Line::Refused(why) => return Err(Missed::Refused(why)),
            other => return Err(Missed::Lost(format!("process {below} says {other:?}"))),
        }
    }
    // Nothing of the generation is read before the leader hears this.
    shared.deposits.open();
    say(&mut leader, &Line::Met)?;
    match hear::<Line>(&mut leader, SILENCE_MAX_MS).map_err(at_leader)? {
        Line::Go => {}
        other => return Err(Missed::Lost(format!("process 0 says {other:?}"))),
    }
    sockets[0] = Some(leader);
    Ok(Met { generation, sockets, blamed: Vec::new() })
}

pub(super) fn relay(shared: &Shared) -> io::Result<TcpStream> {
    let mut leader = connect(&shared.config.addresses[0])?;
    say(&mut leader, &Hello { relays: true, ..Hello::new(&shared.config, 0) })?;
    match hear::<Line>(&mut leader, SILENCE_MAX_MS)? {
        Line::Met => {}
        other => return Err(io::Error::other(format!("process 0 says {other:?}"))),
    }
    timeless(&leader)?;
    Ok(leader)
}

/// The process above, once it has come in this generation.
fn guest(shared: &Shared, process: usize, generation: &str) -> Result<TcpStream, Missed> {
    let until_ms = shared.now_ms() + SILENCE_MAX_MS;
    let mut state = shared.lock();
    loop {
        if let Some(mut guest) = state.guests.remove(&process)
            && guest.hello.generation.as_deref() == Some(generation)
        {
            drop(state);
            say(&mut guest.stream, &Line::Met)?;
            return Ok(guest.stream);
        }
        if shared.is_stopping() || shared.now_ms() > until_ms {
            return Err(Missed::Lost(format!("process {process} does not come")));
        }
        state = shared.wait(state);
    }
}
