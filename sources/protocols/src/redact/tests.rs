//! Secrets by name: what is hidden, what stays, and that structure does.

use super::*;

fn url(text: &str) -> String {
    let mut out = Vec::new();
    Redactor::default().push_url(&mut out, text.as_bytes());
    String::from_utf8(out).unwrap()
}

fn body(text: &str, kind: Text) -> String {
    let mut out = text.as_bytes().to_vec();
    Redactor::new(Mode::Secrets, &["internal-id".to_string()], None).redact_body(&mut out, 0, kind);
    String::from_utf8(out).unwrap()
}

/// Headers of secrets by the usual names, however they are written; others are shown.
#[test]
fn header_names() {
    let redactor = Redactor::new(Mode::Secrets, &["X-Shop".to_string()], None);
    let secret = "Authorization Proxy-Authorization Cookie Set-Cookie X-Api-Key X-Auth-Token \
        X-Vault-Token X-Amz-Security-Token Private-Token X-Goog-Api-Key api_key APIKEY X-CSRF-Token \
        X-Client-Secret Ocp-Apim-Subscription-Key X-Hub-Signature-256 x-shop X-Shop-Id Session X-Password";
    for name in secret.split_whitespace() {
        assert_eq!(redactor.header(name.as_bytes()), HeaderKind::Secret, "{name}");
    }
    let shown = "Host Accept Content-Type Sec-WebSocket-Key User-Agent ETag Date Server Author \
        Cache-Control Passenger Compass X-Request-Id WWW-Authenticate Token-Type Monkey";
    for name in shown.split_whitespace() {
        assert_ne!(redactor.header(name.as_bytes()), HeaderKind::Secret, "{name}");
    }
    let off = Redactor::new(Mode::Off, &[], None);
    assert_eq!(off.header(b"Authorization"), HeaderKind::Plain);
}

/// Credentials in URLs: query keys, also escaped ones, signatures, `user:password@`, fragments.
#[test]
fn urls() {
    let cases = [
        ("/a?access_token=s3&x=1", "/a?access_token=<REDACTED>&x=1"),
        ("/a?x=1&%61pi%5Fkey=s3", "/a?x=1&%61pi%5Fkey=<REDACTED>"),
        ("/a?X-Amz-Signature=s3&X-Amz-Date=1", "/a?X-Amz-Signature=<REDACTED>&X-Amz-Date=1"),
        ("http://u:s3@h/p?q=1", "http://<REDACTED>@h/p?q=1"),
        (
            "https://h/cb?code=s3&state=x#id_token=s3",
            "https://h/cb?code=<REDACTED>&state=x#id_token=<REDACTED>",
        ),
        ("/a;jsessionid=s3?x=1", "/a;jsessionid=<REDACTED>"),
        ("/a?token=&b=password", "/a?token=&b=password"),
        ("/tokens/password=x", "/tokens/password=x"),
        ("/a?q=a@b", "/a?q=a@b"),
    ];
    for (text, want) in cases {
        assert_eq!(url(text), want);
    }
}

