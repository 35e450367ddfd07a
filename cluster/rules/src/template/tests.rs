//! Goldens taken from promtool 2.42 (`test rules`, an alert with these labels), and input of any kind.

use std::collections::BTreeMap;

use weir_types::random::SplitMix;

use super::{Data, OUTPUT_BYTES_MAX, Template};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

fn expand(text: &str, value: f64) -> Result<String, String> {
    let labels = map(&[("__name__", "up"), ("inst", "h:9090"), ("job", "api"), ("path", "/a/b")]);
    let external = map(&[("dc", "eu")]);
    let data =
        Data { labels: &labels, value, external_labels: &external, external_url: "http://w:1/p" };
    let template = Template::parse("__alert_X", text)
        .map_err(|error| format!("{}: {}", error.line, error.message))?;
    template.expand(&data)
}

/// Each line of the golden file is what Prometheus itself writes for the template. Catches numbers, blanks and
/// padding that differ from what people know.
#[test]
fn expansions_are_prometheus() {
    let golden = include_str!("prometheus.golden");
    let mut seen = 0;
    for case in golden.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut parts = case.splitn(3, '\t');
        let [value, template, wanted] = [(); 3].map(|()| parts.next().unwrap_or_default());
        let value = value.replace("Inf", "inf").parse().unwrap();
        let template: String = serde_json::from_str(template).unwrap();
        let wanted: String = serde_json::from_str(wanted).unwrap();
        assert_eq!(expand(&template, value).as_deref(), Ok(wanted.as_str()), "{template}");
        seen += 1;
    }
    assert!(seen > 25, "{seen} cases");
}

/// What the golden has not: functions of the server's address, newer Go, numbers of two kinds.
#[test]
fn expansions_beyond_the_golden() {
    let cases = [
        ("{{ externalURL }} {{ pathPrefix }}", "http://w:1/p /p"),
        ("{{ if gt $value 100 }}many{{ end }}", "many"),
        ("{{ with $labels.none }}a{{ else with $labels.job }}b{{ . }}{{ end }}", "bapi"),
        ("{{ or false (and $labels.job 3) }}", "3"),
        ("{{ if false }}{{ else }}{{ end }}x", "x"),
        ("{{ and false ($labels.job.x) }}", "false"),
        ("no action } {", "no action } {"),
        ("{{ nil | printf \"%v\" }}", "<nil>"),
        ("{{ reReplaceAll \"[\" \"x\" \"y\" | not }}", ""),
    ];
    for (template, wanted) in &cases[..8] {
        assert_eq!(expand(template, 1234.5).as_deref(), Ok(*wanted), "{template}");
    }
    assert!(expand(cases[8].0, 0.0).unwrap_err().contains("error parsing regexp"));
}

