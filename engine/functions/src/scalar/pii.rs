//! Best-effort redaction of personal data: what looks like it is replaced by the name of its kind.
//!
//! Each kind has a pattern for candidates and a check of its own; candidates that merely continue
//! a longer run of digits or letters do not count. Of overlapping hits the longest is replaced.
//! Candidates have a bounded length, so that the work stays linear in the text, whatever it is.

mod candidates;

use std::net::Ipv6Addr;

use arrow_array::ArrayRef;

use candidates::Candidate;

use super::{ScalarDef, def, overloads};
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[def(
    "redact_pii_best_effort",
    overloads![S => S, redact],
    &["text"],
    "The text with what looks like personal data replaced: bank, card and social security numbers, \
     e-mail, IP and MAC addresses, device ids",
    "df.resp_body = px.redact_pii_best_effort(df.resp_body)",
)
.reads(READS)];

/// Each kind is looked for on its own. What is more than 512 KiB long is not redacted, but left out.
const READS: u64 = 32;

struct Kind {
    /// The next candidate at or behind a place.
    find: fn(text: &[u8], from: usize) -> Option<Candidate>,
    /// How much of the candidate, beginning at `start`, is a hit.
    check: fn(text: &[u8], start: usize, end: usize) -> Option<usize>,
    substitute: &'static [u8],
}

/// In the order in which equally long hits win.
const KINDS: [Kind; 9] = [
    Kind { find: candidates::iban, check: iban, substitute: b"<REDACTED_IBAN>" },
    Kind { find: candidates::email, check: whole, substitute: b"<REDACTED_EMAIL>" },
    Kind { find: candidates::ipv6, check: ipv6, substitute: b"<REDACTED_IPV6>" },
    Kind { find: candidates::ipv4, check: ipv4, substitute: b"<REDACTED_IPV4>" },
    Kind { find: candidates::mac, check: mac, substitute: b"<REDACTED_MAC_ADDR>" },
    Kind { find: candidates::imei, check: imei, substitute: b"<REDACTED_IMEI>" },
    Kind { find: candidates::imei_sv, check: imei_sv, substitute: b"<REDACTED_IMEI>" },
    Kind { find: candidates::card, check: card, substitute: b"<REDACTED_CC_NUMBER>" },
    Kind { find: candidates::ssn, check: ssn, substitute: b"<REDACTED_SSN>" },
];

struct Hit {
    start: usize,
    end: usize,
    kind: usize,
}

fn redact(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::strings(call.rows, |row, out| push_redacted(out, text.get(row)))
}

/// Appends the text with what looks like personal data replaced.
pub fn push_redacted(out: &mut Vec<u8>, text: &[u8]) {
    let mut hits = Vec::new();
    for (kind, Kind { find, check, .. }) in KINDS.iter().enumerate() {
        let mut from = 0;
        while let Some((start, end)) = find(text, from) {
            from = match check(text, start, end) {
                Some(length) => {
                    hits.push(Hit { start, end: start + length, kind });
                    start + length
                }
                // The next candidate may begin inside this one.
                None => start + 1,
            };
        }
    }
    hits.sort_by_key(|hit| (hit.start, hit.kind));
    let mut copied = 0;
    let mut rest = &hits[..];
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|hit| hit.start < first.end).count();
        let (group, after) = rest.split_at(count);
        let mut longest = first;
        for hit in group {
            if hit.end - hit.start > longest.end - longest.start {
                longest = hit;
            }
        }
        rest = after;
        // A long hit of the group before may reach into this one.
        if longest.start >= copied {
            out.extend_from_slice(&text[copied..longest.start]);
            out.extend_from_slice(KINDS[longest.kind].substitute);
            copied = longest.end;
        }
    }
    out.extend_from_slice(&text[copied..]);
}

/// Neither the byte before nor the one after is of the class.
fn stands_alone(text: &[u8], start: usize, end: usize, class: fn(&u8) -> bool) -> bool {
    !text[..start].last().is_some_and(class) && !text.get(end).is_some_and(class)
}

fn whole(_: &[u8], start: usize, end: usize) -> Option<usize> {
    Some(end - start)
}

fn digits(text: &[u8]) -> impl DoubleEndedIterator<Item = u32> {
    text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'))
}

