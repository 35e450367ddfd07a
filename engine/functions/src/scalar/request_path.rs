//! Request paths: matching against endpoints, clustering of like paths and naming a path by its
//! cluster.
//!
//! A path is cut at `?`, loses its leading `/` and is split at `/`. Two paths of equal depth are as
//! similar as the share of their components that agree; `*` agrees with nothing. Clusters are built
//! from the distinct paths in bytewise order, so that the result does not depend on arrival.

use std::cell::Cell;

use arrow_array::ArrayRef;
use hashbrown::{HashMap, HashSet};

use super::{ScalarDef, def, overloads};
use crate::cuts::{self, Cut};
use crate::json::{self, JsonKind};
use crate::operand::Call;
use crate::output;
use crate::work;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "_match_endpoint",
        overloads![S S => B, match_endpoint],
        &["path", "endpoint"],
        "True if the path fits the endpoint, whose `*` stands for any one component",
        "df = df[px._match_endpoint(df.req_path, '/api/*/items')]",
    ),
    def(
        "_predict_request_path_cluster",
        overloads![S S => S, predict],
        &["path", "clusters"],
        "The template of the cluster nearest to the path, the path itself if none is near",
        "df.endpoint = px._predict_request_path_cluster(df.req_path, df.clusters)",
    ),
];

const ANY: &[u8] = b"*";
/// At this similarity a path joins a cluster.
const SIMILARITY_MIN: f64 = 0.5;
/// A cluster forgets its members, and stands for them by its template, when it has more.
const MEMBERS_MAX: usize = 5;
/// Clusters that paths are compared with while clusters are built, all paths together: some 50 ms. Paths that
/// share a component but are not alike are compared with each other.
const COMPARISONS_MAX: usize = 1_000_000;
/// A comparison takes as long as so many steps of a pattern.
const COMPARISON_STEPS: u64 = 10;
/// Paths of more components are in no cluster.
const COMPONENTS_MAX: usize = 256;

/// The path that is clustered: without the query and the leading `/`.
pub(crate) fn cut(path: &[u8]) -> &[u8] {
    let path = memchr::memchr(b'?', path).map_or(path, |at| &path[..at]);
    path.strip_prefix(b"/").unwrap_or(path)
}

fn components(cut: &[u8]) -> impl Iterator<Item = &[u8]> {
    cut.split(|byte| *byte == b'/')
}

fn match_endpoint(call: &Call<'_>) -> ArrayRef {
    let (path, endpoint) = (call.str(0), call.str(1));
    output::bools(call.rows, |row| {
        let mut path = components(cut(path.get(row)));
        let mut endpoint = components(cut(endpoint.get(row)));
        loop {
            match (path.next(), endpoint.next()) {
                (None, None) => return true,
                (Some(have), Some(wanted)) if wanted == ANY || wanted == have => {}
                _ => return false,
            }
        }
    })
}

struct Cluster {
    template: Vec<Vec<u8>>,
    /// Empty once there were too many.
    members: Vec<Vec<Vec<u8>>>,
}

/// Clusters and, for each (depth, position, component) of their templates, who has it: only those
/// can be similar.
#[derive(Default)]
struct Clusters {
    clusters: Vec<Cluster>,
    by_component: HashMap<(usize, usize, Vec<u8>), Vec<usize>>,
    comparisons: Cell<usize>,
}

impl Clusters {
    fn push(&mut self, cluster: Cluster) {
        let idx = self.clusters.len();
        let depth = cluster.template.len();
        for (position, component) in cluster.template.iter().enumerate() {
            if component != ANY {
                let key = (depth, position, component.clone());
                self.by_component.entry(key).or_default().push(idx);
            }
        }
        self.clusters.push(cluster);
    }

    /// The most similar cluster, the first of several, and how many components agree.
    fn nearest(&self, path: &[Vec<u8>]) -> Option<(usize, usize)> {
        if path.len() > COMPONENTS_MAX {
            return None;
        }
        let mut agreeing: HashMap<usize, usize> = HashMap::new();
        for (position, component) in path.iter().enumerate() {
            let key = (path.len(), position, component.clone());
            let listed = self.by_component.get(&key).map_or(&[][..], Vec::as_slice);
            self.comparisons.set(self.comparisons.get() + listed.len() + 1);
            for &idx in listed {
                // A template may have lost the component since it was listed.
                if self.clusters[idx].template[position] == *component {
                    *agreeing.entry(idx).or_default() += 1;
                }
            }
        }
        agreeing
            .into_iter()
            .max_by(|(a, agree_a), (b, agree_b)| agree_a.cmp(agree_b).then(b.cmp(a)))
    }

