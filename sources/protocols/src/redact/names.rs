//! Which names are those of secrets.

/// Longest name that is looked at; of a longer one its beginning.
pub const NAME_BYTES_MAX: usize = 96;

/// A name with one of these in it is a secret's.
const PARTS: [&[u8]; 24] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"passcode",
    b"secret",
    b"token",
    b"apikey",
    b"accesskey",
    b"privatekey",
    b"secretkey",
    b"signingkey",
    b"encryptionkey",
    b"subscriptionkey",
    b"accountkey",
    b"credential",
    b"authorization",
    b"signature",
    b"cookie",
    b"sessionid",
    b"sessionkey",
    b"sessid",
    b"bearer",
    b"clientassertion",
    b"samlresponse",
];
/// A name that is one of these is a secret's.
const WHOLE: [&[u8]; 15] = [
    b"auth",
    b"pass",
    b"pwd",
    b"userpwd",
    b"pin",
    b"otp",
    b"jwt",
    b"sid",
    b"csrf",
    b"xsrf",
    b"xauth",
    b"passw",
    b"session",
    b"xapiauth",
    b"authkey",
];
/// Three letters of each name and part above: a name without any of them is no secret's, which is
/// what most names are, and found out without looking further.
const TRIPLES: [&[u8; 3]; 18] = [
    b"pas", b"sec", b"tok", b"key", b"cre", b"aut", b"sig", b"coo", b"ses", b"bea", b"ass", b"sam",
    b"pwd", b"pin", b"otp", b"jwt", b"sid", b"srf",
];
/// The same for what stands in a URL or a form.
const WHOLE_IN_URLS: [&[u8]; 6] =
    [b"code", b"sig", b"key", b"ticket", b"assertion", b"credentials"];
/// Names that hold a part from above and are none: what they say is of use and no secret.
const HARMLESS: [&[u8]; 9] = [
    b"tokentype",
    b"maxtokens",
    b"totaltokens",
    b"prompttokens",
    b"completiontokens",
    b"inputtokens",
    b"outputtokens",
    b"maxoutputtokens",
    b"signaturealgorithm",
];

/// A name in the form in which names are compared.
pub(super) fn plain(name: &[u8]) -> Vec<u8> {
    let mut storage = [0; NAME_BYTES_MAX];
    let length = write_plain(name, &mut storage);
    storage[..length].to_vec()
}

