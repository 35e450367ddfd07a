use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::AtomicUsize;

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
    let keep = move |changes: Vec<Change>| {
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
    for bytes in [&long[..], &claims, &nameless, &no_text, b"abc", b""] {
        let read = read_frame(&mut &bytes[..]).await;
        assert!(read.is_err(), "{bytes:?}: {read:?}");
    }
    let whole = frame("n", b"message");
    let (name, message) = read_frame(&mut &whole[..]).await.unwrap();
    assert_eq!((name.as_str(), &message[..]), ("n", &b"message"[..]));
}
