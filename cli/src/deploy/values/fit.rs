//! Puts values into the rendered objects, where the chart's templates put them; a test renders the chart with the same
//! values and compares.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::super::manifests::Object;
use super::Values;

/// What the chart writes about a value that is there, and leaves out for one that is empty.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Bool(true) => false,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
    }
}

fn put_or_drop(into: &mut Json, name: &str, value: &Json) {
    let Json::Object(members) = into else { return };
    match is_empty(value) {
        true => drop(members.remove(name)),
        false => drop(members.insert(name.to_string(), value.clone())),
    }
}

fn extend(list: &mut Json, more: &Json) {
    if let (Json::Array(list), Json::Array(more)) = (list, more) {
        list.extend(more.iter().cloned());
    }
}

/// The one of a list with that name.
fn named<'j>(list: &'j mut Json, name: &str) -> Option<&'j mut Json> {
    list.as_array_mut()?.iter_mut().find(|item| item["name"] == name)
}

fn text_of(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// An argument of a container: `--name=value`, in the place of what it is.
fn set_argument(container: &mut Json, name: &str, value: &str) {
    let prefix = format!("--{name}=");
    let all = container["args"].as_array_mut().into_iter().flatten();
    for argument in all {
        if argument.as_str().is_some_and(|text| text.starts_with(&prefix)) {
            *argument = format!("{prefix}{value}").into();
        }
    }
}

/// All objects as the values have them.
pub(in super::super) fn fit(values: &Values, objects: &mut Vec<Object>) {
    let has_bus = !values.text("bus.url").is_empty();
    let config = config(values);
    let template = objects.iter().find(|object| is(object, "Service", "weir-cluster")).cloned();
    objects.retain(|object| match object.kind {
        "NetworkPolicy" if !values.is("networkPolicy.enabled") => false,
        "PriorityClass" => values.is("priorityClass.create"),
        _ => !has_bus || object.name != "weir-nats",
    });
    for object in objects.iter_mut() {
        match (object.kind, object.name.as_str()) {
            ("DaemonSet", "weir-node") => node(values, &mut object.json),
            ("StatefulSet", "weir-cluster") => cluster(values, &mut object.json, config.is_some()),
            ("StatefulSet", "weir-nats") => nats(values, &mut object.json),
            ("ConfigMap", "weir-nats") => bus_config(values, &mut object.json),
            ("NetworkPolicy", "weir-node") if has_bus => {
                object.json["spec"]["egress"][0] = json!({"ports": [{"protocol": "TCP"}]});
            }
            ("PriorityClass", _) => {
                object.json["value"] = values.get("priorityClass.value").clone();
                let name = values.text("priorityClass.name");
                if !name.is_empty() {
                    object.json["metadata"]["name"] = name.into();
                    object.name = name.to_string();
                }
            }
            _ => {}
        }
    }
    if let (Some(data), Some(service)) = (config, template) {
        let at = objects.iter().position(|object| object.kind == "Service");
        objects.insert(at.unwrap_or(objects.len()), config_map(service, data));
    }
}

/// The objects, and those in our namespace that other values would have made: for what is taken away, whatever it was
/// made with.
pub(in super::super) fn with_others(values: &Values, mut objects: Vec<Object>) -> Vec<Object> {
    let mut others = objects.clone();
    let service = objects.iter().find(|object| is(object, "Service", "weir-cluster")).cloned();
    others.extend(service.map(|service| config_map(service, Json::Null)));
    fit(values, &mut objects);
    others.retain(|other| {
        let is_there = |object: &Object| is(object, other.kind, &other.name);
        other.namespace.is_some() && !objects.iter().any(is_there)
    });
    let at = objects.iter().position(|object| object.kind == "Service");
    let at = at.unwrap_or(objects.len());
    objects.splice(at..at, others);
    objects
}

/// With the labels of the service whose configuration it is.
fn config_map(mut service: Object, data: Json) -> Object {
    service.kind = "ConfigMap";
    service.json["kind"] = "ConfigMap".into();
    service.json["data"] = data;
    if let Json::Object(members) = &mut service.json {
        members.remove("spec");
    }
    service
}

fn is(object: &Object, kind: &str, name: &str) -> bool {
    object.kind == kind && object.name == name
}

/// The configuration, which names all rule files beside it, and these. JSON is YAML.
fn config(values: &Values) -> Option<Json> {
    let mut config = values.get("cluster.config").clone();
    let rules = values.get("cluster.rules").as_object().cloned().unwrap_or_default();
    let mut names = config["rules"].as_array().cloned().unwrap_or_default();
    let mut keys: Vec<&String> = rules.keys().collect();
    keys.sort();
    for name in keys {
        if !names.iter().any(|there| there == name) {
            names.push(name.as_str().into());
        }
    }
    if !names.is_empty() {
        config["rules"] = names.into();
    }
    if is_empty(&config) {
        return None;
    }
    let mut data = Map::new();
    data.insert("weir.yaml".to_string(), format!("{config:#}\n").into());
    data.extend(rules);
    Some(Json::Object(data))
}

/// What pods of all parts have.
fn pod(values: &Values, part: &str, object: &mut Json) {
    let spec = &mut object["spec"]["template"]["spec"];
    put_or_drop(spec, "imagePullSecrets", values.get("imagePullSecrets"));
    put_or_drop(spec, "nodeSelector", values.get(&format!("{part}.nodeSelector")));
    put_or_drop(spec, "tolerations", values.get(&format!("{part}.tolerations")));
    for (volume, secret) in [("bus", "bus.secret"), ("token", "token.secret")] {
        if let Some(volume) = named(&mut spec["volumes"], volume) {
            volume["secret"]["secretName"] = values.get(secret).clone();
        }
    }
    let container = &mut spec["containers"][0];
    container["imagePullPolicy"] = values.get("image.pullPolicy").clone();
    container["resources"] = values.size(&format!("{part}.resources")).clone();
    let url = values.text("bus.url");
    for (name, value) in [
        ("bus", url),
        ("bus-subject", values.text("bus.subject")),
        ("bus-user", values.text("bus.user")),
    ] {
        if !(name == "bus" && url.is_empty()) {
            set_argument(container, name, value);
        }
    }
}

fn node(values: &Values, object: &mut Json) {
    pod(values, "node", object);
    let spec = &mut object["spec"]["template"]["spec"];
    let class = values.text("priorityClass.name");
    if !class.is_empty() {
        spec["priorityClassName"] = class.into();
    }
    let path = values.text("node.hostPath");
    if let Some(data) = named(&mut spec["volumes"], "data").filter(|_| !path.is_empty()) {
        data["hostPath"]["path"] = path.into();
    }
    let container = &mut spec["containers"][0];
    set_argument(container, "history-bytes", &text_of(values.size("node.historyBytes")));
    set_argument(container, "store-bytes", &text_of(values.size("node.storeBytes")));
    extend(&mut container["args"], values.get("node.extraArgs"));
    if values.is("node.privileged") {
        container["securityContext"] =
            json!({"privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0});
    }
}

fn cluster(values: &Values, object: &mut Json, has_config: bool) {
    pod(values, "cluster", object);
    let spec = &mut object["spec"]["template"]["spec"];
    if has_config {
        let map = json!([{"name": "config", "configMap": {"name": "weir-cluster"}}]);
        extend(&mut spec["volumes"], &map);
    }
    extend(&mut spec["volumes"], values.get("cluster.extraVolumes"));
    let container = &mut spec["containers"][0];
    set_argument(container, "workers", &text_of(values.size("cluster.workers")));
    if has_config {
        extend(&mut container["args"], &json!(["--config=/etc/weir/config/weir.yaml"]));
        let mount = json!([{"name": "config", "mountPath": "/etc/weir/config", "readOnly": true}]);
        extend(&mut container["volumeMounts"], &mount);
    }
    extend(&mut container["args"], values.get("cluster.extraArgs"));
    extend(&mut container["env"], values.get("cluster.extraEnv"));
    put_or_drop(container, "envFrom", values.get("cluster.envFrom"));
    extend(&mut container["volumeMounts"], values.get("cluster.extraVolumeMounts"));
    let claim = &mut object["spec"]["volumeClaimTemplates"][0]["spec"];
    put_or_drop(claim, "storageClassName", values.get("cluster.storageClass"));
    claim["resources"]["requests"]["storage"] = values.get("cluster.disk").clone();
}

fn nats(values: &Values, object: &mut Json) {
    pod(values, "nats", object);
    let (user, secret) = (values.text("bus.user"), values.text("bus.secret"));
    let mut print = String::new();
    for byte in &Sha256::digest(format!("{user}/{secret}"))[..8] {
        // Writing into a string does not fail.
        let _ = write!(print, "{byte:02x}");
    }
    let template = &mut object["spec"]["template"];
    template["metadata"]["annotations"]["weir/config"] = print.into();
    let container = &mut template["spec"]["containers"][0];
    container["image"] = values.get("nats.image").clone();
    container["env"][0]["valueFrom"]["secretKeyRef"]["name"] = secret.into();
}

fn bus_config(values: &Values, object: &mut Json) {
    let text = object["data"]["nats.conf"].as_str().unwrap_or_default();
    let text = text.replace("user: weir,", &format!("user: {},", values.text("bus.user")));
    object["data"]["nats.conf"] = text.into();
}
