//! What the flags say of the bus.

use std::path::Path;

use weir_proto::nats::{NatsAuth, NatsConfig};

use crate::args::BusArgs;
use crate::failure::Failure;
use crate::text_file;

/// Longer files hold no secret of a bus, and no list of authorities.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of a seed of an nkey.
const SEED_CHARS: usize = 58;
const PASSWORD: &str = "WEIR_BUS_PASSWORD";
const TOKEN: &str = "WEIR_BUS_TOKEN";

/// The bus, and who we are to it.
pub(super) fn config(args: &BusArgs) -> Result<NatsConfig, Failure> {
    let wrong = |error| Failure::Usage(format!("--bus: {error}"));
    let config = NatsConfig::parse(&args.bus).map_err(wrong)?;
    let config = config.with_prefix(&args.bus_subject);
    let config = config.map_err(|error| Failure::Usage(format!("--bus-subject: {error}")))?;
    let mut config = config.with_auth(auth(args)?).map_err(wrong)?;
    for (flag, file, what, begins) in [
        ("--bus-tls-ca", &args.bus_tls_ca, "certificate", "-----BEGIN CERTIFICATE-----"),
        ("--bus-tls-cert", &args.bus_tls_cert, "certificate", "-----BEGIN CERTIFICATE-----"),
        ("--bus-tls-key", &args.bus_tls_key, "private key", "PRIVATE KEY-----"),
    ] {
        let Some(path) = file else { continue };
        // The library takes a file without any for an empty list, and then nobody is trusted.
        if !text_in(flag, path)?.contains(begins) {
            return Err(holds_none(flag, path, &format!("{what} in PEM")));
        }
    }
    config.tls_ca.clone_from(&args.bus_tls_ca);
    config.tls_client = args.bus_tls_cert.clone().zip(args.bus_tls_key.clone());
    Ok(config)
}

fn holds_none(flag: &str, path: &Path, what: &str) -> Failure {
    Failure::Usage(format!("{flag} {}: there is no {what} in it", path.display()))
}

fn unreadable(flag: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{flag} {}: {error}", path.display()))
}

fn auth(args: &BusArgs) -> Result<NatsAuth, Failure> {
    let file = |flag: &str, path: &Option<std::path::PathBuf>| {
        path.as_deref().map(|path| secret_in(flag, path)).transpose()
    };
    let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let password = file("--bus-password-file", &args.bus_password_file)?;
    let mut ways = Vec::new();
    if let Some(user) = &args.bus_user {
        let password = password.or_else(|| env(PASSWORD)).ok_or_else(|| {
            Failure::Usage(format!(
                "--bus-user: the password is missing (--bus-password-file or {PASSWORD})"
            ))
        })?;
        ways.push(NatsAuth::User { user: user.clone(), password });
    }
    if let Some(token) = file("--bus-token-file", &args.bus_token_file)?.or_else(|| env(TOKEN)) {
        ways.push(NatsAuth::Token(token));
    }
    if let Some(path) = &args.bus_creds {
        let text = text_in("--bus-creds", path)?;
        if !text.contains("BEGIN NATS USER JWT") || seed_in(&text).is_none() {
            return Err(holds_none("--bus-creds", path, "JWT of a user with its seed"));
        }
        ways.push(NatsAuth::Credentials(text));
    }
    if let Some(path) = &args.bus_nkey {
        let text = text_in("--bus-nkey", path)?;
        let seed =
            seed_in(&text).ok_or_else(|| holds_none("--bus-nkey", path, "seed of a user"))?;
        ways.push(NatsAuth::Nkey(seed));
    }
    match (ways.pop(), ways.is_empty()) {
        (None, _) => Ok(NatsAuth::None),
        (Some(way), true) => Ok(way),
        (Some(_), false) => Err(Failure::Usage(
            "the bus takes one login: a user, a token, credentials or an nkey".to_string(),
        )),
    }
}

fn secret_in(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = text_in(flag, path)?.trim().to_string();
    if text.is_empty() { Err(holds_none(flag, path, "secret")) } else { Ok(text) }
}

fn text_in(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = text_file::read(path, FILE_BYTES_MAX);
    text.map_err(|error| unreadable(flag, path, &error))?.ok_or_else(|| {
        Failure::Usage(format!(
            "{flag} {}: it has more than {FILE_BYTES_MAX} bytes",
            path.display()
        ))
    })
}

/// The seed of a user: a line of its own, whatever is around it.
fn seed_in(text: &str) -> Option<String> {
    let is_seed = |line: &&str| {
        let is_base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
        line.len() == SEED_CHARS && line.starts_with("SU") && line.chars().all(is_base32)
    };
    text.lines().map(str::trim).find(is_seed).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bus: BusArgs,
    }

    fn parsed(words: &[&str]) -> Result<NatsConfig, Failure> {
        config(&Line::try_parse_from([&["x"], words].concat()).unwrap().bus)
    }

    /// Each way to log in is taken from where it is said to be, two of them are wrong usage, and nothing that is
    /// secret is in what is said of it.
    #[test]
    fn logins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let bus = ["--bus", "nats://h:1"];
        let with = |more: &[&str]| parsed(&[&bus, more].concat());
        let user = NatsAuth::User { user: "me".to_string(), password: "s3cret".to_string() };
        assert_eq!(with(&["--bus-user", "me", "--bus-password-file", path]).unwrap().auth, user);
        let token = with(&["--bus-token-file", path]).unwrap();
        assert_eq!(token.auth, NatsAuth::Token("s3cret".to_string()));
        assert!(!format!("{token:?}").contains("s3cret"));
        for (words, says) in [
            (&["--bus-user", "me"][..], "WEIR_BUS_PASSWORD"),
            (
                &["--bus-user", "me", "--bus-password-file", path, "--bus-token-file", path],
                "one login",
            ),
            (&["--bus-token-file", "/dev/null"], "there is no secret in it"),
            (&["--bus-nkey", path], "there is no seed of a user in it"),
            (&["--bus-creds", path], "there is no JWT of a user with its seed in it"),
            (&["--bus-tls-ca", path], "there is no certificate in PEM in it"),
            (&["--bus-tls-cert", path, "--bus-tls-key", path], "--bus-tls-cert"),
            (&["--bus-tls-ca", "/dev/zero"], "more than"),
            (&["--bus-creds", "/nonexistent"], "--bus-creds /nonexistent"),
            (&["--bus-tls-ca", "/nonexistent"], "--bus-tls-ca /nonexistent"),
            (&["--bus-subject", "a b"], "--bus-subject"),
        ] {
            let Err(Failure::Usage(text)) = with(words) else { panic!("{words:?}") };
            assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
        }
        let seed = format!("SU{}", "A2".repeat(28));
        std::fs::write(file.path(), format!("-----BEGIN SEED-----\n{seed}\n-----END-----\n"))
            .unwrap();
        assert_eq!(with(&["--bus-nkey", path]).unwrap().auth, NatsAuth::Nkey(seed));
        let Err(Failure::Usage(text)) = parsed(&["--bus", "http://me:s3cret@h"]) else { panic!() };
        assert!(!text.contains("s3cret"), "{text}");
    }
}
