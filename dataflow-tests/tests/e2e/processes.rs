//! A cluster part of several processes over a real bus: its answers are those of one, and when any of them dies, at
//! any time, all begin anew, say so meanwhile, and have it all again. What strangers and hanging processes do to it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::{NamedTempFile, TempDir};
use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, has_bus_server, settles};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::live::LiveView;
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::{Process, Signal};
use weir_dataflow_tests::harness::weir::{self, Live, Weir, binary};
use weir_dataflow_tests::harness::{free_port, pause};
use weir_types::random::SplitMix;
use weir_types::{Clock, WallClock};

use crate::ports::{self, DEADLINE, can_run, counts};

/// After a death, with the dead process back, so long until all is answered again.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Deaths, unless the environment says otherwise.
const ROUNDS: &str = "WEIR_TEST_DEATHS";
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A web server and its node.
struct Site {
    nginx: Nginx,
    _node: Node,
    sent: i64,
}

impl Site {
    fn start(name: &str, bus: &str) -> Site {
        let nginx = Nginx::start(NginxOptions::default()).unwrap();
        let trace = format!("port:{}", nginx.addr.port());
        let node = Node::start(bus, name, &["--trace", &trace]).unwrap();
        Site { nginx, _node: node, sent: 0 }
    }
    fn load(&mut self, requests: usize) {
        self.sent += run_load(&Load::of(self.nginx.addr, "/a", requests)).len() as i64;
    }
}

/// The processes of a cluster part, each of which may be away.
struct Group {
    bus: String,
    peers: NamedTempFile,
    leader: Option<Weir>,
    followers: BTreeMap<usize, Process>,
    /// Where the leader answers, once it has.
    at: String,
    data_dir: Option<TempDir>,
}

fn peers_file(addresses: &[String]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "# leader first\n{}", addresses.join("\n")).unwrap();
    file
}

fn follower(binary: PathBuf, bus: &str, process: usize, peers: &NamedTempFile) -> Process {
    let mut command = Command::new(binary);
    let process = process.to_string();
    command.args(["cluster", "--bus", bus, "--process", &process, "--peers"]).arg(peers.path());
    Process::start(command).unwrap()
}

impl Group {
    fn new(bus: &str, processes: usize) -> Group {
        let address = |_| format!("127.0.0.1:{}", free_port());
        Group {
            bus: bus.to_string(),
            peers: peers_file(&(0..processes).map(address).collect::<Vec<_>>()),
            leader: None,
            followers: BTreeMap::new(),
            at: "127.0.0.1:0".to_string(),
            data_dir: Some(tempfile::tempdir().unwrap()),
        }
    }

    fn start(&mut self, process: usize) {
        if process > 0 {
            let started = follower(binary().unwrap(), &self.bus, process, &self.peers);
            self.followers.insert(process, started);
            return;
        }
        let peers = self.peers.path().to_str().unwrap();
        let dir = self.data_dir.take().unwrap();
        let args = ["--process", "0", "--peers", peers];
        let leader = Weir::start_cluster_at(dir, &self.at, &self.bus, &args).unwrap();
        self.at = leader.addr.to_string();
        self.leader = Some(leader);
    }

    fn kill(&mut self, process: usize) {
        if process > 0 {
            let mut killed = self.followers.remove(&process).unwrap();
            killed.stop(Signal::Kill, STOP_WITHIN).unwrap();
            return;
        }
        let (_, dir) = self.leader.take().unwrap().stop(Signal::Kill).unwrap();
        self.data_dir = Some(dir);
    }

    /// A life that is over before it has done much.
    fn begins_and_dies(&mut self, process: usize, after: Duration) {
        if process > 0 {
            self.start(process);
            pause(after);
            return self.kill(process);
        }
        let mut command = Command::new(binary().unwrap());
        command.args(["cluster", "--bus", &self.bus, "--process", "0", "--listen", &self.at]);
        command.arg("--peers").arg(self.peers.path());
        command.arg("--data-dir").arg(self.data_dir.as_ref().unwrap().path());
        let mut begun = Process::start(command).unwrap();
        pause(after);
        begun.stop(Signal::Kill, STOP_WITHIN).unwrap();
    }

    fn leader(&self) -> &Weir {
        self.leader.as_ref().unwrap()
    }

    fn generation(&self) -> Json {
        self.leader().stats().unwrap()["generation"].clone()
    }

