//! Scripts that ask for the most of something: depth, length, number, distance in time. Each is refused with
//! a code, or answered; nobody else is late.

use crate::scripts::{SCAN, ask};
use crate::target::{Target, code_of};

const SHOW: &str = "px.display(df)\n";

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// Texts that nobody means, each with what it is.
fn refused() -> Vec<(&'static str, String)> {
    let digits = "9".repeat(100_000);
    vec![
        (
            "f-strings that double",
            format!("import px\na = 'x'\n{}{SCAN}df.a = a\n{SHOW}", "a = f'{a}{a}'\n".repeat(45)),
        ),
        (
            "a list in itself, doubled",
            format!("{SCAN}a = [1]\n{}df.a = a\n{SHOW}", "a = [a, a]\n".repeat(45)),
        ),
        (
            "a dictionary in itself, doubled",
            format!(
                "{SCAN}a = {{'k': 1}}\n{}df.a = a\n{SHOW}",
                "a = {'k': a, 'l': a}\n".repeat(45)
            ),
        ),
        (
            "a function that calls itself",
            format!("{SCAN}def f(x):\n  return f(x)\ndf.y = f(df.latency)\n{SHOW}"),
        ),
        (
            "functions that call each other",
            format!(
                "{SCAN}def f(x):\n  return g(x) + g(x)\ndef g(x):\n  return f(x) + f(x)\ndf.y = f(df.latency)\n{SHOW}"
            ),
        ),
        ("an integer of 100,000 digits", format!("{SCAN}df.y = {digits}\n{SHOW}")),
        (
            "a hexadecimal integer of 100,000 digits",
            format!("{SCAN}df.y = 0x{}\n{SHOW}", "f".repeat(100_000)),
        ),
        ("a string of 400 KB", format!("{SCAN}df.y = '{}'\n{SHOW}", "x".repeat(400_000))),
        (
            "3,000 outputs",
            format!("{SCAN}{}", lines(3_000, |n| format!("px.display(df, 'o{n}')\n"))),
        ),
        ("3,000 columns", format!("{SCAN}{}{SHOW}", lines(3_000, |n| format!("df.c{n} = {n}\n")))),
        (
            "a pattern repeated a thousand times thrice",
            format!(
                "{SCAN}df = df[px.regex_match('(((a{{1,1000}}){{1,1000}}){{1,1000}})', df.req_path)]\n{SHOW}"
            ),
        ),
    ]
}

/// Types, windows and times that nobody means.
fn refused_times() -> Vec<(&'static str, String)> {
    vec![
        (
            "quantiles of strings",
            format!(
                "{SCAN}df = df.groupby('resp_status').agg(q=('req_path', px.quantiles))\n{SHOW}"
            ),
        ),
        (
            "a start beyond all time",
            format!(
                "import px\ndf = px.DataFrame('http_events', start_time='-99999999999999999999d')\n{SHOW}"
            ),
        ),
        (
            "a start after its end",
            format!(
                "import px\ndf = px.DataFrame('http_events', start_time='-1m', end_time='-5m')\n{SHOW}"
            ),
        ),
        (
            "a start in the future",
            format!("import px\ndf = px.DataFrame('http_events', start_time='1000000d')\n{SHOW}"),
        ),
        (
            "a window of no time",
            format!(
                "{SCAN}df = df.rolling('0s').groupby('req_path').agg(n=('latency', px.count))\n{SHOW}"
            ),
        ),
        (
            "a window of less than no time",
            format!(
                "{SCAN}df = df.rolling('-1s').groupby('req_path').agg(n=('latency', px.count))\n{SHOW}"
            ),
        ),
    ]
}

/// Each is refused with a code, at once, or is harmless: catches costs of depth, of length and of numbers that
/// are paid before they are counted.
#[test]
fn extremes_that_nobody_means() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    for (name, text) in refused().into_iter().chain(refused_times()) {
        let answer = target.ask(&text);
        let code = code_of(&answer);
        eprintln!("{name}: {} {code:?}", answer.status);
        assert!(answer.status != 500, "{name}: {}", answer.text());
        // A pattern that is none matches nothing; a window without a moment in it has no rows.
        let may_answer = name.starts_with("a pattern") || name == "a start after its end";
        let text = answer.text();
        assert!(
            code.is_some() || may_answer,
            "{name}: {}",
            text.chars().take(300).collect::<String>()
        );
        target.stands(name);
    }
    long_arguments(&mut target);
    target.recovers();
}

/// Texts of each row of some kilobytes of letters: as many as there are lengths.
const LONG: &str =
    "df.s = px.toupper(px.replace('[^a-z]', df.req_path + px.itoa(df.latency), 'a'))\n";

