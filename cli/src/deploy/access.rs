//! Which cluster, and who we are there; and what is said when it does not do what it is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use weir_sources::k8s::{AnswerLimits, kubeconfig};
use weir_types::text::{first_lines, with_causes};

use crate::failure::Failure;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// No answer takes longer, or is larger; about forty rights are asked for at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
pub(super) const LIMITS: AnswerLimits =
    AnswerLimits { bytes_max: 4 << 20, time_max: ANSWER_TIME_MAX };

/// The cluster of a context of a kubeconfig file, or that of the pod we are in.
pub(super) async fn config(path: Option<&Path>, context: Option<&str>) -> Result<Config, Failure> {
    let paths = paths(path);
    let mut file: Option<Kubeconfig> = None;
    for found in paths.iter().filter(|found| path.is_some() || found.is_file()) {
        let read = kubeconfig(found).map_err(|error| Failure::Usage(error.to_string()))?;
        file = Some(match file {
            Some(before) => before.merge(read).map_err(|error| wrong(found, &error))?,
            None => read,
        });
    }
    let mut config = match file {
        Some(file) => of_file(file, context, &paths).await?,
        None if context.is_none() => Config::incluster_env().map_err(|_| nowhere(&paths))?,
        None => return Err(nowhere(&paths)),
    };
    config.connect_timeout = Some(CONNECT_TIME_MAX);
    config.read_timeout = Some(ANSWER_TIME_MAX);
    Ok(config)
}

/// Where a kubeconfig may be, as `kubectl` looks for it.
fn paths(given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = given {
        return vec![path.to_path_buf()];
    }
    let set = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    match set {
        Some(list) => {
            std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        None => std::env::var_os("HOME")
            .map(|home| Path::new(&home).join(".kube/config"))
            .into_iter()
            .collect(),
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let all: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    all.join(", ")
}

fn nowhere(paths: &[PathBuf]) -> Failure {
    let looked = if paths.is_empty() { String::new() } else { format!(" ({})", listed(paths)) };
    Failure::Usage(format!(
        "there is no kubeconfig{looked}, and this is no pod: say which cluster by --kubeconfig"
    ))
}

fn wrong(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::Usage(format!("{}: {}", path.display(), first_lines(error)))
}

async fn of_file(
    file: Kubeconfig,
    context: Option<&str>,
    paths: &[PathBuf],
) -> Result<Config, Failure> {
    let place = listed(paths);
    let known: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    let wanted = context.or(file.current_context.as_deref()).unwrap_or_default();
    if wanted.is_empty() {
        return Err(Failure::Usage(format!(
            "{place}: no context is the present one; name one by --context (there are: {known})"
        )));
    }
    if !file.contexts.iter().any(|context| context.name == wanted) {
        return Err(Failure::Usage(format!(
            "{place}: there is no context {wanted:?} (there are: {known})"
        )));
    }
    let options =
        KubeConfigOptions { context: Some(wanted.to_string()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.map_err(|error| wrong(Path::new(&place), &error))
}

/// A server that did not do it: why. `what` follows "could not" and "may not".
pub(super) fn failure(server: &str, what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let message = status.message.trim();
            match status.code {
                401 => Failure::No(format!(
                    "{server} does not know who this is (401): log in anew, or take another --context"
                )),
                // It names the user, the verb, the resource and the group.
                403 => Failure::No(format!("this user may not {what} (403): {message}")),
                code => Failure::No(format!("could not {what} ({code}): {message}")),
            }
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => Failure::Unreachable(format!(
            "the API server {server} does not answer: {}; is the cluster up, and is this the right --context?",
            with_causes(error)
        )),
        other => Failure::No(format!("could not {what}: {}", with_causes(other))),
    }
}
