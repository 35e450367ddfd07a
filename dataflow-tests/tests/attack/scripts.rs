//! Scripts that would cost a stack, a heap or a core.

use weir_dataflow_tests::harness::http::request_once;

use crate::target::{Target, code_of};

pub(crate) const SCAN: &str = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n";

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("import px\nx = {}1{}\n", open.repeat(depth), close.repeat(depth))
}

/// Texts that must be refused, each with what it is.
fn refused() -> Vec<(&'static str, String)> {
    let show = "px.display(df)\n";
    let lines =
        |count: usize, line: &dyn Fn(usize) -> String| -> String { (0..count).map(line).collect() };
    vec![
        ("round brackets", nested("(", ")", 20_000)),
        ("square brackets", nested("[", "]", 20_000)),
        ("not", format!("import px\nx = {}True\n", "not ".repeat(20_000))),
        ("minus", format!("import px\nx = {}1\n", "-".repeat(20_000))),
        ("lambdas", format!("import px\nx = {}1\n", "lambda: ".repeat(20_000))),
        ("attributes", format!("import px\nx = px{}\n", ".a".repeat(40_000))),
        ("calls", format!("import px\nx = px{}\n", "()".repeat(40_000))),
        ("powers", format!("import px\nx = {}2\n", "2**".repeat(20_000))),
        ("conditionals", format!("import px\nx = {}1\n", "1 if 1 else ".repeat(20_000))),
        (
            "a backslash and CRLF before brackets",
            format!("import px\nx = \\\r\n{}1{}\n", "(".repeat(20_000), ")".repeat(20_000)),
        ),
        (
            "brackets after an f-string",
            format!("import px\ny = f'{{1}}'\nx = {}1{}\n", "[".repeat(20_000), "]".repeat(20_000)),
        ),
        ("blocks", lines(2_000, &|n| format!("{}if True:\n", " ".repeat(n)))),
        (
            "a string doubled",
            format!("import px\na = 'ab'\n{}px.debug(a)\n", "a = a + a\n".repeat(45)),
        ),
        ("a list doubled", format!("import px\na = [1]\n{}", "a = a + a\n".repeat(45))),
        ("a string multiplied", "import px\na = 'ab' * 4000000000\n".to_string()),
        ("a power", "import px\na = 9 ** 9 ** 9 ** 9\n".to_string()),
        ("regular expressions", {
            let each = lines(7_000, &|n| format!("'[a-z]{{1,400}}x{n}(b|c){{50}}',"));
            format!("{SCAN}df = df[px.regex_match([{each}], df.req_path)]\n{show}")
        }),
        ("undefined names", lines(20_000, &|n| format!("undefined_{n}\n"))),
        ("missing commas", format!("import px\nx = [{}]\n", "1 ".repeat(100_000))),
        ("functions that double", {
            let each = lines(40, &|n| format!("def f{}(x):\n  return f{n}(f{n}(x))\n", n + 1));
            format!("{SCAN}def f0(x):\n  return x + 1\n{each}df.y = f40(df.latency)\n{show}")
        }),
    ]
}

/// Each is refused with a code, at once, while another view keeps its refreshes: catches every cost of
/// compiling that is not counted before it is spent.
#[test]
fn scripts_that_must_be_refused() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    for (name, text) in refused() {
        let answer = target.ask(&text);
        let code = code_of(&answer);
        eprintln!("{name}: {} {code:?}", answer.status);
        assert!(
            code.is_some(),
            "{name} was answered: {}",
            answer.text().chars().take(300).collect::<String>()
        );
        target.stands(name);
    }
    target.recovers();
}

/// Texts that are large but may be answered: whatever comes, it comes soon and harms nobody.
pub(crate) fn heavy() -> impl Iterator<Item = (&'static str, String)> {
    heavy_frames().into_iter().chain(heavy_functions())
}

/// Joins, unions and groups.
fn heavy_frames() -> Vec<(&'static str, String)> {
    let append = "df = df.append(df)\n".repeat(45);
    let flat: String = (0..400).map(|n| format!(" + {n}")).collect();
    vec![
        (
            "a flat sum of 400 terms",
            format!("{SCAN}df.y = df.latency{flat}\npx.display(df.head(3))\n"),
        ),
        (
            "append doubled",
            format!(
                "{SCAN}{append}df = df.groupby('req_path').agg(n=('latency', px.count))\npx.display(df)\n"
            ),
        ),
        (
            "rows appended to themselves",
            format!("{SCAN}{}px.display(df)\n", "df = df.append(df)\n".repeat(24)),
        ),
        (
            "a self-join on a constant",
            format!(
                "{SCAN}df.k = 1\nb = df\nj = df.merge(b, how='inner', left_on='k', right_on='k', suffixes=['', '_r'])\n\
             px.display(j)\n"
            ),
        ),
        (
            "a self-join counted",
            format!(
                "{SCAN}df.k = 1\nj = df.merge(df, how='inner', left_on='k', right_on='k', suffixes=['', '_r'])\n\
             j = j.groupby('k').agg(n=('latency', px.count))\npx.display(j)\n"
            ),
        ),
        (
            "a join of joins",
            format!(
                "{SCAN}df.k = 1\n{}j = j.groupby('k').agg(n=('latency', px.count))\npx.display(j)\n",
                "j = df.merge(df, how='inner', left_on='k', right_on='k', suffixes=['', '_r'])\n\
                 j = j.merge(df, how='inner', left_on='k', right_on='k', suffixes=['', '_s'])\n"
            ),
        ),
        (
            "a group for each row",
            format!(
                "{SCAN}df = df.groupby(['time_', 'req_path', 'latency']).agg(q=('latency', px.quantiles))\n\
                 px.display(df)\n"
            ),
        ),
        (
            "an hour in seconds",
            "import px\ndf = px.DataFrame('http_events', start_time='-1h')\n\
             df.w = px.bin(df.time_, px.seconds(1))\n\
             df = df.groupby(['w', 'req_path']).agg(q=('latency', px.quantiles), n=('latency', px.max))\n\
             px.display(df)\n"
                .to_string(),
        ),
        (
            "windows that roll",
            format!(
                "{SCAN}df = df.rolling('1s').groupby('req_path').agg(n=('latency', px.count))\npx.display(df)\n"
            ),
        ),
        (
            "a hundred frames appended",
            format!(
                "{SCAN}all = df\n{}px.display(all)\n",
                (0..100)
                    .map(|n| format!("d = df[df.latency > {n}]\nall = all.append(d)\n"))
                    .collect::<String>()
            ),
        ),
    ]
}

