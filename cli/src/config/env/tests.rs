//! What variables set, and which are wrong.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::config::keys;

fn overlaid(config: Json, env: &[(&str, &str)]) -> Result<(Json, Vec<String>), String> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let names = env.keys().map(ToString::to_string).collect();
    let lookup = |name: &str| env.get(name).map(|value| std::ffi::OsString::from(*value));
    let schema = keys::schema();
    let mut overlay = Overlay::new(&schema, names, &lookup);
    let mut config = config;
    overlay.put(&mut config)?;
    Ok((config, overlay.used))
}

/// Every key can come from the environment, nested ones and new sinks too, and a value is what it is,
/// byte for byte: nothing of it is read as YAML or a pattern. Catches a password that is cut at its `#`.
#[test]
fn values_are_taken_as_they_are() {
    let nasty = "$1 \": #\n {{x}} 'é";
    let file = json!({"sinks": {"let-out": {"type": "http", "inputs": [{"script": "a"}]}}});
    let (config, used) = overlaid(
        file,
        &[
            ("WEIR_SINKS_LET_OUT_URL", nasty),
            ("WEIR_SINKS_LET_OUT_AUTH_PASSWORD", nasty),
            ("WEIR_SINKS_LET_OUT_BATCH_MAX_ROWS", "7"),
            ("WEIR_SINKS_LET_OUT_BUFFER_TYPE", "disk"),
            ("WEIR_SINKS_LET_OUT_INPUTS_1_SCRIPT", "b"),
            ("WEIR_SINKS_SECOND_TYPE", "console"),
            ("WEIR_SINKS_SECOND_INPUTS_0_TEXT", "import px"),
            ("WEIR_SINKS_SECOND_BUFFER_TYPE", "memory"),
            ("WEIR_TOKEN", "of something else"),
        ],
    )
    .unwrap();
    assert_eq!(
        config,
        json!({"sinks": {
            "let-out": {
                "type": "http",
                "inputs": [{"script": "a"}, {"script": "b"}],
                "url": nasty,
                "auth": {"password": nasty},
                "batch": {"max_rows": 7},
                "buffer": {"type": "disk"},
            },
            "second": {
                "type": "console",
                "inputs": [{"text": "import px"}],
                "buffer": {"type": "memory"},
            },
        }})
    );
    let said = without_values(&format!("cannot use {nasty} there"), &used);
    assert_eq!(said, "cannot use *** there");
    let wrong = overlaid(json!({"sinks": {"a": {}}}), &[("WEIR_SINKS_A_BATCH_MAX_ROWS", "seven")]);
    assert_eq!(wrong.unwrap_err(), "WEIR_SINKS_A_BATCH_MAX_ROWS is not a number");
}

fn wrong(config: &Json, name: &str) -> String {
    let put = overlaid(config.clone(), &[(name, "1")]);
    put.map(|(config, _)| config.to_string()).expect_err(name)
}

/// Keys below a map, and items of lists, come from the environment alone as well; a key that the file has, in its
/// own letters, is that key and no second one. Catches a header, an argument or a label that is left out unsaid.
#[test]
fn free_keys_are_set() {
    let file = json!({
        "sinks": {"a": {"type": "http", "headers": {"X-Scope-ID": "old"}, "inputs": [{"script": "a"}]}},
        "alertmanagers": [{"url": "http://a"}],
    });
    let (config, _) = overlaid(
        file,
        &[
            ("WEIR_SINKS_A_HEADERS_AUTHORIZATION", "Basic x"),
            ("WEIR_SINKS_A_HEADERS_X_SCOPE_ID", "new"),
            ("WEIR_SINKS_A_HEADERS_X_CONTENT_TYPE", "text"),
            ("WEIR_SINKS_A_INPUTS_0_ARGS_START_TIME", "-5m"),
            ("WEIR_SINKS_A_INPUTS_0_ARGS_MAX_ROWS", "7"),
            ("WEIR_ALERTS_EXTERNAL_LABELS_DATA_CENTER", "b"),
            ("WEIR_ALERTMANAGERS_1_URL", "http://b"),
            ("WEIR_ALERTMANAGERS_0_HEADERS_X_SCOPE", "c"),
            ("WEIR_ALERTS_BUILTIN_ENABLED", "true"),
            ("WEIR_RECEIVERS_0_TO_0", "me@x"),
            ("WEIR_RULES_0", "0"),
            ("WEIR_RULES_1", "1"),
            ("WEIR_RULES_2", "2"),
            ("WEIR_RULES_3", "3"),
            ("WEIR_RULES_4", "4"),
            ("WEIR_RULES_5", "5"),
            ("WEIR_RULES_6", "6"),
            ("WEIR_RULES_7", "7"),
            ("WEIR_RULES_8", "8"),
            ("WEIR_RULES_9", "9"),
            ("WEIR_RULES_10", "10"),
        ],
    )
    .unwrap();
    let sink = &config["sinks"]["a"];
    let headers =
        json!({"X-Scope-ID": "new", "authorization": "Basic x", "x-content-type": "text"});
    assert_eq!(sink["headers"], headers);
    assert_eq!(sink["inputs"][0]["args"], json!({"start_time": "-5m", "max_rows": "7"}));
    assert_eq!(config["sinks"].as_object().unwrap().len(), 1, "no header is a sink");
    let alerts = json!({"builtin": {"enabled": true}, "external_labels": {"data_center": "b"}});
    assert_eq!(config["alerts"], alerts);
    let to = json!([{"url": "http://a", "headers": {"x-scope": "c"}}, {"url": "http://b"}]);
    assert_eq!(config["alertmanagers"], to);
    assert_eq!(config["receivers"], json!([{"to": ["me@x"]}]));
    assert_eq!(config["rules"][10], "10");
}

