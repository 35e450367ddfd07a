//! What the flags say of Kubernetes: whether it is asked, how it is reached, and which of its nodes this is.

use weir_node::sources::KubernetesConfig;
use weir_sources::k8s::{Access, Scope};

use super::hostname;
use crate::args::KubernetesArgs;
use crate::failure::Failure;

/// `None`: there is none, or it is not to be asked. A server that does not answer is no mistake of anybody's here.
pub(super) fn config(args: &KubernetesArgs) -> Result<Option<KubernetesConfig>, Failure> {
    if args.no_kubernetes {
        return Ok(None);
    }
    let access = match &args.kubeconfig {
        Some(path) => {
            let wrong = |error| Failure::Usage(format!("--kubeconfig: {error}"));
            Some(Access::of_file(path).map_err(wrong)?)
        }
        None => Access::of_pod().map_err(|error| Failure::No(error.to_string()))?,
    };
    let name = args.node_name.clone().unwrap_or_else(hostname);
    // It becomes part of a selector.
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    if access.is_some() && (name.is_empty() || !name.chars().all(is_letter)) {
        return Err(Failure::Usage(format!("--node-name: {name:?} is no name of a node")));
    }
    Ok(access.map(|access| KubernetesConfig { access, scope: Scope::Node(name) }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: KubernetesArgs,
    }

    fn parsed(words: &[&str]) -> Result<Option<KubernetesConfig>, Failure> {
        config(&Line::try_parse_from([&["x"], words].concat()).unwrap().kubernetes)
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