    fn stands(&self) {
        settles(DEADLINE, "a generation stands", || self.generation()["stands"] == true);
    }

    /// All of them, in order.
    fn stops(&mut self) {
        let (ended, _) = self.leader.take().unwrap().stop(Signal::Terminate).unwrap();
        assert!(ended.success(), "{ended:?}");
        for (_, mut process) in std::mem::take(&mut self.followers) {
            let ended = process.stop(Signal::Terminate, STOP_WITHIN).unwrap();
            assert!(ended.success(), "{ended:?}");
        }
    }

    fn misses(&self, process: usize) {
        settles(DEADLINE, "it is missed", || self.generation()["missing"] == json!([process]));
    }
}

fn served(sites: &[Site]) -> Vec<(i64, i64)> {
    let mut served: Vec<_> =
        sites.iter().map(|site| (i64::from(site.nginx.addr.port()), site.sent)).collect();
    served.sort_unstable();
    served
}

/// Waits until the view is complete and what was served; until then nothing that calls itself complete lacks what
/// was served before.
fn has_all_again(live: &mut Live, before: &[(i64, i64)], now: &[(i64, i64)]) {
    live.wait_for(DEADLINE, |view| {
        let have = counts(&view.rows("ports"));
        let is_complete = view.progress.as_ref().is_some_and(|said| said["complete"] == true);
        for (port, most) in now {
            let count = have.iter().find(|(of, _)| of == port).map_or(0, |(_, count)| *count);
            assert!(count <= *most, "{count} of {most} requests of {port}");
            let least = before.iter().find(|(of, _)| of == port).map_or(0, |(_, count)| *count);
            assert!(!is_complete || count >= least, "complete with {count} of {least} of {port}");
        }
        is_complete && have == now
    })
    .unwrap();
    assert!(live.view.errors.is_empty(), "{:?}", live.view.errors);
}

fn now_ns() -> u64 {
    WallClock.monotonic_ns()
}

/// Requests by the port that served them, from a time on that all nodes have seen: so it can be complete.
fn script(from_unix_ns: i64) -> String {
    format!(
        "df = px.DataFrame('http_events', start_time={from_unix_ns})\n\
         df = df[df.trace_role == 2]\n\
         df = df.groupby('local_port').agg(n=('latency', px.count))\npx.display(df, 'ports')\n"
    )
}

fn request(from_unix_ns: i64) -> Json {
    json!({"text": format!("import px\n{}", script(from_unix_ns))})
}

fn follow(leader: &Weir, from_unix_ns: i64) -> (Live, NamedTempFile) {
    follow_script(leader, &script(from_unix_ns))
}