/// What begins as a section does and is no key is an error with what may have been meant. Catches a secret that
/// is misspelt and is sent nowhere.
#[test]
fn what_names_nothing_is_wrong() {
    let file = json!({"sinks": {"let-out": {"type": "http", "inputs": [{"script": "a"}]}},
        "rules": ["a.yml"]});
    for (name, wanted) in [
        ("WEIR_SINKS_LETOUT_URL", "WEIR_SINKS_LET_OUT_URL"),
        ("WEIR_SINKS_LETOUT_URL", "needs WEIR_SINKS_NAME_TYPE"),
        ("WEIR_SINKS_LET_OUT_TOKEN", "WEIR_SINKS_LET_OUT_AUTH_TOKEN"),
        ("WEIR_SINKS_LET_OUT_AUTH_PASWORD", "WEIR_SINKS_LET_OUT_AUTH_PASSWORD"),
        ("WEIR_SINKS_LET_OUT_HEADERS", "no key"),
        ("WEIR_SINKS_LET_OUT_HEADERS_", "no key"),
        ("WEIR_SINKS_LET_OUT_HEADERS_Name", "no key"),
        ("WEIR_SINKS_LET_OUT_INPUTS_01_SCRIPT", "WEIR_SINKS_LET_OUT_INPUTS_1_SCRIPT"),
        ("WEIR_SINKS_LET_OUT_INPUTS_2_SCRIPT", "the next one is 1"),
        ("WEIR_SINKS_LET_OUT_INPUTS_18446744073709551616_SCRIPT", "no key"),
        ("WEIR_SINKS_LET_OUT_INPUTS_9999999999_SCRIPT", "the next one is 1"),
        ("WEIR_SINKS__TYPE", "no key"),
        ("WEIR_SINKS", "no key"),
        ("WEIR_RULES", "no key"),
        ("WEIR_RULES_3", "the next one is 1"),
        ("WEIR_ALERTS_EXTERNAL_URI", "WEIR_ALERTS_EXTERNAL_URL"),
        ("WEIR_RECEIVERS_URL", "WEIR_RECEIVERS_0_URL"),
        ("WEIR_ALERTMANAGERS_0_URL_", "no key"),
    ] {
        let why = wrong(&file, name);
        assert!(why.contains(name) && why.contains(wanted), "{name}: {why}");
    }
    let others = [("WEIR_TOKEN", "a"), ("WEIR_EXPORT_SINKS", "b"), ("WEIR_SERVER", "c")];
    assert_eq!(overlaid(file.clone(), &others).unwrap().0, file);
    // What the file has in its place is not put aside.
    for (file, name) in [
        (json!({"sinks": 5}), "WEIR_SINKS_A_TYPE"),
        (json!({"sinks": {"a": {"headers": "x"}}}), "WEIR_SINKS_A_HEADERS_B"),
        (json!({"rules": "a.yml"}), "WEIR_RULES_0"),
    ] {
        let why = wrong(&file, name);
        assert!(why.contains(name) && why.contains("is no "), "{why}");
    }
}

