//! `weir deploy` with values makes what helm makes of the chart with the same values; what the schema refuses is
//! refused. The first needs helm (`scripts/helm test`).

use clap::Parser;
use serde_json::{Value as Json, json};

use super::super::chart_tests::{VALUES, helm};
use super::super::manifests::{Object, objects};
use super::super::tests::{lost, root, through_its_type};
use super::*;
use crate::args::{Cli, Command};

fn args(given: &[&str]) -> DeployArgs {
    let Command::Deploy(args) =
        Cli::try_parse_from([&["weir", "deploy"][..], given].concat()).unwrap().command
    else {
        panic!("{given:?}");
    };
    args
}

fn made(given: &[&str]) -> Vec<Object> {
    let args = args(given);
    let values = of(&args).unwrap_or_else(|why| panic!("{given:?}: {why:?}"));
    let mut objects = objects(values.preset(), &args.namespace, &values.image()).unwrap();
    fit::fit(&values, &mut objects);
    objects
}

fn refused(given: &[&str]) -> String {
    match of(&args(given)) {
        Err(Failure::Usage(why)) => why,
        other => panic!("{given:?}: {other:?}"),
    }
}

/// What the configuration is, whoever wrote its text.
fn with_read_config(mut json: Json) -> Json {
    if let Some(text) = json["data"]["weir.yaml"].as_str() {
        json["data"]["weir.yaml"] = serde_saphyr::from_str(text).unwrap();
    }
    json
}

/// What is set without a file.
const SETTINGS: [&[&str]; 18] = [
    &[],
    &["--set", "preset=s"],
    &[
        "--set",
        "image.repository=r.example/weir,image.pullPolicy=Always",
        "--set-string",
        "image.tag=9",
    ],
    &["--set", "imagePullSecrets[0].name=a,imagePullSecrets[1].name=b"],
    &["--set", "bus.url=tls://bus.example:4222"],
    &["--set", "bus.subject=other,bus.user=me,bus.secret=mine,token.secret=ours"],
    &["--set", "nats.image=r.example/nats:2,nats.nodeSelector.a=b"],
    &["--set", "nats.tolerations[0].operator=Exists"],
    &["--set", "node.privileged=true,node.hostPath=/srv/weir"],
    &["--set", "node.tolerations=null,node.nodeSelector.kubernetes\\.io/os=null"],
    &["--set", "node.extraArgs={--redact=bodies,--trace=port:80}"],
    &["--set", "cluster.extraArgs[0]=--tick=200ms"],
    &["--set", "cluster.config.rules[0]=a.yml"],
    &["--set", "cluster.rules.b\\.yml=x,cluster.rules.a\\.yml=y,cluster.config.rules[0]=b.yml"],
    &["--set", "cluster.config.alerts.external_url=http://h:1/\\,x"],
    &["--set", "priorityClass.create=false"],
    &["--set", "priorityClass.name=mine,priorityClass.value=7"],
    &["--set", "networkPolicy.enabled=false"],
];

/// Whatever can be set arrives where the chart puts it, in every object, alone and together with others. Catches a value
/// that is taken and does nothing, and one that lands in another part.
#[test]
fn what_helm_makes_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let sinks = file("sinks.yaml", VALUES);
    let sizes = file(
        "sizes.yaml",
        "# More.\npreset: l\npresets:\n  l:\n    cluster: {workers: 9, resources: {limits: {cpu: '7', memory: 20Gi}}}\n    \
         node: {historyBytes: 3GiB}\n    nats: {resources: {requests: {cpu: 1500m}}}\n\
         node: {nodeSelector: {kubernetes.io/os: null, role: web}, tolerations: []}\n\
         cluster: {storageClass: fast, disk: 20Gi, nodeSelector: {zone: a}, tolerations: [{key: a, operator: Exists}]}\n",
    );
    let files: [&[&str]; 3] = [
        &["--values", &sinks],
        &["--values", &sizes],
        &["-f", &sinks, "-f", &sizes, "--set", "bus.url=nats://b:1,presets.l.cluster.workers=3"],
    ];
    for given in SETTINGS.into_iter().chain(files) {
        let ours = made(&[&["--namespace", "a-b"], given].concat());
        for object in &ours {
            let mut found = Vec::new();
            lost(&object.json, &through_its_type(&object.json).unwrap(), "$", &mut found);
            assert!(found.is_empty(), "{given:?} {}: {found:?}", object.title());
            assert_eq!(object.json["metadata"]["name"], object.name);
        }
        let fixed = ["--namespace", "a-b", "--set", "secrets.create=false"];
        let Some(rendered) = helm(&[&fixed, given].concat()) else { continue };
        let key = |json: &Json| format!("{} {}", json["kind"], json["metadata"]["name"]);
        let ours = ours.into_iter().map(|object| object.json);
        let mut ours: Vec<Json> = ours.filter(|json| json["kind"] != "Namespace").collect();
        let mut rendered: Vec<Json> = rendered.into_iter().filter(|json| !json.is_null()).collect();
        for side in [&mut ours, &mut rendered] {
            side.sort_by_key(key);
            *side = side.drain(..).map(with_read_config).collect();
        }
        let names = |side: &[Json]| side.iter().map(key).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&rendered), "{given:?}");
        for (ours, rendered) in ours.iter().zip(&rendered) {
            assert_eq!(ours, rendered, "{given:?} {}", key(ours));
        }
    }
}

