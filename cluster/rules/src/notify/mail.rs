//! A mail (RFC 5322) in plain text. Subject and body are encoded whatever they hold, so that no text of an alert
//! is ever read as a header, a line end or the end of the mail.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::{by_name, paragraphs, title};
use crate::labels::cut;
use crate::state::Notice;

/// A subject of a mail; the name of an alert fits.
const SUBJECT_BYTES_MAX: usize = 200;
const BODY_BYTES_MAX: usize = 64 << 10;
const ADDRESS_BYTES_MAX: usize = 254;
/// Bytes of an encoded word: with the header's name before it the line keeps within 76 characters.
const WORD_BYTES: usize = 39;

/// From whom to whom: configuration, not traffic, and yet checked.
#[derive(Clone, Debug)]
pub struct Envelope {
    from: String,
    to: Vec<String>,
}

impl Envelope {
    /// Plain addresses: `name@host`.
    pub fn new(from: &str, to: &[String]) -> Result<Envelope, String> {
        if to.is_empty() {
            return Err("a mail needs somebody to go to".to_string());
        }
        for address in to.iter().map(String::as_str).chain([from]) {
            let fits = |c: char| c.is_ascii_graphic() && !"<>(),;:\\\"[]".contains(c);
            let parts =
                address.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
            let one = parts.is_some_and(|(_, host)| !host.contains('@'));
            if !one || address.len() > ADDRESS_BYTES_MAX || !address.chars().all(fits) {
                return Err(format!("{address:?} is no mail address"));
            }
        }
        Ok(Envelope { from: from.to_string(), to: to.to_vec() })
    }
}

/// One mail a name of alerts.
#[must_use]
pub fn mails(envelope: &Envelope, notices: &[Notice], now_unix_ns: i64) -> Vec<Vec<u8>> {
    let groups = by_name(notices).into_iter().enumerate();
    groups.map(|(idx, (name, group))| mail(envelope, name, &group, now_unix_ns, idx)).collect()
}

fn mail(
    envelope: &Envelope,
    name: &str,
    notices: &[&Notice],
    now_unix_ns: i64,
    idx: usize,
) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_unix_ns));
    let date = at.ok().and_then(|at| at.format(&Rfc2822).ok()).unwrap_or_default();
    let Envelope { from, to } = envelope;
    let host = from.rsplit('@').next().unwrap_or("localhost");
    let fingerprint = notices.first().map_or(0, |notice| notice.labels.fingerprint());
    let subject = title(name, notices, |name| weir_types::text::line(name).into_owned());
    let text = paragraphs(notices, |text| weir_types::text::lines(text).into_owned());
    let body = match cut(&text, BODY_BYTES_MAX) {
        short if short.len() < text.len() => format!("{short}\n…\n"),
        whole => whole.to_string(),
    };
    let header = format!(
        "From: {from}\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\n\
         Message-ID: <{now_unix_ns}.{idx}.{fingerprint:016x}@{host}>\r\nAuto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
        to.join(",\r\n "),
        encoded(cut(&subject, SUBJECT_BYTES_MAX)),
    );
    let mut mail = header.into_bytes();
    // 57 bytes are 76 characters, the most that a line may have.
    for line in body.replace('\n', "\r\n").as_bytes().chunks(57) {
        mail.extend_from_slice(base64(line).as_bytes());
        mail.extend_from_slice(b"\r\n");
    }
    mail
}

/// A header's text as encoded words (RFC 2047), folded.
fn encoded(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = cut(rest, WORD_BYTES);
        words.push(format!("=?utf-8?B?{}?=", base64(word.as_bytes())));
        rest = &rest[word.len()..];
    }
    words.join("\r\n ")
}

/// As mails carry bytes, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let of = |idx: usize| u32::from(group.get(idx).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
