//! Where personal data may stand: for each kind the next candidate at or behind a place, as the
//! leftmost match of a pattern, of which the longest way is taken. Written out rather than run by a
//! regular expression engine: patterns with many bounded repetitions make it a hundred times slower
//! on texts that nearly match, and bodies of a megabyte stand in every log. Each search looks at a
//! bounded number of bytes a place.

/// Start and end of a candidate.
pub(super) type Candidate = (usize, usize);

/// The first place from `from` on at which `at` finds something.
fn first(
    text: &[u8],
    from: usize,
    begins: impl Fn(u8) -> bool,
    at: impl Fn(&[u8]) -> Option<usize>,
) -> Option<Candidate> {
    let mut from = from;
    loop {
        from += text.get(from..)?.iter().position(|&byte| begins(byte))?;
        if let Some(length) = at(&text[from..]) {
            return Some((from, from + length));
        }
        from += 1;
    }
}

/// Takes bytes off the beginning of a text.
struct Cut<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl Cut<'_> {
    fn of(text: &[u8]) -> Cut<'_> {
        Cut { rest: text, taken: 0 }
    }

    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count..];
        self.taken += count;
    }

    /// As many bytes of the class as there are, up to `most`; `None` if fewer than `least`.
    fn some(&mut self, class: impl Fn(u8) -> bool, least: usize, most: usize) -> Option<()> {
        let count = self.rest.iter().take(most).take_while(|&&byte| class(byte)).count();
        self.advance(count);
        (count >= least).then_some(())
    }

    fn exactly(&mut self, class: impl Fn(u8) -> bool, count: usize) -> Option<()> {
        self.some(class, count, count)
    }
}

