//! How a mail leaves: over TLS from the first byte (`smtps`), or by STARTTLS where the server has it (`smtp`); with a
//! login over TLS only. One connection an attempt, whose steps are told apart: what is said to a login is not about the
//! mail, and a mail that is refused says nothing of the login.

use std::time::Duration;

use lettre::address::Envelope as Addresses;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, SmtpConnection, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use weir_rules::notify::mail::Envelope;
use weir_sinks::secrets;
use weir_sinks::sink::SinkError;

/// Ports without one in the URL: of mail servers for each other, and of those with TLS.
const PORT: u16 = 25;
const TLS_PORT: u16 = 465;

/// Where mail goes.
#[derive(Clone)]
pub struct MailTo {
    /// `smtp://HOST:PORT` (TLS if the server has it), `smtps://HOST:PORT` (from the first byte).
    pub url: String,
    pub envelope: Envelope,
    pub from: String,
    pub to: Vec<String>,
    pub user: Option<(String, String)>,
    /// PEM: only these are trusted. Without, those that browsers trust.
    pub authorities: Option<String>,
    pub timeout: Duration,
}

/// What a URL of a mail server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    /// From the first byte.
    pub is_tls: bool,
}

impl MailServer {
    /// `None`: it is no `smtp://HOST[:PORT]` or `smtps://HOST[:PORT]`.
    #[must_use]
    pub fn of(url: &str) -> Option<MailServer> {
        let (server, is_tls) = match url.strip_prefix("smtp://") {
            Some(server) => (server, false),
            None => (url.strip_prefix("smtps://")?, true),
        };
        let server = server.strip_suffix('/').unwrap_or(server);
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => {
                rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?
            }
            None => {
                server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port)))
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(fits) {
            return None;
        }
        let default = if is_tls { TLS_PORT } else { PORT };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        Some(MailServer { host: host.to_string(), port, is_tls })
    }
}

impl MailTo {
    /// What no message may repeat, the longest first: the password, also as a login carries it.
    fn secrets(&self) -> Vec<String> {
        let Some((user, password)) = &self.user else { return Vec::new() };
        secrets::with_forms(vec![format!("\0{user}\0{password}"), password.clone()])
    }

    fn tls(&self, host: &str) -> Result<TlsParameters, Error> {
        let mut tls = TlsParameters::builder(host.to_string());
        if let Some(pem) = &self.authorities {
            let trusted = Certificate::from_pem(pem.as_bytes())?;
            tls = tls.certificate_store(CertificateStore::None).add_root_certificate(trusted);
        }
        tls.build_rustls()
    }

    /// A connection that may be told mails, or why there is none.
    fn connect(&self) -> Result<SmtpConnection, String> {
        let server = MailServer::of(&self.url).ok_or("its URL names no mail server")?;
        let MailServer { host, port, is_tls } = &server;
        let (name, timeout) = (ClientId::default(), Some(self.timeout));
        let tls = self.tls(host).map_err(|error| error.to_string())?;
        let address = (host.as_str(), *port);
        let first = is_tls.then_some(&tls);
        let mut connection =
            SmtpConnection::connect(address, timeout, &name, first, None).map_err(failed)?;
        // Without a login there is nothing that has to be hidden from whoever is between.
        if !is_tls && connection.can_starttls() {
            connection.starttls(&tls, &name).map_err(failed)?;
        }
        let Some((user, password)) = &self.user else { return Ok(connection) };
        if !connection.is_encrypted() {
            connection.abort();
            return Err(
                "the mail server has no STARTTLS, and a password goes nowhere in clear".into()
            );
        }
        let credentials = Credentials::new(user.clone(), password.clone());
        match connection.auth(DEFAULT_MECHANISMS, &credentials) {
            Ok(_) => Ok(connection),
            Err(error) => {
                connection.abort();
                Err(match error.is_permanent() {
                    true => {
                        format!("the mail server refuses user {user} with this password: {error}")
                    }
                    false => format!("the login as user {user} failed: {error}"),
                })
            }
        }
    }
}

/// Why there is no connection; a certificate is the case that needs somebody.
fn failed(error: Error) -> String {
    let text = error.to_string();
    match text.contains("invalid peer certificate") {
        true => format!("the mail server's certificate is not trusted: {text}"),
        false => format!("could not reach the mail server: {text}"),
    }
}

/// One attempt with all of them.
pub(super) fn send(to: &MailTo, mails: &[Vec<u8>]) -> Result<(), SinkError> {
    let hidden = to.secrets();
    let said = |text: String| secrets::line(&text, &hidden);
    let retry = |text: String| SinkError::Retry(said(text));
    let address = |text: &str| text.parse().map_err(|_| retry(format!("{text:?} is no address")));
    let recipients = to.to.iter().map(|one| address(one)).collect::<Result<Vec<_>, _>>()?;
    let addresses = Addresses::new(Some(address(&to.from)?), recipients);
    let addresses = addresses.map_err(|error| retry(error.to_string()))?;
    let mut connection = to.connect().map_err(retry)?;
    for mail in mails {
        connection.send(&addresses, mail).map_err(|error| {
            match error.status().map(u16::from) {
                // Too large, or refused for what is in it; of all else the other end may think better.
                Some(552 | 554) => SinkError::Unfit(said(error.to_string())),
                _ => retry(error.to_string()),
            }
        })?;
    }
    // The mails are there, whatever is said to a good-bye.
    drop(connection.quit());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_rules::notify::mail::Envelope;

    use super::{MailServer, MailTo};

    /// What a server says to a login may hold what it was told; nothing of that is repeated.
    #[test]
    fn logins_are_not_repeated() {
        let to = vec!["a@b".to_string()];
        let to = MailTo {
            url: "smtp://h".to_string(),
            envelope: Envelope::new("a@b", &to).unwrap(),
            from: "a@b".to_string(),
            to,
            user: Some(("weir".to_string(), "hidden-word".to_string())),
            authorities: None,
            timeout: Duration::from_secs(1),
        };
        let echo = "no AHdlaXIAaGlkZGVuLXdvcmQ= aGlkZGVuLXdvcmQ= hidden-word";
        assert_eq!(weir_sinks::secrets::line(echo, &to.secrets()), "no *** *** ***");
    }

    /// Hosts and ports, and what is no mail server's URL.
    #[test]
    fn urls_are_read() {
        let of =
            |url: &str| MailServer::of(url).map(|server| (server.host, server.port, server.is_tls));
        for (url, host, port, is_tls) in [
            ("smtp://mail.example.org", "mail.example.org", 25, false),
            ("smtp://127.0.0.1:587/", "127.0.0.1", 587, false),
            ("smtps://mail", "mail", 465, true),
            ("smtps://[::1]:5465", "::1", 5465, true),
            ("smtp://[::1]", "::1", 25, false),
        ] {
            assert_eq!(of(url), Some((host.to_string(), port, is_tls)), "{url}");
        }
        for url in [
            "http://h",
            "smtp://",
            "smtp://:25",
            "smtp://h:x",
            "smtp://h:99999",
            "smtp://u@h",
            "smtp://h/p",
            "smtp://h?tls=none",
            "smtp://h o",
            "smtps://[::1",
            "smtp://h:1:2",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
