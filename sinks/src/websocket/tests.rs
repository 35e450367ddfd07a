//! Against a server on loopback.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{free_port, target};

/// What arrived on which connection.
type Heard = Arc<Mutex<Vec<(usize, serde_json::Value)>>>;

/// The first connection is cut after some messages; a message with `poison` in it is too big.
fn serve(listener: TcpListener, cut_after: usize) -> Heard {
    let heard: Heard = Arc::default();
    let kept = Arc::clone(&heard);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
            let mut count = 0;
            while let Ok(message) = socket.read() {
                let Message::Text(text) = message else { continue };
                if text.contains("poison") {
                    let frame = CloseFrame { code: CloseCode::Size, reason: "big".into() };
                    drop(socket.close(Some(frame)));
                    while socket.read().is_ok() {}
                    break;
                }
                count += 1;
                if number == 0 && count > cut_after {
                    break;
                }
                kept.lock().unwrap().push((number, serde_json::from_str(&text).unwrap()));
            }
        }
    });
    heard
}

/// What a cut connection may have lost comes again on the next one, in order; a message that is too big costs
/// itself. Catches what is called sent because it was written to a socket.
#[test]
fn safe_is_what_was_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/in", listener.local_addr().unwrap());
    let heard = serve(listener, 4);
    let mut line = Line::in_memory(Mode::Append, Box::new(WebsocketSink::new(target(&url))));
    line.start(false).unwrap();
    let rows: Vec<(String, i64, i64)> = (0..10).map(|n| (format!("k{n}"), n, 1)).collect();
    let rows: Vec<(&str, i64, i64)> = rows.iter().map(|(k, n, d)| (k.as_str(), *n, *d)).collect();
    line.deliver(&delivery(1_000, &rows, true)).unwrap();
    assert!(matches!(line.flush(), Err(SinkError::Retry(_))));
    assert_eq!(line.health().rows_sent, 0);
    line.flush().unwrap();
    assert_eq!(line.health().rows_sent, 10);
    let on = |number: usize| -> Vec<u64> {
        let heard = heard.lock().unwrap();
        let of = heard.iter().filter(|(connection, _)| *connection == number);
        of.map(|(_, element)| element["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!((on(0), on(1)), ((1..=4).collect(), (1..=10).collect()));

    line.deliver(&delivery(2_000, &[("a", 1, 1), ("poison", 2, 1), ("b", 3, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!((line.health().rows_sent, line.health().rows_refused), (12, 1));
    let heard = heard.lock().unwrap();
    let last = &heard.last().unwrap().1;
    assert_eq!((&last["seq"], &last["row"]["k"]), (&13.into(), &"b".into()));
}

/// Nobody there is no end, and says no secret.
#[test]
fn nobody_there() {
    let mut target =
        target(&format!("ws://me:hidden-word@127.0.0.1:{}/?k=hidden-key", free_port()));
    target.secrets = vec!["hidden-word".to_string(), "hidden-key".to_string()];
    let mut line = Line::in_memory(Mode::Append, Box::new(WebsocketSink::new(target)));
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    let error = line.flush().unwrap_err();
    assert!(matches!(&error, SinkError::Retry(text) if !text.contains("hidden")), "{error}");
}

/// Shakes hands, then says the same without an end, and neither reads nor answers.
fn babble(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let socket = tungstenite::accept(stream.unwrap()).unwrap();
            let mut stream = socket.get_ref();
            // A text that goes on first, for what continues it.
            drop(stream.write_all(&[0x01, 0x00]));
            while stream.write_all(words).is_ok() {}
        }
    });
    url
}

/// An attempt is over in its time, though the other end goes on talking: with messages, with pieces of one that
/// never ends, while we write and while we wait for the pong. Catches loops that read until nothing comes.
#[test]
fn whoever_goes_on_talking_keeps_nobody() {
    let words: [&'static [u8]; 2] = [&[0x80, 0x00, 0x01, 0x00], &[0x00, 0x00]];
    // More than two sockets hold: it is not written before the time is over.
    let sizes = [1, 24 << 20];
    for (words, size) in words.into_iter().flat_map(|words| sizes.map(|size| (words, size))) {
        let mut target = target(&babble(words));
        target.timeout = Duration::from_millis(300);
        let delivery = delivery(1, &[(&"x".repeat(size), 1, 1)], true);
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = Line::in_memory(Mode::Append, Box::new(WebsocketSink::new(target)));
            line.start(false).unwrap();
            line.deliver(&delivery).unwrap();
            say.send(line.flush().map_err(|error| error.to_string())).unwrap();
        });
        let done = heard.recv_timeout(Duration::from_secs(60));
        assert!(matches!(done, Ok(Err(_))), "{size} bytes, {words:?}: {done:?}");
    }
}