/// What is misspelt, of a wrong type or a wrong form is refused with its place before any server is asked; so is a flag
/// that says something else than the values.
#[test]
fn wrong_values_are_refused() {
    for (value, wanted) in [
        ("cluster.extraEnvs[0]=a", "at '/cluster': additional property 'extraEnvs' not allowed"),
        ("image.tag=9", "at '/image/tag': got integer, want string"),
        ("preset=xl", "at '/preset': value must be one of"),
        ("node.privileged=yes", "at '/node/privileged': got string, want boolean"),
        ("cluster.extraEnv[0].name=A", "at '/cluster/extraEnv/0': needs at least 2 properties"),
        (
            "cluster.extraEnv[0].name=WEIR_DATA_DIR,cluster.extraEnv[0].value=b",
            "extraEnv/0/name': ",
        ),
        ("cluster.envFrom[0].prefix=A", "at '/cluster/envFrom/0': has to be exactly one"),
        ("cluster.rules.weir\\.yaml=a", "at '/cluster/rules/weir.yaml': not allowed"),
        ("cluster.rules.a\\.txt=a", "additional property 'a.txt' not allowed"),
        ("cluster.disk=lots", "at '/cluster/disk': \"lots\" does not match pattern"),
        ("cluster.extraVolumeMounts[0].name=a", "missing property \"mountPath\""),
        ("presets.m.cluster.workers=0", "at '/presets/m/cluster/workers': 0 is less than 1"),
        ("priorityClass.value=2000000000", "is more than 1000000000"),
        ("imagePullSecrets=a", "at '/imagePullSecrets': got string, want array"),
        ("preset", "write KEY=VALUE"),
        ("a..b=c", "has an empty name"),
        ("a[x]=c", "is no index"),
        ("a[99999999999]=c", "is no index"),
        ("a={b", "a list ends with }"),
        ("a=b,a.c=d", "is put into what is no mapping"),
        ("a.b=c,a[0]=d", "is put into what is no list"),
        ("a=\\", "ends with a backslash"),
    ] {
        let why = refused(&["--set", value]);
        assert!(why.contains(wanted), "{value}: {why}");
    }
    assert!(refused(&["--preset", "s", "--set", "preset=l"]).contains("the values say \"l\""));
    assert!(of(&args(&["--preset", "s", "--set", "preset=s"])).is_ok());
    assert!(refused(&["--values", "/nowhere.yaml"]).contains("/nowhere.yaml"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.yaml");
    let path = path.to_str().unwrap();
    for (text, wanted) in [("[a]", "values are a mapping"), ("a: [", "v.yaml: "), ("a: b", "'a'")] {
        std::fs::write(path, text).unwrap();
        assert!(refused(&["-f", path]).contains(wanted), "{text}: {}", refused(&["-f", path]));
    }
    for text in ["", "# nothing\n"] {
        std::fs::write(path, text).unwrap();
        assert!(of(&args(&["-f", path])).is_ok(), "{text:?}");
    }
}

/// `--set` is read as helm reads it: types, lists, escaped dots and commas, null.
#[test]
fn settings_are_read() {
    for (text, wanted) in [
        ("a.b=c,d=e", json!({"a": {"b": "c"}, "d": "e"})),
        (
            "a=1,b=01,c=true,d=0,e=-3,f=1.5",
            json!({"a": 1, "b": "01", "c": true, "d": 0, "e": -3, "f": "1.5"}),
        ),
        ("a={x,1},b={}", json!({"a": ["x", 1], "b": []})),
        ("a[1].b=c", json!({"a": [null, {"b": "c"}]})),
        ("a\\.b=c\\,d,e=f=g", json!({"a.b": "c,d", "e": "f=g"})),
        ("a=null,b=", json!({"a": null, "b": ""})),
    ] {
        let mut values = json!({});
        set::into(&mut values, text, true).unwrap();
        assert_eq!(values, wanted, "{text}");
    }
    let mut values = json!({});
    set::into(&mut values, "a=1,b={2,true}", false).unwrap();
    assert_eq!(values, json!({"a": "1", "b": ["2", "true"]}));
}

fn words(schema: &Json, found: &mut Vec<String>) {
    let Json::Object(members) = schema else { return };
    for (word, below) in members {
        found.push(word.clone());
        match (word.as_str(), below) {
            ("properties" | "patternProperties" | "definitions", Json::Object(named)) => {
                named.values().for_each(|schema| words(schema, found));
            }
            ("oneOf", Json::Array(ways)) => ways.iter().for_each(|schema| words(schema, found)),
            ("items" | "not" | "additionalProperties", schema) => words(schema, found),
            _ => {}
        }
    }
}

/// The schema says nothing that is not judged, and the chart's own values fit it. Catches a word that is new in the
/// schema, which would let everything pass.
#[test]
fn the_schema_is_understood() {
    let schema = schema().unwrap();
    let mut found = Vec::new();
    words(&schema, &mut found);
    found.sort();
    found.dedup();
    found.retain(|word| !super::schema::KNOWN.contains(&word.as_str()));
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(super::schema::problems(&schema, &chart().unwrap()), [""; 0]);
    // Nobody reads patterns that cannot be read.
    let text =
        std::fs::read_to_string(root().join("deploy/chart/weir/values.schema.json")).unwrap();
    for part in text.split("\"pattern\": ").skip(1) {
        let pattern: String =
            serde_json::Deserializer::from_str(part).into_iter().next().unwrap().unwrap();
        regex::Regex::new(&pattern).unwrap();
    }
}
