//! The chart, rendered by helm: what `weir deploy` makes is the same, and what can be put into it arrives where it
//! should. Needs helm (`scripts/helm test`); without it only the schema of the values is judged.

use std::path::Path;
use std::process::{Command, Output};

use clap::Parser;
use serde_json::{Value as Json, json};

use super::manifests::objects;
use super::tests::{PRESETS, containers, lost, root, through_its_type};
use crate::args::{Cli, Command as Subcommand};
use crate::config;

fn rendering(arguments: &[&str]) -> Option<Output> {
    let program = std::env::var_os("WEIR_HELM")?;
    let chart = root().join("deploy/chart/weir");
    let fixed = ["template", "weir", chart.to_str().unwrap(), "--kube-version", "1.30.0"];
    Some(Command::new(program).args(fixed).args(arguments).output().unwrap())
}

pub(super) fn helm(arguments: &[&str]) -> Option<Vec<Json>> {
    let ran = rendering(arguments)?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let documents = text.trim_start_matches("---\n").split("\n---\n");
    Some(documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect())
}

/// What `weir deploy` makes for any namespace and image is what the chart makes: needs helm (`scripts/helm test`).
#[test]
fn the_chart_and_the_command_agree() {
    for (preset, name) in PRESETS.into_iter().zip(["s", "m", "l"]) {
        let preset_is = format!("preset={name}");
        let values = ["--set", &preset_is, "--set", "secrets.create=false"];
        let image = ["--set", "image.repository=r.example/weir", "--set-string", "image.tag=9"];
        let arguments = [&["--namespace", "a-b"][..], &values, &image].concat();
        let Some(mut rendered) = helm(&arguments) else {
            return eprintln!("WEIR_HELM names no helm: the chart was not rendered");
        };
        let ours = objects(preset, "a-b", "r.example/weir:9").unwrap();
        let mut ours: Vec<Json> = ours.into_iter().map(|object| object.json).collect();
        ours.retain(|json| json["kind"] != "Namespace");
        let key = |json: &Json| format!("{} {}", json["kind"], json["metadata"]["name"]);
        ours.sort_by_key(key);
        rendered.sort_by_key(key);
        assert_eq!(ours, rendered);
    }
    let with_all = helm(&[
        "--set",
        "bus.url=tls://bus.example:4222",
        "--set",
        "node.privileged=true",
        "--set",
        "cluster.config.rules[0]=a.yml",
        "--set",
        "node.extraArgs[0]=--redact=bodies",
        "--set",
        "priorityClass.create=false",
        "--set",
        "priorityClass.name=mine",
    ])
    .unwrap();
    let has = |kind: &str, name: &str| {
        with_all.iter().any(|json| json["kind"] == kind && json["metadata"]["name"] == name)
    };
    assert!(!has("StatefulSet", "weir-nats") && !has("PriorityClass", "weir-default"));
    assert!(has("ConfigMap", "weir-cluster") && has("Secret", "weir-bus"));
    let secret = with_all.iter().find(|json| json["metadata"]["name"] == "weir-token").unwrap();
    assert_eq!(secret["data"]["token"].as_str().unwrap().len(), 64);
}

pub(super) const VALUES: &str = r#"
cluster:
  config:
    sinks:
      let-out:
        type: http
        url: https://receiver.example/
        batch: {max_rows: 1000000}
        inputs: [{script: px/service_stats, func: svc_let}]
    rules: [shop.yml]
  rules:
    shop.yml: |
      groups:
      - name: shop
        rules:
        - alert: Failing
          expr: |
            import px
            df = px.DataFrame('http_events', start_time='-1m')
            px.display(df.groupby('req_path').agg(value=('resp_status', px.mean)))
          annotations: {summary: '{{ $labels.req_path }} #"'}
    more.yaml: "groups: []"
  extraEnv:
  - {name: WEIR_SINKS_LET_OUT_HEADERS_AUTHORIZATION, valueFrom: {secretKeyRef: {name: shop, key: token}}}
  - {name: WEIR_ALERTS_EXTERNAL_LABELS_CLUSTER, value: "1e3"}
  envFrom:
  - {secretRef: {name: weir-sinks, optional: true}}
  - {prefix: WEIR_SINKS_LET_OUT_, configMapRef: {name: more}}
  extraVolumes:
  - {name: ca, secret: {secretName: shop-ca, defaultMode: 288, items: [{key: ca.crt, path: ca.crt}]}}
  - {name: scripts, configMap: {name: scripts}}
  - name: both
    projected: {sources: [{secret: {name: a}}, {serviceAccountToken: {path: token, audience: shop}}]}
  - {name: scratch, emptyDir: {sizeLimit: 64Mi}}
  - {name: kept, persistentVolumeClaim: {claimName: kept}}
  - {name: vault, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {a: b}}}
  - {name: host, hostPath: {path: /etc/ssl/certs, type: Directory}}
  extraVolumeMounts:
  - {name: ca, mountPath: /etc/weir/ca, readOnly: true}
  - {name: kept, mountPath: /var/lib/sinks, subPath: out}
