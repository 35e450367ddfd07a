//! Names that Docker (and so Compose) keeps of its containers: `/var/lib/docker/containers/ID/
//! config.v2.json`. Only root can read it; without it containers are known by their ids.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use serde_json::Value as Json;

/// Containers that are remembered; with more of them all are read again.
const CONTAINERS_MAX: usize = 4_096;
/// Longest description that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Empty where not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) project: String,
    pub(super) service: String,
}

#[derive(Debug)]
pub(super) struct Containers {
    root: PathBuf,
    known: HashMap<String, Container, foldhash::fast::FixedState>,
}

impl Containers {
    pub(super) fn new(root: &Path) -> Containers {
        let root = root.join("var/lib/docker/containers");
        Containers { root, known: HashMap::default() }
    }

    pub(super) fn find(&mut self, id: &str) -> Container {
        if id.is_empty() {
            return Container::default();
        }
        if let Some(known) = self.known.get(id) {
            return known.clone();
        }
        if self.known.len() >= CONTAINERS_MAX {
            self.known.clear();
        }
        let found = read(&self.root.join(id).join("config.v2.json")).unwrap_or_default();
        self.known.insert(id.to_string(), found.clone());
        found
    }
}

fn read(path: &Path) -> Option<Container> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(CONFIG_BYTES_MAX).read_to_end(&mut text).ok()?;
    let config: Json = serde_json::from_slice(&text).ok()?;
    let text = |value: &Json| value.as_str().unwrap_or("").trim_start_matches('/').to_string();
    let labels = &config["Config"]["Labels"];
    Some(Container {
        name: text(&config["Name"]),
        project: text(&labels["com.docker.compose.project"]),
        service: text(&labels["com.docker.compose.service"]),
    })
}
