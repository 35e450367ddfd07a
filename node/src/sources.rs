//! Which sources this node runs, put together: eBPF capture, captures of packets, `/proc`, what finds out
//! names, Kubernetes where there is one, and Weir's own dataflows; and the
//! metadata that all of them keep fresh. Each is in a file of its own below.

mod debug;
mod ebpf;
mod kubernetes;
mod names;
mod own;
mod pcap;
mod proc;
mod stop;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use weir_sources::redact::Redactor;
use weir_sources::source::Source;
use weir_types::source::CaptureFilters;

use self::ebpf::SocketCapture;
pub use self::kubernetes::KubernetesConfig;
use self::kubernetes::KubernetesWatch;
use self::names::{NameFinder, SharedCounters};
use self::own::OwnDataflows;
pub use self::own::{OwnRows, TellOwnRows};
use self::pcap::CapturedPackets;
pub use self::pcap::{Captures, Speed};
use self::proc::ProcRows;
use self::stop::StopProgress;
use crate::agent::DebugState;
use crate::metadata::Metadata;

/// How the connection of a bus between machines is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusConnection {
    pub is_connected: bool,
    /// Another number for another connection.
    pub number: u64,
}

/// A bus between machines, whose traffic is Weir's own and nobody's else.
#[derive(Clone)]
pub struct OwnBus {
    /// What only this bus says, each a sign of it.
    pub marks: Vec<Vec<u8>>,
    pub connection: Arc<dyn Fn() -> BusConnection + Send + Sync>,
}

#[derive(Clone)]
pub struct SourcesConfig {
    pub asid: u32,
    pub hostname: String,
    /// The API's own socket, if there is one: watching must not create what is watched.
    pub own_listener: Option<SocketAddr>,
    pub own_bus: Option<OwnBus>,
    /// What to capture, as `--trace` says it, until it is ordered otherwise.
    pub filters: CaptureFilters,
    /// Look at what programs say over TLS, too.
    pub tls: bool,
    /// How long rows are kept, and with them the names of what is over.
    pub retention: Duration,
    pub test_faults: bool,
    /// What is not kept of what is captured.
    pub redactor: Redactor,
    /// Where Kubernetes says whose processes these are, if it does.
    pub kubernetes: Option<KubernetesConfig>,
    /// Tells what runs, if the cluster part is in this process.
    pub own_rows: Option<TellOwnRows>,
}

/// The node's sources, before and while they run.
pub struct Sources {
    config: SourcesConfig,
    metadata: Arc<Metadata>,
    /// For the debug state.
    dns_counters: SharedCounters,
    progress: StopProgress,
    captures: Option<Captures>,
}

impl Sources {
    #[must_use]
    pub fn new(config: SourcesConfig) -> Sources {
        let SourcesConfig { asid, hostname, retention, .. } = &config;
        let metadata = Metadata::new(*asid, hostname, PathBuf::from("/"), *retention);
        Sources {
            metadata: Arc::new(metadata),
            dns_counters: Arc::default(),
            config,
            progress: StopProgress::default(),
            captures: None,
        }
    }

    /// Takes these as well; and what happens here only if that is asked for by filters.
    #[must_use]
    pub fn with_captures(self, captures: Option<Captures>) -> Sources {
        Sources { captures, ..self }
    }

    /// What keeps the names of what the sources see.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        self.metadata.clone()
    }

    /// The state of the metadata, for diagnostics.
    #[must_use]
    pub fn debug_state(&self) -> DebugState {
        let (metadata, dns) = (self.metadata.clone(), self.dns_counters.clone());
        Arc::new(move || {
            let dns = *dns.lock().unwrap_or_else(PoisonError::into_inner);
            debug::state(&metadata, dns)
        })
    }

    /// Sources that have not ended yet.
    #[must_use]
    pub fn running(&self) -> usize {
        self.progress.running()
    }

    #[must_use]
    pub fn stop_progress(&self) -> String {
        self.progress.text()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Source>> {
        let progress = || self.progress.clone();
        let SourcesConfig { asid, filters, .. } = &self.config;
        let mut all: Vec<Arc<dyn Source>> = Vec::new();
        if self.captures.is_none() || !filters.is_everything() {
            all.push(Arc::new(SocketCapture::new(&self.config, progress())));
        }
        if let Some(captures) = self.captures.clone() {
            let parsers = ebpf::tracer_config(&self.config).parsers;
            all.push(Arc::new(CapturedPackets::new(captures, parsers, progress())));
        }
        let of_pods = self.config.kubernetes.is_some();
        let others: [Arc<dyn Source>; 3] = [
            Arc::new(ProcRows { asid: *asid, of_pods, progress: progress() }),
            Arc::new(NameFinder { counters: self.dns_counters.clone(), progress: progress() }),
            Arc::new(OwnDataflows { tell: self.config.own_rows.clone(), progress: progress() }),
        ];
        all.extend(others);
        if let Some(config) = self.config.kubernetes.clone() {
            all.push(Arc::new(KubernetesWatch { config, progress: progress() }));
        }
        all
    }
}
