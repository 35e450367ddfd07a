//! What traffic says gets into alerts, and what those who are told make of it: nobody is pinged, nothing is added, and
//! nothing is lost because of one text.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::{Alertmanager, Hook};
use weir_dataflow_tests::harness::http::{self, Load, run_load};
use weir_dataflow_tests::harness::mail::{self, MailServer};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::weir::Weir;

use crate::alerts::{can_run, until};

const DEADLINE: Duration = Duration::from_secs(60);

/// What clients post: headers and the end of a mail, Slack's mentions in its own and others' words, images and links,
/// entities that are none, what is seen otherwise than it is, JSON that goes on, and templates.
const SAID: [&str; 6] = [
    "x\r\nBcc: all@example.org\r\n\r\n.\r\nMAIL FROM:<evil@example.org>\r\nx",
    "<!channel> <!here|h> <@U012AB3CD> <#C012AB3CD> @channel @here",
    "<img src='http://evil.example/p.png'> ![p](http://evil.example/p.png) [l](javascript:x)",
    "&lt;!channel&gt; &amp *b* ~s~ `c` \u{202e}desrever \u{7}bell \u{1b}[31m",
    "\"}},{\"labels\":{\"alertname\":\"Other\"}},{\"",
    "{{ $labels.req_path }} {{ define \"x\" }} $labels",
];
/// Headers of a mail of ours, and no others.
const HEADERS: [&str; 9] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// One alert for each path and text that was posted; one of its annotations cannot be expanded.
const RULES: &str = "groups:\n- name: g\n  rules:\n  - alert: Said\n    expr: |\n      import px\n      \
    df = px.DataFrame('http_events', start_time='-10m')\n      \
    df = df[df.trace_role == 2 and df.req_method == 'POST']\n      \
    px.display(df.groupby(['req_path', 'req_body']).agg(value=('latency', px.count)))\n    \
    annotations:\n      summary: '{{ $labels.req_body }} was said'\n      \
    wrong: '{{ humanize $labels.req_body }}'\n";

fn config(dir: &Path, manager: SocketAddr, receivers: &str) -> String {
    let text = format!(
        "rules: [r.yml]\nalertmanagers: [{{url: 'http://{manager}'}}]\nreceivers: [{receivers}]\n"
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// How many alerts the titles say that there are: `[FIRING:2] Said`.
fn announced<'a>(titles: impl Iterator<Item = &'a str>) -> usize {
    let count = |title: &str| {
        let (count, name) = title.strip_prefix("[FIRING:")?.split_once("] ")?;
        (name == "Said").then(|| count.parse::<usize>().ok())?
    };
    titles.map(|title| count(title).unwrap_or_else(|| panic!("{title:?}"))).sum()
}

/// The texts of Slack's messages, each of which says that nothing in it is markup.
fn slack_texts(hook: &Hook) -> Vec<String> {
    let text = |body: &String| {
        let body: Json = serde_json::from_str(body).unwrap();
        for (member, wanted) in [
            ("mrkdwn", Json::Bool(false)),
            ("parse", "none".into()),
            ("link_names", Json::Bool(false)),
            ("unfurl_links", Json::Bool(false)),
            ("unfurl_media", Json::Bool(false)),
        ] {
            assert_eq!(body[member], wanted, "{body}");
        }
        body["text"].as_str().unwrap().to_string()
    };
    hook.bodies().iter().map(text).collect()
}

/// There is no way to write a mention, a tag or a link in a text like this.
fn is_plain(text: &str) {
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        let is_fine = match c {
            '<' | '>' => false,
            '&' => ["&amp;", "&lt;", "&gt;"].iter().any(|entity| rest.starts_with(entity)),
            '@' => rest.starts_with("@\u{200b}"),
            ']' => !rest.starts_with("]("),
            '\u{202e}' => false,
            c => c == '\n' || !c.is_control(),
        };
        assert!(is_fine, "{rest}");
    }
}

/// The path and the text of each alert, as JSON has them.
fn labels<'a>(alerts: impl Iterator<Item = &'a Json>) -> BTreeMap<String, String> {
    let text = |alert: &Json, name: &str| alert["labels"][name].as_str().unwrap().to_string();
    alerts.map(|alert| (text(alert, "req_path"), text(alert, "req_body"))).collect()
}

/// Mails have our headers and recipients only, and the texts as they were said.
fn are_ours(mails: &MailServer) {
    let mails = mails.mails();
    for mail in &mails {
        assert_eq!(mail["headers"], serde_json::json!(HEADERS), "{mail}");
        assert_eq!(mail["to"], serde_json::json!(["ops@example.org"]));
        assert_eq!(mail["from"], "weir@example.org");
        assert!(mail["longest"].as_u64().unwrap() <= 76, "{mail}");
    }
    let bodies: String = mails.iter().map(|mail| mail["body"].as_str().unwrap()).collect();
    for part in ["Bcc: all@example.org", "MAIL FROM:<evil@example.org>", "<!channel>", " …"] {
        assert!(bodies.contains(part), "{part}: {bodies}");
    }
}

