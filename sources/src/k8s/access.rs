//! Where the API server is, and who we are to it: as a pod has it, or as a kubeconfig file says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use weir_types::text::first_lines;

/// Where a pod finds who it is.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const HOST: &str = "KUBERNETES_SERVICE_HOST";
/// A kubeconfig file is not larger.
const FILE_BYTES_MAX: u64 = 4 << 20;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{path}: {message}")]
    File { path: PathBuf, message: String },
    #[error("this is a pod, but {message}")]
    Pod { message: String },
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Access {
    config: Config,
}

/// Without what lets anybody in.
impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.config.cluster_url.host();
        formatter.debug_struct("Access").field("server", &server).finish_non_exhaustive()
    }
}

impl Access {
    /// As Kubernetes gives it to a pod; `None`: this is none, or it got no token.
    ///
    /// # Errors
    /// What of it is wrong.
    pub fn of_pod() -> Result<Option<Access>, AccessError> {
        let is_missing = matches!(Path::new(TOKEN).try_exists(), Ok(false));
        if std::env::var_os(HOST).is_none() || is_missing {
            return Ok(None);
        }
        let wrong =
            |error: kube::config::InClusterError| AccessError::Pod { message: first_lines(&error) };
        Config::incluster_env().map(|config| Some(Access::new(config))).map_err(wrong)
    }

    /// The present context of a kubeconfig file. Nothing is asked of the server.
    ///
    /// # Errors
    /// What cannot be read, or is missing in it.
    pub fn of_file(path: &Path) -> Result<Access, AccessError> {
        let wrong = |message: String| AccessError::File { path: path.to_path_buf(), message };
        let file = kubeconfig(path)?;
        if file.contexts.is_empty() {
            return Err(wrong("it has no context".to_string()));
        }
        // What it names is read now; the function only looks as if it waited.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
        let options = KubeConfigOptions::default();
        let config = runtime.block_on(Config::from_custom_kubeconfig(file, &options));
        config.map(Access::new).map_err(|error| wrong(first_lines(&error)))
    }

    fn new(mut config: Config) -> Access {
        config.connect_timeout = Some(CONNECT_TIME_MAX);
        Access { config }
    }

    /// `silence_max`: no answer takes longer.
    pub(super) fn config(&self, silence_max: Duration) -> Config {
        let mut config = self.config.clone();
        config.read_timeout = Some(silence_max);
        config.reset_reader_on_write = true;
        config
    }
}

/// A kubeconfig file, as it is written.
///
/// # Errors
/// It cannot be read, or is none.
pub fn kubeconfig(path: &Path) -> Result<Kubeconfig, AccessError> {
    let wrong = |message: String| AccessError::File { path: path.to_path_buf(), message };
    let file = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !file.is_file() || file.len() > FILE_BYTES_MAX {
        return Err(wrong("it is no kubeconfig file".to_string()));
    }
    Kubeconfig::read_from(path).map_err(|error| wrong(first_lines(&error)))
}