fn follow_script(leader: &Weir, script: &str) -> (Live, NamedTempFile) {
    let file = ports::script_of(script);
    let live = leader.live(file.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap();
    (live, file)
}

/// A single answer is whole, or says that it is not, or that there is none now.
fn no_answer_of_a_part(leader: &Weir, from_unix_ns: i64, before: &[(i64, i64)]) {
    let answer = leader.post("/api/v1/run", &request(from_unix_ns)).unwrap();
    // Whoever asked just before waits, at most as long as any answer may take.
    if answer.status == 504 {
        return;
    }
    if answer.status == 503 {
        assert!(answer.text().contains("processes of the cluster part"), "{}", answer.text());
        return;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text: Json = serde_json::from_str(&answer.text()).unwrap();
    let mut view = LiveView::default();
    text["messages"].as_array().unwrap().iter().for_each(|message| view.apply(message).unwrap());
    let have = counts(&view.rows("ports"));
    for (port, least) in before {
        let count = have.iter().find(|(of, _)| of == port).map_or(0, |(_, count)| *count);
        let is_complete = view.progress.as_ref().unwrap()["complete"] == true;
        assert!(!is_complete || count >= *least, "{count} of {least} of {port}: {text}");
    }
}

fn is_refused_as_absent(leader: &Weir) {
    let answer = leader.post("/api/v1/run", &request(0)).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("processes of the cluster part"), "{}", answer.text());
}

/// One to all of the processes die. True if the leader was among them; and which, in the order in which they are to
/// come back.
fn some_die(group: &mut Group, processes: usize, random: &mut SplitMix) -> (bool, Vec<usize>) {
    let mut dying: Vec<usize> = (0..processes).filter(|_| random.below(2) == 0).collect();
    if dying.is_empty() {
        dying.push(usize::try_from(random.below(processes as u64)).unwrap());
    }
    dying.iter().for_each(|&process| group.kill(process));
    // In any order.
    for at in (1..dying.len()).rev() {
        dying.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
    }
    (dying.contains(&0), dying)
}

/// Views of three processes are the sum of two nodes, all of them compute, and whichever are killed, also as soon as
/// they have begun, and in whatever order they come back, all is answered again within ten seconds of the last one's
/// return, nothing twice, and meanwhile nothing that lacks something is called complete. What the first one tells of
/// the others and of the nodes are metrics. A process that is told to stop does, and the first one without the others as
/// well.
#[test]
fn several_processes_answer_as_one() {
    const PROCESSES: usize = 3;
    if !can_run() {
        return;
    }
    let bus = BusServer::start("").unwrap();
    let mut group = Group::new(&bus.url(), PROCESSES);
    // By their short ids the first process reads the one, and the third the other.
    let mut sites = [Site::start("c", &bus.url()), Site::start("b", &bus.url())];
    group.start(2);
    group.start(0);
    is_refused_as_absent(group.leader());
    group.misses(1);
    group.start(1);
    group.stands();
    // Both nodes watch since a moment before.
    pause(Duration::from_secs(2));
    let from_unix_ns = WallClock.now_unix_ns();
    let (mut live, mut _script) = follow(group.leader(), from_unix_ns);
    sites.iter_mut().for_each(|site| site.load(40));
    has_all_again(&mut live, &[], &served(&sites));
    settles(DEADLINE, "the other processes compute", || {
        let others = group.generation()["others"].clone();
        let computes = |other: &Json| other["cpu_ns"].as_u64() > Some(0);
        let others = others.as_array().unwrap();
        others.len() == 2
            && others.iter().all(|of| computes(of) && of["dataflows"].as_u64() > Some(2))
    });
    let others = group.generation()["others"].clone();
    let read = [0, 1].map(|at| others[at]["read_bytes"].as_u64().unwrap());
    assert!(read[0] == 0 && read[1] > 0, "{others}");
    let shown = super::monitoring::all_numbers_are_metrics(group.leader());
    for of in ["held_bytes", "between_bytes", "read_bytes", "cpu_ns", "dataflows"] {
        let place = format!("generation/others/2/{of}");
        assert!(shown.contains(&place), "{place} in {shown:#?}");
    }
    let rounds = number_from_env(ROUNDS).unwrap_or(5);
    let mut random = SplitMix(12);
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let before = served(&sites);
        let (leader_dies, dead) = some_die(&mut group, PROCESSES, &mut random);
        sites[0].load(5);
        if !leader_dies {
            no_answer_of_a_part(group.leader(), from_unix_ns, &before);
        }
        for &process in &dead {
            if random.below(2) == 0 {
                group.begins_and_dies(process, Duration::from_millis(random.below(200)));
            }
            group.start(process);
        }
        let since_ns = now_ns();
        sites[1].load(5);
        if leader_dies {
            (live, _script) = follow(group.leader(), from_unix_ns);
        }
        no_answer_of_a_part(group.leader(), from_unix_ns, &before);
        has_all_again(&mut live, &before, &served(&sites));
        let took = Duration::from_nanos(now_ns() - since_ns);
        println!("round {round}: {dead:?} died, {took:?}");
        no_answer_of_a_part(group.leader(), from_unix_ns, &served(&sites));
        longest = longest.max(took);
    }
    assert!(longest <= BACK_WITHIN, "{longest:?}");
    let mut other = group.followers.remove(&1).unwrap();
    let ended = other.stop(Signal::Terminate, STOP_WITHIN).unwrap();
    assert!(ended.success(), "{ended:?}");
    group.misses(1);
    is_refused_as_absent(group.leader());
    let (ended, _) = group.leader.take().unwrap().stop(Signal::Terminate).unwrap();
    assert!(ended.success(), "{ended:?}");
}

/// Paths of which no two are alike and none can be made much smaller on its way.
fn long_paths(random: &mut SplitMix, count: usize) -> Vec<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut letter = |_| char::from(LETTERS[random.below(LETTERS.len() as u64) as usize]);
    let mut path = |_| format!("/{}", (0..PATH_BYTES).map(&mut letter).collect::<String>());
    (0..count).map(&mut path).collect()
}

const PATH_BYTES: usize = 1_500;

