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

impl MailServer {
    pub fn start() -> Result<MailServer> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new("python3");
        command
            .args(["-c", include_str!("mail.py"), &addr.port().to_string()])
            .env("PYTHONPATH", packages());
        let mut process = Process::start(command)?;
        process.wait_ready(DEADLINE, |_| TcpStream::connect(addr).ok())?;
        Ok(MailServer { process, addr })
    }

    /// Of each mail so far `from` and `to` of its envelope, the names of its `headers`, its `subject` and `body`, decoded,
    /// and how long its `longest` line is.
    #[must_use]
    pub fn mails(&self) -> Vec<Json> {
        let lines = self.process.stdout.all();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