/// Forms and JSON: the value goes, the rest stays, and JSON stays JSON.
#[test]
fn bodies() {
    let cases = [
        ("user=a&password=s3&x=1", "user=a&password=<REDACTED>&x=1", Text::Other),
        ("pass%77ord=s3", "pass%77ord=<REDACTED>", Text::Other),
        ("user[password]=s3", "user[password]=<REDACTED>", Text::Other),
        (
            r#"{"user":"a","password":"s\"3","n":1}"#,
            r#"{"user":"a","password":"<REDACTED>","n":1}"#,
            Text::Json,
        ),
        (
            r#"{"a":{"api_key" : 12},"token":{"x":["}"]},"b":2}"#,
            r#"{"a":{"api_key" : "<REDACTED>"},"token":"<REDACTED>","b":2}"#,
            Text::Json,
        ),
        (r#"{"p\u0061ssword":null}"#, r#"{"p\u0061ssword":"<REDACTED>"}"#, Text::Json),
        (
            r#"{"token_type":"Bearer","max_tokens":5}"#,
            r#"{"token_type":"Bearer","max_tokens":5}"#,
            Text::Json,
        ),
        (r#"{"a":"password"}"#, r#"{"a":"password"}"#, Text::Json),
        (
            r#"{"log":"{\"secret\":\"s3\",\"b\":1}"}"#,
            r#"{"log":"{\"secret\":\"<REDACTED>\",\"b\":1}"}"#,
            Text::Json,
        ),
        (r#"[{"Internal_ID":"s3"}]"#, r#"[{"Internal_ID":"<REDACTED>"}]"#, Text::Other),
        (r#"{"secret":"s3... [TRUNCATED]"#, r#"{"secret":"<REDACTED>"... [TRUNCATED]"#, Text::Json),
        (
            r#"{"secret":{"a":"s3... [TRUNCATED]"#,
            r#"{"secret":"<REDACTED>"... [TRUNCATED]"#,
            Text::Json,
        ),
    ];
    for (text, want, kind) in cases {
        assert_eq!(body(text, kind), want);
    }
}

/// Any bytes: no panic, and a secret's value is not in the output.
#[test]
fn any_bytes_do_no_harm() {
    use proptest::prelude::*;
    let piece = prop::sample::select(b"\"\\:{}[],=&?;#@ u0061%7passwordtoken/\n\xff".to_vec());
    proptest!(|(text in prop::collection::vec(piece, 0..120), kind in any::<bool>())| {
        let kind = if kind { Text::Json } else { Text::Other };
        let mut out = text.clone();
        Redactor::default().redact_body(&mut out, 0, kind);
        Redactor::default().push_url(&mut out, &text);
    });
}

/// The other modes: no bodies at all, everything, and personal data by the caller's function.
#[test]
fn modes() {
    use crate::http1::{Config, Context, Exchange, Http1, Pool};
    use crate::stream::{Segment, StreamBuffer};

    fn hide_digits(out: &mut Vec<u8>, text: &[u8]) {
        out.extend(text.iter().map(|byte| if byte.is_ascii_digit() { b'#' } else { *byte }));
    }
    let request = "POST /42?token=s3 HTTP/1.1\r\nX-Api-Key: s3\r\nX-Id: 42\r\n\
                   Content-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"secret\":5,\"mail\":7}";
    let response = "HTTP/1.1 204 No Content\r\n\r\n";
    let row = |mode: &str| {
        let redactor = Redactor::new(mode.parse().unwrap(), &[], Some(hide_digits));
        let config = Config { redactor, ..Config::default() };
        let (mut http, mut pool) = (Http1::new(true), Pool::default());
        let mut streams = [StreamBuffer::default(), StreamBuffer::default()];
        for (stream, text) in streams.iter_mut().zip([request, response]) {
            let (total_bytes, payload) = (text.len() as u64, text.as_bytes());
            stream.push(Segment { position: 0, total_bytes, time_unix_ns: 1, payload, tail: &[] });
        }
        let mut shown = Vec::new();
        let mut emit = |Exchange { request, .. }: Exchange<'_>| {
            for part in [&request.path, &b" "[..].to_vec(), &request.headers] {
                shown.extend_from_slice(part);
            }
            shown.push(b' ');
            request.body.show(&config.redactor, &mut shown);
        };
        let [requests, responses] = &mut streams;
        let mut ctx = Context { now_unix_ns: 2, config: &config, pool: &mut pool, emit: &mut emit };
        http.advance(requests, responses, &mut ctx);
        String::from_utf8(shown).unwrap()
    };
    let headers = |key: &str, id: &str, length: &str| {
        format!(
            "{{\"X-Api-Key\":\"{key}\",\"X-Id\":\"{id}\",\"Content-Type\":\"application/json\",\
             \"Content-Length\":\"{length}\"}}"
        )
    };
    let hidden = headers("<REDACTED>", "42", "21");
    let secrets = format!("/42?token=<REDACTED> {hidden} {{\"secret\":\"<REDACTED>\",\"mail\":7}}");
    assert_eq!(row("secrets"), secrets);
    assert_eq!(row("bodies"), format!("/42?token=<REDACTED> {hidden} <REDACTED>"));
    let shown = headers("s3", "42", "21");
    assert_eq!(row("off"), format!("/42?token=s3 {shown} {{\"secret\":5,\"mail\":7}}"));
    assert_eq!(row("pii"), secrets.replace("42", "##").replace("21", "##").replace('7', "#"));
    assert!("some".parse::<Mode>().is_err());
}
