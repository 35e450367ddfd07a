//! Servers and clients of many kinds, as `servers/` and Debian have them: how each is started, and what
//! it needs to be there. It does *not* install anything, and it knows nothing of what is captured.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::{Result, free_port, io_error};

/// Java compiles its source first; all wait for one another on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// Asked for by every client: so many of each kind (`p`, `s`, `l`).
pub const EACH: usize = 30;

/// What a server is started from.
pub struct Place<'a> {
    /// Its own, empty but for the files of static servers.
    dir: &'a Path,
    /// `servers/`.
    apps: &'a Path,
    port: u16,
    /// Port of the application that proxies forward to.
    upstream: u16,
}

impl Place<'_> {
    fn write(&self, name: &str, text: &str) -> String {
        super::put(self.dir, name, text)
    }

    fn app(&self, name: &str) -> String {
        self.apps.join(name).display().to_string()
    }
}

/// What a program needs beside itself.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    PythonModule(&'static str),
    File(&'static str),
}

impl Needs {
    fn missing(self) -> Option<String> {
        match self {
            Needs::Nothing => None,
            Needs::PythonModule(module) => {
                let probe = Command::new(PYTHON).args(["-c", &format!("import {module}")]).output();
                let found = probe.is_ok_and(|output| output.status.success());
                (!found).then(|| format!("{PYTHON} has no {module}"))
            }
            Needs::File(path) => {
                (!is_there(Path::new(path))).then(|| format!("there is no {path}"))
            }
        }
    }
}