fn digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn blank_or_dash(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// `[A-Za-z]{2}[ -]?[0-9]{2}[ -]?[A-Za-z0-9]`: how an account number begins.
pub(super) fn iban(text: &[u8], from: usize) -> Option<Candidate> {
    first(
        text,
        from,
        |byte| byte.is_ascii_alphabetic(),
        |text| {
            let mut cut = Cut::of(text);
            cut.exactly(|byte| byte.is_ascii_alphabetic(), 2)?;
            cut.some(blank_or_dash, 0, 1)?;
            cut.exactly(digit, 2)?;
            cut.some(blank_or_dash, 0, 1)?;
            cut.exactly(|byte| byte.is_ascii_alphanumeric(), 1)?;
            Some(cut.taken)
        },
    )
}

/// `[0-9]{1,3}(?:[.][0-9]{1,3}){3}`
pub(super) fn ipv4(text: &[u8], from: usize) -> Option<Candidate> {
    first(text, from, digit, |text| {
        let mut cut = Cut::of(text);
        cut.some(digit, 1, 3)?;
        for _ in 0..3 {
            cut.exactly(|byte| byte == b'.', 1)?;
            cut.some(digit, 1, 3)?;
        }
        Some(cut.taken)
    })
}

/// `[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}`
pub(super) fn mac(text: &[u8], from: usize) -> Option<Candidate> {
    first(text, from, hex, |text| {
        let mut cut = Cut::of(text);
        cut.exactly(hex, 2)?;
        for _ in 0..5 {
            cut.exactly(|byte| matches!(byte, b':' | b'-'), 1)?;
            cut.exactly(hex, 2)?;
        }
        Some(cut.taken)
    })
}

/// `[0-9]{2}-[0-9]{6}-[0-9]{6}-[0-9]`, and two digits at the end for those with a version.
fn imei_of(text: &[u8], from: usize, last: usize) -> Option<Candidate> {
    first(text, from, digit, |text| {
        let mut cut = Cut::of(text);
        for count in [2, 6, 6] {
            cut.exactly(digit, count)?;
            cut.exactly(|byte| byte == b'-', 1)?;
        }
        cut.exactly(digit, last)?;
        Some(cut.taken)
    })
}

pub(super) fn imei(text: &[u8], from: usize) -> Option<Candidate> {
    imei_of(text, from, 1)
}

pub(super) fn imei_sv(text: &[u8], from: usize) -> Option<Candidate> {
    imei_of(text, from, 2)
}

/// `[0-9](?:[ -]{0,3}[0-9]){12,18}`
pub(super) fn card(text: &[u8], from: usize) -> Option<Candidate> {
    first(text, from, digit, |text| {
        let mut cut = Cut::of(text);
        cut.exactly(digit, 1)?;
        for count in 0..18 {
            let before = Cut { ..cut };
            let more = cut.some(blank_or_dash, 0, 3).and_then(|()| cut.exactly(digit, 1));
            if more.is_none() {
                return (count >= 12).then_some(before.taken);
            }
        }
        Some(cut.taken)
    })
}

/// `[0-9]{3}[ -]{1,9}[0-9]{2}[ -]{1,9}[0-9]{4}`
pub(super) fn ssn(text: &[u8], from: usize) -> Option<Candidate> {
    first(text, from, digit, |text| {
        let mut cut = Cut::of(text);
        cut.exactly(digit, 3)?;
        cut.some(blank_or_dash, 1, 9)?;
        cut.exactly(digit, 2)?;
        cut.some(blank_or_dash, 1, 9)?;
        cut.exactly(digit, 4)?;
        Some(cut.taken)
    })
}

/// So many bytes of an IPv6 address may stand on each side of a colon.
const IPV6_SIDE_MAX: usize = 44;

/// `[0-9A-Fa-f:.]{0,44}:[0-9A-Fa-f:.]{1,44}`
pub(super) fn ipv6(text: &[u8], from: usize) -> Option<Candidate> {
    let class = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut from = from;
    loop {
        let colon = from + memchr::memchr(b':', text.get(from..)?)?;
        if !text.get(colon + 1).is_some_and(class) {
            from = colon + 1;
            continue;
        }
        let before = &text[from.max(colon.saturating_sub(IPV6_SIDE_MAX))..colon];
        let start = colon - before.iter().rev().take_while(|byte| class(byte)).count();
        // The last colon that the first part reaches, with something behind it.
        let reach = &text[start..text.len().min(start + IPV6_SIDE_MAX + 2)];
        let run = reach.iter().take_while(|byte| class(byte)).count();
        let last = reach[..run.saturating_sub(1)].iter().rposition(|&byte| byte == b':')?;
        let after = &text[start + last + 1..];
        let length = after.iter().take(IPV6_SIDE_MAX).take_while(|byte| class(byte)).count();
        return Some((start, start + last + 1 + length));
    }
}

/// `[0-9A-Za-z!#$%&'*+/=?^_`{|}~.-]+(?:@|%40)(?:[a-zA-Z0-9-]+[.])*[a-zA-Z0-9-]+`
pub(super) fn email(text: &[u8], from: usize) -> Option<Candidate> {
    let local = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(byte);
    let mut from = from;
    loop {
        let start = from + text.get(from..)?.iter().position(local)?;
        let end = start + text[start..].iter().take_while(|byte| local(byte)).count();
        if text.get(end) == Some(&b'@')
            && let Some(length) = domain(&text[end + 1..])
        {
            return Some((start, end + 1 + length));
        }
        // All of `%40` are bytes of the local part, too: the last one that a domain follows.
        let mut before = end;
        while let Some(at) = memchr::memmem::rfind(&text[start + 1..before], b"%40") {
            let at = start + 1 + at;
            if let Some(length) = domain(&text[at + 3..]) {
                return Some((start, at + 3 + length));
            }
            before = at;
        }
        from = end;
    }
}

/// Length of labels with points between them.
fn domain(text: &[u8]) -> Option<usize> {
    let label = |text: &[u8]| {
        text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count()
    };
    let mut length = label(text);
    if length == 0 {
        return None;
    }
    while text.get(length) == Some(&b'.') {
        match label(&text[length + 1..]) {
            0 => break,
            more => length += 1 + more,
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::bytes::Regex;

    use super::*;

    type Find = fn(&[u8], usize) -> Option<Candidate>;

    const KINDS: [(&str, Find); 9] = [
        ("[A-Za-z]{2}[ -]?[0-9]{2}[ -]?[A-Za-z0-9]", iban),
        ("[0-9A-Za-z!#$%&'*+/=?^_`{|}~.-]+(?:@|%40)(?:[a-zA-Z0-9-]+[.])*[a-zA-Z0-9-]+", email),
        ("[0-9A-Fa-f:.]{0,44}:[0-9A-Fa-f:.]{1,44}", ipv6),
        ("[0-9]{1,3}(?:[.][0-9]{1,3}){3}", ipv4),
        ("[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}", mac),
        ("[0-9]{2}-[0-9]{6}-[0-9]{6}-[0-9]", imei),
        ("[0-9]{2}-[0-9]{6}-[0-9]{6}-[0-9]{2}", imei_sv),
        ("[0-9](?:[ -]{0,3}[0-9]){12,18}", card),
        ("[0-9]{3}[ -]{1,9}[0-9]{2}[ -]{1,9}[0-9]{4}", ssn),
    ];

    fn pieces() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "1",
            "12",
            "123456",
            "4111 1111 1111 1111",
            "-",
            " ",
            ":",
            "::",
            ".",
            "a",
            "Fe80",
            "@",
            "%40",
            "b.c",
            "_",
            "1.2.3.4",
            "de89",
            "00:11:22:33:44:55",
            "078-05-1120",
            "é",
            "x",
            "49-015420-323751-8",
            "  ",
            "ffff:",
            "%4",
        ]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Each search finds what its pattern finds, from every place on.
        #[test]
        fn searches_agree_with_patterns(text in pieces()) {
            for (pattern, find) in KINDS {
                let pattern = Regex::new(&format!("(?-u){pattern}")).unwrap();
                for from in 0..=text.len() {
                    let wanted = pattern.find_at(text.as_bytes(), from);
                    let wanted = wanted.map(|found| (found.start(), found.end()));
                    prop_assert_eq!(find(text.as_bytes(), from), wanted, "{} from {}", pattern, from);
                }
            }
        }
    }
}
