//! What is handed on between processes, over real sockets: what stays, what waits, and which way counts.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_types::PackedRow;

use super::*;
use crate::bus::{NodePort, in_process};
use crate::message::{Life, Place};

const DEADLINE: Duration = Duration::from_secs(10);

fn way() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn update(sequence: u64) -> FromNode {
    let row = PackedRow(vec![7; 100]);
    FromNode::Update {
        query: 3,
        place: Place { epoch: 2, sequence },
        exchange: 1,
        tick_ms: 1_000,
        changes: vec![Change::Row { row, pane: 0, diff: 1 }],
    }
}

async fn next(port: &mut ClusterPort) -> FromNode {
    tokio::time::timeout(DEADLINE, port.recv()).await.unwrap().unwrap().unwrap().message
}

fn says(node: &NodePort, message: FromNode) {
    node.sender.send(Life { incarnation: 1, generation: 0 }, message).unwrap();
}

/// Changes stay in the process that read them, in their order, also while there is no room for some time; the rest
/// comes as it was said; orders find the node; and when the way breaks and another one is there, the node has the
/// port it had.
#[tokio::test(flavor = "current_thread")]
async fn changes_stay_and_the_rest_is_handed_on() {
    let (ports, mut nodes) = mpsc::channel(8);
    let relays = Relays::new(ports);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (here, calls) = (Arc::clone(&kept), AtomicUsize::new(0));
    let keep = move |node: &str, changes: Vec<Change>| {
        assert_eq!(node, "a.b");
        if calls.fetch_add(1, Ordering::Relaxed) % 3 == 1 {
            return Err(changes);
        }
        let mut kept = here.lock().unwrap();
        kept.push(changes);
        Ok(kept.len() as u64 - 1)
    };
    let mut port = None;
    for round in 0..2 {
        let (mut node, there) = in_process();
        let (come, coming) = mpsc::channel(8);
        come.send(("a.b".to_string(), there)).await.unwrap();
        for sequence in 0..5 {
            says(&node, update(sequence));
        }
        // No node may say so.
        let at = Deposit { process: 0, number: 0 };
        let place = Place { epoch: 2, sequence: 5 };
        let forged = FromNode::Deposited { query: 3, place, exchange: 1, tick_ms: 1, at };
        says(&node, forged);
        says(&node, FromNode::Leave);
        let (one, other) = way();
        let whole = async {
            let new = port.is_none();
            if new {
                let (name, came) = nodes.recv().await.unwrap();
                assert_eq!(name, "a.b");
                port = Some(came);
            }
            let port = port.as_mut().unwrap();
            for sequence in 0..5 {
                let number = round * 5 + sequence;
                let at = Deposit { process: 2, number };
                let place = Place { epoch: 2, sequence };
                let told = FromNode::Deposited { query: 3, place, exchange: 1, tick_ms: 1_000, at };
                assert_eq!(next(port).await, told);
            }
            assert_eq!(next(port).await, FromNode::Leave);
            port.link.send(&ToNode::TellLosses).unwrap();
            let order = tokio::time::timeout(DEADLINE, node.recv()).await;
            assert_eq!(order.unwrap().unwrap().unwrap(), ToNode::TellLosses);
        };
        tokio::select! {
            ended = hand_on(one, coming, 2, &keep) => panic!("{ended:?}"),
            ended = relays.take(other, 2) => panic!("{ended:?}"),
            () = whole => {}
        }
        // The way is gone: nobody is told, and nobody fails.
        port.as_ref().unwrap().link.send(&ToNode::TellLosses).unwrap();
    }
    assert!(nodes.try_recv().is_err());
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 10);
    assert!(kept.iter().all(|changes| changes.len() == 1));
}

/// What is no frame ends the way, at once, and takes no memory for what it claims.
#[tokio::test(flavor = "current_thread")]
async fn strange_bytes_end_the_way() {
    let long = [&u32::MAX.to_le_bytes()[..], &[1, 0, b'a']].concat();
    let claims = [&(60_u32 << 20).to_le_bytes()[..], &[1, 0, b'a', 1, 2]].concat();
    let nameless = frame("", b"x");
    let no_text = [&5_u32.to_le_bytes()[..], &[2, 0, 0xff, 0xff, 0]].concat();
    let nobody = frame("a\nb", b"x");
    for bytes in [&long[..], &claims, &nameless, &no_text, &nobody, b"abc", b""] {
        let read = read_frame(&mut &bytes[..]).await;
        assert!(read.is_err(), "{bytes:?}: {read:?}");
    }
    let whole = frame("n", b"message");
    let (name, message) = read_frame(&mut &whole[..]).await.unwrap();
    assert_eq!((name.as_str(), &message[..]), ("n", &b"message"[..]));
}

