//! Mail, to a real server: in clear, by STARTTLS and over TLS, with logins that are right and wrong.

use std::path::Path;
use std::process::{Command, Stdio};

use weir_rules::notify::mail::Envelope;
use weir_types::testing::free_port;

use super::super::super::mail::MailTo;
use super::*;

const PASSWORD: &str = "pä$$ \"word\": #1";

/// Python's mail server, where `scripts/test-servers` has put it: it prints what it gets.
struct MailServer {
    child: std::process::Child,
    said: mpsc::Receiver<String>,
}

impl MailServer {
    /// `files`: of a certificate and its key, if it speaks TLS. `None`: it is not there.
    fn start(port: u16, kind: &str, files: &[&Path]) -> Option<MailServer> {
        let home = std::path::PathBuf::from(std::env::var_os("HOME")?);
        let packages = home.join(".cache/weir/python");
        packages.join("aiosmtpd").is_dir().then_some(())?;
        let mut child = Command::new("python3")
            .args(["-c", include_str!("mail_server.py"), &port.to_string(), kind])
            .args(files)
            .env("PYTHONPATH", packages)
            .env("PYTHONUNBUFFERED", "1")
            .env("PASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (tell, said) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| tell.send(line).ok())
        });
        for _ in 0..1_200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(MailServer { child, said });
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("aiosmtpd does not answer");
    }

    /// The lines of the next mail.
    fn mail(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.said.recv_timeout(Duration::from_secs(60)).unwrap();
            if line.contains("END MESSAGE") {
                return lines;
            }
            lines.push(line);
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn mail_to(url: String, user: Option<(&str, &str)>, authorities: Option<&str>) -> MailTo {
    let to = vec!["a@example.org".to_string(), "b@example.org".to_string()];
    MailTo {
        url,
        envelope: Envelope::new("weir@example.org", &to).unwrap(),
        from: "weir@example.org".to_string(),
        to,
        user: user.map(|(user, password)| (user.to_string(), password.to_string())),
        authorities: authorities.map(str::to_string),
        timeout: Duration::from_secs(10),
    }
}

fn start(to: MailTo) -> Receiver {
    let sender = Sender::Smtp(to);
    let queue = Arc::new(Queue::new(sender.is_state()));
    let part = weir_actors::Part::alone("r");
    Receiver::start("r", "p", &sender, queue, part, Arc::new(WallClock)).unwrap()
}

/// A real mail server gets an alert as one mail, to all who are to have it; what is in a label adds no header and is
/// read as it was. While the server is away nothing is lost.
#[test]
fn mail_arrives() {
    let port = free_port();
    let Some(server) = MailServer::start(port, "plain", &[]) else {
        return weir_types::testing::skipped("there is no aiosmtpd");
    };
    let receiver = start(mail_to(format!("smtp://127.0.0.1:{port}"), None, None));
    let with = |svc: &str| {
        let labels = [("alertname", "A\r\nBcc: evil@example.org"), ("svc", svc)];
        let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
        let labels = Labels::new(labels.into_iter().collect());
        Arc::new(Notice { labels, ..(*notice(1)).clone() })
    };
    receiver.queue.push([with("grüße\r\nBcc: evil@example.org")]);
    until("it is sent", &receiver, |row| row.sent == 1 && row.waiting == 0);
    let lines = server.mail();
    let end = lines.iter().position(String::is_empty).unwrap();
    let header = lines[..end].join("\n");
    assert!(header.contains("From: weir@example.org"), "{header}");
    assert!(header.contains("To: a@example.org,\n b@example.org"), "{header}");
    assert!(header.contains("Subject: ") && !header.contains("\nBcc:"), "{header}");
    let body = base64_text(&lines[end..].concat());
    assert!(body.contains("grüße") && body.contains("Bcc: evil"), "{body}");

    drop(server);
    receiver.queue.push([with("later")]);
    let row = until("it is tried again", &receiver, |row| row.errors > 0);
    assert_eq!((row.state, row.waiting, row.lost), ("retrying", 1, 0));
    let server = MailServer::start(port, "plain", &[]).unwrap();
    until("it is sent", &receiver, |row| row.sent == 2 && row.waiting == 0);
    assert!(server.mail().iter().any(|line| line.starts_with("Subject: ")));
}

fn base64_text(text: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.chars().filter_map(|c| ALPHABET.find(c));
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0usize, 0);
    for digit in digits {
        held = (held << 6 | digit) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A certificate for 127.0.0.1 that is its own authority. `None`: there is no openssl.
fn certificate(dir: &Path) -> Option<()> {
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mail \
                -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
                -keyout key.pem -out cert.pem";
    let mut openssl = Command::new("openssl");
    let made = openssl.args(args.split_whitespace()).current_dir(dir).output().ok()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(())
}

/// With a login, by STARTTLS and over TLS, a real server takes the mail. A wrong password, a certificate of nobody who is
/// trusted and a server without TLS are said as such; the alert waits, and the password stands nowhere: neither in the state
/// nor as the bytes that a login carries. Catches a password that goes out in clear, and a refused login that is taken for a
/// refused mail, which would be given up.
#[test]
fn mail_logs_in_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    if certificate(dir.path()).is_none() {
        return weir_types::testing::skipped("there is no openssl");
    }
    let authority = std::fs::read_to_string(&cert).unwrap();
    let right = Some(("weir", PASSWORD));
    for (kind, scheme) in [("starttls", "smtp"), ("tls", "smtps")] {
        let port = free_port();
        let Some(server) = MailServer::start(port, kind, &[&cert, &key]) else {
            return weir_types::testing::skipped("there is no aiosmtpd");
        };
        let url = format!("{scheme}://127.0.0.1:{port}");
        let receiver = start(mail_to(url.clone(), right, Some(&authority)));
        receiver.queue.push([notice(1)]);
        let row = until("it is sent", &receiver, |row| row.sent == 1 && row.waiting == 0);
        assert_eq!((row.errors, row.state), (0, "running"), "{kind}: {row:?}");
        assert!(server.mail().iter().any(|line| line.starts_with("Subject: ")));

        let wrong = Some(("weir", "another hidden-word"));
        let cases = [
            (
                wrong,
                Some(authority.as_str()),
                "refuses user weir with this password: permanent error (535)",
            ),
            (right, None, "the mail server's certificate is not trusted"),
            (None, Some(authority.as_str()), "530"),
        ];
        for (user, trusted, wanted) in cases {
            let receiver = start(mail_to(url.clone(), user, trusted));
            receiver.queue.push([notice(2)]);
            let row = until(wanted, &receiver, |row| row.errors >= 2);
            assert!(row.last_error.contains(wanted), "{kind}: {row:?}");
            assert_eq!((row.state, row.waiting, row.sent, row.lost), ("retrying", 1, 0, 0));
            let shown = format!("{row:?}");
            assert!(!shown.contains("hidden") && !shown.contains(PASSWORD), "{shown}");
        }
    }
    let port = free_port();
    let _server = MailServer::start(port, "plain", &[]).unwrap();
    let receiver = start(mail_to(format!("smtp://127.0.0.1:{port}"), right, Some(&authority)));
    receiver.queue.push([notice(3)]);
    let row = until("no STARTTLS", &receiver, |row| row.errors >= 2);
    assert!(
        row.last_error.contains("has no STARTTLS, and a password goes nowhere in clear"),
        "{row:?}"
    );
}