impl Site {
    /// Each path once; within about so long, or at once.
    fn load_paths(&mut self, paths: Vec<String>, seconds: u32) {
        let requests = paths.len();
        let requests_per_sec = u32::try_from(requests).unwrap().checked_div(seconds).unwrap_or(0);
        let load = Load { paths, requests_per_sec, ..Load::of(self.nginx.addr, "/", requests) };
        self.sent += run_load(&load).len() as i64;
    }
}

/// What the first process has received from the bus, and what each other one has read.
fn bytes_read(group: &Group) -> (u64, Vec<u64>) {
    let stats = group.leader().stats().unwrap();
    let others = stats["generation"]["others"].as_array().unwrap();
    let read = others.iter().map(|other| other["read_bytes"].as_u64().unwrap()).collect();
    (stats["network"]["bytes_received"].as_u64().unwrap(), read)
}

/// Three processes and nodes of all shares: no byte of what the others read comes to the first one over the bus, answers
/// are the sum of all nodes, also after any of the processes was killed in the middle of traffic, and in the end row by
/// row those of a single process over the same nodes.
#[test]
fn each_process_reads_its_share() {
    const PROCESSES: usize = 3;
    const REQUESTS: usize = 150;
    const ROUNDS: usize = 4;
    if !can_run() {
        return;
    }
    let bus = BusServer::start("").unwrap();
    let mut group = Group::new(&bus.url(), PROCESSES);
    (0..PROCESSES).for_each(|process| group.start(process));
    // By their short ids: of the first process, of the second, and two of the third.
    let mut sites = ["c", "g", "a", "b"].map(|name| Site::start(name, &bus.url()));
    group.stands();
    pause(Duration::from_secs(2));
    let from_unix_ns = WallClock.now_unix_ns();
    let script = format!(
        "{}rows = px.DataFrame('http_events', start_time={from_unix_ns})\n\
         rows = rows[rows.trace_role == 2]\n\
         px.display(rows[['local_port', 'req_path']], 'rows')\n",
        script(from_unix_ns)
    );
    let (mut live, mut _file) = follow_script(group.leader(), &script);
    has_all_again(&mut live, &[], &served(&sites[..0]));
    let mut random = SplitMix(35);
    let before = bytes_read(&group);
    for (at, site) in sites.iter_mut().enumerate() {
        let requests = if at == 0 { 2 } else { REQUESTS };
        site.load_paths(long_paths(&mut random, requests), 0);
    }
    has_all_again(&mut live, &[], &served(&sites));
    let paths_bytes = |requests: usize| (requests * PATH_BYTES) as u64;
    settles(DEADLINE, "they say what they have read", || {
        let (_, read) = bytes_read(&group);
        let of = |process: usize| read[process - 1] - before.1[process - 1];
        of(1) >= paths_bytes(REQUESTS) && of(2) >= paths_bytes(2 * REQUESTS)
    });
    let received = bytes_read(&group).0 - before.0;
    println!("the first process received {received} bytes of {}", paths_bytes(3 * REQUESTS));
    assert!(received < paths_bytes(REQUESTS) / 2, "{received}");
    for round in 0..ROUNDS {
        let before = served(&sites);
        // Each at least once, in any order.
        let killed = (round + 1) % PROCESSES;
        std::thread::scope(|scope| {
            for site in &mut sites {
                let paths = long_paths(&mut random, 60);
                scope.spawn(move || site.load_paths(paths, 2));
            }
            pause(Duration::from_millis(500 + random.below(1_000)));
            group.kill(killed);
            group.start(killed);
        });
        if killed == 0 {
            (live, _file) = follow_script(group.leader(), &script);
        }
        no_answer_of_a_part(group.leader(), from_unix_ns, &before);
        has_all_again(&mut live, &before, &served(&sites));
        println!("round {round}: {killed} was killed");
    }
    let of_three = live.view.rows("rows");
    drop(live);
    let requests: i64 = sites.iter().map(|site| site.sent).sum();
    assert_eq!(of_three.iter().map(|(_, times)| times).sum::<i64>(), requests);
    group.stops();
    let alone = Weir::start_cluster(&bus.url(), &[]).unwrap();
    let (mut live, _file) = follow_script(&alone, &script);
    has_all_again(&mut live, &[], &served(&sites));
    assert!(of_three == live.view.rows("rows"), "rows of one process and of three differ");
}

