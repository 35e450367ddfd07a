//! Configurations that are judged before anything runs.

use super::*;

fn loaded(yaml: &str) -> Result<Vec<SinkSpec>, String> {
    loaded_all(yaml).map(|loaded| loaded.sinks)
}

fn loaded_all(yaml: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("weir.yaml");
    std::fs::write(&path, yaml).expect("written");
    load_with(&path, vec![], &|_| None).map_err(|wrong| wrong.why)
}

fn why_of(yaml: &str) -> String {
    loaded(yaml).err().unwrap_or_else(|| "ok".to_string())
}

fn why(sink: &str) -> String {
    why_of(&format!("sinks:\n  a: {{type: console, {sink}}}\n"))
}

/// What a sink could never write is refused before anything runs, with the sink's name and what to do.
/// Catches a configuration that is called right and whose sink fails at once.
#[test]
fn scripts_are_judged() {
    let cases = [
        ("inputs: [{script: px/service_stats, func: svc_let}], encoding: {mode: upsert}", "ok"),
        ("inputs: [{script: px/service_stat}]", "there is no script `px/service_stat`"),
        ("inputs: [{script: px/service_stats}]", "name one with `table:`"),
        ("inputs: [{script: px/service_stats, table: No}]", "not `No`"),
        ("inputs: [{text: 'import px; px.display(px.DataFrame(\"nope\"))'}]", "1:36: Table"),
        (
            "inputs: [{text: 'import px; px.display(px.DataFrame(\"http_events\"))'}], \
             encoding: {mode: upsert}",
            "has no key",
        ),
        (
            "inputs: [{script: px/service_stats, func: svc_let}], encoding: {mode: final}, \
             buffer: {type: memory, max_bytes: 1MiB, when_full: drop_oldest}",
            "ok",
        ),
        (
            "inputs: [{text: 'import px; px.display(px.DataFrame(\"http_events\"))'}], \
          encoding: {mode: final}",
            "has no time bin",
        ),
    ];
    for (sink, wanted) in cases {
        let why = why(sink);
        assert!(why.contains(wanted), "{sink}: {why}");
        assert!(wanted == "ok" || why.contains("weir.yaml:2: sinks.a: "), "{why}");
    }
}

const INPUT: &str = "inputs: [{script: px/service_stats, func: svc_let}]";

/// What is said of sinks with these keys contains this.
fn judged(cases: &[(&str, &str)]) {
    for (keys, wanted) in cases {
        let why = why_of(&format!("sinks:\n  a: {{{keys}, {INPUT}}}\n"));
        assert!(why.contains(wanted), "{keys}: {why}");
    }
}

/// Each kind takes its own keys, needs what it cannot do without, and says so; two sinks do not share a place.
#[test]
fn keys_are_judged() {
    let cases = [
        ("type: file", "needs a `path`"),
        ("type: console, path: x", "has no `path`"),
        ("type: http, url: 'ftp://x'", "begins with http://"),
        ("type: http, url: 'http://x/', headers: {a: \"b\\nc: d\"}", "no line ends"),
        ("type: http, url: 'http://x/', codec: csv", "unknown field"),
        ("type: http, url: 'http://x/', encoding: {codec: csv}", "for files and consoles"),
        ("type: nats, url: 'nats://x', subject: 'a.*'", "without wildcards"),
        ("type: postgres, url: 'postgres://x/y', table: t, encoding: {mode: append}", "upsert"),
        ("type: prometheus, listen: nowhere", "ADDR:PORT"),
        ("type: blackhole, buffer: {max_bytes: 1}", "at least"),
        ("type: blackhole, batch: {max_rows: 0}", "batch.max_rows"),
        ("type: blackhole, retry: {initial: 5s, max: 1s}", "retry.initial"),
        ("type: blackhole, retry: {initial: soon}", "not a duration"),
        ("type: http, url: 'https://x/', auth: {token: t}, buffer: {type: disk}", "ok"),
        ("type: nats, url: 'nats://x', subject: a.b, batch: {timeout: 100ms}", "ok"),
        ("type: postgres, url: 'postgres://x/y', table: s.t", "ok"),
        ("type: prometheus, listen: '127.0.0.1:0'", "ok"),
        ("type: file, path: 's3://kept/a/x.jsonl'", "ok"),
        (
            "type: file, path: 's3://kept/x', url: 'http://127.0.0.1:1', region: x-1, auth: {user: a, \
             password: b, token: c}, healthcheck: {enabled: false}, timeout: 1s, encoding: {codec: csv}",
            "ok",
        ),
        ("type: file, path: 's3://kept/x', rotate: {every: 1h}", "in a store has no `rotate`"),
        ("type: file, path: x, url: 'http://x'", "has no `url`"),
        ("type: file, path: x, timeout: 1s", "has no `timeout`"),
        ("type: file, path: 's3://kept'", "s3://BUCKET/NAME"),
        ("type: file, path: 's3://kept/x', url: 'http://u@x'", "without user"),
        ("type: file, path: 's3://kept/x', url: 'http://'", "no URL of a store"),
        ("type: file, path: 's3://kept/x', auth: {user: a}", "auth.password"),
        ("type: file, path: 's3://kept/x', region: 'a b'", "`region` is"),
        ("type: file, path: 's3://kept/x', url: 'http://127.0.0.1:1', role: machine", "ok"),
        ("type: file, path: 's3://kept/x', role: none", "ok"),
        ("type: file, path: 's3://kept/x', role: arn", "unknown variant"),
        (
            "type: file, path: 's3://kept/x', role: machine, auth: {user: a, password: b}",
            "or a `role`",
        ),
        ("type: file, path: x, role: machine", "has no `role`"),
    ];
    judged(&cases);
    let twice = format!(
        "sinks:\n  a: {{type: file, path: x, {INPUT}}}\n  b: {{type: file, path: ./x, {INPUT}}}\n"
    );
    assert!(why_of(&twice).contains("writes to this place already"), "{}", why_of(&twice));
    assert!(why_of("").contains("ok"));
}