/// Many rows with long texts, and much to do with each.
fn long_texts() -> Vec<(&'static str, String)> {
    let grown = format!("{SCAN}{LONG}{}", "df.s = df.s + df.s\n".repeat(9));
    let worst =
        |n: usize| format!("df.n{n} = px.length(px.replace('.*[^A-Z]{{{n}}}|[A-Z]', df.s, 'x'))\n");
    vec![
        (
            "patterns over many long texts",
            format!(
                "{grown}{}df = df.groupby(['n1']).agg({})\n{SHOW}",
                lines(10, |n| worst(n + 1)),
                lines(9, |n| format!("m{n}=('n{}', px.max), ", n + 2))
            ),
        ),
        (
            "twenty outputs with a pattern each",
            format!(
                "{grown}{}",
                lines(20, |n| format!(
                    "d{n} = df[px.regex_match('(.*A){{7}}[^A]{n}', df.s)]\npx.display(d{n}[['s']], 'o{n}')\n"
                ))
            ),
        ),
        (
            "a hundred long columns",
            format!(
                "{grown}{}df = df.groupby('c99').agg({})\n{SHOW}",
                lines(100, |n| format!("df.c{n} = px.tolower(df.s) + '{n}'\n")),
                lines(99, |n| format!("n{n}=('c{n}', px.any), "))
            ),
        ),
        (
            "keys of some kilobytes, one a row",
            format!(
                "{grown}df.k = df.s + px.itoa(px.time_to_int64(df.time_))\ndf = df.groupby('k').agg(n=('latency', px.count))\n{SHOW}"
            ),
        ),
        (
            "paths that are alike in one part of three",
            format!(
                "{SCAN}df.p = '/a/' + px.itoa(px.time_to_int64(df.time_)) + '/' + px.itoa(df.latency)\ndf = df.groupby('resp_status').agg(c=('p', px._build_request_path_clusters))\n{SHOW}"
            ),
        ),
    ]
}

/// Windows, joins and unions at their ends.
fn frames() -> Vec<(&'static str, String)> {
    let self_join = "df.merge(df, how='inner', left_on='k', right_on='k', suffixes=['', '_r'])";
    vec![
        (
            "the same table a hundred times",
            format!("{SCAN}{}", lines(100, |n| format!("px.display(df, 'o{n}')\n"))),
        ),
        (
            "panes of a nanosecond",
            format!(
                "{SCAN}df.w = px.bin(df.time_, 1)\ndf = df.groupby(['w', 'req_path']).agg(n=('latency', px.quantiles))\n{SHOW}"
            ),
        ),
        (
            "windows of a nanosecond that roll",
            format!(
                "{SCAN}df = df.rolling('1ns').groupby('req_path').agg(n=('latency', px.count))\n{SHOW}"
            ),
        ),
        (
            "windows of a century that roll",
            format!(
                "{SCAN}df = df.rolling('876000h').groupby('req_path').agg(n=('latency', px.count))\n{SHOW}"
            ),
        ),
        (
            "a nanosecond of rows",
            format!("import px\ndf = px.DataFrame('http_events', start_time='-1ns')\n{SHOW}"),
        ),
        (
            "two centuries of rows",
            format!(
                "import px\ndf = px.DataFrame('http_events', start_time='-1752000h')\ndf = df.groupby('req_path').agg(n=('latency', px.max))\n{SHOW}"
            ),
        ),
        (
            "many to many on a skewed key",
            format!(
                "{SCAN}df.k = px.select(df.latency % 100 == 0, df.latency, 1)\nj = {self_join}\nj = j.groupby('k').agg(n=('latency_r', px.mean))\npx.display(j)\n"
            ),
        ),
        (
            "a union of self-joins",
            format!(
                "{SCAN}df.k = df.latency % 7\nj = {self_join}\nk = j\n{}k = k.groupby('k').agg(n=('latency', px.count))\npx.display(k)\n",
                "k = k.append(j)\n".repeat(20)
            ),
        ),
        (
            "300 columns, twenty times",
            format!(
                "{SCAN}{}{}",
                lines(300, |n| format!("df.c{n} = df.latency + {n}\n")),
                lines(20, |n| format!("px.display(df[df.latency > {n}], 'o{n}')\n"))
            ),
        ),
        (
            "a float of 100,000 digits",
            format!("{SCAN}df.y = 1.{}\npx.display(df[['y']].head(2))\n", "9".repeat(100_000)),
        ),
    ]
}

/// Each is answered or refused with a code; the server lives and the other view is on time: catches a batch of
/// long texts that is evaluated as a whole, windows of many panes, and joins of frequent keys.
#[test]
fn extremes_that_are_heavy() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    for (name, text) in long_texts().into_iter().chain(frames()) {
        target.withstands(name, |target| ask(target, name, &text));
    }
    target.recovers();
}

/// Arguments of a megabyte are refused with a code.
fn long_arguments(target: &mut Target) {
    for (name, key, value) in [
        ("a long argument", "start_time".to_string(), "-5m ".repeat(1 << 18)),
        ("a long name of an argument", "a".repeat(1 << 20), "x".to_string()),
        ("an argument of brackets", "start_time".to_string(), "(".repeat(1 << 20)),
    ] {
        let body = serde_json::json!({ "script": "px/service_stats", "args": { key: value } });
        let answer = target.post("/api/v1/run", &body);
        let code = code_of(&answer);
        eprintln!("{name}: {} {code:?}", answer.status);
        assert!(
            code.is_some() && answer.status < 500,
            "{name}: {} {}",
            answer.status,
            answer.text().chars().take(300).collect::<String>()
        );
        target.stands(name);
    }
}