/// A process of another build, or with another list of peers, is refused with what differs, on both sides, and takes
/// nothing from the generation that stands.
#[test]
fn who_does_not_fit_is_refused() {
    if !has_bus_server() {
        return weir_types::testing::skipped("there is no nats-server");
    }
    let bus = BusServer::start("").unwrap();
    let mut group = Group::new(&bus.url(), 2);
    group.start(1);
    group.start(0);
    group.stands();
    let before = group.generation()["name"].clone();
    // The same program, a byte longer.
    let dir = tempfile::tempdir().unwrap();
    let older = dir.path().join("weir");
    std::fs::copy(binary().unwrap(), &older).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&older).unwrap();
    file.write_all(b"\0").unwrap();
    drop(file);
    let addresses = std::fs::read_to_string(group.peers.path()).unwrap();
    let leader = addresses.lines().nth(1).unwrap().to_string();
    // Each listens at a port of its own.
    let own = || {
        let port = free_port();
        peers_file(&[leader.clone(), format!("127.0.0.1:{port}")])
    };
    let mut strangers =
        [(binary().unwrap(), "list of peers"), (older, "build")].map(|(binary, says)| {
            let peers = own();
            (follower(binary, &bus.url(), 1, &peers), peers, says)
        });
    for (stranger, _, says) in &mut strangers {
        // Terms are compared by name: the build comes first.
        let text = format!("with another {says} than process 0");
        settles(DEADLINE, "it is told why", || {
            stranger.stderr.all().iter().any(|line| line.contains(&text))
        });
        stranger.stop(Signal::Terminate, STOP_WITHIN).unwrap();
    }
    let after = group.generation();
    assert_eq!((&after["name"], &after["stands"]), (&before, &json!(true)), "{after}");
    assert!(after["refused_total"].as_u64() >= Some(2), "{after}");
    assert!(after["refused"].as_str().unwrap().contains("with another"), "{after}");
    // A list that it is not in, or one without it: wrong usage.
    let missing = run(&["cluster", "--bus", &bus.url(), "--process", "2", "--peers"], &group.peers);
    assert_eq!(missing, Some(2));
}

fn run(args: &[&str], peers: &NamedTempFile) -> Option<i32> {
    let args = [args, &[peers.path().to_str().unwrap()]].concat();
    weir::run(&args, STOP_WITHIN).unwrap().status.code()
}

fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A process that holds its sockets open and says nothing is missed, nothing is answered without it, and once it
/// goes on, it is let in again by itself, into another generation; so is the first one, of which the other takes
/// leave. Another one that has the same address meanwhile does not begin.
#[test]
fn who_hangs_is_missed() {
    if !has_bus_server() {
        return weir_types::testing::skipped("there is no nats-server");
    }
    let bus = BusServer::start("").unwrap();
    let mut group = Group::new(&bus.url(), 2);
    group.start(0);
    group.start(1);
    group.stands();
    let first = group.generation()["name"].clone();
    let pid = group.followers[&1].pid();
    send("-STOP", pid);
    group.misses(1);
    is_refused_as_absent(group.leader());
    let mut second = follower(binary().unwrap(), &bus.url(), 1, &group.peers);
    let ended = second.wait(STOP_WITHIN).unwrap();
    let said = second.stderr.find(DEADLINE, |line| line.contains("could not listen"));
    assert!(!ended.success() && said.is_some(), "{ended:?} {}", second.output());
    send("-CONT", pid);
    let since_ns = now_ns();
    group.stands();
    let took = Duration::from_nanos(now_ns() - since_ns);
    assert!(took <= BACK_WITHIN, "{took:?}");
    let next = group.generation()["name"].clone();
    assert_ne!(next, first);
    let other = &group.followers[&1];
    // It may have taken leave before, as it went on itself.
    let leaves = || {
        let lines = other.stderr.all();
        lines.iter().filter(|line| line.contains("process 0 has said nothing")).count()
    };
    let before = leaves();
    send("-STOP", group.leader().pid());
    settles(DEADLINE, "the other one takes leave", || leaves() > before);
    send("-CONT", group.leader().pid());
    settles(DEADLINE, "another generation", || {
        let present = group.generation();
        present["stands"] == true && present["name"] != next
    });
    // It hangs for good, and the first one is told to stop.
    send("-STOP", pid);
    let (ended, _) = group.leader.take().unwrap().stop(Signal::Terminate).unwrap();
    assert!(ended.success(), "{ended:?}");
}