fn write_plain(name: &[u8], out: &mut [u8; NAME_BYTES_MAX]) -> usize {
    let (mut at, mut length) = (0, 0);
    while at < name.len() && length < NAME_BYTES_MAX {
        let (byte, used) = match name[at] {
            b'%' => escaped(&name[at + 1..], 2).map_or((b'%', 1), |byte| (byte, 3)),
            b'\\' if name.get(at + 1) == Some(&b'u') => {
                escaped(&name[at + 2..], 4).map_or((b'\\', 1), |byte| (byte, 6))
            }
            byte => (byte, 1),
        };
        at += used;
        if !SEPARATES[usize::from(byte)] {
            out[length] = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    length
}

/// Bytes that do not count when names are compared.
const SEPARATES: [bool; 256] = {
    let separators = b"-_. +\\\"[]";
    let mut separates = [false; 256];
    let mut idx = 0;
    while idx < separators.len() {
        separates[separators[idx] as usize] = true;
        idx += 1;
    }
    separates
};

/// The byte that so many hexadecimal digits stand for, if it is one.
fn escaped(text: &[u8], digits: usize) -> Option<u8> {
    let text = std::str::from_utf8(text.get(..digits)?).ok()?;
    u8::try_from(u32::from_str_radix(text, 16).ok()?).ok()
}

/// Which second letters stand in a triple behind a first one; letters by their low five bits.
const PAIRS: [u32; 32] = {
    let mut pairs = [0; 32];
    let mut idx = 0;
    while idx < TRIPLES.len() {
        pairs[(TRIPLES[idx][0] & 31) as usize] |= 1 << (TRIPLES[idx][1] & 31);
        idx += 1;
    }
    pairs
};

/// False if the name is none of a secret for certain.
fn may_be_secret(name: &[u8]) -> bool {
    let (mut first, mut second) = (0, 0);
    for &byte in name {
        match byte {
            b'%' | b'\\' => return true,
            _ if SEPARATES[usize::from(byte)] => continue,
            _ => {}
        }
        if PAIRS[usize::from(first & 31)] & (1 << (second & 31)) != 0
            && TRIPLES.iter().any(|triple| triple.eq_ignore_ascii_case(&[first, second, byte]))
        {
            return true;
        }
        (first, second) = (second, byte);
    }
    false
}

/// Headers that most messages have, as most programs write them, and that hold neither a secret nor
/// a URL: these need not be looked at closer.
pub(super) fn is_common(name: &[u8]) -> bool {
    matches!(
        name,
        b"Host"
            | b"host"
            | b"Date"
            | b"date"
            | b"ETag"
            | b"Vary"
            | b"vary"
            | b"Accept"
            | b"accept"
            | b"Server"
            | b"server"
            | b"Expires"
            | b"Upgrade"
            | b"User-Agent"
            | b"user-agent"
            | b"Connection"
            | b"connection"
            | b"Keep-Alive"
            | b"Content-Type"
            | b"content-type"
            | b"X-Powered-By"
            | b"X-Request-Id"
            | b"Accept-Ranges"
            | b"Cache-Control"
            | b"Last-Modified"
            | b"If-None-Match"
            | b"Content-Length"
            | b"content-length"
            | b"Accept-Encoding"
            | b"accept-encoding"
            | b"Accept-Language"
            | b"X-Forwarded-For"
            | b"Content-Encoding"
            | b"If-Modified-Since"
            | b"Transfer-Encoding"
            | b"X-Forwarded-Proto"
    )
}

/// Whether a header, or a key in JSON, names a secret.
pub(super) fn is_secret(name: &[u8], more: &[Vec<u8>]) -> bool {
    if matches!(name, b"Cookie" | b"Set-Cookie" | b"Authorization") {
        return true;
    }
    if more.is_empty() && !may_be_secret(name) {
        return false;
    }
    let mut storage = [0; NAME_BYTES_MAX];
    let length = write_plain(name, &mut storage);
    is_secret_plain(&storage[..length], more)
}

/// The same for a key in a URL or a form.
pub(super) fn is_secret_in_url(name: &[u8], more: &[Vec<u8>]) -> bool {
    let mut storage = [0; NAME_BYTES_MAX];
    let length = write_plain(name, &mut storage);
    let plain = &storage[..length];
    // Keys in URLs are few: no need to be quick.
    WHOLE_IN_URLS.contains(&plain) || is_secret_plain(plain, more)
}

fn is_secret_plain(plain: &[u8], more: &[Vec<u8>]) -> bool {
    let named = has_part(plain) || (plain.len() <= 8 && WHOLE.contains(&plain));
    (named && !HARMLESS.contains(&plain)) || more.iter().any(|name| contains(plain, name))
}

fn has_part(plain: &[u8]) -> bool {
    for at in 0..plain.len().saturating_sub(4) {
        let begins = plain[at];
        if matches!(begins, b'p' | b's' | b't' | b'a' | b'e' | b'c' | b'b')
            && PARTS.iter().any(|part| part[0] == begins && plain[at..].starts_with(part))
        {
            return true;
        }
    }
    false
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A name is a secret's by what it is without separators, case and escapes, whatever is looked at
    /// first to be quick: with the short cuts or without them the answer is the same. Catches `To-Ken`
    /// and `s_id`, which hold none of the triples as they are written.
    #[test]
    fn short_cuts_change_nothing() {
        let words = PARTS.iter().chain(&WHOLE).chain(&WHOLE_IN_URLS).chain(&HARMLESS);
        let mut pieces: Vec<Vec<u8>> = words.map(|word| word.to_vec()).collect();
        pieces.extend([
            b"x".to_vec(),
            b"-".to_vec(),
            b"Request".to_vec(),
            b"%70".to_vec(),
            b"\\u0061".to_vec(),
        ]);
        let piece = prop::sample::select(pieces);
        let more: [Vec<Vec<u8>>; 2] = [Vec::new(), vec![b"quest".to_vec()]];
        let case = (prop::collection::vec(piece, 0..4), any::<u64>(), any::<bool>());
        proptest!(ProptestConfig::with_cases(4_096), |((words, style, with_more) in case)| {
            // A separator, or another case, at random places.
            let mut name = Vec::new();
            for (idx, byte) in words.concat().into_iter().enumerate() {
                let bits = style >> (2 * idx % 64) & 3;
                name.push(if bits & 1 == 1 { byte.to_ascii_uppercase() } else { byte });
                if bits == 2 {
                    name.push(b"-_. []"[idx % 6]);
                }
            }
            let more = &more[usize::from(with_more)];
            prop_assert_eq!(is_secret(&name, more), is_secret_plain(&plain(&name), more));
            prop_assert!(!is_common(&name) || !is_secret(&name, &[]));
        });
        for name in ["To-Ken", "s_id", "p.a.s.s", "Api-K-ey"] {
            assert!(is_secret(name.as_bytes(), &[]), "{name}");
        }
    }
}
