//! What every crate's tests say when the machine lacks something they need. Nothing but tests calls
//! it.

use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value as Json;

/// Says on stderr that a test did not run, and why. Where everything is required, as in CI
/// (`WEIR_REQUIRE_ALL`), a test that did not run has failed.
///
/// # Panics
/// If `WEIR_REQUIRE_ALL` is set.
#[track_caller]
pub fn skipped(why: impl std::fmt::Display) {
    assert!(
        std::env::var_os("WEIR_REQUIRE_ALL").is_none(),
        "skipped, though WEIR_REQUIRE_ALL is set: {why}"
    );
    // A closed stderr is no reason to fail.
    drop(writeln!(std::io::stderr(), "skipped: {why}"));
}

/// Below those that the system gives to clients and to who binds port 0: what asks for a port later than it was found
/// free would meet them, of tests that run meanwhile.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
static NEXT_PORT: LazyLock<AtomicU16> = LazyLock::new(|| {
    // Elsewhere in each process.
    let some = RandomState::new().hash_one(std::process::id());
    AtomicU16::new(u16::try_from(some % PORTS.len() as u64).unwrap_or(0))
});

/// A loopback port that is free, and is given to nobody else of this process for long.
///
/// # Panics
/// If none is free.
#[must_use]
pub fn free_port() -> u16 {
    let number = |_| NEXT_PORT.fetch_add(1, Ordering::Relaxed) % PORTS.end.abs_diff(PORTS.start);
    let ports = PORTS.map(number).map(|number| PORTS.start + number);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    ports.into_iter().find(is_free).expect("a free port")
}

/// What of a JSON value does not fit a part of a schema, as far as our published schemas go: `$ref`, `const`,
/// `enum`, `anyOf`, `type`, `properties`, `required`, `items`, `prefixItems`, `additionalProperties`. Members
/// that the schema does not name do not fit: what a server sends is to be published.
#[must_use]
pub fn misfits(schema: &Json, part: &Json, value: &Json) -> Vec<String> {
    let mut found = Vec::new();
    misfit(schema, part, value, "$", &mut found);
    found
}

fn misfit(schema: &Json, part: &Json, value: &Json, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = part["$ref"].as_str() {
        let part = schema.pointer(reference.trim_start_matches('#')).unwrap_or(&Json::Null);
        return misfit(schema, part, value, at, found);
    }
    if let Some(choices) = part["anyOf"].as_array() {
        let tried = choices.iter().map(|part| misfits(schema, part, value));
        if let Some(least) = tried.min_by_key(Vec::len) {
            found.extend(least);
        }
        return;
    }
    let is_one = part["enum"].as_array().is_none_or(|all| all.contains(value))
        && (part["const"].is_null() || part["const"] == *value);
    let types = match &part["type"] {
        Json::Array(types) => types.clone(),
        Json::Null => Vec::new(),
        one => vec![one.clone()],
    };
    if !is_one || !(types.is_empty() || types.iter().any(|name| is_of_type(value, name))) {
        found.push(format!("{at}: {value} is not {part}"));
        return;
    }
    if let Some(members) = value.as_object() {
        for name in part["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !members.contains_key(name) {
                found.push(format!("{at}: no {name}"));
            }
        }
        for (name, value) in members {
            let at = format!("{at}.{name}");
            match (&part["properties"][name], &part["additionalProperties"]) {
                (Json::Null, Json::Bool(true)) => {}
                (Json::Null, Json::Null) => found.push(format!("{at} is not published")),
                (Json::Null, part) | (part, _) => misfit(schema, part, value, &at, found),
            }
        }
    }
    for (idx, item) in value.as_array().into_iter().flatten().enumerate() {
        let of_item =
            if part["items"].is_null() { &part["prefixItems"][idx] } else { &part["items"] };
        misfit(schema, of_item, item, &format!("{at}[{idx}]"), found);
    }
}

fn is_of_type(value: &Json, name: &Json) -> bool {
    match name.as_str() {
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("null") => value.is_null(),
        _ => false,
    }
}
