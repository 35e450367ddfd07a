//! `weir explain --live`: the dataflow of a script as it runs on the server, as a tree from its outputs down to
//! the scans on nodes, each operator with what it does and holds. It installs nothing: a script that does not run
//! is an error that says how to run it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::amounts::{bytes, duration, number, rows};
use crate::args::ExplainArgs;
use crate::client::Connection;
use crate::failure::Failure;
use crate::{output, script};

/// Longer texts of operators are cut: the figures behind them are what people look for. JSON has all of it.
const TEXT_CHARS_MAX: usize = 100;
/// Deepest indentation: a plan can be deeper than a terminal is wide.
const INDENT_MAX: usize = 24;

pub(crate) fn run(connection: &Connection, args: ExplainArgs) -> Result<(), Failure> {
    let mut request = script::request(&args.script)?;
    request.refresh_ms =
        args.refresh.map(|refresh| u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX));
    let answer = connection.post("/api/v1/explain", &script::body(&request))?;
    if args.output == "json" {
        return output::line(&answer.to_string());
    }
    output::text(tree(&answer).trim_end())
}

fn text<'a>(of: &'a Json, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

/// The head, then each output with what is below it.
fn tree(answer: &Json) -> String {
    let operators: BTreeMap<&str, &Json> = answer["operators"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|operator| (text(operator, "id"), operator))
        .collect();
    let mut out = head(answer);
    let mut seen = Vec::new();
    let outputs = answer["operators"].as_array().into_iter().flatten();
    // Children first on a stack of its own: a plan may be deeper than the program's.
    let mut open: Vec<(usize, &str)> = outputs
        .map(|operator| text(operator, "id"))
        .filter(|id| id.starts_with("output"))
        .map(|id| (0, id))
        .collect();
    open.reverse();
    while let Some((depth, id)) = open.pop() {
        let Some(operator) = operators.get(id) else { continue };
        let is_new = !seen.contains(&id);
        out.push_str(&line(depth, operator, is_new));
        if is_new {
            seen.push(id);
            let inputs: Vec<&str> = operator["inputs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .collect();
            open.extend(inputs.into_iter().rev().map(|input| (depth + 1, input)));
        }
    }
    out
}

fn head(answer: &Json) -> String {
    let over = number(answer, "over_ns");
    let over = if over == 0.0 {
        "no rates yet: ask again in a second".to_string()
    } else {
        format!("rates over the last {}", duration(over))
    };
    format!(
        "{}  (query {}, every {}, {} late, {} on average, readers {}, held {}, cpu {}/s; {over})\n",
        text(answer, "name"),
        answer["query"],
        duration(number(answer, "refresh_ms") * 1e6),
        duration(number(answer, "lateness_ns")),
        duration(number(answer, "lateness_mean_ns")),
        answer["subscribers"],
        bytes(number(answer, "held_bytes")),
        duration(number(answer, "cpu_ns_per_s")),
    )
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn line(depth: usize, operator: &Json, is_new: bool) -> String {
    let arrow = if depth == 0 { "" } else { "-> " };
    let indent = " ".repeat(3 * depth.min(INDENT_MAX));
    let what = cut(text(operator, "text"));
    let whose = match text(operator, "part") {
        "feed" => match operator["readers"].as_array().map_or(0, Vec::len) {
            0 | 1 => format!(" [feed {}]", operator["feed"]),
            readers => format!(" [feed {}, shared by {readers} queries]", operator["feed"]),
        },
        "node" => match operator["nodes"].as_u64() {
            Some(1) => " [on 1 node]".to_string(),
            nodes => format!(" [on {} nodes]", nodes.unwrap_or(0)),
        },
        _ => String::new(),
    };
    if !is_new {
        return format!("{indent}{arrow}{what}{whose}  (as above)\n");
    }
    if operator["kind"].is_null() {
        // No operator of its own: streams side by side, or done in one with what stands above it.
        return format!("{indent}{arrow}{what}{whose}\n");
    }
    format!(
        "{indent}{arrow}{what}{whose}  (in {}/s out {}/s, held {}, cpu {}/s, {} a row)\n",
        rows(number(operator, "rows_in_per_s")),
        rows(number(operator, "rows_out_per_s")),
        bytes(number(operator, "held_bytes")),
        duration(number(operator, "cpu_ns_per_s")),
        duration(number(operator, "ns_per_row")),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operator(id: &str, part: &str, inputs: &[&str]) -> Json {
        json!({
            "id": id, "part": part, "kind": "Join", "text": format!("text of {id}"), "inputs": inputs,
            "rows_in_per_s": 12_345.0, "rows_out_per_s": 2.5, "held_bytes": 2048,
            "cpu_ns_per_s": 1_500_000.0, "ns_per_row": 121.5, "feed": 7, "nodes": 2, "readers": [1, 2],
        })
    }

    /// The tree as people read it: an operator that is read twice is shown once, with its input once. Catches
    /// a plan that is printed as often as there are ways through it.
    #[test]
    fn a_tree_shows_each_operator_once() {
        let mut union = operator("op1", "query", &["op0", "op0"]);
        union["kind"] = Json::Null;
        let answer = json!({
            "query": 3, "name": "px/test", "refresh_ms": 1000, "subscribers": 2,
            "lateness_ns": 1_200_000, "lateness_mean_ns": 900_000, "over_ns": 5_000_000_000u64,
            "held_bytes": 0, "cpu_ns_per_s": 250.0,
            "operators": [
                operator("output0", "query", &["op1"]), union,
                operator("op0", "query", &["feed7.0"]), operator("feed7.0", "feed", &["feed7.0.send"]),
                operator("feed7.0.send", "node", &[]),
            ],
        });
        let figures = "(in 12.3k/s out 2.50/s, held 2.00 KiB, cpu 1.50 ms/s, 122 ns a row)";
        let expected = format!(
            "px/test  (query 3, every 1.00 s, 1.20 ms late, 900 µs on average, readers 2, held 0 B, \
             cpu 250 ns/s; rates over the last 5.00 s)\n\
             text of output0  {figures}\n   -> text of op1\n      -> text of op0  {figures}\n         \
             -> text of feed7.0 [feed 7, shared by 2 queries]  {figures}\n            \
             -> text of feed7.0.send [on 2 nodes]  {figures}\n      -> text of op0  (as above)\n"
        );
        assert_eq!(tree(&answer), expected);
    }
}