/// One kind of server.
pub struct ServerKind {
    pub name: &'static str,
    program: &'static str,
    /// What must be there beside it.
    needs: Needs,
    /// Answers files: `p/…`, `s/…`, `l/…` are laid out before it starts.
    is_static: bool,
    arguments: fn(&Place<'_>) -> Vec<String>,
}

macro_rules! words {
    ($($part:expr),* $(,)?) => { vec![$($part.to_string()),*] };
}

const fn kind(
    name: &'static str,
    program: &'static str,
    arguments: fn(&Place<'_>) -> Vec<String>,
) -> ServerKind {
    ServerKind { name, program, needs: Needs::Nothing, is_static: false, arguments }
}

const fn files(
    name: &'static str,
    program: &'static str,
    arguments: fn(&Place<'_>) -> Vec<String>,
) -> ServerKind {
    ServerKind { is_static: true, ..kind(name, program, arguments) }
}

const fn python(
    name: &'static str,
    module: &'static str,
    arguments: fn(&Place<'_>) -> Vec<String>,
) -> ServerKind {
    ServerKind { needs: Needs::PythonModule(module), ..kind(name, PYTHON, arguments) }
}

/// Debian's, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

macro_rules! library_of_python {
    ($name:literal, $module:literal) => {
        python(concat!("python-", $name), $module, |at| words![at.app("app.py"), $name, at.port])
    };
}

/// The application that the others are compared with, and that proxies forward to.
pub const NODE: ServerKind = kind("node", "node", |at| words![at.app("server.js"), at.port]);

/// Every server but [`NODE`].
pub const SERVERS: &[ServerKind] = &[
    kind("node-cluster", "node", |at| words![at.app("server.js"), at.port, 2]),
    python("python-http.server", "http.server", |at| {
        words![at.app("app.py"), "http_server", at.port]
    }),
    library_of_python!("tornado", "tornado"),
    library_of_python!("aiohttp", "aiohttp"),
    library_of_python!("twisted", "twisted"),
    library_of_python!("waitress", "waitress"),
    library_of_python!("cheroot", "cheroot"),
    library_of_python!("werkzeug", "werkzeug"),
    python("gunicorn", "gunicorn", |at| {
        let bind = format!("127.0.0.1:{}", at.port);
        let apps = at.apps.display();
        words![
            "-m",
            "gunicorn",
            "--chdir",
            apps,
            "--worker-tmp-dir",
            at.dir.display(),
            "-w",
            2,
            "-b",
            bind,
            "app:app"
        ]
    }),
    python("uvicorn", "uvicorn", |at| {
        words![
            "-m",
            "uvicorn",
            "--app-dir",
            at.apps.display(),
            "--port",
            at.port,
            "--no-access-log",
            "app:asgi"
        ]
    }),
    kind("java", "java", |at| words![at.app("Server.java"), "server", at.port]),
    kind("puma", "puma", |at| {
        words!["-b", format!("tcp://127.0.0.1:{}", at.port), "-q", at.app("config.ru")]
    }),
    kind("unicorn", "unicorn", |at| {
        words!["-l", format!("127.0.0.1:{}", at.port), at.app("config.ru")]
    }),
    kind("thin", "thin", |at| {
        words!["-a", "127.0.0.1", "-p", at.port, "-R", at.app("config.ru"), "-q", "start"]
    }),
    ServerKind {
        needs: Needs::File(
            "/usr/share/rubygems-integration/all/specifications/webrick-1.8.1.gemspec",
        ),
        ..kind("webrick", "ruby", |at| words![at.app("webrick.rb"), at.port])
    },
    kind("php", "php", |at| words!["-S", format!("127.0.0.1:{}", at.port), at.app("app.php")]),
    kind("starman", "starman", |at| {
        words!["--listen", format!("127.0.0.1:{}", at.port), "--workers", 2, at.app("app.psgi")]
    }),
    ServerKind {
        needs: Needs::File("/usr/share/perl5/HTTP/Daemon.pm"),
        ..kind("perl-http-daemon", "perl", |at| words![at.app("daemon.pl"), at.port])
    },
    kind("go", "go", |at| words!["run", at.app("main.go"), "server", at.port]),
    files("apache", "apache2", apache),
    files("lighttpd", "lighttpd", lighttpd),
    files("nginx-gzip", "nginx", |at| nginx(at, "gzip on; gzip_types *; sendfile on; root FILES;")),
    files("nginx-sendfile", "nginx", |at| nginx(at, "sendfile on; tcp_nopush on; root FILES;")),
    files("h2o", "h2o", |at| {
        let dir = at.dir.display();
        let text = format!(
            "hosts:\n  default:\n    listen:\n      host: 127.0.0.1\n      port: {}\n    paths:\n      /:\n        \
             file.dir: {dir}/files\nuser: root\n",
            at.port
        );
        words!["-c", at.write("h2o.conf", &text)]
    }),
    files("caddy-files", "caddy", |at| {
        caddy(at, &format!("root * {}/files\n  file_server", at.dir.display()))
    }),
    files("busybox", "busybox", |at| {
        let root = at.dir.join("files");
        words!["httpd", "-f", "-p", format!("127.0.0.1:{}", at.port), "-h", root.display()]
    }),
    files("webfs", "webfsd", |at| {
        let root = at.dir.join("files");
        words!["-F", "-i", "127.0.0.1", "-p", at.port, "-r", root.display()]
    }),
    kind("nginx-proxy", "nginx", |at| {
        let upstream = format!("proxy_pass http://127.0.0.1:{};", at.upstream);
        nginx(at, &format!("proxy_http_version 1.1; proxy_set_header Connection \"\"; {upstream}"))
    }),
    kind("caddy-proxy", "caddy", |at| {
        caddy(at, &format!("reverse_proxy 127.0.0.1:{}", at.upstream))
    }),
    kind("haproxy", "haproxy", haproxy),
    kind("varnish", "varnishd", |at| {
        let port = format!("127.0.0.1:{}", at.port);
        words![
            "-F",
            "-a",
            port,
            "-b",
            format!("127.0.0.1:{}", at.upstream),
            "-n",
            at.dir.display(),
            "-s",
            "malloc,16m"
        ]
    }),
    kind("nghttpx", "nghttpx", |at| {
        let front = format!("-f127.0.0.1,{};no-tls", at.port);
        words![
            front,
            format!("-b127.0.0.1,{}", at.upstream),
            "--errorlog-file=/dev/null",
            "--accesslog-file=/dev/null",
            "--conf=/dev/null"
        ]
    }),
    kind("squid", "squid", squid),
];

fn nginx(at: &Place<'_>, location: &str) -> Vec<String> {
    let dir = at.dir.display();
    let location = location.replace("FILES", &format!("{dir}/files"));
    let mut text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}/pid;\nevents {{}}\nhttp {{\n  access_log off;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {kind}_temp_path {dir}/{kind};");
    }
    let _ = write!(
        text,
        "  server {{ listen 127.0.0.1:{}; location / {{ {location} }} }}\n}}\n",
        at.port
    );
    words!["-p", dir, "-c", at.write("nginx.conf", &text), "-e", "stderr"]
}

fn caddy(at: &Place<'_>, site: &str) -> Vec<String> {
    let options = "{\n  auto_https off\n  admin off\n}\n";
    let text = format!("{options}http://127.0.0.1:{} {{\n  {site}\n}}\n", at.port);
    words!["run", "--adapter", "caddyfile", "--config", at.write("Caddyfile", &text)]
}

fn apache(at: &Place<'_>) -> Vec<String> {
    let dir = at.dir.display();
    let modules = "/usr/lib/apache2/modules";
    let mut text =
        format!("ServerName localhost\nListen 127.0.0.1:{}\nPidFile {dir}/pid\n", at.port);
    for module in ["mpm_event", "authz_core", "dir", "filter", "deflate", "mime"] {
        let _ = writeln!(text, "LoadModule {module}_module {modules}/mod_{module}.so");
    }
    let _ = write!(
        text,
        "TypesConfig /dev/null\nUser www-data\nErrorLog {dir}/error\nDocumentRoot {dir}/files\n\
         AddOutputFilterByType DEFLATE text/plain\n<Directory />\n  Require all granted\n  ForceType text/plain\n</Directory>\n"
    );
    words!["-X", "-f", at.write("apache.conf", &text)]
}

fn lighttpd(at: &Place<'_>) -> Vec<String> {
    let dir = at.dir.display();
    let text = format!(
        "server.document-root = \"{dir}/files\"\nserver.bind = \"127.0.0.1\"\nserver.port = {}\n\
         server.upload-dirs = ( \"{dir}\" )\n",
        at.port
    );
    words!["-D", "-f", at.write("lighttpd.conf", &text)]
}

fn haproxy(at: &Place<'_>) -> Vec<String> {
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  option splice-auto\n\
         frontend f\n  bind 127.0.0.1:{}\n  default_backend b\nbackend b\n  server s 127.0.0.1:{}\n",
        at.port, at.upstream
    );
    words!["-db", "-f", at.write("haproxy.cfg", &text)]
}

fn squid(at: &Place<'_>) -> Vec<String> {
    let dir = at.dir.display();
    let text = format!(
        "http_port 127.0.0.1:{} accel defaultsite=localhost no-vhost\n\
         cache_peer 127.0.0.1 parent {} 0 no-query originserver name=up\n\
         acl all_of_them src all\nhttp_access allow all_of_them\ncache deny all_of_them\n\
         cache_effective_user proxy\npid_filename none\ncoredump_dir {dir}\n\
         memory_cache_shared off\ncache_log /dev/null\naccess_log none\nshutdown_lifetime 1 seconds\n",
        at.port, at.upstream
    );
    // A name of its own for what it shares, so that two do not meet.
    words!["-N", "-n", format!("weir{}", at.port), "-f", at.write("squid.conf", &text)]
}

/// A running one.
pub struct Server {
    pub name: &'static str,
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

/// The folder of the applications.
#[must_use]
pub fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

fn missing(program: &str, needs: Needs) -> Option<String> {
    if find(program).is_none() {
        return Some(format!("{program} is not installed"));
    }
    needs.missing()
}

fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}

fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return is_there(Path::new(program)).then(|| PathBuf::from(program));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    // Servers live in sbin, which is not in everybody's path.
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    dirs.map(|dir| Path::new(dir).join(program)).find(|path| is_there(path))
}

impl ServerKind {
    /// Why it cannot be started here.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        missing(self.program, self.needs)
    }

    /// Starts it and waits until it accepts connections.
    pub fn start(&self, upstream: u16, tags: &[String]) -> Result<Server> {
        let dir = tempfile::tempdir().map_err(io_error("make a directory"))?;
        // Servers that give up root must still read their files.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).map_err(io_error("open a directory"))?;
        if self.is_static {
            lay_out(&dir.path().join("files"), tags).map_err(io_error("write files to serve"))?;
        }
        let port = free_port();
        let place = Place { dir: dir.path(), apps: &apps(), port, upstream };
        let program = find(self.program).unwrap_or_else(|| PathBuf::from(self.program));
        let mut command = Command::new(program);
        command.args((self.arguments)(&place)).current_dir(dir.path());
        command.env("XDG_CONFIG_HOME", dir.path()).env("XDG_DATA_HOME", dir.path());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = Process::start(command)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_ready(READY, |_| TcpStream::connect(addr).ok())?;
        Ok(Server { name: self.name, port, _process: process, _dir: dir })
    }
}

fn lay_out(root: &Path, tags: &[String]) -> std::io::Result<()> {
    let long: String = (0..12_000).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line:09}");
        text
    });
    for (kind, body) in [("p", "plain\n"), ("s", "abababab"), ("l", long.as_str())] {
        for tag in tags {
            let dir = root.join(kind).join(tag);
            std::fs::create_dir_all(&dir)?;
            for number in 1..=EACH {
                std::fs::write(dir.join(number.to_string()), body)?;
            }
        }
    }
    Ok(())
}