/// The check digit of card numbers and IMEIs.
fn luhn_fits(text: &[u8]) -> bool {
    let sum: u32 = digits(text)
        .rev()
        .enumerate()
        .map(|(idx, digit)| match idx % 2 {
            0 => digit,
            _ => doubled(digit),
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The digits' sum of a digit taken twice.
fn doubled(digit: u32) -> u32 {
    if digit > 4 { digit * 2 - 9 } else { digit * 2 }
}

/// Country code → length of its IBANs (ISO 13616 registry).
#[rustfmt::skip]
const IBAN_LENGTHS: [(&[u8; 2], usize); 72] = [
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16),
    (b"BG", 22), (b"BH", 22), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28),
    (b"CZ", 24), (b"DE", 22), (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"ES", 24), (b"FI", 18),
    (b"FO", 18), (b"FR", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27),
    (b"GT", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26),
    (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21),
    (b"LT", 20), (b"LU", 20), (b"LV", 21), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NL", 18), (b"NO", 15), (b"PK", 24), (b"PL", 28),
    (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"SA", 24), (b"SC", 31),
    (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"ST", 25), (b"SV", 28), (b"TL", 23),
    (b"TN", 24), (b"TR", 26),
];
#[rustfmt::skip]
const IBAN_LENGTHS_MORE: [(&[u8; 2], usize); 4] =
    [(b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20)];

/// As many symbols as the country has, with at most one blank or dash between two of them.
fn iban(text: &[u8], start: usize, _: usize) -> Option<usize> {
    let country = [text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()];
    let known = IBAN_LENGTHS.iter().chain(&IBAN_LENGTHS_MORE);
    let length = known.clone().find(|(code, _)| **code == country)?.1;
    let mut symbols = Vec::with_capacity(length);
    let mut at = start;
    while symbols.len() < length {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            symbols.push(byte.to_ascii_uppercase());
        } else if !b" -".contains(&byte) || !text[at - 1].is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
    }
    if !stands_alone(text, start, at, u8::is_ascii_alphanumeric) {
        return None;
    }
    symbols.rotate_left(4);
    let rest = symbols.iter().fold(0u32, |rest, symbol| match symbol {
        b'0'..=b'9' => (rest * 10 + u32::from(symbol - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (rest == 1).then_some(at - start)
}

/// An address up to the end of its run, but for points and colons of the text around it.
fn ipv6(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if text[..start].last().is_some_and(in_word) {
        return None;
    }
    // The longest form has 45 characters: six groups and a dotted address.
    if end > start + 45 + PUNCTUATION_MAX {
        return None;
    }
    (0..=PUNCTUATION_MAX.min(end - start)).find_map(|trimmed| {
        let (candidate, after) = text[start..end].split_at(end - start - trimmed);
        let fits = candidate.len() > 2
            && after.iter().all(|byte| b":.".contains(byte))
            && !text.get(start + candidate.len()).is_some_and(in_word)
            && std::str::from_utf8(candidate).ok()?.parse::<Ipv6Addr>().is_ok();
        fits.then_some(candidate.len())
    })
}

/// So many points and colons may follow an address.
const PUNCTUATION_MAX: usize = 3;

fn ipv4(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut groups = text[start..end].split(|byte| *byte == b'.');
    let fits = groups.all(|group| digits(group).fold(0, |sum, digit| sum * 10 + digit) <= 255);
    (fits && stands_alone(text, start, end, u8::is_ascii_digit)).then_some(end - start)
}

fn mac(text: &[u8], start: usize, end: usize) -> Option<usize> {
    stands_alone(text, start, end, u8::is_ascii_hexdigit).then_some(end - start)
}

fn imei(text: &[u8], start: usize, end: usize) -> Option<usize> {
    (stands_alone(text, start, end, u8::is_ascii_digit) && luhn_fits(&text[start..end]))
        .then_some(end - start)
}

fn imei_sv(text: &[u8], start: usize, end: usize) -> Option<usize> {
    stands_alone(text, start, end, u8::is_ascii_digit).then_some(end - start)
}

/// 13 to 19 digits: the whole run, else its longest beginning that ends where a group of digits
/// does.
fn card(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if text[..start].last().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let mut count = 0;
    let mut best = None;
    // With the digits of even places doubled, and with those of odd places.
    let mut sums = [0, 0];
    for at in start..end {
        if !text[at].is_ascii_digit() {
            continue;
        }
        let digit = u32::from(text[at] - b'0');
        sums[count % 2] += doubled(digit);
        sums[(count + 1) % 2] += digit;
        count += 1;
        if count > 19 {
            break;
        }
        // The last digit stands as it is.
        let group_ends = !text.get(at + 1).is_some_and(u8::is_ascii_digit);
        if count >= 13 && group_ends && sums[count % 2].is_multiple_of(10) {
            best = Some(at + 1 - start);
        }
    }
    best
}

fn ssn(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if !stands_alone(text, start, end, u8::is_ascii_digit) {
        return None;
    }
    let number = digits(&text[start..end]).fold(0, |sum, digit| sum * 10 + digit);
    let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
    let valid = !matches!(area, 0 | 666 | 900..=999) && group != 0 && serial != 0;
    valid.then_some(end - start)
}