/// A login that cannot be meant so is refused, whether it is right or not. Catches keys that nobody reads.
#[test]
fn logins_are_judged() {
    judged(&[
        ("type: postgres, url: 'postgres://x/y', table: t, auth: {token: t}", "no `auth.token`"),
        ("type: http, url: 'http://x/', auth: {nkey: SU}", "no `auth.nkey`"),
        ("type: kafka, brokers: ['a:1'], topic: t, auth: {token: t}", "no `auth.token`"),
        ("type: kafka, brokers: ['a:1'], topic: t, auth: {password: p}", "has a `user`"),
        (
            "type: kafka, brokers: ['a:1'], topic: t, auth: {mechanism: SCRAM-SHA-512, user: u, password: p}",
            "ok",
        ),
        (
            "type: kafka, brokers: ['a:1'], topic: t, auth: {mechanism: GSSAPI, user: u}",
            "SCRAM-SHA-256",
        ),
        ("type: nats, subject: a", "needs a `url`, or a list of `servers`"),
        (
            "type: nats, url: 'nats://x', servers: ['nats://y'], subject: a",
            "or a list of `servers`",
        ),
        ("type: nats, servers: ['nats://x', 'tls://y'], subject: a", "all tls://"),
        ("type: nats, servers: ['nats://x', 'http://y'], subject: a", "begins with nats://"),
        ("type: nats, servers: ['nats://x', 'nats://y'], subject: a, auth: {token: t}", "ok"),
        ("type: nats, url: 'nats://x', subject: a, auth: {token: t, user: u}", "is one of"),
        ("type: nats, url: 'nats://x', subject: a, auth: {token: t, password: p}", "a `user`'s"),
        (
            "type: nats, url: 'nats://x', subject: a, auth: {nkey: s3cret}",
            "auth.nkey: it is no seed",
        ),
        ("type: nats, url: 'nats://x', subject: a, auth: {creds: none}", "auth.creds: could not"),
        (
            "type: nats, url: 'nats://x', subject: a, auth: {creds: weir.yaml}",
            "auth.creds: the file",
        ),
    ]);
}