/// Two names that share their variables are an error when one of these is set, and only then. Catches a password
/// that goes to another receiver as well.
#[test]
fn what_names_two_is_wrong() {
    let file = json!({"sinks": {"a-b": {"type": "http"}, "a_b": {"type": "http"}, "c": {
        "headers": {"X-A": "1", "x_a": "2"}}}});
    assert_eq!(overlaid(file.clone(), &[("WEIR_SINKS_C_URL", "u")]).unwrap().1, ["u"]);
    let why = wrong(&file, "WEIR_SINKS_A_B_URL");
    assert!(why.contains("`sinks.a-b.url` and `sinks.a_b.url`"), "{why}");
    assert!(wrong(&file, "WEIR_SINKS_A_B_HEADERS_D").contains("`sinks.a_b.headers.d`"));
    assert!(wrong(&file, "WEIR_SINKS_A_B_TYPE").contains("could be"));
    assert!(wrong(&file, "WEIR_SINKS_C_HEADERS_X_A").contains("`sinks.c.headers.X-A`"));
    // A key that there is goes before one that there could be.
    let file = json!({"sinks": {"a": {"type": "http"}, "a-headers": {"type": "http"}}});
    let (config, _) = overlaid(file, &[("WEIR_SINKS_A_HEADERS_URL", "u")]).unwrap();
    let both = json!({"a": {"type": "http"}, "a-headers": {"type": "http", "url": "u"}});
    assert_eq!(config["sinks"], both);
}

/// What a key may be: all there is, where that is little.
fn values(schema: &Json) -> Vec<Json> {
    let branches = schema["oneOf"].as_array();
    if let Some(branches) = branches {
        return branches.iter().flat_map(values).collect();
    }
    if schema["const"].is_string() {
        return vec![schema["const"].clone()];
    }
    if let Some(all) = schema["enum"].as_array() {
        return all.clone();
    }
    let types = schema["type"].as_array().cloned().unwrap_or(vec![schema["type"].clone()]);
    let is = |wanted: &str| types.iter().any(|have| have == wanted);
    match schema["pattern"].as_str() {
        Some(pattern) if pattern.contains("ms|") => vec![json!("7s")],
        Some(_) => vec![json!("7KiB")],
        None if is("boolean") => vec![json!(true), json!(false)],
        None if is("integer") => vec![json!(7)],
        None if is("number") => vec![json!(0.5)],
        // One of several types is a text, however YAML reads it.
        None => vec![json!("$1 \": #\n {{x}} 'é")],
    }
}

/// A configuration that has every key, and for each of them where it is and what it may be. Sinks, headers and whatever
/// else has names of its own are called `own`, and lists have one item.
fn every_key(root: &Json, schema: &Json, at: &str, keys: &mut Vec<(String, Vec<Json>)>) -> Json {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return every_key(root, &root["$defs"][name], at, keys);
    }
    let optional = schema["anyOf"].as_array();
    if let Some([some, null]) = optional.map(Vec::as_slice)
        && null["type"] == "null"
    {
        return every_key(root, some, at, keys);
    }
    if let Some(members) = schema["properties"].as_object() {
        let member = |(key, below): (&String, &Json)| {
            (key.clone(), every_key(root, below, &format!("{at}/{key}"), keys))
        };
        return members.iter().map(member).collect();
    }
    if schema["additionalProperties"].is_object() {
        return json!({"own": every_key(root, &schema["additionalProperties"], &format!("{at}/own"), keys)});
    }
    if schema["items"].is_object() {
        return json!([every_key(root, &schema["items"], &format!("{at}/0"), keys)]);
    }
    let values = values(schema);
    let first = values[0].clone();
    keys.push((at.to_string(), values));
    first
}

/// Every key of the published schema, whatever it may be, is set by its variable as by the file: alone, where the file
/// has all others, and all of them without any file. Catches a key that only a file can have, and a kind of value that
/// no variable can say.
#[test]
fn every_key_has_its_variable() {
    let root: Json =
        serde_json::from_str(include_str!("../../../../docs/api/config.schema.json")).unwrap();
    let mut all = Vec::new();
    let full = every_key(&root, &root, "", &mut all);
    assert!(all.len() > 80, "{all:?}");
    let text = |value: &Json| value.as_str().map_or(value.to_string(), str::to_string);
    let variable = |at: &str| format!("WEIR{}", at.replace('/', "_").to_ascii_uppercase());
    for (at, values) in &all {
        let (parent, key) = at.rsplit_once('/').unwrap();
        let mut lacking = full.clone();
        match lacking.pointer_mut(parent).unwrap() {
            Json::Object(members) => drop(members.remove(key)),
            list => list.as_array_mut().unwrap().clear(),
        }
        for value in values {
            let mut wanted = full.clone();
            *wanted.pointer_mut(at).unwrap() = value.clone();
            let (name, said) = (variable(at), text(value));
            let (set, _) = overlaid(lacking.clone(), &[(&name, &said)]).unwrap();
            assert_eq!(set, wanted, "{name}={said}");
            keys::Config::deserialize(&set)
                .unwrap_or_else(|error| panic!("{name}={said}: {error}"));
        }
    }
    let set: Vec<(String, String)> =
        all.iter().map(|(at, values)| (variable(at), text(&values[0]))).collect();
    let set: Vec<(&str, &str)> =
        set.iter().map(|(name, said)| (name.as_str(), said.as_str())).collect();
    assert_eq!(overlaid(Json::Null, &set).unwrap().0, full);
}
