//! Who is who offline, from files beside the rows, each of which may be absent:
//!
//! * `objects.json`: Kubernetes objects, as `kubectl get … -o json` prints them;
//! * `processes.jsonl`: `{"upid", "cmdline", "container_id", "node"}`, one process a line;
//! * `dns.json`: `{"ip": "name"}`.
//!
//! They hold for the whole run. Nothing is taken from this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use weir_types::Upid;
use weir_types::json::parse_uuid;
use weir_types::metadata::{MetadataSnapshot, ProcessMeta};

use super::{RowsError, lines_of, read_if_there};
use crate::metadata::k8s::list::{self, message_of};
use crate::metadata::k8s::{self, Store};

/// One line of `processes.jsonl`.
#[derive(Debug, Deserialize)]
struct Process {
    /// UUID text, as in rows.
    upid: String,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    container_id: String,
    /// Name of the node, which is also its `metadata.name`.
    #[serde(default)]
    node: String,
}

/// Reads what there is in `dir`.
pub fn read_entities(dir: &Path) -> Result<MetadataSnapshot, RowsError> {
    if !dir.is_dir() {
        return Err(RowsError::NotADirectory { path: dir.to_path_buf() });
    }
    let mut store = Store::of_list();
    let path = dir.join("objects.json");
    if let Some(text) = read_if_there(&path)? {
        let objects = list::read(&text).map_err(|error| RowsError::Row {
            path,
            line: error.line,
            message: error.message,
        })?;
        objects.into_iter().for_each(|object| store.put(object));
    }
    let mut snapshot = store.snapshot();
    add_processes(&mut snapshot, &store, &dir.join("processes.jsonl"))?;
    let path = dir.join("dns.json");
    if let Some(text) = read_if_there(&path)? {
        let names: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| {
            RowsError::Row { path, line: error.line(), message: message_of(&error) }
        })?;
        snapshot.dns = names.into_iter().collect();
    }
    Ok(snapshot)
}

fn add_processes(
    snapshot: &mut MetadataSnapshot,
    store: &Store,
    path: &Path,
) -> Result<(), RowsError> {
    for line in lines_of(path)? {
        let (number, line) = line?;
        let wrong =
            |message: String| RowsError::Row { path: path.to_path_buf(), line: number, message };
        let process: Process =
            serde_json::from_str(&line).map_err(|error| wrong(message_of(&error)))?;
        let upid = parse_uuid(&process.upid).map(Upid);
        let upid = upid.ok_or_else(|| wrong(format!("`upid` is no UUID: {}", process.upid)))?;
        let container_id = k8s::container_id(&process.container_id).to_string();
        let container = snapshot.containers.get(&container_id);
        let meta = ProcessMeta {
            upid,
            cmdline: process.cmdline,
            pod_id: container.map(|container| container.pod_id.clone()).unwrap_or_default(),
            container_id,
            node_num_cpus: store.node_num_cpus(&process.node),
            node: process.node,
            ..ProcessMeta::default()
        };
        snapshot.processes.insert(upid, Arc::new(meta));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPID: &str = "00000007-0000-002a-0000-000000000001";

    fn read(files: &[(&str, &str)]) -> Result<MetadataSnapshot, RowsError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        read_entities(dir.path())
    }

    /// A process gets its pod by the container (with or without the runtime's prefix) and its CPUs
    /// by the node; without objects it still has what the line says.
    #[test]
    fn links_processes() {
        let objects = r#"{"kind":"List","items":[
            {"kind":"Node","metadata":{"name":"n1"},"status":{"capacity":{"cpu":"3920m"}}},
            {"kind":"Pod","metadata":{"name":"p","namespace":"s","uid":"u"},"status":{
                "containerStatuses":[{"name":"c","containerID":"cri-o://abc"}]}}]}"#;
        let line = |id: &str| {
            format!(
                "{{\"upid\":\"{UPID}\",\"cmdline\":\"x -y\",\"container_id\":\"{id}\",\"node\":\"n1\",\"more\":1}}\n"
            )
        };
        let upid = Upid::new(7, 42, 1);
        for id in ["abc", "cri-o://abc"] {
            let found = read(&[("objects.json", objects), ("processes.jsonl", &line(id))]).unwrap();
            let process = found.process(upid).unwrap();
            assert_eq!((process.pod_id.as_str(), process.node_num_cpus), ("u", 4));
            assert_eq!(found.pod_of(upid).unwrap().name, "s/p");
        }
        let found = read(&[("processes.jsonl", &line("abc")), ("dns.json", r#"{"::1":"me"}"#)]);
        let found = found.unwrap();
        let process = found.process(upid).unwrap();
        assert_eq!((process.cmdline.as_str(), process.node.as_str()), ("x -y", "n1"));
        assert_eq!((process.pod_id.as_str(), process.node_num_cpus), ("", 0));
        assert_eq!(found.dns["::1"], "me");
        assert!(read(&[]).unwrap().processes.is_empty());
    }

    /// What is wrong is named by file and line.
    #[test]
    fn names_file_and_line() {
        for (file, text, want) in [
            ("objects.json", "{\n\"kind\" 1}", "objects.json:2: expected `:`"),
            ("processes.jsonl", "\n{\"upid\":\"x\"}", "processes.jsonl:2: `upid` is no UUID: x"),
            ("processes.jsonl", "{\"node\":\"x\"}", "processes.jsonl:1: missing field `upid`"),
            ("dns.json", "{\n\"1.1.1.1\":1}", "dns.json:2: invalid type: integer `1`"),
        ] {
            let message = read(&[(file, text)]).unwrap_err().to_string();
            assert!(message.contains(want), "{message}");
        }
        let missing = read_entities(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent"), "{missing}");
    }
}
