//! `weir cluster` in several processes: which of them this one is, what they have to agree on, and the life of one
//! that follows: it computes what the first one orders, in generation after generation, and answers nobody.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{error, info};
use weir_engine::{Engine, EngineConfig, Mesh, MeshConfig};
use weir_proto::nats::HubConfig;

use super::signals::Signals;
use super::{hostname, query_limits, shares};
use crate::args::ClusterArgs;
use crate::failure::Failure;
use crate::{output, text_file};

/// Longer files name no peers.
const PEERS_BYTES_MAX: u64 = 64 << 10;
const PROCESSES_MAX: usize = 64;
/// How often it is looked whether a stop is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between an engine that could not be started and the next one.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The process among others; `None` if it is the only one.
pub(super) fn mesh(args: &ClusterArgs) -> Result<Option<Mesh>, Failure> {
    let Some(addresses) = addresses(args)? else { return Ok(None) };
    let process = match args.process {
        Some(process) => process,
        None => ordinal(&hostname()).ok_or_else(|| {
            Failure::Usage(
                "--process: which of the processes is this? (from 0; the host's name does not end in a number)"
                    .to_string(),
            )
        })?,
    };
    if process >= addresses.len() {
        return Err(Failure::Usage(format!(
            "--process {process}: there are {} in --peers, numbered from 0",
            addresses.len()
        )));
    }
    let at = addresses[process].clone();
    let config = MeshConfig { process, addresses, terms: terms(args) };
    let mesh = Mesh::listen(config);
    Ok(Some(mesh.map_err(|error| {
        Failure::No(format!("could not listen for the other processes at {at}: {error}"))
    })?))
}

fn addresses(args: &ClusterArgs) -> Result<Option<Vec<String>>, Failure> {
    let wrong = |what: String| Err(Failure::Usage(what));
    let Some(path) = &args.peers else {
        return match (args.processes, args.process) {
            (None | Some(1), None | Some(0)) => Ok(None),
            _ => wrong("--processes and --process need --peers FILE: where each of them is".into()),
        };
    };
    let addresses = peers_in(path)?;
    if let Some(processes) = args.processes.filter(|processes| *processes != addresses.len()) {
        let (path, have) = (path.display(), addresses.len());
        return wrong(format!("--processes {processes}: --peers {path} names {have}"));
    }
    Ok((addresses.len() > 1).then_some(addresses))
}

/// One a line; what is behind a `#` is for people.
fn peers_in(path: &Path) -> Result<Vec<String>, Failure> {
    let wrong = |what: &str| Failure::Usage(format!("--peers {}: {what}", path.display()));
    let text = text_file::read(path, PEERS_BYTES_MAX);
    let text = text.map_err(|error| wrong(&error.to_string()))?;
    let text = text.ok_or_else(|| wrong("it is too long"))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let addresses: Vec<String> =
        lines.filter(|line| !line.is_empty()).map(str::to_string).collect();
    if !(1..=PROCESSES_MAX).contains(&addresses.len()) {
        return Err(wrong(&format!("it has to name 1 to {PROCESSES_MAX} processes, one a line")));
    }
    for (at, address) in addresses.iter().enumerate() {
        let parts = address.rsplit_once(':');
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if !parts.is_some_and(|(host, port)| !host.is_empty() && is_port(port)) {
            return Err(wrong(&format!("`{address}`: write HOST:PORT")));
        }
        if addresses[..at].contains(address) {
            return Err(wrong(&format!("`{address}` stands there twice")));
        }
    }
    Ok(addresses)
}

/// As a StatefulSet names its pods.
fn ordinal(hostname: &str) -> Option<usize> {
    hostname.rsplit_once('-')?.1.parse().ok()
}

