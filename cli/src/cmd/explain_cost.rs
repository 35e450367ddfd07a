//! `weir explain --cost`: what a script would cost on the server, before it runs. Exit 1 if the server would refuse
//! it for that. It installs nothing.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::amounts::{bytes, duration, number, rows};
use crate::args::ExplainArgs;
use crate::client::Connection;
use crate::failure::Failure;
use crate::{output, script};

pub(crate) fn run(connection: &Connection, args: ExplainArgs) -> Result<(), Failure> {
    let mut request = script::request(&args.script)?;
    request.refresh_ms =
        args.refresh.map(|refresh| u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX));
    let source = script::source_of(&request);
    let answer = connection.post("/api/v1/explain/cost", &script::body(&request));
    let answer = answer.map_err(|failure| failure.told(&source))?;
    output::print_diagnostics(&output::diagnostics_of(&answer["diagnostics"]), &source.script());
    if args.output == "json" {
        output::line(&answer.to_string())?;
    } else {
        output::text(shown(&answer).trim_end())?;
    }
    if answer["within"] == false {
        return Err(Failure::No("the server refuses it for what it would cost".to_string()));
    }
    Ok(())
}

fn text<'a>(of: &'a Json, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn items<'a>(of: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    of[name].as_array().into_iter().flatten()
}

/// For people: what it comes to, what of it each source and operator is, and what was assumed.
fn shown(answer: &Json) -> String {
    let refresh = duration(number(answer, "refresh_ms") * 1e6);
    let mut out = format!("{}, every {refresh}\n", text(answer, "name"));
    if let Some(query) = answer["running"].as_u64() {
        let _ = writeln!(
            out,
            "It runs already, as query {query}: another reader costs what it is sent."
        );
        return out;
    }
    totals(&mut out, answer);
    out.push('\n');
    items(answer, "sources").for_each(|source| one_source(&mut out, source));
    for operator in items(answer, "operators") {
        let _ = writeln!(
            out,
            "  {} (op{}): {} rows, {}, cpu {} a second",
            text(operator, "kind"),
            operator["op"],
            rows(number(operator, "rows")),
            bytes(number(operator, "state_bytes")),
            duration(number(operator, "cpu_ns_per_s")),
        );
    }
    let mut assumed = items(answer, "assumed").filter_map(Json::as_str).peekable();
    if assumed.peek().is_some() {
        out.push_str("\nAssumed:\n");
        assumed.for_each(|said| {
            let _ = writeln!(out, "  {said}");
        });
    }
    out.push('\n');
    items(answer, "limits").for_each(|limit| one_limit(&mut out, limit));
    out
}

/// A figure's label and name, how it is said, and whether it is one a second.
type Figure = (&'static str, &'static str, fn(f64) -> String, bool);

fn totals(out: &mut String, answer: &Json) {
    let (total, most) = (&answer["total"], &answer["most"]);
    let per_s = |figure: String| format!("{figure} a second");
    let figures: [Figure; 8] = [
        ("memory, cluster part", "state_bytes", bytes, false),
        ("memory, nodes", "node_state_bytes", bytes, false),
        ("answer", "answer_bytes", bytes, false),
        ("rows from history", "rows_to_fill", rows, false),
        ("CPU time to fill", "fill_cpu_ns", duration, false),
        ("rows", "rows_per_s", rows, true),
        ("CPU time", "cpu_ns_per_s", duration, true),
        ("bus", "bus_bytes_per_s", bytes, true),
    ];
    for (label, name, scale, is_rate) in figures {
        let say = |of: &Json| {
            let figure = scale(number(of, name));
            if is_rate { per_s(figure) } else { figure }
        };
        let _ = writeln!(out, "  {label:<22}{:<20} at most {}", say(total), say(most));
    }
}

