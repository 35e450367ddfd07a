//! What is secret stands in no message, whoever says it: the other end of a sink, a library, or we.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::http_client::escaped;

const SHOWN_CHARS: usize = 200;
/// What is shorter is hidden as it is only: its other forms are in every message.
const FORMS_BYTES_MIN: usize = 4;

/// All that no message may repeat of these: whoever was told a secret may say it as it was sent, or as JSON, a URL or
/// base64 have it. The longest come first.
#[must_use]
pub fn with_forms(secrets: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for secret in secrets {
        if secret.len() >= FORMS_BYTES_MIN {
            let json = serde_json::Value::from(secret.as_str()).to_string();
            let debug = format!("{secret:?}");
            all.extend([json, debug].map(|text| text[1..text.len() - 1].to_string()));
            let percent = escaped(&secret);
            all.extend([percent.replace("%20", "+"), percent]);
            let alphabets = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            all.extend(alphabets.map(|alphabet| alphabet.encode(&secret)));
        }
        all.push(secret);
    }
    all.retain(|secret| !secret.is_empty());
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

/// A text without secrets. The longest come first in the list, so that a part of one does not hide that it is one.
#[must_use]
pub fn hidden<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), "***"));
        }
    }
    text
}

/// The same, short and in one line: what others answered may be long.
#[must_use]
pub fn line(text: &str, secrets: &[String]) -> String {
    let short: String = hidden(text, secrets).chars().take(SHOWN_CHARS).collect();
    weir_types::text::line(&short).into_owned()
}

/// A URL as lists may show it: scheme, host and port; and whether more of it follows. Users and passwords are left
/// out, and so are paths and queries, in which receivers of webhooks have their secrets.
#[must_use]
pub fn shown_url(url: &str) -> (String, bool) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if path.contains('@') {
        // Perhaps a password with a slash in it: nobody knows where it ends.
        return (format!("{scheme}…"), false);
    }
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    (format!("{scheme}{host}"), path.len() > 1)
}

/// The same as one text.
#[must_use]
pub fn shown_place(url: &str) -> String {
    match shown_url(url) {
        (url, true) => format!("{url}/…"),
        (url, false) => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However short a secret is, and wherever the text is cut, nothing of it is said; an empty one is none.
    #[test]
    fn nothing_of_a_secret_is_said() {
        let secrets = ["tok:longer".to_string(), "tok".to_string(), "x".to_string(), String::new()];
        assert_eq!(hidden("a tok:longer, tok, x", &secrets), "a ***, ***, ***");
        assert!(matches!(hidden("nothing", &secrets), Cow::Borrowed("nothing")));
        let cut = format!("{}tok:longer", "é".repeat(SHOWN_CHARS - 2));
        assert_eq!(line(&cut, &secrets), format!("{}**", "é".repeat(SHOWN_CHARS - 2)));
        assert_eq!(line("a\nb\u{1b}", &secrets).lines().count(), 1);
    }

    /// Whoever says what he was told may say it otherwise: none of the forms is repeated, however they hold each other.
    /// Catches a receiver that answers with the password in quotes, or with the header's value alone.
    #[test]
    fn no_form_of_a_secret_is_said() {
        let secrets =
            with_forms(vec!["me:pa$1 \"#\n".to_string(), "pa$1 \"#\n".to_string(), "x".into()]);
        for said in [
            "pa$1 \"#\n",
            r##"{"p":"pa$1 \"#\n"}"##,
            "?p=pa%241%20%22%23%0A&",
            "p=pa%241+%22%23%0A",
            "Basic bWU6cGEkMSAiIwo=",
            "cGEkMSAiIwo",
        ] {
            let shown = hidden(said, &secrets);
            let rest = ["pa", "bWU", "cGE", "%22", "#"];
            assert!(!rest.iter().any(|part| shown.contains(part)), "{said} {shown}");
        }
        assert!(secrets.is_sorted_by(|a, b| a.len() >= b.len()));
        assert_eq!(hidden("eA", &secrets), "eA", "what is short has no forms");
    }

    /// Of a URL only where it leads to. Catches a password with a slash in it, of which a part is taken for the host.
    #[test]
    fn urls_without_secrets() {
        for (url, shown, has_more) in [
            ("https://user:pass@host:1/hook?token=x", "https://host:1", true),
            ("https://user:pa/ss@host:1/", "https://…", false),
            ("nats://[::1]:4222", "nats://[::1]:4222", false),
            ("host:9092/", "host:9092", false),
            ("user@host", "host", false),
        ] {
            assert_eq!(shown_url(url), (shown.to_string(), has_more), "{url}");
        }
    }
}
