//! What the flags say of the bus.

use std::path::Path;

use weir_proto::nats::{NatsAuth, NatsConfig};

use crate::args::BusArgs;
use crate::failure::Failure;

/// Longer files hold no secret of a bus.
const SECRET_BYTES_MAX: u64 = 64 << 10;
const PASSWORD: &str = "WEIR_BUS_PASSWORD";
const TOKEN: &str = "WEIR_BUS_TOKEN";

/// The bus, and who we are to it.
pub(super) fn config(args: &BusArgs) -> Result<NatsConfig, Failure> {
    let wrong = |error| Failure::Usage(format!("--bus: {error}"));
    let config = NatsConfig::parse(&args.bus).map_err(wrong)?;
    let config = config.with_prefix(&args.bus_subject);
    let config = config.map_err(|error| Failure::Usage(format!("--bus-subject: {error}")))?;
    let mut config = config.with_auth(auth(args)?).map_err(wrong)?;
    for (flag, file) in [
        ("--bus-tls-ca", &args.bus_tls_ca),
        ("--bus-tls-cert", &args.bus_tls_cert),
        ("--bus-tls-key", &args.bus_tls_key),
    ] {
        if let Some(path) = file {
            std::fs::File::open(path).map_err(|error| unreadable(flag, path, &error))?;
        }
    }
    config.tls_ca.clone_from(&args.bus_tls_ca);
    config.tls_client = args.bus_tls_cert.clone().zip(args.bus_tls_key.clone());
    Ok(config)
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
    ways.extend(file("--bus-creds", &args.bus_creds)?.map(NatsAuth::Credentials));
    ways.extend(file("--bus-nkey", &args.bus_nkey)?.map(NatsAuth::Nkey));
    match (ways.pop(), ways.is_empty()) {
        (None, _) => Ok(NatsAuth::None),
        (Some(way), true) => Ok(way),
        (Some(_), false) => Err(Failure::Usage(
            "the bus takes one login: a user, a token, credentials or an nkey".to_string(),
        )),
    }
}

fn secret_in(flag: &str, path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| unreadable(flag, path, &error))?;
    Ok(text.trim().to_string())
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
            (&["--bus-token-file", path, "--bus-nkey", path], "one login"),
            (&["--bus-creds", "/nonexistent"], "--bus-creds /nonexistent"),
            (&["--bus-tls-ca", "/nonexistent"], "--bus-tls-ca /nonexistent"),
            (&["--bus-subject", "a b"], "--bus-subject"),
        ] {
            let Err(Failure::Usage(text)) = with(words) else { panic!("{words:?}") };
            assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
        }
        let Err(Failure::Usage(text)) = parsed(&["--bus", "http://me:s3cret@h"]) else { panic!() };
        assert!(!text.contains("s3cret"), "{text}");
    }
}
