//! What the roles of a server take: what both parts share, what the capturing part does, what the serving part
//! does, and the bus between them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{PcapArgs, QueryArgs, ReaderArgs};
use crate::units::{parse_bytes, parse_duration};

/// Of both parts.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// Logical time step: all that arrives within one is admitted together.
    #[arg(long, value_parser = parse_duration, default_value = "100ms", value_name = "100ms")]
    pub(crate) tick: Duration,
    /// How far back a scan without start_time reaches.
    #[arg(long, value_parser = parse_duration, default_value = "1h", value_name = "1h")]
    pub(crate) retention: Duration,
    #[command(flatten)]
    pub(crate) queries: QueryArgs,
    /// Let marked requests and scripts panic, to test that the rest goes on.
    #[arg(long)]
    pub(crate) test_faults: bool,
}

/// Of the part that captures.
#[derive(Clone, Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Memory for recent rows of all tables; accepts KiB, MiB, GiB.
    #[arg(long, value_parser = parse_bytes, default_value = "512MiB", value_name = "N")]
    pub(crate) history_bytes: usize,
    /// Disk for windows of more than five minutes, in DIR/windows.db, so that they survive a restart; 0: they do not.
    #[arg(long, value_parser = parse_bytes, default_value = "256MiB", value_name = "N")]
    pub(crate) store_bytes: usize,
    /// Capture only these: pid:N, port:N or cgroup:PATH; may be given more than once.
    #[arg(long, value_name = "WHAT")]
    pub(crate) trace: Vec<String>,
    #[command(flatten)]
    pub(crate) captures: PcapArgs,
    /// Do not look at what programs say over TLS: no probes in their TLS libraries.
    #[arg(long)]
    pub(crate) no_tls_capture: bool,
    /// What is not stored of what is captured: `off` keeps everything, `secrets` hides the values
    /// of headers, URL parameters, form fields and JSON members that are secrets by their name,
    /// `bodies` hides all bodies as well, `pii` what looks like personal data.
    #[arg(long, value_name = "MODE", default_value = "secrets")]
    pub(crate) redact: weir_sources::redact::Mode,
    /// Another name whose values are secrets, wherever it is a name or a part of one.
    #[arg(long, value_name = "NAME")]
    pub(crate) redact_name: Vec<String>,
}

/// Of what Kubernetes knows. In a pod it is asked by itself.
#[derive(Clone, Debug, Args)]
pub(crate) struct KubernetesArgs {
    /// Ask the API server of this file's present context which pods there are, outside of a pod, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Do not ask Kubernetes, in a pod either.
    #[arg(long, conflicts_with = "kubeconfig")]
    pub(crate) no_kubernetes: bool,
}

/// The same of one of its nodes.
#[derive(Clone, Debug, Args)]
pub(crate) struct KubernetesNodeArgs {
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
    /// The node whose pods these are, as Kubernetes calls it [default: the host's name].
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
}

/// Of the part that answers.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// Another name that browsers may use for this server.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// A file with the server's token, in place of one that is made once and kept in the data directory.
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE", conflicts_with = "insecure_no_auth")]
    pub(crate) token_file: Option<PathBuf>,
    /// Let everybody in who can reach the port.
    #[arg(long)]
    pub(crate) insecure_no_auth: bool,
    /// Largest snapshot that a subscriber may get.
    #[arg(long, default_value_t = weir_cluster::view::SNAPSHOT_ROWS_MAX, value_name = "N")]
    pub(crate) snapshot_rows_max: usize,
    /// And its bytes.
    #[arg(long, value_parser = parse_bytes, default_value = "256MiB", value_name = "N")]
    pub(crate) snapshot_bytes_max: usize,
    #[command(flatten)]
    pub(crate) readers: ReaderArgs,
    /// Worker threads of the cluster part.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) workers: usize,
    /// A configuration file: sinks, alert rules and where alerts go.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Not yet: TLS.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Not yet: TLS.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) tls_key: Option<PathBuf>,
}

/// The bus between nodes and the cluster part. A login may stand in the address, but is then seen by all who see
/// processes: files and the environment are better.
#[derive(Clone, Args)]
pub(crate) struct BusArgs {
    /// The NATS server, several with commas: nats://HOST:PORT or tls://HOST:PORT.
    #[arg(long, env = "WEIR_BUS", hide_env_values = true, value_name = "URL")]
    pub(crate) bus: String,
    /// First part of the bus's subjects; clusters that share a server have different ones.
    #[arg(long, env = "WEIR_BUS_SUBJECT", default_value = "weir", value_name = "WORD")]
    pub(crate) bus_subject: String,
    /// A NATS credentials file.
    #[arg(long, env = "WEIR_BUS_CREDS", value_name = "FILE")]
    pub(crate) bus_creds: Option<PathBuf>,
    /// A file with the seed of an nkey.
    #[arg(long, env = "WEIR_BUS_NKEY", value_name = "FILE")]
    pub(crate) bus_nkey: Option<PathBuf>,
    /// A user; the password is in WEIR_BUS_PASSWORD or in a file.
    #[arg(long, env = "WEIR_BUS_USER", value_name = "NAME")]
    pub(crate) bus_user: Option<String>,
    /// A file with the user's password.
    #[arg(long, value_name = "FILE", requires = "bus_user")]
    pub(crate) bus_password_file: Option<PathBuf>,
    /// A file with a token, in place of WEIR_BUS_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub(crate) bus_token_file: Option<PathBuf>,
    /// Certificates of the authorities that the server's is checked by, in place of the system's.
    #[arg(long, env = "WEIR_BUS_TLS_CA", value_name = "FILE")]
    pub(crate) bus_tls_ca: Option<PathBuf>,
    /// Our certificate, where the server asks for one.
    #[arg(long, env = "WEIR_BUS_TLS_CERT", requires = "bus_tls_key", value_name = "FILE")]
    pub(crate) bus_tls_cert: Option<PathBuf>,
    /// And its key.
    #[arg(long, env = "WEIR_BUS_TLS_KEY", requires = "bus_tls_cert", value_name = "FILE")]
    pub(crate) bus_tls_key: Option<PathBuf>,
}

/// Without what the address may hold.
impl std::fmt::Debug for BusArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusArgs").field("bus_subject", &self.bus_subject).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// What the node is called [default: --node-name, else the host's name].
    #[arg(long, env = "WEIR_NODE_NAME", value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesNodeArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// A node that is silent is lagging after 3s, and not waited for or listed any more so much later.
    #[arg(long, value_parser = parse_duration, default_value = "10m", value_name = "10m")]
    pub(crate) node_forget: Duration,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
    /// How many processes are this cluster part together: as many as --peers names, which is checked.
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<usize>,
    /// Which of them this is: 0 answers, the others compute [default: the number that the host's name ends in].
    #[arg(long, env = "WEIR_PROCESS", value_name = "I")]
    pub(crate) process: Option<usize>,
    /// Where they are: HOST:PORT, one a line, the same list for all. Nobody else may reach these ports.
    #[arg(long, value_name = "FILE")]
    pub(crate) peers: Option<PathBuf>,
}