/// What cannot work is refused when it is read, with the line of the template and promtool's words.
#[test]
fn mistakes_are_refused_with_their_line() {
    let cases = [
        ("{{ $foo }}", 1, r#"undefined variable "$foo""#),
        ("a\nb {{ $labels.x\n}}\n{{ $x }}", 4, r#"undefined variable "$x""#),
        ("{{ .Labels.x | nofun }}", 1, r#"function "nofun" not defined"#),
        ("{{ if }}", 1, "missing value for if"),
        ("{{ $labels.x", 1, "unclosed action"),
        ("{{ if true }}", 1, "unexpected EOF"),
        ("{{ end }}", 1, "unexpected {{end}}"),
        ("{{ else }}", 1, "unexpected {{else}}"),
        ("{{ range $x := $labels }}{{ end }}{{ $x }}", 1, r#"undefined variable "$x""#),
        ("{{ if $y := 1 }}{{ $y }}{{ end }}{{ $y }}", 1, r#"undefined variable "$y""#),
        ("{{ $z = 1 }}", 1, r#"undefined variable "$z""#),
        ("{{ template \"x\" }}", 1, "{{template}} is not supported"),
        ("{{ \"abc }}", 1, "unterminated quoted string"),
        ("{{ 1 2 }}", 1, "can't give argument to non-function"),
        ("{{ 1 | 2 }}", 1, "non executable command in pipeline"),
        ("{{ (1 }}", 1, "unclosed left paren"),
        ("{{ 1 ) }}", 1, "unexpected \")\""),
        ("{{}}", 1, "missing value for command"),
        ("{{ /* x */ }} {{/* y", 1, "unclosed comment"),
        ("{{ ; }}", 1, "unexpected ';'"),
        ("{{ 09x }}", 1, "bad number syntax"),
        ("{{ with 1 }}{{ else }}{{ else }}{{ end }}", 1, "expected end; found {{else}}"),
    ];
    for (text, line, wanted) in cases {
        let error = Template::parse("t", text).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(error.message.contains(wanted), "{text}: {}", error.message);
        assert_eq!(error.line, line, "{text}");
    }
}

/// What fails when it is expanded says so in the text, and names the template and the line.
#[test]
fn failures_become_text() {
    let cases = [
        ("{{ humanize }}", "wrong number of args for humanize: want 1 got 0"),
        ("{{ humanize \"abc\" }}", "error calling humanize: strconv.ParseFloat"),
        ("a\n{{ .Foo }}", "template: __alert_X:2: can't evaluate field Foo"),
        ("{{ $labels.job.x }}", "can't evaluate field x in type string"),
        ("{{ index $labels 5 }}", "should be string"),
        ("{{ lt 1 \"a\" }}", "incompatible types for comparison"),
        ("{{ range 5 }}{{ end }}", "range can't iterate over int"),
        ("{{ slice \"abc\" 5 }}", "index out of range: 5"),
        ("{{ with query \"up\" }}{{ . | first | value }}{{ end }}", "query: there is no PromQL"),
    ];
    for (text, wanted) in cases {
        let why = expand(text, 1.0).unwrap_err();
        assert!(
            why.contains(wanted) && why.starts_with("error executing template __alert_X"),
            "{why}"
        );
    }
}

/// Neither length nor nesting nor repetition gets past the bounds, in the text or inside of it.
#[test]
fn work_is_bounded() {
    let double = "{{ $x = print $x $x $x $x }}".repeat(50);
    let cases = [
        format!("{{{{ $x := \"abcdefgh\" }}}}{double}"),
        "{{ printf \"%1000d\" 1 }}".repeat(100),
        format!("{{{{ {}1 }}}}", "printf \"%1000v%1000v\" 1 | ".repeat(1_500) + "print "),
        format!(
            "{{{{ $a := printf \"%1000d\" 1 }}}}{}",
            "{{ $b := reReplaceAll \".\" $a $a }}{{ $b }}".repeat(9)
        ),
        "{{ range $labels }}".repeat(45) + "x" + &"{{ end }}".repeat(45),
    ];
    for text in cases {
        let why = expand(&text, 1.0).unwrap_err();
        assert!(why.contains("longer than") || why.contains("steps"), "{why}");
    }
    let nested = format!("{{{{ $x := args 1 1 }}}}{}", "{{ $x = args $x $x }}".repeat(40));
    assert!(expand(&nested, 1.0).unwrap_err().contains("args of args"));
    assert!(expand(&"{{ if 1 }}".repeat(60), 1.0).unwrap_err().contains("nested deeper"));
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(expand(&parens, 1.0).unwrap_err().contains("nested deeper"));
    assert!(expand(&"x".repeat(100_000), 1.0).unwrap_err().contains("longer than"));
}

/// Pieces of templates, whole and broken.
const PARTS: [&str; 64] = [
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    "\n",
    "if",
    "else",
    "end",
    "with",
    "range",
    "$",
    "$x",
    ":=",
    "=",
    "|",
    "(",
    ")",
    ",",
    ".",
    ".Labels",
    ".Value",
    "$labels",
    "$value",
    "$labels.job",
    "index",
    "printf",
    "\"",
    "%d",
    "%*.[2]9s",
    "\"%5.2f|%q|%x|%[3]d\"",
    "humanize",
    "humanizeDuration",
    "humanizeTimestamp",
    "1e300",
    "-1",
    "0x",
    "9223372036854775808",
    "'",
    "'a'",
    "\\",
    "\\u12",
    "`",
    "/*",
    "*/",
    "eq",
    "lt",
    "and",
    "or",
    "not",
    "slice",
    "\"é\"",
    "é",
    "\u{202e}",
    "reReplaceAll",
    "\"(\"",
    "\"$1\"",
    "match",
    "title",
    "args",
    "len",
    "nil",
    "true",
    "{{ end }}",
];

/// Any sequence of a template's parts, and any text at all, is refused or gives a text within its bound; it
/// never panics. Catches slices inside of characters and numbers that overflow.
#[test]
fn never_panics() {
    let mut random = SplitMix(11);
    for round in 0..60_000 {
        let mut text = String::new();
        if round % 2 == 0 {
            text.push_str("{{ ");
        }
        for _ in 0..random.below(14) {
            let part = PARTS[usize::try_from(random.below(64)).unwrap()];
            text.push_str(part);
            if random.below(3) > 0 {
                text.push(' ');
            }
        }
        if round % 2 == 0 {
            text.push_str(" }}");
        }
        if let Ok(out) = expand(&text, [f64::NAN, 1e308, -0.0, 12.5][round % 4]) {
            assert!(out.len() <= OUTPUT_BYTES_MAX);
        }
    }
}
