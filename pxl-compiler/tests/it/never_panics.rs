//! Compiling never panics and always ends, whatever the text: arbitrary text, scripts with pieces
//! cut out, doubled and exchanged, and programs made to blow up.

use proptest::prelude::*;
use weir_pxl::{CompileOptions, Script, bundle, compile, explain, split};

use crate::golden;

fn try_compile(text: &str, vis: Option<&str>) {
    let script = Script { name: "fuzz.pxl", text, vis };
    let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
    match compile(&script, &options) {
        Ok(compiled) => {
            let parts = split(&compiled.plan);
            assert_eq!(parts.cluster.ops.is_empty(), compiled.plan.outputs.is_empty());
        }
        Err(found) => assert!(!found.is_empty(), "refused without a reason"),
    }
}

/// A piece of a script is taken out, doubled, or replaced by a piece from elsewhere.
fn mutated(text: &str, edits: &[(usize, usize, usize, u8)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for &(at, length, from, kind) in edits {
        if chars.is_empty() {
            break;
        }
        let at = at % chars.len();
        let end = (at + length % 12).min(chars.len());
        let from = from % chars.len();
        let piece: Vec<char> = chars[from..(from + length % 12).min(chars.len())].to_vec();
        match kind % 3 {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, piece)),
            _ => drop(chars.splice(at..end, piece)),
        }
    }
    chars.into_iter().collect()
}

const SEED: &str = "import px\n\
    ns = 'x'\n\
    def f(df, c: str):\n    df.y = px.select(df[c] > 1, 'a', ns)\n    return df.groupby(['y']).agg(n=(c, px.count))\n\
    df = px.DataFrame('http_events', select=['time_', 'upid', 'latency'], start_time='-5m')\n\
    df.pod = df.ctx['pod']\n\
    df = df[not (df.pod == '' or df.latency < 5)]\n\
    a = f(df, 'latency')\n\
    b = a.merge(a, how='outer', left_on=['y'], right_on=['y'], suffixes=['', '_2']).head(3)\n\
    px.display(b.append([b, b]), 'out')\n\
    df.w = px.bin(df.time_, px.seconds(10)) - px.now()\n";

/// Scripts, and vis files, of the goldens of diagnostics: one for each thing that can be wrong.
fn golden_scripts() -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for entry in std::fs::read_dir(golden::folder("diagnostics")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let parts = golden::sections(&text);
        let part =
            |name: &str| parts.iter().find(|(have, _)| have == name).map(|(_, body)| body.clone());
        found.push((part("script").unwrap_or_default(), part("vis")));
    }
    found.sort();
    found
}

/// `WEIR_PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("WEIR_PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_cases(
        which in any::<usize>(),
        edits in proptest::collection::vec(any::<(usize, usize, usize, u8)>(), 1..4),
        vis_edits in proptest::collection::vec(any::<(usize, usize, usize, u8)>(), 0..3),
    ) {
        static SCRIPTS: std::sync::LazyLock<Vec<(String, Option<String>)>> =
            std::sync::LazyLock::new(golden_scripts);
        let (script, vis) = &SCRIPTS[which % SCRIPTS.len()];
        let vis = vis.as_ref().map(|vis| mutated(vis, &vis_edits));
        try_compile(&mutated(script, &edits), vis.as_deref());
    }

    #[test]
    fn arbitrary_text(text in "\\PC{0,200}") {
        try_compile(&text, None);
    }

    #[test]
    fn arbitrary_tokens(words in proptest::collection::vec(prop_oneof![
        Just("px"), Just("."), Just("("), Just(")"), Just("["), Just("]"), Just("df"), Just("="),
        Just("'upid'"), Just("\n"), Just(","), Just("display"), Just("DataFrame"), Just("agg"),
        Just("def f(x):\n    "), Just("return "), Just("import px\n"), Just("not "), Just("-"),
        Just("1"), Just("0.5"), Just("{"), Just("}"), Just(":"), Just("ctx"), Just("f'"), Just("#"),
    ], 0..60)) {
        try_compile(&words.concat(), None);
    }

    #[test]
    fn mutated_seed(edits in proptest::collection::vec(any::<(usize, usize, usize, u8)>(), 1..6)) {
        try_compile(&mutated(SEED, &edits), None);
    }

    #[test]
    fn mutated_bundle(
        which in any::<usize>(),
        edits in proptest::collection::vec(any::<(usize, usize, usize, u8)>(), 1..4),
    ) {
        let scripts = bundle::scripts();
        let script = scripts[which % scripts.len()];
        try_compile(&mutated(script.pxl, &edits), script.vis);
    }

    #[test]
    fn mutated_vis(
        which in any::<usize>(),
        edits in proptest::collection::vec(any::<(usize, usize, usize, u8)>(), 1..4),
    ) {
        let scripts = bundle::scripts();
        let script = scripts[which % scripts.len()];
        if let Some(vis) = script.vis {
            try_compile(script.pxl, Some(&mutated(vis, &edits)));
        }
    }
}

/// Programs that grow exponentially, recurse or nest end with a diagnostic, in little time and
/// stack: catches a budget that is not counted.
#[test]
fn bombs_are_defused() {
    let calls: String =
        (0..40).map(|n| format!("def f{}(x):\n    return f{n}(x) + f{n}(x)\n", n + 1)).collect();
    let frame = "import px\ndf = px.DataFrame('http_events')\n";
    let doubling = "x = x + x\n".repeat(60);
    let bombs = [
        format!("import px\ndef f0(x):\n    return x\n{calls}y = f40(1)\n"),
        "import px\ndef f(x):\n    return g(x)\ndef g(x):\n    return f(x)\ny = f(1)\n".to_string(),
        format!("{frame}x = df.latency\n{doubling}df.y = x\npx.display(df)\n"),
        format!("{frame}{}px.display(df)\n", "df = df.append(df)\n".repeat(60)),
        format!(
            "{frame}{}px.display(df)\n",
            "df = df.merge(df, how='inner', left_on='upid', right_on='upid')\ndf.upid = df.upid_x\n"
                .repeat(30)
        ),
        format!("{frame}{}px.display(df)\n", "df.a = df.latency\n".repeat(6000)),
        format!("{frame}{}px.display(df)\n", "df.latency = df.latency + df.latency\n".repeat(100)),
        format!("x = {}1\n", "-".repeat(100_000)),
        format!("x = a{}\n", ".b".repeat(100_000)),
        format!("x = {}\n", "[".repeat(100_000)),
        format!("{}pass\n", "if x:\n ".repeat(2)),
        format!("x = f'{}'\n", "{".repeat(10_000)),
        format!("import px\nx = [{}]\n", "1, ".repeat(50_000)),
    ];
    for bomb in &bombs {
        try_compile(bomb, None);
    }
}

/// Explaining a broken script tells what was reached.
#[test]
fn explain_of_broken_scripts() {
    let script = Script { name: "t.pxl", text: "import px\npx.display(df)\n", vis: None };
    let explained = explain(&script, &CompileOptions::default(), &weir_pxl::Stage::ALL);
    assert_eq!(explained.diagnostics[0].code, "name_not_defined");
    assert!(explained.text.contains("== ast =="));
    assert!(explained.json["plan"].is_null());
}