/// What would make of several processes no engine, or one that computes nonsense.
fn terms(args: &ClusterArgs) -> BTreeMap<String, String> {
    let groups = query_limits(&args.common.queries).query_groups_max;
    [
        ("build", build()),
        ("--workers", args.serve.workers.max(1).to_string()),
        ("--retention", format!("{:?}", args.common.retention)),
        ("--query-groups-max", groups.to_string()),
        ("--test-faults", args.common.test_faults.to_string()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

/// What processes exchange has no versions: the very same program is needed.
fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let hash = || -> std::io::Result<u64> {
        let mut own = std::fs::File::open("/proc/self/exe")?;
        let mut hasher = std::hash::DefaultHasher::new();
        let mut bytes = vec![0; 1 << 20];
        loop {
            match own.read(&mut bytes)? {
                0 => return Ok(hasher.finish()),
                count => hasher.write(&bytes[..count]),
            }
        }
    };
    hash().map_or_else(|_| version.to_string(), |hash| format!("{version} ({hash:016x})"))
}

/// A process that is not the first one, until it is told to stop.
pub(super) fn follow(
    args: &ClusterArgs,
    mesh: Mesh,
    hub: HubConfig,
    signals: &Signals,
) -> Result<(), Failure> {
    let config = EngineConfig {
        workers: args.serve.workers.max(1),
        retention_ns: Some(i64::try_from(args.common.retention.as_nanos()).unwrap_or(i64::MAX)),
        test_faults: args.common.test_faults,
        limits: query_limits(&args.common.queries),
        mesh: Some(mesh.clone()),
        ..EngineConfig::new("cluster")
    };
    let present: Arc<Mutex<Option<Arc<Engine>>>> = Arc::default();
    let (there, asked) = (Arc::clone(&present), Arc::clone(&signals.asked));
    let watched = mesh.clone();
    let watcher = std::thread::Builder::new().name("stop".to_string()).spawn(move || {
        while !asked.load(Ordering::SeqCst) {
            std::thread::park_timeout(LOOK_EVERY);
        }
        watched.stop();
        let engine = there.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = engine {
            engine.give_up("this process stops");
        }
    });
    let no_thread = |error: std::io::Error| Failure::No(format!("no thread: {error}"));
    let watcher = watcher.map_err(no_thread)?;
    let there = Arc::clone(&present);
    let broken = Box::new(move |why: &str| {
        // Under the lock: no other generation begins meanwhile.
        let engine = there.lock().unwrap_or_else(PoisonError::into_inner);
        engine.iter().for_each(|engine| engine.give_up(why));
    });
    let reader = shares::Reader::start(mesh.clone(), hub, Arc::clone(&signals.asked), broken);
    let reader = reader.map_err(no_thread)?;
    drop(output::line(&format!("ready process {} of {}", mesh.process(), mesh.processes())));
    let set = |engine| *present.lock().unwrap_or_else(PoisonError::into_inner) = engine;
    while !signals.asked.load(Ordering::SeqCst) {
        // Queries fail where orders are given; nothing else is said here.
        match Engine::start(config.clone(), Arc::new(|_| {})) {
            Ok(engine) => {
                let engine = Arc::new(engine);
                set(Some(Arc::clone(&engine)));
                info!(generation = mesh.status().generation, "in a generation");
                if signals.asked.load(Ordering::SeqCst) {
                    engine.give_up("this process stops");
                }
                engine.wait();
                set(None);
                // What is read belongs to a generation.
                reader.begin_anew();
            }
            Err(_) if signals.asked.load(Ordering::SeqCst) => {}
            Err(why) => {
                error!(%why, "no engine could be started; trying on");
                std::thread::park_timeout(AGAIN_AFTER);
            }
        }
    }
    drop(watcher.join());
    let failed = reader.ends();
    output::note("stopped");
    failed.map_or(Ok(()), |why| Err(Failure::No(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists that name no processes, or one twice, are wrong usage with the file and what is wrong.
    #[test]
    fn lists_of_peers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            peers_in(file.path()).map_err(|failure| format!("{failure:?}"))
        };
        let good = read("# all\n a:1 # first\n\nb.c:2\n[::1]:3\n").unwrap();
        assert_eq!(good, ["a:1", "b.c:2", "[::1]:3"]);
        for (text, says) in [
            ("", "1 to 64"),
            ("a", "`a`: write HOST:PORT"),
            ("a:0", "HOST:PORT"),
            (":1", "HOST:PORT"),
            ("a:1\nb:1\na:1", "`a:1` stands there twice"),
            (&"a:1\n".repeat(100_000), "too long"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert!(peers_in(Path::new("/nonexistent")).is_err());
        assert_eq!(ordinal("weir-cluster-12"), Some(12));
        assert_eq!([ordinal("weir"), ordinal("weir-a"), ordinal("3")], [None, None, None]);
    }
}