/// Secrets stand in no message, not even in that about what is wrong with them; a key of the environment is as
/// good as one of the file.
#[test]
fn secrets_are_not_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("weir.yaml");
    let yaml = "sinks:\n  a: {type: http, inputs: [{script: px/service_stats, func: svc_let}]}\n";
    std::fs::write(&path, yaml).expect("written");
    let with = |name: &str, value: &str| {
        let (name, value) = (name.to_string(), std::ffi::OsString::from(value));
        load_with(&path, vec![name.clone()], &|asked| (asked == name).then(|| value.clone()))
            .map(|loaded| loaded.sinks.len())
            .map_err(|wrong| wrong.why)
    };
    assert_eq!(with("WEIR_SINKS_A_URL", "http://127.0.0.1:1/$1 \": #"), Ok(1));
    for (name, value) in [
        ("WEIR_SINKS_A_URL", "gopher://user:hidden-word@x"),
        ("WEIR_SINKS_A_TIMEOUT", "hidden-word"),
        ("WEIR_SINKS_A_BUFFER_TYPE", "hidden-word"),
        ("WEIR_SINKS_A_BATCH_MAX_ROWS", "hidden-word"),
    ] {
        let why = with(name, value).expect_err("it is wrong");
        assert!(!why.contains("hidden-word"), "{name}: {why}");
    }
}

/// What decides whether a sink goes on over a reload: another url is another end for the same rows, another
/// script is another sink, another order of keys is nothing.
#[test]
fn prints_tell_what_has_changed() {
    let prints = |keys: &str| {
        let yaml = format!("sinks:\n  a: {{{keys}}}\n");
        let spec = loaded(&yaml).expect("right").remove(0);
        (spec.feed_print, spec.writer_print)
    };
    let input = "inputs: [{script: px/service_stats, func: svc_let}]";
    let first = prints(&format!("type: http, url: 'http://a/', {input}"));
    let same = prints(&format!("{input}, url: 'http://a/', type: http"));
    assert_eq!(first.0, same.0);
    let elsewhere = prints(&format!("type: http, url: 'http://b/', {input}"));
    assert!(first.0 == elsewhere.0 && first.1 != elsewhere.1);
    let other = prints(
        "type: http, url: 'http://a/', inputs: [{script: px/service_stats, func: svc_let, \
         args: {start_time: '-1m'}}]",
    );
    assert!(first.0 != other.0 && first.1 == other.1);
}

/// What only says how a file is put aside is no other place: its rows are not written anew.
#[test]
fn how_it_writes_is_no_place() {
    let place = |rotate: &str| {
        let yaml = format!(
            "sinks:\n  a: {{type: file, path: a.jsonl, {rotate} \
             inputs: [{{script: px/service_stats, func: svc_let}}]}}\n"
        );
        let spec = loaded(&yaml).expect("right").remove(0);
        (spec.writer.expect("a writer").place, spec.writer_print)
    };
    let [first, second] = ["", "rotate: {max_bytes: 1MiB},"].map(place);
    assert!(first.0 == second.0 && first.1 != second.1);
}

const EXPORT: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-1m')\n\
    df.path = df.req_path\n\
    def out(name):\n  \
      px.export(df, px.otel.Data(endpoint=px.otel.Endpoint(url='me:hidden-word@otel:4317', \
      headers={'api-key': 'hidden-word-2', 'other': 'hidden'}), resource={'service.name': df.path}, \
      data=[px.otel.metric.Gauge(name=name, value=df.latency)]))\n";

fn otel(text: &str, keys: &str) -> Result<SinkSpec, String> {
    let text = serde_json::Value::from(text);
    let inputs = format!("{{text: {text}}}");
    let loaded =
        loaded(&format!("sinks:\n  a: {{type: opentelemetry, {keys} inputs: [{inputs}]}}\n"));
    loaded.map(|mut specs| specs.remove(0))
}

/// Exports are inputs, as many as a sink has; what scripts declare of where they go is as secret as what the file
/// does, and judged as that. Catches a script that makes a reader of each of a hundred exports.
#[test]
fn exports_are_inputs() {
    let calls = |count: usize| (0..count).map(|n| format!("out('m{n}')\n")).collect::<String>();
    let spec = otel(&format!("{EXPORT}{}", calls(16)), "").expect("right");
    assert_eq!(spec.inputs.len(), 16);
    let numbers: Vec<Option<usize>> = spec.inputs.iter().map(|it| it.request.export).collect();
    assert_eq!(numbers, (0..16).map(Some).collect::<Vec<_>>());
    assert_eq!(spec.inputs[0].request.script.as_deref(), Some("sink a"), "as views are listed");
    assert_eq!(spec.writer.expect("a writer").target, "https://otel:4317");
    let why = otel(&format!("{EXPORT}{}", calls(17)), "").err().expect("too many");
    assert!(why.contains("1 to 16 inputs"), "{why}");
    let broken = EXPORT.replace("hidden-word-2", "hidden\\r\\nword");
    let why = otel(&format!("{broken}{}", calls(1)), "").err().expect("no header");
    assert!(why.contains("no line ends") && !why.contains("hidden"), "{why}");
    let mine = otel(&format!("{broken}{}", calls(1)), "headers: {API-Key: x},");
    assert!(mine.is_ok(), "the file's header is the one that is sent");
}