    fn add(&mut self, path: Vec<Vec<u8>>) {
        let near = self
            .nearest(&path)
            .filter(|(_, agree)| *agree as f64 / path.len() as f64 >= SIMILARITY_MIN);
        let Some((idx, _)) = near else {
            return self.push(Cluster { template: path.clone(), members: vec![path] });
        };
        let cluster = &mut self.clusters[idx];
        for (component, new) in cluster.template.iter_mut().zip(&path) {
            if component != new {
                *component = ANY.to_vec();
            }
        }
        if cluster.members.is_empty() || cluster.members.contains(&path) {
            return;
        }
        cluster.members.push(path);
        if cluster.members.len() > MEMBERS_MAX {
            cluster.members.clear();
        }
    }
}

/// JSON text of the clusters of the paths.
pub(crate) fn cluster(paths: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let distinct: HashSet<Vec<u8>> = paths.map(|path| cut(&path).to_vec()).collect();
    let mut distinct: Vec<Vec<u8>> = distinct.into_iter().collect();
    distinct.sort_unstable();
    let mut clusters = Clusters::default();
    for (at, path) in distinct.iter().enumerate() {
        if clusters.comparisons.get() > COMPARISONS_MAX {
            cuts::note(Cut::Values, distinct.len() - at);
            break;
        }
        if components(path).nth(COMPONENTS_MAX).is_none() {
            clusters.add(components(path).map(<[u8]>::to_vec).collect());
        } else {
            cuts::note(Cut::Values, 1);
        }
    }
    let mut out = vec![b'['];
    for (idx, cluster) in clusters.clusters.iter().enumerate() {
        out.extend_from_slice(if idx == 0 { b"{\"c\":" } else { b",{\"c\":" });
        push_path(&mut out, &cluster.template);
        out.extend_from_slice(b",\"m\":[");
        for (idx, member) in cluster.members.iter().enumerate() {
            if idx > 0 {
                out.push(b',');
            }
            push_path(&mut out, member);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    out
}

fn push_path(out: &mut Vec<u8>, path: &[Vec<u8>]) {
    out.push(b'[');
    for (idx, component) in path.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        json::push_quoted(out, component);
    }
    out.push(b']');
}

fn read_path(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut path = Vec::new();
    let mut all_texts = true;
    json::for_elements(raw, |token| {
        all_texts &= matches!(token.kind, JsonKind::Text { .. });
        let mut component = Vec::new();
        json::push_text(&mut component, token);
        path.push(component);
    })?;
    all_texts.then_some(path)
}

fn read_cluster(raw: &[u8]) -> Option<Cluster> {
    let template = read_path(json::member(raw, b"c")?.raw)?;
    let mut members = Some(Vec::new());
    json::for_elements(json::member(raw, b"m")?.raw, |token| {
        if let Some(list) = &mut members {
            match read_path(token.raw) {
                Some(path) => list.push(path),
                None => members = None,
            }
        }
    })?;
    Some(Cluster { template, members: members? })
}

/// `None` if the text is not what [`cluster`] writes.
fn read_clusters(text: &[u8]) -> Option<Clusters> {
    let mut clusters = Clusters::default();
    let mut all_read = true;
    json::for_elements(text, |token| match read_cluster(token.raw) {
        Some(cluster) => clusters.push(cluster),
        None => all_read = false,
    })?;
    all_read.then_some(clusters)
}

fn predict(call: &Call<'_>) -> ArrayRef {
    let (path, text) = (call.str(0), call.str(1));
    // The clusters come from a cross join: the same text in every row. Paths repeat.
    let mut known: Option<(&[u8], Option<Clusters>)> = None;
    let mut named: HashMap<&[u8], Vec<u8>> = HashMap::new();
    output::strings(call.rows, |row, out| {
        let (path, text) = (path.get(row), text.get(row));
        if known.as_ref().is_none_or(|(of, _)| *of != text) {
            known = Some((text, read_clusters(text)));
            named.clear();
        }
        let clusters = known.as_ref().and_then(|(_, clusters)| clusters.as_ref());
        let name = named.entry(path).or_insert_with(|| {
            let before = clusters.map_or(0, |clusters| clusters.comparisons.get());
            let name = name_of(path, clusters);
            let after = clusters.map_or(0, |clusters| clusters.comparisons.get());
            // What it takes is known afterwards; a path's part is as many as there are clusters, each component.
            work::spend_steps((after - before) as u64 * COMPARISON_STEPS);
            name
        });
        out.extend_from_slice(name);
    })
}

/// A path as its cluster names it.
fn name_of(path: &[u8], clusters: Option<&Clusters>) -> Vec<u8> {
    let path: Vec<Vec<u8>> = components(cut(path)).map(<[u8]>::to_vec).collect();
    let found = clusters.and_then(|clusters| {
        let (idx, _) = clusters.nearest(&path)?;
        Some(&clusters.clusters[idx])
    });
    let named = match found {
        Some(cluster) if !cluster.members.contains(&path) => &cluster.template,
        _ => &path,
    };
    named.iter().flat_map(|component| [b"/".as_slice(), component]).flatten().copied().collect()
}
