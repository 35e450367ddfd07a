//! A real nginx on a loopback port: `/ok` answers 200 with a small body, `/missing` 404, `/error`
//! 500 (after which nginx closes the connection), `/moved` 302, `/big` a body of 100,000 bytes, anything else 200 with its path.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, Signal};
use super::{Result, free_port, io_error};

const BINARY: &str = "/usr/sbin/nginx";
const DEADLINE: Duration = Duration::from_secs(20);
pub const BIG_BODY_BYTES: usize = 100_000;

/// True if this machine has nginx; a test says so and is counted as skipped where it has not.
#[must_use]
pub fn is_installed() -> bool {
    Path::new(BINARY).try_exists().unwrap_or(false)
}

#[derive(Clone, Copy, Debug)]
pub struct NginxOptions {
    /// 0 picks one.
    pub port: u16,
    pub keep_alive: bool,
}

impl Default for NginxOptions {
    fn default() -> NginxOptions {
        NginxOptions { port: 0, keep_alive: true }
    }
}

/// A running nginx: a master and one worker.
pub struct Nginx {
    process: Process,
    pub addr: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    /// Starts it and waits until it accepts connections.
    pub fn start(options: NginxOptions) -> Result<Nginx> {
        let port = if options.port == 0 { free_port() } else { options.port };
        let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
        let servers = server_text(dir.path(), port);
        Nginx::start_in(dir, port, &servers, options.keep_alive)
    }

    /// One with other servers, of which one listens on this port; `files` are where it looks for them.
    pub fn start_with(port: u16, servers: &str, files: &[(&str, &str)]) -> Result<Nginx> {
        let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).map_err(io_error("write a file"))?;
        }
        Nginx::start_in(dir, port, servers, true)
    }

    fn start_in(dir: TempDir, port: u16, servers: &str, keep_alive: bool) -> Result<Nginx> {
        let config = dir.path().join("nginx.conf");
        let text = config_text(dir.path(), servers, keep_alive);
        std::fs::write(&config, text).map_err(io_error("write nginx.conf"))?;
        std::fs::write(dir.path().join("big"), vec![b'x'; BIG_BODY_BYTES])
            .map_err(io_error("write the big file"))?;
        let mut command = Command::new(BINARY);
        command.arg("-p").arg(dir.path()).arg("-c").arg(&config).args(["-e", "stderr"]);
        let mut process = Process::start(command)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_ready(DEADLINE, |_| TcpStream::connect(addr).ok())?;
        Ok(Nginx { process, addr, _dir: dir })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Lets requests under way finish, then ends it.
    pub fn quit(mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::Quit, DEADLINE)
    }

    /// Ends master and worker at once, in the middle of whatever they do.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::Kill, DEADLINE)
    }
}

fn server_text(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "  server {{\n    listen 127.0.0.1:{port};\n    root {dir};\n\
         \x20   location = /ok {{ return 200 \"fine\\n\"; }}\n\
         \x20   location = /missing {{ return 404; }}\n\
         \x20   location = /error {{ return 500; }}\n\
         \x20   location = /moved {{ return 302 /ok; }}\n\
         \x20   location = /big {{ }}\n\
         \x20   location / {{ return 200 \"$request_uri\\n\"; }}\n  }}\n"
    )
}

fn config_text(dir: &Path, servers: &str, keep_alive: bool) -> String {
    let dir = dir.display();
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    // As root, workers would be `nobody`, who cannot read the temporary directory.
    let user = if is_root { "user root;\n" } else { "" };
    let timeout = if keep_alive { "65s" } else { "0" };
    let mut out = format!(
        "daemon off;\n{user}worker_processes 1;\npid {dir}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  default_type text/plain;\n\
         \x20 keepalive_timeout {timeout};\n  keepalive_requests 1000000;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(out, "  {kind}_temp_path {dir}/{kind};");
    }
    let _ = writeln!(out, "{servers}}}");
    out
}