/// Credentials that were renewed are used when the configuration is read again: by another writer, and the sink goes on;
/// as they were they change nothing. Catches a login that ends with the first file's, and a secret in what is compared.
#[test]
fn renewed_credentials_are_used() {
    const SEED: &str = "SUAKMXH2BYHB75VJAULBLQDVHHGOZX6Y3WZW2QIKYKOZJEU7LZZCERIVF4";
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("weir.yaml");
    let yaml = "sinks:\n  a: {type: nats, url: 'nats://x', subject: a, auth: {creds: a.creds}, inputs: \
                [{script: px/service_stats, func: svc_let}]}\n";
    std::fs::write(&path, yaml).expect("written");
    let prints = |jwt: &str| {
        let (begin, end) = ("-----BEGIN", "------END");
        let text = format!(
            "{begin} NATS USER JWT-----\n{jwt}\n{end} NATS USER JWT------\n\n\
             {begin} USER NKEY SEED-----\n{SEED}\n{end} USER NKEY SEED------\n"
        );
        std::fs::write(dir.path().join("a.creds"), text).expect("written");
        let loaded = load_with(&path, vec![], &|_| None).map_err(|wrong| wrong.why);
        let spec = loaded.expect("right").sinks.remove(0);
        assert!(!spec.writer_print.contains(SEED) && !spec.writer_print.contains(jwt));
        (spec.feed_print, spec.writer_print, spec.writer.expect("a writer").place)
    };
    let first = prints("e30.e30.c2lnbmVk");
    assert_eq!(prints("e30.e30.c2lnbmVk"), first);
    let second = prints("e30.e30.YW5vdGhlcg");
    assert_eq!((&second.0, &second.2), (&first.0, &first.2));
    assert_ne!(second.1, first.1);
}

/// Lists say where a sink writes to, and nothing that only its receiver is to know.
#[test]
fn targets_are_said_without_secrets() {
    let input = "inputs: [{script: px/service_stats, func: svc_let}]";
    for (keys, wanted) in [
        ("type: http, url: 'https://me:hidden@h:8/hidden?k=hidden#hidden'", "https://h:8/…"),
        ("type: http, url: 'https://me:hid/den@h:8/'", "https://…"),
        ("type: http, url: 'http://[::1]:8/'", "http://[::1]:8"),
        (
            "type: postgres, encoding: {mode: upsert}, table: t, url: 'postgres://u:hidden@h/db'",
            "postgres://h/… table t",
        ),
        ("type: kafka, brokers: ['a:1', 'b:2'], topic: t", "a:1,b:2 topic t"),
        ("type: nats, url: 'nats://hidden@h:4222', subject: a.b", "nats://h:4222 subject a.b"),
        (
            "type: nats, servers: ['nats://u:hidden@h:1', 'nats://i:2'], subject: a.b",
            "nats://h:1,nats://i:2 subject a.b",
        ),
        ("type: file, path: out/a.jsonl", "out/a.jsonl"),
        ("type: blackhole", ""),
    ] {
        let spec = loaded(&format!("sinks:\n  a: {{{keys}, {input}}}\n")).expect(keys).remove(0);
        assert_eq!(spec.writer.expect("a writer").target, wanted, "{keys}");
    }
}

