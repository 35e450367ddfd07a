//! Which names are those of secrets.

/// Longest name that is looked at; of a longer one its beginning.
pub const NAME_BYTES_MAX: usize = 96;

/// A name with one of these in it is a secret's. Sorted by nothing: found by their first letter.
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
const WHOLE: [&[u8]; 16] = [
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
    b"pw",
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
        if !matches!(byte, b'-' | b'_' | b'.' | b' ' | b'+' | b'\\' | b'"' | b'[' | b']') {
            out[length] = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    length
}

/// The byte that so many hexadecimal digits stand for, if it is one.
fn escaped(text: &[u8], digits: usize) -> Option<u8> {
    let text = std::str::from_utf8(text.get(..digits)?).ok()?;
    u8::try_from(u32::from_str_radix(text, 16).ok()?).ok()
}

/// Whether a header, or a key in JSON, names a secret.
pub(super) fn is_secret(name: &[u8], more: &[Vec<u8>]) -> bool {
    let mut storage = [0; NAME_BYTES_MAX];
    let length = write_plain(name, &mut storage);
    is_secret_plain(&storage[..length], more)
}

/// The same for a key in a URL or a form.
pub(super) fn is_secret_in_url(name: &[u8], more: &[Vec<u8>]) -> bool {
    let mut storage = [0; NAME_BYTES_MAX];
    let length = write_plain(name, &mut storage);
    let plain = &storage[..length];
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
