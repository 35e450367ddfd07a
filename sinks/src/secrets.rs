//! What is secret stands in no message, whoever says it: the other end of a sink, a library, or we.

use std::borrow::Cow;

const SHOWN_CHARS: usize = 200;

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