fn noise(bytes: usize) -> Vec<u8> {
    envelope::encode(&Report {
        life: Life { incarnation: 1, generation: 0 },
        message: FromNode::Failed { query: 1, epoch: 1, message: "x".repeat(bytes) },
    })
    .unwrap()
}

/// Another process that hands on whatever it wants to, by its end of the way.
async fn send(to: &mut TcpStream, name: &str, message: &[u8]) {
    to.write_all(&frame(name, message)).await.unwrap();
}

/// What comes over the bus itself may not speak of changes that wait elsewhere; what another process hands on may.
#[tokio::test(flavor = "current_thread")]
async fn only_processes_speak_of_deposits() {
    let at = Deposit { process: 1, number: 0 };
    let place = Place { epoch: 1, sequence: 0 };
    let forged = FromNode::Deposited { query: 1, place, exchange: 0, tick_ms: 1, at };
    let (node, mut direct) = in_process();
    says(&node, forged.clone());
    says(&node, FromNode::Leave);
    assert!(matches!(direct.recv().await, Some(Err(BusError::Forged))));
    assert_eq!(next(&mut direct).await, FromNode::Leave);
    let (node, relayed) = in_process();
    says(&node, forged.clone());
    assert_eq!(next(&mut relayed.relayed()).await, forged);
}

/// Nobody takes what nodes say: no more than the bound waits here, the way is not read any further; once it is taken
/// all of it comes, in order. Orders that nobody reads are refused once there are too many, and never wait for it.
#[tokio::test(flavor = "current_thread")]
async fn what_waits_is_bounded() {
    const MESSAGE_BYTES: usize = 8 << 20;
    const MESSAGES: usize = 24;
    let (ports, mut nodes) = mpsc::channel(8);
    let relays = Relays::new(ports);
    let (one, other) = way();
    let sending = tokio::spawn(async move {
        let mut one = opened(one).unwrap();
        let message = noise(MESSAGE_BYTES);
        for number in 0..MESSAGES {
            send(&mut one, &format!("n{}", number % 3), &message).await;
        }
        one
    });
    let taken = relays.clone();
    let taking = tokio::spawn(async move { taken.take(other, 1).await });
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(nodes.recv().await.unwrap().1);
    }
    let waits = || relays.0.lock().unapplied_bytes;
    while waits() < UNAPPLIED_BYTES_MAX {
        tokio::time::sleep(ROOM_EVERY).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waits() <= UNAPPLIED_BYTES_MAX + 2 * MESSAGE_BYTES, "{}", waits());
    assert!(!sending.is_finished());
    for number in 0..MESSAGES {
        let FromNode::Failed { message, .. } = next(&mut came[number % 3]).await else { panic!() };
        assert_eq!(message.len(), MESSAGE_BYTES);
    }
    // It reads none of these.
    let _one = sending.await.unwrap();
    let order = ToNode::Remove { query: 1, epoch: 1 };
    let mut sent = 0_usize;
    let full = loop {
        match came[0].link.send(&order) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, BusError::FullBytes { .. }), "{full}");
    assert!(sent <= DOWN_BYTES_MAX as usize / FRAME_OVERHEAD_BYTES, "{sent}");
    taking.abort();
}

/// A process that comes again is heard over its newest way alone, also while the former one still stands and is full
/// of what it said before; and what is said to nodes goes over the newest one.
#[tokio::test(flavor = "current_thread")]
async fn the_newest_way_counts() {
    let (ports, mut nodes) = mpsc::channel(8);
    let relays = Relays::new(ports);
    let take = |stream| {
        let relays = relays.clone();
        tokio::spawn(async move { relays.take(stream, 1).await })
    };
    let (former, first) = way();
    let mut former = opened(former).unwrap();
    send(&mut former, "n", &noise(1)).await;
    let taking_former = take(first);
    let (_, mut port) = nodes.recv().await.unwrap();
    next(&mut port).await;
    let (newest, second) = way();
    let mut newest = opened(newest).unwrap();
    let taking_newest = take(second);
    let why = tokio::time::timeout(DEADLINE, taking_former).await.unwrap().unwrap();
    assert!(why.to_string().contains("newer"), "{why}");
    // Nobody hears this.
    drop(former.write_all(&frame("n", &noise(2))).await);
    send(&mut newest, "n", &noise(3)).await;
    let FromNode::Failed { message, .. } = next(&mut port).await else { panic!() };
    assert_eq!(message.len(), 3);
    port.link.send(&ToNode::TellLosses).unwrap();
    let (name, order) = read_frame(&mut newest).await.unwrap();
    assert_eq!(name, "n");
    assert_eq!(envelope::decode::<ToNode>(&order).unwrap(), ToNode::TellLosses);
    assert!(nodes.try_recv().is_err());
    taking_newest.abort();
}
