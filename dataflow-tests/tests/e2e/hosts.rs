//! Five machines (network namespaces), a bus server and a cluster part: real traffic on each, and what happens to
//! networks. One machine's clock is two seconds ahead.

use std::process::Command;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, settles};
use weir_dataflow_tests::harness::hosts::{self, Host};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::process::Process;
use weir_dataflow_tests::harness::weir::{Live, Weir, binary};

use crate::ports::{self, DEADLINE, can_run};

/// Machines' servers have the ports after this one. Nodes see the whole kernel, so no other test may be given these.
const PORT: u16 = 9_480;

/// A machine with a web server and the node that watches it. Each server has a port of its own, since nodes on one
/// kernel see all of it.
struct Machine {
    node: Option<Node>,
    server: Option<Process>,
    host: Host,
    name: String,
    port: u16,
    bus: String,
    is_ahead: bool,
    sent: i64,
}

impl Machine {
    fn start(number: u8, bus_port: u16) -> Machine {
        let host = Host::new(number).unwrap();
        let port = PORT + u16::from(number);
        let mut command = host.command("python3");
        let text = "import http.server,socketserver,sys\n\
                    class H(http.server.BaseHTTPRequestHandler):\n\
                    \x20protocol_version='HTTP/1.1'\n\
                    \x20def do_GET(s):\n\
                    \x20\x20s.send_response(200);s.send_header('Content-Length','2');s.end_headers();s.wfile.write(b'ok')\n\
                    \x20def log_message(s,*a): pass\n\
                    class S(socketserver.ThreadingMixIn,http.server.HTTPServer): daemon_threads=True\n\
                    S((sys.argv[1],int(sys.argv[2])),H).serve_forever()\n";
        command.args(["-c", text, &host.ip.to_string(), &port.to_string()]);
        let mut server = Process::start(command).unwrap();
        let addr = host.at(port);
        server.wait_ready(DEADLINE, |_| std::net::TcpStream::connect(addr).ok()).unwrap();
        let bus = format!("nats://{}:{bus_port}", host.here);
        let name = format!("m{number}");
        let is_ahead = number == 3;
        let server = Some(server);
        let mut machine = Machine { node: None, server, host, name, port, bus, is_ahead, sent: 0 };
        machine.start_node();
        machine
    }

    fn start_node(&mut self) {
        let weir = binary().unwrap();
        let weir = weir.to_str().unwrap();
        let command: Command = if self.is_ahead {
            let mut command = self.host.command("faketime");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").args(["-f", "+2s", weir]);
            command
        } else {
            self.host.command(weir)
        };
        let data_dir = tempfile::tempdir().unwrap();
        let trace = format!("port:{}", self.port);
        let args = ["--trace", trace.as_str()];
        self.node = Some(Node::start_by(command, data_dir, &self.bus, &self.name, &args).unwrap());
    }

    fn load(&mut self, requests: usize) {
        self.sent += run_load(&Load::of(self.host.at(self.port), "/a", requests)).len() as i64;
    }
}

/// Waits until the view holds exactly what was served.
fn agrees(live: &mut Live, machines: &[Machine]) {
    let served = machines.iter().map(|machine| (i64::from(machine.port), machine.sent));
    ports::agrees(live, served.collect());
}

/// The view is what all five served, whatever happens to the network: a twentieth of the packets of one machine is
/// lost, another is cut off for thirty seconds, the bus server dies and comes back, a clock is two seconds ahead.
/// The machine that is cut off is missed by name, and no other is; nothing is ever counted twice.
#[test]
fn five_machines_on_a_bad_network() {
    if !can_run() {
        return;
    }
    if !hosts::can_make() {
        return weir_types::testing::skipped("no network namespaces can be made");
    }
    let mut bus = BusServer::start_open("").unwrap();
    let mut machines: Vec<Machine> =
        (1..=5).map(|number| Machine::start(number, bus.addr.port())).collect();
    let cluster = Weir::start_cluster(&bus.url(), &[]).unwrap();
    settles(DEADLINE, "five nodes are there", || {
        let listed = cluster.get("/api/v1/nodes").unwrap().text();
        serde_json::from_str::<Json>(&listed).unwrap()["nodes"].as_array().unwrap().len() == 5
    });
    let (mut live, _script) = ports::live(&cluster);
    machines.iter_mut().for_each(|machine| machine.load(20));
    agrees(&mut live, &machines);
    machines[0].host.drop_percent(5).unwrap();
    machines.iter_mut().for_each(|machine| machine.load(20));
    agrees(&mut live, &machines);
    // What it serves while it is cut off nobody here can ask for: its own processes do.
    machines[1].host.drop_percent(100).unwrap();
    ports::are_lagging(&mut live, &["m2"]);
    served_within(&mut machines[1], 30);
    let frontiers = live.view.frontiers.len();
    for round in 0..3 {
        for (number, machine) in machines.iter_mut().enumerate() {
            if number != 1 {
                machine.load(5);
            }
        }
        let wanted = frontiers + (round + 1) * 10;
        live.wait_for(DEADLINE, |view| view.frontiers.len() > wanted).unwrap();
        assert_eq!(ports::lagging(&live), ["m2"]);
    }
    machines[1].host.drop_percent(0).unwrap();
    agrees(&mut live, &machines);
    bus.kill().unwrap();
    machines.iter_mut().for_each(|machine| machine.load(10));
    bus.restart().unwrap();
    agrees(&mut live, &machines);
    ports::are_lagging(&mut live, &[]);
    for machine in &mut machines {
        drop(machine.server.take());
        let stopped = machine.node.take().unwrap().stop().unwrap();
        // Of the one whose clock is ahead this is the end of the program that sets it.
        assert!(stopped.success() || machine.is_ahead, "{}: {stopped}", machine.name);
    }
}

/// Requests from within the machine.
fn served_within(machine: &mut Machine, requests: usize) {
    let mut command = machine.host.command("python3");
    let text = "import http.client,sys\n\
                c=http.client.HTTPConnection(sys.argv[1],int(sys.argv[2]))\n\
                for _ in range(int(sys.argv[3])):\n\
                \x20c.request('GET','/a'); c.getresponse().read()\n";
    let addr = machine.host.ip.to_string();
    command.args(["-c", text, &addr, &machine.port.to_string(), &requests.to_string()]);
    let mut client = Process::start(command).unwrap();
    assert!(client.wait(DEADLINE).unwrap().success(), "{}", client.output());
    machine.sent += requests as i64;
}