"#;

/// As a kubelet puts a config map into a folder: names are links into another folder, which a link changes at once.
fn mounted(data: &Json, folder: &Path) {
    std::fs::create_dir(folder.join("..1")).unwrap();
    std::os::unix::fs::symlink("..1", folder.join("..data")).unwrap();
    for (name, text) in data.as_object().unwrap() {
        std::fs::write(folder.join("..1").join(name), text.as_str().unwrap()).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
}

/// What helm makes of these values, and the configuration in it, judged. `None`: there is no helm.
fn deployed(values: &str) -> Option<(Vec<Json>, config::Loaded, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("values.yaml");
    std::fs::write(&path, values).unwrap();
    let rendered = helm(&["--values", path.to_str().unwrap(), "--set", "secrets.create=false"])?;
    for json in &rendered {
        let mut found = Vec::new();
        lost(json, &through_its_type(json).unwrap(), "$", &mut found);
        assert!(found.is_empty(), "{} {}: {found:?}", json["kind"], json["metadata"]["name"]);
    }
    let folder = dir.path().join("config");
    std::fs::create_dir(&folder).unwrap();
    mounted(&find(&rendered, "ConfigMap")["data"], &folder);
    let loaded = config::load(&folder.join("weir.yaml")).unwrap_or_else(|it| panic!("{}", it.why));
    let rules = std::fs::read_to_string(folder.join("shop.yml")).unwrap();
    Some((rendered, loaded, rules))
}

fn find<'a>(rendered: &'a [Json], kind: &str) -> &'a Json {
    let is = |json: &&Json| json["kind"] == kind && json["metadata"]["name"] == "weir-cluster";
    rendered.iter().find(is).unwrap()
}

