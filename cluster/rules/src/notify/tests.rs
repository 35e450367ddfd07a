//! What receivers get, byte for byte where a receiver reads it, and texts that want more than to be read.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{alertmanager, mail, slack, webhook};
use crate::labels::Labels;
use crate::state::{Notice, NoticeKind};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

fn notice(kind: NoticeKind, svc: &str, summary: &str) -> Notice {
    Notice {
        kind,
        labels: Labels::new(map(&[("alertname", "High"), ("svc", svc), ("severity", "page")])),
        annotations: map(&[("summary", summary)]),
        starts_unix_ns: 1_700_000_000_000_000_000,
        ends_unix_ns: 1_700_000_240_000_000_000,
        generator_url: "http://w/#/alerts?group=g&rule=High".to_string(),
    }
}

fn parsed(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

/// Alertmanager's own shape, with an end that is not before the start.
#[test]
fn alertmanager_body() {
    let mut early = notice(NoticeKind::Resolved, "b", "s");
    early.ends_unix_ns = 5;
    let body = parsed(&alertmanager::body(&[notice(NoticeKind::Fired, "a", "s"), early]));
    let first = json!({
        "labels": {"alertname": "High", "severity": "page", "svc": "a"},
        "annotations": {"summary": "s"},
        "startsAt": "2023-11-14T22:13:20.000000000Z",
        "endsAt": "2023-11-14T22:17:20.000000000Z",
        "generatorURL": "http://w/#/alerts?group=g&rule=High",
    });
    assert_eq!(body[0], first);
    assert_eq!(body[1]["endsAt"], body[1]["startsAt"]);
    let many: Vec<_> = (0..514).map(|n| notice(NoticeKind::Fired, &n.to_string(), "")).collect();
    let sizes: Vec<_> =
        alertmanager::bodies(&many).map(|body| parsed(&body).as_array().unwrap().len()).collect();
    assert_eq!(sizes, [256, 256, 2]);
}

/// Names of labels and annotations are any text: in JSON they are as they are, and in messages for people they ping nobody
/// and add no line. Catches texts that are looked at only behind the `=`.
#[test]
fn names_are_only_text() {
    let name = "<!channel> a.b\nBcc: x@y";
    let mut all = notice(NoticeKind::Fired, "a", "s");
    all.labels = Labels::new(map(&[("alertname", "High"), (name, "v")]));
    all.annotations = map(&[(name, "w")]);
    let notices = [all];
    for body in [
        parsed(&alertmanager::body(&notices))[0].take(),
        parsed(&webhook::bodies("h", "", &notices)[0])["alerts"][0].take(),
    ] {
        assert_eq!((&body["labels"][name], &body["annotations"][name]), (&json!("v"), &json!("w")));
    }
    let slack = parsed(&slack::bodies(&notices)[0]);
    let text = slack["text"].as_str().unwrap();
    let line = "  &lt;!channel&gt; a.b Bcc: x@\u{200b}y";
    assert!(
        text.contains(&format!("{line} = v\n")) && text.contains(&format!("{line}: w\n")),
        "{text}"
    );
    let envelope = mail::Envelope::new("a@b", &["c@d".to_string()]).unwrap();
    let mails = mail::mails(&envelope, &notices, 0);
    let mail = String::from_utf8(mails[0].clone()).unwrap();
    let (_, body) = mail.split_once("\r\n\r\n").unwrap();
    let body = String::from_utf8(decoded(body)).unwrap();
    let line = "\r\n  <!channel> a.b Bcc: x@y = v\r\n  alertname = High\r\n  <!channel> a.b Bcc: x@y: w\r\n";
    assert!(body.contains(line), "{body}");
}

/// Version 4 with all its members; what is told again is not news for a webhook.
#[test]
fn webhook_body() {
    let notices = [
        notice(NoticeKind::Fired, "a", "same"),
        notice(NoticeKind::Resolved, "b", "same"),
        notice(NoticeKind::Again { firing: true }, "c", "same"),
    ];
    let bodies = webhook::bodies("hook", "http://w", &notices);
    assert_eq!(bodies.len(), 1);
    let body = parsed(&bodies[0]);
    let alert = |svc: &str, status: &str, ends: &str, fingerprint: &str| {
        json!({
            "status": status,
            "labels": {"alertname": "High", "severity": "page", "svc": svc},
            "annotations": {"summary": "same"},
            "startsAt": "2023-11-14T22:13:20.000000000Z",
            "endsAt": ends,
            "generatorURL": "http://w/#/alerts?group=g&rule=High",
            "fingerprint": fingerprint,
        })
    };
    let print = |n: usize| format!("{:016x}", notices[n].labels.fingerprint());
    let wanted = json!({
        "receiver": "hook",
        "status": "firing",
        "alerts": [
            alert("a", "firing", "0001-01-01T00:00:00Z", &print(0)),
            alert("b", "resolved", "2023-11-14T22:17:20.000000000Z", &print(1)),
        ],
        "groupLabels": {"alertname": "High"},
        "commonLabels": {"alertname": "High", "severity": "page"},
        "commonAnnotations": {"summary": "same"},
        "externalURL": "http://w",
        "version": "4",
        "groupKey": "{}:{alertname=\"High\"}",
        "truncatedAlerts": 0,
    });
    assert_eq!(body, wanted);
    assert!(webhook::bodies("hook", "", &notices[2..]).is_empty());
}

/// Neither a channel nor a person nor an image is in what Slack and its like get, and a long text is cut where
/// an escape is whole.
#[test]
fn slack_pings_nobody() {
    let evil = "<!channel> <@U1> @here & ![x](http://evil/p.png) <img src=x> \u{202e}\u{7}";
    let bodies = slack::bodies(&[notice(NoticeKind::Fired, evil, evil)]);
    let text = parsed(&bodies[0])["text"].as_str().unwrap().to_string();
    for part in ["<", ">", "@h", "@U", "](", "\u{202e}", "\u{7}", "& "] {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
    assert!(text.starts_with("[FIRING:1] High\n") && text.contains("&lt;!channel&gt;"), "{text}");
    let many: Vec<_> = (0..50).map(|_| notice(NoticeKind::Fired, &"&".repeat(999), "")).collect();
    let text = parsed(&slack::bodies(&many)[0])["text"].as_str().unwrap().to_string();
    assert!(text.len() < 4_100 && text.ends_with("…"), "{}", text.len());
    assert_eq!(text.matches('&').count(), text.matches("&amp;").count());
    let mut named = notice(NoticeKind::Fired, "a", "");
    let name = "<".repeat(300);
    named.labels = Labels::new(map(&[("alertname", &name)]));
    let text = parsed(&slack::bodies(&[named])[0])["text"].as_str().unwrap().to_string();
    let title = text.lines().next().unwrap();
    assert_eq!(title, format!("[FIRING:1] {}", "&lt;".repeat(200)), "a name is cut as it is");
}

fn decoded(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let bits = digits.chunks(4).flat_map(|group| {
        let sum = group
            .iter()
            .fold(0u32, |sum, c| sum << 6 | if *c == b'=' { 0 } else { u32::from(digit(*c)) });
        let kept = group.iter().filter(|c| **c != b'=').count() * 6 / 8;
        sum.to_be_bytes()[1..=kept].to_vec()
    });
    bits.collect()
}

/// A text of traffic adds no header and no recipient, ends no mail, and comes back as it was; lines keep to
/// their length.
#[test]
fn mails_have_our_headers_only() {
    let evil = "x\r\nBcc: all@corp\r\n\r\n.\r\nMAIL FROM:<a@b>";
    let mut evil_notice = notice(NoticeKind::Fired, evil, "größer");
    let name = format!("Näme {evil} {}", "é".repeat(300));
    evil_notice.labels = Labels::new(map(&[("alertname", name.as_str()), ("svc", evil)]));
    let envelope =
        mail::Envelope::new("weir@host", &["a@b.c".to_string(), "d@e".to_string()]).unwrap();
    let mails = mail::mails(&envelope, &[evil_notice], 1_700_000_000_000_000_000);
    let text = String::from_utf8(mails[0].clone()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let names: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let wanted = [
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
    assert_eq!(names, wanted);
    assert!(head.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000"), "{head}");
    assert!(text.split("\r\n").all(|line| line.len() <= 76 && !line.contains(['\r', '\n'])));
    let body = String::from_utf8(decoded(body)).unwrap();
    assert!(body.contains("summary: größer"), "{body}");
    assert!(body.contains("svc = x"), "{body}");
    for bad in ["a", "a@", "@b", "a@b\r\nBcc: c@d", "a b@c", "<a@b>", "a@b@c", ""] {
        assert!(mail::Envelope::new(bad, &["a@b".to_string()]).is_err(), "{bad:?}");
    }
    assert!(mail::Envelope::new("a@b", &[]).is_err());
}
