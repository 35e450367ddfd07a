//! Notices as the bytes that receivers are sent. Nothing is sent here.
//!
//! Texts of alerts come from captured traffic. Each receiver's own rules are kept: they add no header, ping nobody
//! and load nothing. What is too long is cut, with a word about it, and sent.

pub mod alertmanager;
pub mod mail;
pub mod slack;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::collections::BTreeMap;

use crate::labels::cut;
use crate::state::Notice;

/// Alerts that a message for people spells out; of the others it says how many there are.
const SHOWN_MAX: usize = 20;
/// Of an alert's name, what a title has.
const NAME_BYTES_MAX: usize = 200;
/// A label's or an annotation's share of such a message.
const TEXT_BYTES_MAX: usize = 1_000;

/// Alerts of one name, which messages for people and webhooks are grouped by.
#[must_use]
pub fn by_name(notices: &[Notice]) -> Vec<(&str, Vec<&Notice>)> {
    let mut groups: BTreeMap<&str, Vec<&Notice>> = BTreeMap::new();
    for notice in notices.iter().filter(|notice| notice.is_news()) {
        groups.entry(notice.labels.alert_name()).or_default().push(notice);
    }
    groups.into_iter().collect()
}

fn status(notices: &[&Notice]) -> &'static str {
    if notices.iter().any(|notice| notice.is_firing()) { "firing" } else { "resolved" }
}

/// `[FIRING:2] Name`. The name is cut, and goes through `escape` as a whole then.
fn title(name: &str, notices: &[&Notice], escape: fn(&str) -> String) -> String {
    let firing = notices.iter().filter(|notice| notice.is_firing()).count();
    let name = escape(cut(name, NAME_BYTES_MAX));
    match firing {
        0 => format!("[RESOLVED] {name}"),
        count => format!("[FIRING:{count}] {name}"),
    }
}

fn shortened(text: &str) -> String {
    match cut(text, TEXT_BYTES_MAX) {
        short if short.len() < text.len() => format!("{short} …"),
        whole => whole.to_string(),
    }
}

/// The alerts as plain text, a paragraph each. Each text of theirs goes through `escape`.
fn paragraphs(notices: &[&Notice], escape: fn(&str) -> String) -> String {
    let mut text = String::new();
    for notice in notices.iter().take(SHOWN_MAX) {
        let state = if notice.is_firing() { "firing" } else { "resolved" };
        let since = weir_types::json::time_text(notice.starts_unix_ns);
        text.push_str(&format!("{state} since {since}\n"));
        // A value of several lines must not look like lines of ours.
        for (name, value) in notice.labels.iter() {
            let [name, value] = [name, value].map(|text| shortened(text).replace('\n', " "));
            text.push_str(&format!("  {} = {}\n", escape(&name), escape(&value)));
        }
        for (name, value) in &notice.annotations {
            let name = shortened(name).replace('\n', " ");
            let value = shortened(value).trim_end().replace('\n', "\n    ");
            text.push_str(&format!("  {}: {}\n", escape(&name), escape(&value)));
        }
        text.push('\n');
    }
    if notices.len() > SHOWN_MAX {
        text.push_str(&format!("and {} more\n", notices.len() - SHOWN_MAX));
    }
    text
}