/// Texts of real requests reach an Alertmanager, a webhook, a chat and a mail server as text: byte for byte where that is
/// JSON, and where people read it without a header, a recipient, a mention or a tag that is not ours. One that is too long
/// is cut and told all the same, and an annotation that cannot be expanded says so. Catches a receiver that takes a
/// client's word for ours, and one text that keeps the others back.
#[test]
fn receivers_get_texts_as_texts() {
    if !can_run() {
        return;
    }
    if !mail::is_installed() {
        return weir_types::testing::skipped("there is no aiosmtpd");
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (hook, chat, of_manager) =
        (Hook::start(200).unwrap(), Hook::start(200).unwrap(), Hook::start(200).unwrap());
    let (manager, mails) =
        (Alertmanager::start(None, of_manager.addr).unwrap(), MailServer::start().unwrap());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), RULES).unwrap();
    let receivers = format!(
        "{{name: hook, type: webhook, url: 'http://{}/'}}, {{name: chat, type: slack, url: 'http://{}/'}}, \
         {{name: mail, type: smtp, url: 'smtp://{}', from: weir@example.org, to: [ops@example.org]}}",
        hook.addr, chat.addr, mails.addr
    );
    let config = config(dir.path(), manager.addr, &receivers);
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &config]).unwrap();
    let mut wanted = BTreeMap::new();
    let mut post = |path: String, text: &str| {
        let headers = [("Content-Type", "text/plain; charset=utf-8")];
        http::request_once(nginx.addr, "POST", &path, &headers, text.as_bytes()).unwrap();
        wanted.insert(path, text.to_string());
    };
    SAID.iter().enumerate().for_each(|(n, text)| post(format!("/said/{n}"), text));
    // A message for people has no room for this.
    post(format!("/{}", "&<@>".repeat(500)), "long");

    let told = || {
        let bodies = hook.bodies();
        let bodies = bodies.iter().map(|body| serde_json::from_str::<Json>(body).unwrap());
        bodies.flat_map(|body| body["alerts"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    until(&weir, "the hook has all", DEADLINE, || (told().len() >= wanted.len()).then_some(()));
    assert_eq!(labels(told().iter()), wanted, "as it was said");
    let payload: Json = serde_json::from_str(&hook.bodies()[0]).unwrap();
    assert_eq!((&payload["version"], &payload["receiver"]), (&"4".into(), &"hook".into()));
    for alert in told() {
        let wrong = alert["annotations"]["wrong"].as_str().unwrap();
        assert!(wrong.starts_with("<error expanding template: error executing"), "{alert}");
        let summary = alert["annotations"]["summary"].as_str().unwrap();
        assert_eq!(summary, format!("{} was said", alert["labels"]["req_body"].as_str().unwrap()));
    }
    until(&weir, "Alertmanager has all", DEADLINE, || {
        (labels(manager.alerts().unwrap().iter()) == wanted).then_some(())
    });

    let titled = |texts: &[String]| announced(texts.iter().filter_map(|text| text.lines().next()));
    until(&weir, "the chat has all", DEADLINE, || {
        (titled(&slack_texts(&chat)) >= wanted.len()).then_some(())
    });
    let texts = slack_texts(&chat);
    texts.iter().for_each(|text| is_plain(text));
    let cut: Vec<&String> = texts.iter().filter(|text| text.ends_with("\n…")).collect();
    assert!(cut.len() == 1 && cut[0].contains("&amp;&lt;@\u{200b}&gt;"), "{texts:#?}");
    assert!(texts.iter().all(|text| text.len() < 4_100));
    assert!(texts.concat().contains("&lt;!channel&gt; &lt;!here|h&gt;"), "{texts:#?}");

    let subjects = || {
        let all = mails.mails();
        announced(all.iter().map(|mail| mail["subject"].as_str().unwrap()))
    };
    until(&weir, "the mails are there", DEADLINE, || (subjects() >= wanted.len()).then_some(()));
    are_ours(&mails);
    assert_eq!(told().len(), wanted.len(), "each is told once");
}

/// Of 500 paths that a server is asked for one has bytes that are no text: all 500 alerts are at a real Alertmanager, this
/// one with what stands for such bytes, each label that would be empty left out, and none was refused. Catches a batch that
/// one row spoils.
#[test]
fn one_broken_text_in_500_keeps_nobody_back() {
    if !can_run() {
        return;
    }
    const GOOD: usize = 499;
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let hook = Hook::start(200).unwrap();
    let manager = Alertmanager::start(None, hook.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rules = RULES
        .replace(" and df.req_method == 'POST'", "")
        .replace("groupby(['req_path', 'req_body'])", "groupby(['req_path', 'req_body', 'none'])")
        .replace("      px.display", "      df.none = ''\n      px.display")
        .replace(
            "    annotations:",
            "    labels: {empty: '', gone: '{{ $labels.none }}'}\n    annotations:",
        );
    std::fs::write(dir.path().join("r.yml"), rules).unwrap();
    let config = config(dir.path(), manager.addr, "");
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &config]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: (0..GOOD).map(|n| format!("/p{n}")).collect(),
        requests: GOOD,
        requests_per_sec: 2_000,
        connections: 4,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), GOOD);
    let mut stream = TcpStream::connect(nginx.addr).unwrap();
    let bad = b"GET /\xc3\x28\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(bad).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    let there = until(&weir, "Alertmanager has all", DEADLINE, || {
        Some(manager.alerts().unwrap()).filter(|alerts| alerts.len() > GOOD)
    });
    let paths: BTreeSet<&str> =
        there.iter().map(|alert| alert["labels"]["req_path"].as_str().unwrap()).collect();
    let wanted: BTreeSet<String> = (0..GOOD).map(|n| format!("/p{n}")).collect();
    let others: Vec<&&str> = paths.iter().filter(|path| !wanted.contains(**path)).collect();
    assert_eq!((paths.len(), others), (GOOD + 1, vec![&"/\u{fffd}(\u{fffd}\u{fffd}"]));
    for alert in &there {
        let names: Vec<&String> = alert["labels"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["alertname", "req_path"], "{alert}");
    }
    let receivers = weir.run(&["alerts", "--receivers", "-o", "json"], DEADLINE).unwrap();
    let [row] = receivers.json_lines().try_into().unwrap();
    assert_eq!(
        (&row["refused"], &row["lost"], &row["state"]),
        (&0.into(), &0.into(), &"running".into())
    );
}