fn one_source(out: &mut String, source: &Json) {
    let window = duration(number(source, "window_ns"));
    let _ = write!(
        out,
        "  {} of {} over {window} in {} panes, on {}",
        text(source, "shape"),
        text(source, "table"),
        source["panes"],
        match source["nodes"].as_u64() {
            Some(1) => "1 node".to_string(),
            nodes => format!("{} nodes", nodes.unwrap_or(0)),
        },
    );
    if let Some(feed) = source["feed"].as_u64() {
        let _ = writeln!(out, ": feed {feed} has it already, nothing more");
        return;
    }
    let kept = match source["groups_kept"].as_f64() {
        Some(groups) => format!("{} groups", rows(groups)),
        None => format!("{} rows", rows(number(source, "rows_kept"))),
    };
    let _ = writeln!(
        out,
        ": {kept}, {}; {} rows a second at {} each, {} a second on the bus",
        bytes(number(source, "state_bytes")),
        rows(number(source, "rows_per_s")),
        duration(number(source, "node_ns_per_row")),
        bytes(number(source, "bus_bytes_per_s")),
    );
}

fn one_limit(out: &mut String, limit: &Json) {
    let flag = format!("--{}", text(limit, "name").replace('_', "-"));
    let max = number(limit, "bytes");
    let _ = match limit["within"] == false {
        _ if max == 0.0 => writeln!(out, "no {flag}"),
        false => writeln!(out, "within {flag} ({})", bytes(max)),
        true => writeln!(out, "ABOVE {flag} ({})", bytes(max)),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Json {
        let total = json!({
            "rows_to_fill": 120_000, "fill_cpu_ns": 30_000_000, "rows_per_s": 400.0, "cpu_ns_per_s": 40_000,
            "node_state_bytes": 2048, "state_bytes": 5_242_880, "answer_rows": 50, "answer_bytes": 4096,
            "bus_bytes_per_s": 9_216,
        });
        json!({
            "name": "px/test", "refresh_ms": 1000, "running": null, "total": total, "most": total,
            "sources": [
                {"table": "http_events", "shape": "groups", "feed": null, "nodes": 2, "panes": 300,
                 "window_ns": 300_000_000_000u64, "groups_kept": 50, "rows_kept": 0, "rows_per_s": 400.0,
                 "state_bytes": 5_242_880, "node_ns_per_row": 50.0, "bus_bytes_per_s": 9_216},
                {"table": "dns_events", "shape": "rows", "feed": 7, "nodes": 2, "panes": 10,
                 "window_ns": 1_000_000_000, "groups_kept": null},
            ],
            "operators": [{"op": 3, "kind": "Join", "rows": 50, "state_bytes": 1024, "cpu_ns_per_s": 100}],
            "assumed": ["rows of http_events make up to 50 groups"],
            "limits": [{"name": "query_cost_max", "bytes": 1_048_576, "within": false},
                       {"name": "query_bytes_max", "bytes": 0, "within": true}],
            "within": false,
        })
    }

    /// What people read: figures with units, what is shared, and which limit it is above.
    #[test]
    fn an_estimate_is_readable() {
        let said = shown(&answer());
        for part in [
            "px/test, every 1.00 s\n",
            "memory, cluster part  5.00 MiB             at most 5.00 MiB\n",
            "rows                  400 a second         at most 400 a second\n",
            "groups of http_events over 300 s in 300 panes, on 2 nodes: 50.0 groups, 5.00 MiB; 400 rows a second \
             at 50.0 ns each, 9.00 KiB a second on the bus\n",
            "rows of dns_events over 1.00 s in 10 panes, on 2 nodes: feed 7 has it already, nothing more\n",
            "Join (op3): 50.0 rows, 1.00 KiB, cpu 100 ns a second\n",
            "Assumed:\n  rows of http_events make up to 50 groups\n",
            "ABOVE --query-cost-max (1.00 MiB)\nno --query-bytes-max\n",
        ] {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
    }

    /// A plan that runs costs nothing more, and that is all there is to say.
    #[test]
    fn what_runs_costs_nothing() {
        let mut answer = answer();
        answer["running"] = json!(4);
        let said = shown(&answer);
        assert!(said.contains("as query 4") && !said.contains("memory"), "{said}");
    }
}