/// Functions over texts of a megabyte.
fn heavy_functions() -> Vec<(&'static str, String)> {
    vec![
        ("a pattern that looks at the rest for each letter", letters(REST_FOR_EACH)),
        ("a pattern that looks at every other letter", letters("(A|AA)*B|A")),
        (
            "a pattern of many states",
            letters_with(15, "df.m = px.regex_match('(.*A){9}[^A]', df.s)\n", "m"),
        ),
        (
            "rules that all look at the rest",
            letters_with(
                15,
                &format!(
                    "df.m = px._match_regex_rule('{{{}}}', df.s)\n",
                    (0..200)
                        .map(|n| format!("\"r{n}\": \"(.*A){{9}}[^A]{n}\""))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
                "m",
            ),
        ),
        (
            "long strings through functions",
            letters_with(
                20,
                "df.a = px.toupper(df.s)\ndf.b = px.length(px.replace('(A)(A)', df.s, '\\\\2\\\\1'))\n\
                 df.c = px.pluck(df.s, 'x') + px.uri_recompose('http', '', df.s, 80, df.s, '', '')\n\
                 df.d = px.length(px.normalize_pgsql(df.s, 'Query'))\ndf.e = px.find(df.s, 'AB')\n",
                "d",
            ),
        ),
        (
            "redaction of long strings",
            format!(
                "{SCAN}{}df.s = px.redact_pii_best_effort(df.s)\ndf = df.groupby('s').agg(n=('latency', px.count))\npx.display(df)\n",
                format_args!("df.s = df.req_path\n{}", "df.s = df.s + df.s\n".repeat(16))
            ),
        ),
    ]
}

/// Letters, doubled so many times, of the one request that has them, and what is made of them.
fn letters_with(doublings: usize, work: &str, shown: &str) -> String {
    let doubled = "df.s = df.s + df.s\n".repeat(doublings);
    format!(
        "{SCAN}df.s = px.replace('[^A]', df.req_path, '')\ndf = df[px.length(df.s) == 30]\n{doubled}{work}\
         px.display(df[['{shown}']])\n"
    )
}

/// A pattern over a text of a megabyte.
fn letters(pattern: &str) -> String {
    let work = format!("df.n = px.length(px.replace('{pattern}', df.s, 'x'))\n");
    letters_with(15, &work, "n")
}

/// Each is answered or refused with a code; the server lives and the other view is on time: catches a
/// join, a union or a function that takes all the memory or a core for itself.
#[test]
fn scripts_that_are_heavy() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    for (name, text) in heavy() {
        target.withstands(name, |target| ask(target, name, &text));
    }
    // What was given up is in the answer and in the server's figures.
    let answer = target.ask(&letters(REST_FOR_EACH)).text();
    assert!(answer.contains("cut_regex_work") && answer.contains("\"complete\":false"), "{answer}");
    let cut = target.weir.stats().unwrap()["cut"]["cut_regex_work"].as_u64();
    assert!(cut.is_some_and(|count| count > 0), "{cut:?}");
    let metrics = target.weir.get("/metrics").unwrap().text();
    assert!(metrics.contains("weir_cut_total{reason=\"cut_regex_work\"}"), "{metrics}");
    target.recovers();
}

/// A pattern that looks at the rest of the text for each of its letters.
const REST_FOR_EACH: &str = ".*[^A-Z]|[A-Z]";

/// Asks for an answer, which may be refused, but not as if the server were at fault.
pub(crate) fn ask(target: &Target, name: &str, text: &str) {
    // What patterns are tried on.
    let letters = format!("/{}", "A".repeat(30));
    request_once(target.nginx.addr, "GET", &letters, &[], b"").unwrap();
    let answer = target.ask(text);
    let code = code_of(&answer);
    eprintln!("{name}: {} {code:?}, {} bytes", answer.status, answer.body.len());
    assert!(answer.status != 500, "{name}: {}", answer.text());
}
