//! That probes do no harm to who is probed, however often they come and go.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use weir_types::{Clock, WallClock};

use super::go::built;
use super::pairs::{curl_config, nginx};
use super::{Capture, Place, Server, free_port, has};

/// How often probes come and go. `WEIR_TEST_ATTACHES` has another number: 200 take ten minutes.
const ATTACHES: u64 = 6;
/// So long they are there each time.
const ATTACHED_NS: u64 = 300_000_000;

/// Asks again and again until the file is there; its number of rounds is the file's length then.
fn load(place: &Place, name: &str, round: &str) -> Child {
    let rounds = place.path(name).display().to_string();
    let stop = place.path("stop").display().to_string();
    let script = format!(
        "while ! [ -e {stop} ]; do {round} > {rounds}.log || exit 1; printf . >> {rounds}; done"
    );
    Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap()
}

fn rounds(place: &Place, name: &str) -> usize {
    std::fs::read(place.path(name)).map_or(0, |dots| dots.len())
}

/// Watches both ports while their clients are at work, and looks away again.
fn attach_once(ports: [u16; 2], program: &Path) -> bool {
    let Some(mut capture) = Capture::of_ports(&ports) else { return false };
    capture.wait_until_probed(&program.to_string_lossy());
    capture.wait_until_probed("libssl.so.3");
    let began_ns = WallClock.monotonic_ns();
    while WallClock.monotonic_ns() - began_ns < ATTACHED_NS {
        capture.source.wait(std::time::Duration::from_millis(20));
        capture.drain();
    }
    let Capture { source, .. } = capture;
    source.stop().wait();
    true
}

/// Probes come and go while curl and nginx, and Go programs whose stacks grow and are collected, talk: no request
/// fails. Catches a probe that is taken away while a program stands in it.
#[test]
fn probes_come_and_go_under_load() {
    if !has("go") || !has("nginx") || !has("curl") {
        return;
    }
    let attaches = std::env::var("WEIR_TEST_ATTACHES").ok().and_then(|text| text.parse().ok());
    let (place, ports) = (Place::new(), [free_port(), free_port()]);
    let program = built(&place, "pair", "local", &["-ldflags=-s -w"]);
    let command = |role: &str| {
        format!("{} {} {} {role} 2", program.display(), place.path("").display(), ports[0])
    };
    let mut server = Command::new("sh");
    let _go = Server::run(server.args(["-c", &format!("exec {}", command("server"))]), ports[0]);
    let _nginx = nginx(&place, ports[1], "ssl http2");
    let config =
        curl_config(ports[1], 0, 200).replace("silent\n", "silent\nshow-error\nfail-early\n");
    let config = place.write("curl", &config.replace("http1.1", "http2"));
    let mut loads = [
        load(&place, "go-rounds", &command("client")),
        load(&place, "curl-rounds", &format!("curl -K {}", config.display())),
    ];
    let all = attaches.unwrap_or(ATTACHES);
    let done = (0..all).take_while(|_| attach_once(ports, &program)).count();
    place.write("stop", "");
    for load in &mut loads {
        assert!(load.wait().unwrap().success(), "a request failed");
    }
    let [go, curl] = ["go-rounds", "curl-rounds"].map(|name| rounds(&place, name));
    assert!(done == 0 || (go > 0 && curl > 0), "nobody asked: {go} and {curl}");
}