/// Sinks, rules, secrets by the environment and further files all arrive in the part that answers, which takes its
/// configuration as it is rendered. Catches a rule file that nothing names, one whose templates helm expands, a number
/// that helm writes as another, and a value that Kubernetes does not know.
#[test]
fn sinks_and_rules_are_deployed() {
    let Some((rendered, loaded, rules)) = deployed(VALUES) else {
        return eprintln!("WEIR_HELM names no helm: the chart was not rendered");
    };
    assert_eq!((loaded.sinks.len(), loaded.alerts.rules.len()), (1, 1));
    assert_eq!(loaded.patterns.1, ["shop.yml", "more.yaml"], "each is named once");
    assert!(rules.contains(r#"'{{ $labels.req_path }} #"'"#), "{rules}");

    let [(container, lines)] = containers(find(&rendered, "StatefulSet")).try_into().unwrap();
    let Subcommand::Cluster(args) = Cli::try_parse_from(&lines[0]).unwrap().command else {
        panic!("{:?}", lines[0]);
    };
    assert_eq!(args.serve.config.as_deref(), Some(Path::new("/etc/weir/config/weir.yaml")));
    let has = |list: &str, item: Json| container[list].as_array().unwrap().contains(&item);
    let secret = json!({"secretKeyRef": {"name": "shop", "key": "token"}});
    let name = "WEIR_SINKS_LET_OUT_HEADERS_AUTHORIZATION";
    assert!(has("env", json!({"name": name, "valueFrom": secret})));
    assert!(has("env", json!({"name": "WEIR_ALERTS_EXTERNAL_LABELS_CLUSTER", "value": "1e3"})));
    assert!(has("envFrom", json!({"secretRef": {"name": "weir-sinks", "optional": true}})));
    // A folder, not a single file of it: that would never change.
    let at = json!({"name": "config", "mountPath": "/etc/weir/config", "readOnly": true});
    assert!(has("volumeMounts", at));
    let at = json!({"name": "ca", "mountPath": "/etc/weir/ca", "readOnly": true});
    assert!(has("volumeMounts", at));
    assert_eq!(
        find(&rendered, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap()
            .len(),
        3 + 7
    );
}

/// The values on the page about it are right. Its authority's file is nowhere here.
#[test]
fn the_page_tells_it_right() {
    let page = root().join("docs/howto/deploy-on-kubernetes.md");
    let page = std::fs::read_to_string(page).unwrap();
    let values =
        page.split("```yaml\n# values.yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let tls = "        tls: {ca: /etc/weir/ca/ca.crt}\n";
    assert!(values.contains(tls) && values.contains("mountPath: /etc/weir/ca,"));
    let Some((_, loaded, _)) = deployed(&values.replace(tls, "")) else {
        return eprintln!("WEIR_HELM names no helm: the chart was not rendered");
    };
    assert_eq!((loaded.sinks.len(), loaded.alerts.rules.len()), (1, 1));
}

/// What would be left out, or would be refused only by a cluster, is refused by the schema: catches a value that is
/// misspelt and is silently nothing.
#[test]
fn wrong_values_are_refused() {
    let wrong = [
        ("cluster.extraEnvs[0]=a", "extraEnvs"),
        ("cluster.extraEnv[0].name=A", "/cluster/extraEnv/0"),
        ("cluster.extraEnv[0].name=A,cluster.extraEnv[0].vlue=b", "vlue"),
        ("cluster.extraEnv[0].name=A,cluster.extraEnv[0].value=1", "/cluster/extraEnv/0/value"),
        ("cluster.extraEnv[0].name=WEIR_DATA_DIR,cluster.extraEnv[0].value=b", "extraEnv/0/name"),
        ("cluster.envFrom[0].prefix=A", "/cluster/envFrom/0"),
        ("cluster.envFrom[0].secretRef.nmae=a", "nmae"),
        ("cluster.rules.weir\\.yaml=a", "/cluster/rules/weir.yaml"),
        ("cluster.rules.a\\.txt=a", "a.txt"),
        ("cluster.rules.a\\.yml.groups=a", "want string"),
        ("cluster.config.rules=a", "/cluster/config/rules"),
        ("cluster.extraVolumes[0].name=a", "/cluster/extraVolumes/0"),
        ("cluster.extraVolumes[0].name=a,cluster.extraVolumes[0].secrets.secretName=b", "secrets"),
        (
            "cluster.extraVolumes[0].name=data,cluster.extraVolumes[0].emptyDir.medium=Memory",
            "name",
        ),
        ("cluster.extraVolumeMounts[0].name=a", "mountPath"),
        (
            "cluster.extraVolumeMounts[0].name=a,cluster.extraVolumeMounts[0].mountPath=/etc/weir/config/a",
            "mountPath",
        ),
        (
            "cluster.extraVolumeMounts[0].name=a,cluster.extraVolumeMounts[0].mountPath=/etc",
            "mountPath",
        ),
        (
            "cluster.extraVolumeMounts[0].name=a,cluster.extraVolumeMounts[0].mountPath=a",
            "mountPath",
        ),
    ];
    for (values, wanted) in wrong {
        let Some(ran) = rendering(&["--set", values]) else {
            return eprintln!("WEIR_HELM names no helm: the chart was not rendered");
        };
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains(wanted), "{values}: {said}");
    }
}

/// Objects in the schema that take members which it does not know.
fn open(schema: &Json, at: &str, found: &mut Vec<String>) {
    match schema {
        Json::Object(members) => {
            if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
                found.push(at.to_string());
            }
            for (name, below) in members {
                open(below, &format!("{at}/{name}"), found);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| open(item, at, found)),
        _ => {}
    }
}

/// The schema says of every object what may be in it, but where Weir or Kubernetes judge it.
#[test]
fn the_schema_of_values_is_closed() {
    let text = std::fs::read_to_string(root().join("deploy/chart/weir/values.schema.json"));
    let schema: Json = serde_json::from_str(&text.unwrap()).unwrap();
    let mut found = Vec::new();
    open(&schema, "", &mut found);
    found.retain(|at| !at.ends_with("/tolerations/items"));
    found.sort();
    assert_eq!(found, ["/properties/cluster/properties/config", "/properties/global"]);
}
