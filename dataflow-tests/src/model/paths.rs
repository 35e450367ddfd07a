//! Clusters of request paths, from their definition: every path is held against every cluster.

/// A cluster forgets its members when it has more.
const MEMBERS_MAX: usize = 5;

type Path = Vec<String>;

struct Cluster {
    template: Path,
    /// Empty once there were too many.
    members: Vec<Path>,
}

/// Equal components; `*` equals nothing. `None` if the depths differ.
fn agreeing(template: &Path, path: &Path) -> Option<usize> {
    let equal = |(a, b): &(&String, &String)| a == b && *a != "*";
    (template.len() == path.len()).then(|| template.iter().zip(path).filter(equal).count())
}

fn add(clusters: &mut Vec<Cluster>, path: Path) {
    let mut best: Option<(usize, usize)> = None;
    for (idx, cluster) in clusters.iter().enumerate() {
        let Some(equal) = agreeing(&cluster.template, &path) else { continue };
        // At least half of the components; of several as good, the first.
        if 2 * equal >= path.len() && best.is_none_or(|(_, most)| equal > most) {
            best = Some((idx, equal));
        }
    }
    let Some((idx, _)) = best else {
        clusters.push(Cluster { template: path.clone(), members: vec![path] });
        return;
    };
    let cluster = &mut clusters[idx];
    for (component, new) in cluster.template.iter_mut().zip(&path) {
        if component != new {
            *component = "*".to_string();
        }
    }
    if !cluster.members.is_empty() && !cluster.members.contains(&path) {
        cluster.members.push(path);
        if cluster.members.len() > MEMBERS_MAX {
            cluster.members.clear();
        }
    }
}

/// JSON text of the clusters of the paths, which are taken in bytewise order, each once.
pub(super) fn clusters_text(paths: &[String]) -> String {
    let mut distinct: Vec<&str> = paths
        .iter()
        .map(|path| path.split('?').next().unwrap_or_default())
        .map(|path| path.strip_prefix('/').unwrap_or(path))
        .collect();
    distinct.sort_unstable();
    distinct.dedup();
    let mut clusters = Vec::new();
    for path in distinct {
        add(&mut clusters, path.split('/').map(str::to_string).collect());
    }
    let all: Vec<serde_json::Value> = clusters
        .iter()
        .map(|cluster| serde_json::json!({"c": cluster.template, "m": cluster.members}))
        .collect();
    serde_json::Value::from(all).to_string()
}
