//! The commands that show what the server says of itself, and end its sessions.

use serde_json::{Value as Json, json};

use crate::args::{AlertsArgs, Format, OutputArgs};
use crate::client::Connection;
use crate::failure::Failure;
use crate::listing::{flat, list, named};
use crate::output;

/// JSON is one object; a table has a part for each kind of number; CSV names each number.
pub(crate) fn stats(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let stats = connection.get("/api/v1/stats")?;
    match output::format_or_default(args.output) {
        Format::Json | Format::Jsonl => output::line(&stats.to_string()),
        Format::Csv => list(&flat(&stats), &["name", "value"], Format::Csv),
        Format::Table => print_stats(&stats),
    }
}

fn print_stats(stats: &Json) -> Result<(), Failure> {
    let mut rest = stats.clone();
    for part in ["tables", "sources"] {
        let members = rest.as_object_mut().and_then(|members| members.shift_remove(part));
        let mut members = members.unwrap_or_default();
        for member in members.as_object_mut().into_iter().flat_map(|members| members.values_mut()) {
            let Some(lost) = member.get("lost").map(total_and_reasons) else { continue };
            member["lost"] = lost;
        }
        let (rows, columns) = named(&members);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        list(&rows, &columns, Format::Table)?;
        output::line("")?;
    }
    list(&flat(&rest), &["name", "value"], Format::Table)
}

/// `{"ring_full": 2, "late": 1, "other": 0}` → `3 (ring_full 2, late 1)`
fn total_and_reasons(lost: &Json) -> Json {
    let counts = || {
        let members = lost.as_object().into_iter().flatten();
        members.filter_map(|(reason, count)| Some((reason, count.as_u64().filter(|n| *n > 0)?)))
    };
    let total: u64 = counts().map(|(_, count)| count).sum();
    let reasons: Vec<String> =
        counts().map(|(reason, count)| format!("{reason} {count}")).collect();
    json!(if total == 0 { "0".to_string() } else { format!("{total} ({})", reasons.join(", ")) })
}

pub(crate) fn queries(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let answer = connection.get("/api/v1/queries")?;
    let columns = ["query", "name", "refresh_ms", "subscribers", "feeds", "outputs"];
    list(&answer["queries"], &columns, output::format_or_default(args.output))
}

pub(crate) fn nodes(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let answer = connection.get("/api/v1/nodes")?;
    let columns = [
        "name",
        "hostname",
        "asid",
        "incarnation",
        "version",
        "lagging",
        "lag_ms",
        "last_heard_ms_ago",
    ];
    let format = output::format_or_default(args.output);
    list(&answer["nodes"], &columns, format)?;
    if format == Format::Table {
        for node in answer["nodes"].as_array().into_iter().flatten() {
            output::line("")?;
            list(&node["sources"], &["name", "state", "reason", "tables"], format)?;
        }
    }
    Ok(())
}

pub(crate) fn sinks(connection: &Connection, args: OutputArgs) -> Result<(), Failure> {
    let answer = connection.get("/api/v1/sinks")?;
    let columns = [
        "name",
        "type",
        "target",
        "state",
        "acked",
        "frontier",
        "buffer_bytes",
        "rows_sent",
        "rows_lost",
        "lost_since",
        "last_error",
    ];
    list(&answer["sinks"], &columns, output::format_or_default(args.output))
}

pub(crate) fn alerts(connection: &Connection, args: &AlertsArgs) -> Result<(), Failure> {
    let format = output::format_or_default(args.output);
    if args.history {
        let answer = connection.get("/api/v1/alerts/history")?;
        return list(&answer["history"], &["at", "what", "alertname", "labels", "value"], format);
    }
    let answer = connection.get("/api/v1/alerts")?;
    if args.rules {
        let columns = ["group", "name", "state", "pending", "firing", "evaluated_at", "last_error"];
        return list(&answer["rules"], &columns, format);
    }
    if args.receivers {
        let columns =
            ["name", "type", "to", "state", "waiting", "sent", "lost", "errors", "last_error"];
        return list(&answer["receivers"], &columns, format);
    }
    let columns = ["alertname", "state", "labels", "value", "active_at", "fired_at", "error"];
    list(&answer["alerts"], &columns, format)?;
    if format == Format::Table {
        let rules = answer["rules"].as_array().into_iter().flatten();
        for rule in
            rules.filter(|rule| rule["last_error"].as_str().is_some_and(|it| !it.is_empty()))
        {
            let text = |key: &str| rule[key].as_str().unwrap_or_default();
            output::note(&format!(
                "rule {} is {}: {}",
                text("name"),
                text("state"),
                text("last_error")
            ));
        }
    }
    Ok(())
}

/// Who is logged in with a browser has to log in again.
pub(crate) fn logout(connection: &Connection) -> Result<(), Failure> {
    connection.post("/api/v1/logout", &json!({"all": true}))?;
    output::note("all sessions have ended");
    Ok(())
}
