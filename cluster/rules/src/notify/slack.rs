//! A message for Slack's incoming webhooks and what is compatible with them.

use serde_json::json;

use super::{by_name, paragraphs, title};
use crate::labels::cut;
use crate::state::Notice;

/// Slack cuts a text at 40,000 characters and recommends 4,000; Mattermost takes 16,383.
const TEXT_BYTES_MAX: usize = 4_000;
/// Breaks what would be a mention or a link, and is not seen.
const BREAK: char = '\u{200b}';

/// One message a name of alerts.
#[must_use]
pub fn bodies(notices: &[Notice]) -> Vec<Vec<u8>> {
    let message = |(name, group): (&str, Vec<&Notice>)| {
        let text = format!("{}\n{}", title(name, &group, escaped), paragraphs(&group, escaped));
        let text = match within(&text) {
            short if short.len() < text.len() => format!("{short}\n…"),
            whole => whole.to_string(),
        };
        // Nothing in the text is a name, a link or markup.
        let body = json!({
            "text": text,
            "mrkdwn": false,
            "parse": "none",
            "link_names": false,
            "unfurl_links": false,
            "unfurl_media": false,
        });
        body.to_string().into_bytes()
    };
    by_name(notices).into_iter().map(message).collect()
}

/// The beginning that fits, without half an escape.
fn within(text: &str) -> &str {
    let short = cut(text, TEXT_BYTES_MAX);
    if short.len() == text.len() {
        return text;
    }
    match (short.rfind('&'), short.rfind(';')) {
        (Some(opens), closes) if closes.is_none_or(|closes| closes < opens) => &short[..opens],
        _ => short,
    }
}

/// Slack's three characters as entities, so that `<!channel>` and `<@U1>` are text; and `@` and links of
/// Markdown apart, which others look for by themselves.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in weir_types::text::lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' | ']' => out.extend([c, BREAK]),
            c => out.push(c),
        }
    }
    out
}