/// A sink reads what a recording rule records, also where the folder's name looks like a pattern; it begins anew when
/// that rule changes, and not when another one does. A rule file that is wrong is named all the same, so that it is
/// noticed when it is mended.
#[test]
fn recorded_views_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().join("a[b]*");
    std::fs::create_dir_all(folder.join("rules")).expect("made");
    let path = folder.join("weir.yaml");
    let yaml = "rules: ['rules/*.yml']\nsinks:\n  a: {type: blackhole, inputs: [{text: \
                'import px; px.display(px.DataFrame(\"shop:failed\"))'}]}\n";
    std::fs::write(&path, yaml).expect("written");
    let rule = |record: &str, expr: &str| {
        let expr = format!("import px\n      px.display(px.DataFrame('http_events'){expr})");
        let text = format!(
            "groups:\n- name: g\n  rules:\n  - record: {record}\n    expr: |\n      {expr}\n"
        );
        let file = record.replace(':', "_");
        std::fs::write(folder.join(format!("rules/{file}.yml")), text).expect("written");
    };
    let print = || {
        let loaded = load_with(&path, vec![], &|_| None)?;
        Ok::<String, Wrong>(loaded.sinks[0].feed_print.clone())
    };
    assert!(print().expect_err("nobody records it").why.contains("shop:failed"));
    rule("shop:failed", "");
    let first = print().expect("right");
    rule("shop:other", "");
    assert_eq!(print().expect("right"), first);
    rule("shop:failed", ".head(5)");
    assert_ne!(print().expect("right"), first);
    rule("shop:other", ".nothing()");
    let ((base, named), seen) = *print().expect_err("it is wrong").named.expect("it can be read");
    assert_eq!(alerts::files(&base, &named).expect("they are there").len(), 2);
    // Mended after it was read and before anybody looks again.
    assert_eq!(watch::look(&path, &(base.clone(), named.clone())), seen);
    rule("shop:other", ".head(77)");
    assert_ne!(watch::look(&path, &(base, named)), seen);
}

/// What editors are given is what is read. `weir config schema > docs/api/config.schema.json` mends it.
#[test]
fn the_schema_is_published() {
    let published: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/api/config.schema.json")).unwrap();
    assert_eq!(published, keys::schema(), "docs/api/config.schema.json is of another version");
}

/// A config map in a folder changes by a link to another folder, while each file's name stays. Catches a change that
/// nobody sees, and a half of one that is read.
#[test]
fn a_config_map_that_changes_is_noticed() {
    const EXPR: &str = "\"import px\\ndf = px.DataFrame('http_events', start_time='-1m')\\n\
        px.display(df.groupby('req_path').agg(value=('latency', px.mean)))\"";
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let version = |folder: &str, rule: &str| {
        std::fs::create_dir(at(folder)).expect("made");
        std::fs::write(at(folder).join("weir.yaml"), "rules: [shop.yml]\n").expect("written");
        let text = format!("groups:\n- name: g\n  rules:\n  - {{alert: {rule}, expr: {EXPR}}}\n");
        std::fs::write(at(folder).join("shop.yml"), text).expect("written");
        std::os::unix::fs::symlink(folder, at("..new")).expect("a link");
        std::fs::rename(at("..new"), at("..data")).expect("the link is another");
    };
    version("..1", "First");
    for name in ["weir.yaml", "shop.yml"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), at(name)).expect("a link");
    }
    let load = || load_with(&at("weir.yaml"), vec![], &|_| None).expect("right");
    let first = load();
    assert_eq!(first.alerts.rules[0].name, "First");
    assert_eq!(watch::look(&at("weir.yaml"), &first.patterns), first.seen);
    version("..2", "Other");
    assert_ne!(watch::look(&at("weir.yaml"), &first.patterns), first.seen);
    assert_eq!(load().alerts.rules[0].name, "Other");
}

/// Each rule that comes with Weir can be switched off by its name, alone, and all of them at once; unless they are enabled
/// none runs. Catches a switch that another rule hears, or none does.
#[test]
fn each_built_in_rule_has_a_switch() {
    let names = |builtin: &str| {
        let loaded = loaded_all(&format!("alerts: {{builtin: {builtin}}}\n")).expect(builtin);
        let rules = loaded.alerts.rules.iter();
        rules.map(|rule| rule.name.clone()).collect::<Vec<_>>()
    };
    let pack = weir_rules::file::parse(weir_rules::pack::BUILTIN).expect("it is right");
    let rules = pack.groups.iter().flat_map(|group| &group.rules);
    let all: Vec<String> = rules.map(|rule| rule.name.clone()).collect();
    assert_eq!(names("{enabled: true}"), all);
    for off in &all {
        let others: Vec<String> = all.iter().filter(|name| *name != off).cloned().collect();
        assert_eq!(names(&format!("{{enabled: true, disabled: [{off}]}}")), others, "{off}");
    }
    let every = all.join(", ");
    assert_eq!(names(&format!("{{enabled: true, disabled: [{every}]}}")), [""; 0]);
    assert_eq!(names("{disabled: []}"), [""; 0]);
    assert_eq!(names("{}"), [""; 0]);
}
