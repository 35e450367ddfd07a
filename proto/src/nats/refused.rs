//! Why a bus server cannot be used, as people may read it: what is wrong and which flag mends it; and whether
//! trying on is of any use. Nothing of what is secret is in it.

use std::error::Error;

use async_nats::ConnectErrorKind;
use async_nats::rustls::{self, AlertDescription, CertificateError};
use weir_types::text::with_causes;

use super::config::{NatsAuth, NatsConfig};

/// Why an attempt to connect failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) lasts: Lasts,
}

/// Whether it will be otherwise when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    /// A server that is not there yet.
    ForNow,
    /// Somebody has to change something at one end, and may be about to.
    UntilChanged,
    /// What we were given is wrong in itself.
    ForGood,
}

impl Failure {
    fn new(why: impl Into<String>, lasts: Lasts) -> Failure {
        Failure { why: why.into(), lasts }
    }

    pub(super) fn of(error: &async_nats::ConnectError, config: &NatsConfig) -> Failure {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => login_refused(config),
            ConnectErrorKind::Authentication => {
                let why = "the login cannot be signed: its seed is none (--bus-creds, --bus-nkey)";
                Failure::new(why, Lasts::ForGood)
            }
            // Our own files, before anything is said.
            ConnectErrorKind::Tls => Failure::new(
                format!("TLS cannot be set up here: {}", config.hidden(&with_causes(error))),
                Lasts::ForGood,
            ),
            _ if says_login(error) => login_refused(config),
            _ => match tls_error(error) {
                Some(tls) => of_tls(tls, config),
                None => Failure::new(config.hidden(&with_causes(error)), Lasts::ForNow),
            },
        }
    }
}

/// Of a login that is over the server says so in words of its own.
fn says_login(error: &async_nats::ConnectError) -> bool {
    with_causes(error).to_ascii_lowercase().contains("user authentication")
}

fn login_refused(config: &NatsConfig) -> Failure {
    let login = match &config.auth {
        NatsAuth::None => {
            let why = "the bus server asks for a login: --bus-user, --bus-token-file, --bus-creds or --bus-nkey";
            return Failure::new(why, Lasts::UntilChanged);
        }
        NatsAuth::User { user, .. } => {
            format!("user {} with this password", weir_types::text::line(user))
        }
        NatsAuth::Token(_) => "token".to_string(),
        NatsAuth::Credentials(_) => "credentials".to_string(),
        NatsAuth::Nkey(_) => "nkey".to_string(),
    };
    Failure::new(format!("the bus server refuses the login by {login}"), Lasts::UntilChanged)
}

/// The error of TLS itself, however deep it is.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // What such an error holds is not among its causes, only what that is caused by.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &rustls::Error, config: &NatsConfig) -> Failure {
    let why = match error {
        rustls::Error::InvalidCertificate(wrong) => of_certificate(wrong, config),
        rustls::Error::AlertReceived(alert) => of_alert(*alert, config),
        rustls::Error::InvalidMessage(_) => {
            "the bus server answers TLS with something else: it is no server with TLS (nats:// \
             instead of tls://, and no --bus-tls-… flag)"
                .to_string()
        }
        other => format!("TLS with the bus server failed: {other}"),
    };
    Failure::new(config.hidden(&why), Lasts::UntilChanged)
}

fn of_certificate(wrong: &CertificateError, config: &NatsConfig) -> String {
    let what = match wrong {
        CertificateError::UnknownIssuer => {
            "is of no authority that is trusted here (--bus-tls-ca names the file of one)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet, or the clock of this machine is wrong"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let shown = config.shown();
            return format!("the bus server's certificate is not for the name in {shown} (--bus)");
        }
        CertificateError::Revoked => "is revoked",
        other => return format!("the bus server's certificate is refused: {other}"),
    };
    format!("the bus server's certificate {what}")
}

fn of_alert(alert: AlertDescription, config: &NatsConfig) -> String {
    let is_of_certificate = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    );
    match (is_of_certificate, &config.tls_client) {
        (true, None) => {
            "the bus server asks for a certificate of ours: --bus-tls-cert and --bus-tls-key"
                .to_string()
        }
        (true, Some(_)) => {
            format!("the bus server refuses our certificate (--bus-tls-cert): {alert:?}")
        }
        (false, _) => format!("the bus server ended TLS: {alert:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(error: rustls::Error) -> async_nats::ConnectError {
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        async_nats::ConnectError::with_source(ConnectErrorKind::Io, io)
    }

    /// Each failure names what is wrong and the flag that mends it, whatever it is wrapped in, and says nothing of
    /// what is secret; a server that is not there is no reason to give up.
    #[test]
    fn what_is_said() {
        let with = |login: &str| NatsConfig::parse(&format!("tls://{login}h:1")).unwrap();
        let none = with("");
        let certificate = |wrong| io(rustls::Error::InvalidCertificate(wrong));
        let refused = || async_nats::ConnectError::new(ConnectErrorKind::AuthorizationViolation);
        for (error, config, part, lasts) in [
            (refused(), &with("me:s3cret@"), "login by user me", Lasts::UntilChanged),
            (refused(), &with("s3cret@"), "login by token", Lasts::UntilChanged),
            (refused(), &none, "--bus-creds", Lasts::UntilChanged),
            (certificate(CertificateError::Expired), &none, "has expired", Lasts::UntilChanged),
            (
                certificate(CertificateError::UnknownIssuer),
                &none,
                "--bus-tls-ca",
                Lasts::UntilChanged,
            ),
            (
                certificate(CertificateError::NotValidForName),
                &none,
                "tls://h:1",
                Lasts::UntilChanged,
            ),
            (
                io(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)),
                &none,
                "--bus-tls-cert",
                Lasts::UntilChanged,
            ),
            (
                async_nats::ConnectError::with_source(
                    ConnectErrorKind::Io,
                    std::io::Error::other("connection refused by s3cret"),
                ),
                &with("me:s3cret@"),
                "connection refused",
                Lasts::ForNow,
            ),
            (
                async_nats::ConnectError::new(ConnectErrorKind::Authentication),
                &none,
                "--bus-nkey",
                Lasts::ForGood,
            ),
        ] {
            let failure = Failure::of(&error, config);
            assert!(failure.why.contains(part), "{part}: {failure:?}");
            assert!(!failure.why.contains("s3cret"), "{failure:?}");
            assert_eq!(failure.lasts, lasts, "{failure:?}");
        }
    }
}
