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
}
