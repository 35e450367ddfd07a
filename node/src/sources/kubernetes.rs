//! What Kubernetes says of the pods of this node: a source without tables, whose findings go to the metadata.
//! The watches have a thread of their own; here they are only emptied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_sources::k8s::{Access, Pace, Scope, Watches};
use weir_sources::metadata::Found;
use weir_sources::source::{Output, Refusal, RunningSource, Source};

use super::stop::{Counted, StopProgress};

/// Batches of one turn: the metadata has other things to do as well.
const BATCHES_AT_ONCE: usize = 8;

/// How Kubernetes is reached, and which of its nodes this is.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    pub access: Access,
    pub scope: Scope,
}

pub(super) struct KubernetesWatch {
    pub(super) config: KubernetesConfig,
    pub(super) progress: StopProgress,
}

impl Source for KubernetesWatch {
    fn name(&self) -> Arc<str> {
        "kubernetes".into()
    }

    fn tables(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the server answers shows later, and again and again.
    fn can_run(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        let KubernetesConfig { access, scope } = self.config.clone();
        let watches = Watches::start(access, scope, Pace::default());
        let watches = watches.map_err(|error| Refusal::new(format!("no thread: {error}")))?;
        Ok(Box::new(RunningKubernetes { watches, _counted: self.progress.count() }))
    }
}

struct RunningKubernetes {
    watches: Watches,
    _counted: Counted,
}

impl RunningSource for RunningKubernetes {
    fn poll(&mut self, _now_unix_ns: i64, out: &mut dyn Output) {
        for _ in 0..BATCHES_AT_ONCE {
            let Some(batch) = self.watches.take() else { return };
            out.found(Found::Kubernetes(batch));
        }
    }

    fn flush(&mut self, _now_unix_ns: i64, _out: &mut dyn Output) {}

    fn missing(&self) -> String {
        self.watches.missing()
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (name, kind) in self.watches.states() {
            counts.insert(format!("{name}_changes"), kind.changes_total);
            counts.insert(format!("{name}_listed"), kind.listed_total);
            counts.insert(format!("{name}_refused"), kind.refused_total);
            counts.insert(format!("{name}_errors"), kind.errors_total);
        }
        counts
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(50)
    }
}
