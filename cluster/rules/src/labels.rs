//! Label sets: names and texts, sorted, with the fingerprint that Alertmanager gives them. And how a
//! column's name and a captured value become a label.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The label that names an alert.
pub const ALERT_NAME: &str = "alertname";
/// What a label may hold. Alertmanager sends labels on in every notification; a longer value is a body that
/// became a label by mistake, and is cut.
pub const LABEL_BYTES_MAX: usize = 2_048;

/// Names and values, without empty values: for Prometheus an empty label is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Labels {
    #[must_use]
    pub fn new(mut labels: BTreeMap<String, String>) -> Labels {
        labels.retain(|_, value| !value.is_empty());
        Labels(Arc::new(labels))
    }
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    #[must_use]
    pub fn map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
    /// The name of the alert.
    #[must_use]
    pub fn alert_name(&self) -> &str {
        self.get(ALERT_NAME).unwrap_or_default()
    }

    /// FNV-1a over sorted names and values, each ended by 0xff: what Alertmanager calls the alert.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            text.bytes().for_each(&mut add);
            add(0xff);
        }
        sum
    }
}

/// `{a="x", "b.c"="y"}`, as Prometheus writes label sets.
impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pair = |(name, value)| match is_plain_label(name) {
            true => format!("{name}={value:?}"),
            false => format!("{name:?}={value:?}"),
        };
        let pairs: Vec<String> = self.iter().map(pair).collect();
        write!(f, "{{{}}}", pairs.join(", "))
    }
}

/// True for what Prometheus 3 takes as a name of a label, of an annotation or of a series: any text that is not empty.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
}

/// True for a label's name that every Prometheus and every Alertmanager takes, and that stands without quotes.
#[must_use]
pub fn is_plain_label(name: &str) -> bool {
    is_plain(name, |c| c.is_ascii_alphabetic() || c == b'_')
}

/// The same for the name of a series.
#[must_use]
pub fn is_plain_metric(name: &str) -> bool {
    is_plain(name, |c| c.is_ascii_alphabetic() || c == b'_' || c == b':')
}

fn is_plain(name: &str, letter: fn(u8) -> bool) -> bool {
    name.bytes().next().is_some_and(letter) && name.bytes().all(|c| letter(c) || c.is_ascii_digit())
}

/// A column's name as a label's that every receiver takes: `_` for every other character, and before a leading digit.
#[must_use]
pub fn label_name(column: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = column.chars().map(fits).collect();
    match name.chars().next() {
        Some(c) if !c.is_ascii_digit() => name,
        _ => format!("_{name}"),
    }
}

/// What a receiver takes of captured bytes: NUL and broken UTF-8 become U+FFFD, what is too long is cut. An
/// owned text was changed.
#[must_use]
pub fn label_value(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let text = match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => text,
    };
    match text.len() > LABEL_BYTES_MAX {
        true => Cow::Owned(cut(&text, LABEL_BYTES_MAX).to_string()),
        false => text,
    }
}

/// The beginning of a text, of at most so many bytes, without half a character.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect())
    }

    /// Fingerprints are Alertmanager's (the first two are published: the empty set is FNV's offset), and an
    /// empty value is no label. Catches silences that find nothing.
    #[test]
    fn fingerprints_are_alertmanagers() {
        assert_eq!(format!("{:016x}", labels(&[]).fingerprint()), "cbf29ce484222325");
        let one = labels(&[("alertname", "A"), ("empty", "")]);
        assert_eq!(one, labels(&[("alertname", "A")]));
        assert_ne!(one.fingerprint(), labels(&[("alertnameA", "")]).fingerprint());
        assert_ne!(labels(&[("a", "bc")]).fingerprint(), labels(&[("ab", "c")]).fingerprint());
    }

    /// Columns' names and captured bytes become what every receiver takes. Catches a batch refused because of
    /// one row.
    #[test]
    fn names_and_values_fit() {
        for (column, wanted) in
            [("a.b", "a_b"), ("9x", "_9x"), ("ä", "_"), ("", "_"), ("ok_1", "ok_1"), ("a:b", "a_b")]
        {
            assert_eq!(label_name(column), wanted);
            assert!(is_plain_label(&label_name(column)), "{column}");
        }
        assert_eq!(label_value(b"a\0b\xff"), "a\u{fffd}b\u{fffd}");
        assert!(matches!(label_value("ok é".as_bytes()), Cow::Borrowed("ok é")));
        let long = label_value("é".repeat(5_000).as_bytes()).into_owned();
        assert!(long.len() <= LABEL_BYTES_MAX && long.chars().all(|c| c == 'é'));
    }
}
