//! What the flags say of Kubernetes: whether it is asked, how it is reached, and which of its nodes this is; and what
//! the cluster part is told of the whole cluster. What nodes do with it is in `weir-node`.

use std::time::Duration;

use tracing::warn;
use weir_cluster::service::{Service, TakeWide};
use weir_node::sources::KubernetesConfig;
use weir_sources::k8s::{Access, Pace, Scope, Watches};
use weir_sources::metadata::k8s::Linked;

use super::hostname;
use crate::args::{KubernetesArgs, KubernetesNodeArgs};
use crate::failure::Failure;

/// So often at most the cluster part hears of changes.
const LINK_EVERY: Duration = Duration::from_millis(100);
/// If nothing changes, it is asked after so many turns whether it still knows the rest.
const ASK_TURNS: u32 = 20;
/// Of what waits so much is taken in one turn.
const BATCHES_AT_ONCE: usize = 16;

/// `None`: there is none, or it is not to be asked. A server that does not answer is no mistake of anybody's here.
pub(super) fn access(args: &KubernetesArgs) -> Result<Option<Access>, Failure> {
    if args.no_kubernetes {
        return Ok(None);
    }
    let wrong = |error| Failure::Usage(format!("--kubeconfig: {error}"));
    match &args.kubeconfig {
        Some(path) => Access::of_file(path).map(Some).map_err(wrong),
        None => Access::of_pod().map_err(|error| Failure::No(error.to_string())),
    }
}

/// The same, and which node this is.
pub(super) fn of_node(args: &KubernetesNodeArgs) -> Result<Option<KubernetesConfig>, Failure> {
    let Some(access) = access(&args.kubernetes)? else { return Ok(None) };
    let name = args.node_name.clone().unwrap_or_else(hostname);
    // It becomes part of a selector.
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    if name.is_empty() || !name.chars().all(is_letter) {
        return Err(Failure::Usage(format!("--node-name: {name:?} is no name of a node")));
    }
    Ok(Some(KubernetesConfig { access, scope: Scope::Node(name) }))
}

/// Watches the whole cluster and tells the cluster part of it, for ever. Linking takes the work of all that there
/// is: it is done elsewhere.
pub(super) async fn tell(access: Access, service: Service, keep: Duration) {
    let mut watches = match Watches::start(access, Scope::Cluster, Pace::default()) {
        Ok(watches) => watches,
        Err(error) => return warn!(%error, "no thread to watch Kubernetes"),
    };
    let keep_ns = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
    let (mut linked, mut whole, mut quiet_turns) = (Linked::default(), true, 0_u32);
    loop {
        actix::clock::sleep(LINK_EVERY).await;
        let now_unix_ns = service.clock.now_unix_ns();
        let batches: Vec<_> = std::iter::from_fn(|| watches.take()).take(BATCHES_AT_ONCE).collect();
        let link = move || {
            batches.into_iter().for_each(|batch| linked.apply(batch, now_unix_ns));
            linked.forget(now_unix_ns.saturating_sub(keep_ns));
            let changes = linked.link().map(|(_, changes)| changes).unwrap_or_default();
            (linked, changes)
        };
        let Ok((back, changes)) = actix_web::web::block(link).await else { return };
        linked = back;
        let changes = if whole { linked.snapshot().entities().collect() } else { changes };
        quiet_turns = if changes.is_empty() { quiet_turns.wrapping_add(1) } else { 0 };
        if !quiet_turns.is_multiple_of(ASK_TURNS) {
            continue;
        }
        let cidrs = linked.snapshot().cidrs.clone();
        // Another life of the coordinator knows nothing yet.
        whole =
            !service.coordinator.send(TakeWide { whole, cidrs, changes }).await.unwrap_or(false);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: KubernetesNodeArgs,
    }

    fn parsed(words: &[&str]) -> Result<Option<KubernetesConfig>, Failure> {
        of_node(&Line::try_parse_from([&["x"], words].concat()).unwrap().kubernetes)
    }

    const CONFIG: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: u, user: {token: s3cret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
";

    /// A file that is none, or says not which server, is wrong usage; one that is right is taken though nobody
    /// answers there, and nothing that is secret is in what is said of it.
    #[test]
    fn files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write(&format!("{CONFIG}current-context: x\n"));
        let found = parsed(&["--kubeconfig", path, "--node-name", "n-1"]).unwrap().unwrap();
        assert_eq!(found.scope, Scope::Node("n-1".to_string()));
        assert!(!format!("{found:?}").contains("s3cret"));
        for (text, says) in [
            ("", "no context"),
            ("{", "--kubeconfig"),
            (CONFIG, "current context"),
            (&format!("{CONFIG}current-context: y\n"), "context"),
        ] {
            write(text);
            let Err(Failure::Usage(error)) = parsed(&["--kubeconfig", path]) else {
                panic!("{text}")
            };
            assert!(error.contains(says) && error.contains(path), "{error}");
        }
        for path in ["/nonexistent", "/dev/zero", "/"] {
            let Err(Failure::Usage(error)) = parsed(&["--kubeconfig", path]) else {
                panic!("{path}")
            };
            assert!(error.contains(path), "{error}");
        }
        write(&format!("{CONFIG}current-context: x\n"));
        let wrong = parsed(&["--kubeconfig", path, "--node-name", "a,b"]);
        assert!(matches!(wrong, Err(Failure::Usage(_))));
        assert!(parsed(&["--no-kubernetes"]).unwrap().is_none());
    }
}
