//! A real mail server on a loopback port, which tells of each mail what a mail reader would see.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use super::process::Process;
use super::{Result, free_port};

const DEADLINE: Duration = Duration::from_secs(60);

/// Where `scripts/test-servers` puts what comes from PyPI.
fn packages() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/weir/python")
}

/// True if this machine has one.
#[must_use]
pub fn is_installed() -> bool {
    packages().join("aiosmtpd").is_dir()
}

/// Python's mail server, aiosmtpd.
pub struct MailServer {
    process: Process,
    pub addr: SocketAddr,
}

/// Whom a mail server lets in, over TLS only.
pub struct MailLogin<'a> {
    /// The one way that it knows: `PLAIN` or `LOGIN`.
    pub mechanism: &'a str,
    pub user: &'a str,
    pub password: &'a str,
    /// Files of its certificate and its key.
    pub tls: [&'a str; 2],
}

impl MailServer {
    pub fn start() -> Result<MailServer> {
        MailServer::start_by(&[])
    }

    /// One that wants a login. Whom it refuses it tells what it was told.
    pub fn start_guarded(login: &MailLogin<'_>) -> Result<MailServer> {
        let MailLogin { mechanism, user, password, tls: [certificate, key] } = login;
        MailServer::start_by(&[mechanism, user, password, certificate, key])
    }

    fn start_by(more: &[&str]) -> Result<MailServer> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new("python3");
        command
            .args(["-c", include_str!("mail.py"), &addr.port().to_string()])
            .args(more)
            .env("PYTHONPATH", packages());
        let mut process = Process::start(command)?;
        process.wait_ready(DEADLINE, |_| TcpStream::connect(addr).ok())?;
        Ok(MailServer { process, addr })
    }

    /// Of each mail so far `from` and `to` of its envelope, the names of its `headers`, its `subject` and `body`, decoded,
    /// and how long its `longest` line is.
    #[must_use]
    pub fn mails(&self) -> Vec<Json> {
        self.said("subject")
    }

    /// Of each login so far `mechanism`, `user` and `password`.
    #[must_use]
    pub fn logins(&self) -> Vec<Json> {
        self.said("mechanism")
    }

    fn said(&self, with: &str) -> Vec<Json> {
        let lines = self.process.stdout.all();
        let all = lines.iter().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        all.filter(|told| !told[with].is_null()).collect()
    }
}