/// One kind of client: how it asks for [`EACH`] of each kind, one after the other.
pub struct ClientKind {
    pub name: &'static str,
    program: &'static str,
    needs: Needs,
    arguments: fn(port: u16, tag: &str) -> Vec<String>,
}

const fn client(
    name: &'static str,
    program: &'static str,
    arguments: fn(port: u16, tag: &str) -> Vec<String>,
) -> ClientKind {
    ClientKind { name, program, needs: Needs::Nothing, arguments }
}

fn app(name: &str) -> String {
    apps().join(name).display().to_string()
}

/// Both ask every server.
pub const CURL: ClientKind = client("curl", "curl", curl);
pub const PYTHON_CLIENT: ClientKind =
    client("python-http.client", PYTHON, |port, tag| words![app("client.py"), port, tag]);

/// These ask one server.
pub const CLIENTS: &[ClientKind] = &[
    client("node-fetch", "node", |port, tag| words![app("client.js"), port, tag]),
    client("java", "java", |port, tag| words![app("Server.java"), "client", port, tag]),
    client("go", "go", |port, tag| words!["run", app("main.go"), "client", port, tag]),
    ClientKind {
        needs: Needs::File("/usr/share/perl5/LWP.pm"),
        ..client("perl-lwp", "perl", |port, tag| words![app("client.pl"), port, tag])
    },
    client("wget", "wget", wget),
];

fn urls(port: u16, tag: &str) -> Vec<String> {
    let of = |kind| (1..=EACH).map(move |n| format!("http://127.0.0.1:{port}/{kind}/{tag}/{n}"));
    ["p", "s", "l"].into_iter().flat_map(of).collect()
}

fn curl(port: u16, tag: &str) -> Vec<String> {
    let mut all = words!["--http1.1", "--silent", "--fail", "--compressed", "--max-time", 50];
    for url in urls(port, tag) {
        all.extend(words!["-o", "/dev/null", url]);
    }
    all
}

fn wget(port: u16, tag: &str) -> Vec<String> {
    let mut all = words!["-q", "-O", "/dev/null"];
    all.extend(urls(port, tag));
    all
}

impl ClientKind {
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        missing(self.program, self.needs)
    }

    /// Asks a server; an error tells what the client said.
    pub fn ask(&self, port: u16, tag: &str) -> Result<()> {
        let mut command = Command::new(self.program);
        command.args((self.arguments)(port, tag));
        let output = super::weir::output_of(command, READY)?;
        if output.status.success() {
            return Ok(());
        }
        let what = format!("{} gave up: {}", self.name, output.stderr.join("\n"));
        Err(super::HarnessError::Live(what))
    }
}
