//! Every diagnostic code has a case: a script (and what goes with it), and the rendered findings.

use std::collections::BTreeSet;

use weir_pxl::{
    Code, CompileOptions, Compiled, Deadline, Script, compile, render_script_diagnostics,
};
use weir_types::Diagnostic;

use crate::golden;

/// A case file holds `=== script`, optionally `=== vis`, `=== options` and `=== generate`, and
/// after a run `=== findings`.
struct Case {
    parts: Vec<(String, String)>,
}

impl Case {
    fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(have, _)| have == name).map(|(_, text)| text.as_str())
    }

    /// `arg NAME VALUE`, `func NAME`, `now NS`, `placeholders`, `sources A B`.
    fn options(&self) -> CompileOptions {
        let mut options = CompileOptions::default();
        for line in self.part("options").unwrap_or("").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["arg", name, value] => options.args.push((name.to_string(), value.to_string())),
                ["func", name] => options.func = Some(name.to_string()),
                ["now", ns] => options.now_unix_ns = Some(ns.parse().unwrap()),
                ["placeholders"] => options.placeholders = true,
                ["cancelled"] => options.cancel.cancel(),
                ["no_time"] => {
                    let clock = std::sync::Arc::new(weir_types::WallClock);
                    options.deadline = Some(Deadline::after(clock, std::time::Duration::ZERO));
                }
                ["sources", rest @ ..] => {
                    options.sources = Some(rest.iter().map(|name| name.to_string()).collect());
                }
                other => panic!("unknown option line {other:?}"),
            }
        }
        options
    }

    /// The script; some limits need one that is too long to write out.
    fn script(&self) -> String {
        let text = self.part("script").unwrap_or("").to_string();
        match self.part("generate").map(str::trim) {
            None => text,
            Some("too_large") => format!("{text}#{}\n", "x".repeat(600 * 1024)),
            Some("too_deep") => format!("{text}x = {}1{}\n", "(".repeat(5000), ")".repeat(5000)),
            Some("columns") => {
                let columns: String = (0..510).map(|n| format!("df.c{n} = 1\n")).collect();
                format!("{text}{columns}px.display(df)\n")
            }
            Some("names") => (0..60).map(|n| format!("x = a{n}\n")).collect(),
            Some("long_name") => format!("{text}df['{}'] = 1\n", "n".repeat(1025)),
            Some("doubled") => format!("{text}{}", "a = a + a\n".repeat(40)),
            Some("appended") => {
                format!("{text}{}px.display(df)\n", "df = df.append(df)\n".repeat(40))
            }
            Some("patterns") => {
                let calls: String = (0..70)
                    .map(|n| format!("df.c{n} = px.regex_match('a{n}', df.req_path)\n"))
                    .collect();
                format!("{text}{calls}px.display(df)\n")
            }
            Some("outputs") => {
                format!("{text}{}", "px.display(df)\n".repeat(510))
            }
            Some(other) => panic!("unknown generator {other}"),
        }
    }
}

fn findings(result: Result<Compiled, Vec<Diagnostic>>) -> Vec<Diagnostic> {
    match result {
        Ok(compiled) => compiled.warnings,
        Err(diagnostics) => diagnostics,
    }
}

/// Every case gives exactly its findings, and every code has a case: catches a message or a span
/// that moved, and a code that no test ever sees.
#[test]
fn every_code_has_a_golden() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut failures = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(golden::folder("diagnostics"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let case = Case { parts: golden::sections(&text) };
        let script_text = case.script();
        let script = Script { name: "case.pxl", text: &script_text, vis: case.part("vis") };
        let found = findings(compile(&script, &case.options()));
        assert!(!found.is_empty(), "{} gives no findings", path.display());
        seen.extend(found.iter().map(|diagnostic| diagnostic.code.clone()));
        let mut now: String = case
            .parts
            .iter()
            .filter(|(name, _)| name != "findings")
            .map(|(name, body)| format!("=== {name}\n{body}"))
            .collect();
        now.push_str("=== findings\n");
        now.push_str(render_script_diagnostics(&found, &script, false).trim_end());
        now.push('\n');
        failures.extend(golden::compare(&path, &now).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let missing: Vec<&str> = Code::ALL
        .iter()
        .map(|code| code.name())
        // Findings of the compiler about itself cannot be provoked by a script.
        .filter(|name| *name != "internal" && !seen.contains(*name))
        .collect();
    assert!(missing.is_empty(), "codes without a case: {missing:?}");
}

/// The JSON form has the contract's fields: catches a renamed field.
#[test]
fn json_form() {
    let script = Script { name: "a.pxl", text: "import px\npx.display(dff)\n", vis: None };
    let found = compile(&script, &CompileOptions::default()).unwrap_err();
    let json = serde_json::to_value(&found[0]).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "code",
        "severity",
        "message",
        "file",
        "line",
        "column",
        "end_line",
        "end_column",
        "label",
        "hint",
    ];
    assert_eq!(keys, wanted);
    assert_eq!(json["severity"], "error");
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(2), Some(12)));
}
