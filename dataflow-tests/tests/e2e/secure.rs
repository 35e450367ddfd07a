//! A bus with TLS and logins: every way to come in comes in and stays in over a restart of the server; whoever may
//! not is told what is wrong, which flag mends it, and ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, has_bus_server, settles};
use weir_dataflow_tests::harness::weir::{self, Weir};

const DEADLINE: Duration = Duration::from_secs(90);

/// Certificates of two authorities, made for this test.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let made = Certificates(tempfile::tempdir().unwrap());
        for ca in ["ca", "other-ca"] {
            let (key, pem) = (format!("{ca}.key"), format!("{ca}.pem"));
            let subject = format!("/CN={ca} of a test");
            let args =
                ["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &pem];
            made.openssl(None, &[&args[..], &KEY].concat());
        }
        made.issue("server", "DNS:localhost,IP:127.0.0.1", None);
        made.issue("elsewhere", "DNS:elsewhere.example", None);
        made.issue("expired", "DNS:localhost,IP:127.0.0.1", Some("-3 days"));
        made.issue("client", "DNS:client", None);
        made
    }

    /// A certificate for a day, from now on or from another time.
    fn issue(&self, name: &str, names: &str, at: Option<&str>) {
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let extension = format!("{name}.ext");
        std::fs::write(self.0.path().join(&extension), format!("subjectAltName={names}\n"))
            .unwrap();
        let args = ["req", "-subj", "/CN=of a test", "-keyout", &key, "-out", &csr];
        self.openssl(None, &[&args[..], &KEY].concat());
        let signed = ["x509", "-req", "-in", &csr, "-CA", "ca.pem", "-CAkey", "ca.key"];
        let rest = ["-CAcreateserial", "-days", "1", "-extfile", &extension, "-out", &pem];
        self.openssl(at, &[signed.as_slice(), &rest].concat());
    }

    fn openssl(&self, at: Option<&str>, args: &[&str]) {
        let mut command = match at {
            Some(at) => {
                let mut command = Command::new("faketime");
                command.args([at, "openssl"]);
                command
            }
            None => Command::new("openssl"),
        };
        let output = command.args(args).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_string()
    }

    /// A section of a server's configuration; `asks`: for certificates of clients.
    fn tls(&self, name: &str, asks: bool) -> String {
        let file = |what: &str| self.path(&format!("{name}.{what}"));
        let (cert, key, ca) = (file("pem"), file("key"), self.path("ca.pem"));
        format!(
            "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {asks} }}\n"
        )
    }
}

/// A small key without a password.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn can_run() -> bool {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let all = has_bus_server() && has("openssl") && has("faketime");
    if !all {
        weir_types::testing::skipped("no nats-server, openssl or faketime");
    }
    all
}

/// A file with a secret.
fn secret(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Claims signed by an issuer, as NATS writes them.
fn signed(issuer: &KeyPair, subject: &str, kind: &Json, expires: Option<i64>) -> String {
    let mut claims = json!({
        "jti": subject, "iat": 1_600_000_000, "iss": issuer.public_key(), "sub": subject,
        "name": "of a test", "nats": kind
    });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let text =
        [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A server's configuration that lets a user of an account in, and the user's credentials; `expires`: at that time.
fn with_jwt(expires: Option<i64>) -> (String, String) {
    let [operator, account, user] =
        [KeyPairType::Operator, KeyPairType::Account, KeyPairType::User].map(KeyPair::new);
    let kind = json!({"type": "operator", "version": 2});
    let of_operator = signed(&operator, &operator.public_key(), &kind, None);
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1
    });
    let kind = json!({"type": "account", "version": 2, "limits": limits});
    let of_account = signed(&operator, &account.public_key(), &kind, None);
    let kind = json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1
    });
    let of_user = signed(&account, &user.public_key(), &kind, expires);
    let config = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}\n",
        account.public_key()
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    (config, credentials)
}

/// A node and a cluster part come in by these flags, find each other, and do so again when the server has died and is
/// back. Nothing that is secret is in what they say.
fn come_in(config: &str, scheme: &str, flags: &[&str], secrets: &[&str]) {
    let mut bus = BusServer::start(config).unwrap();
    let url = format!("{scheme}://localhost:{}", bus.addr.port());
    let cluster = Weir::start_cluster(&url, flags).unwrap();
    // It captures nothing: that is not what this is about.
    let node = Node::start(&url, "a", &[&["--trace", "port:1"], flags].concat()).unwrap();
    let is_there = |lagging: bool| {
        let nodes = cluster.run(&["nodes", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
        nodes.iter().any(|node| node["name"] == "a" && node["lagging"] == lagging)
    };
    settles(DEADLINE, "the node is there", || is_there(false));
    bus.kill().unwrap();
    settles(DEADLINE, "the node lags", || is_there(true));
    bus.restart().unwrap();
    settles(DEADLINE, "the node is back", || is_there(false));
    let said = format!("{}{}", node.log(), cluster.log().join("\n"));
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(node.stop().unwrap().success());
}

/// Whoever comes so ends, and says this.
fn stay_out(config: &str, scheme: &str, flags: &[&str], says: &[&str], secrets: &[&str]) {
    let bus = BusServer::start(config).unwrap();
    let url = format!("{scheme}://localhost:{}", bus.addr.port());
    let dir = tempfile::tempdir().unwrap();
    let common = ["--bus", &url, "--data-dir", dir.path().to_str().unwrap()];
    for role in [&["cluster", "--listen", "127.0.0.1:0"][..], &["node", "--trace", "port:1"]] {
        let ended = weir::run(&[role, &common, flags].concat(), DEADLINE).unwrap();
        let said = ended.stderr.join("\n");
        assert_eq!(ended.status.code(), Some(1), "{role:?} {flags:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{part:?} for {flags:?} in {said}");
        }
        for secret in secrets {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
        assert!(ended.stdout.is_empty(), "ready for nothing: {:?}", ended.stdout);
    }
}

/// By a user over TLS, by a token, by an nkey over TLS that asks for a certificate, and by credentials of an
/// account: each comes in, over a restart. Catches a flag that is not handed on, a way that works without TLS only,
/// and one that is not used again when it connects anew.
#[test]
fn every_login_comes_in() {
    if !can_run() {
        return;
    }
    let certificates = Certificates::new();
    let dir = certificates.0.path();
    let file = |name: &str, text: &str| secret(dir, name, text).to_str().unwrap().to_string();
    let ca = certificates.path("ca.pem");
    let password = file("password", "s3cret-password\n");
    come_in(
        &format!(
            "authorization {{ user: me, password: \"s3cret-password\" }}\n{}",
            certificates.tls("server", false)
        ),
        "tls",
        &["--bus-user", "me", "--bus-password-file", &password, "--bus-tls-ca", &ca],
        &["s3cret-password"],
    );
    let token = file("token", "s3cret-token");
    come_in(
        "authorization { token: \"s3cret-token\" }\n",
        "nats",
        &["--bus-token-file", &token],
        &["s3cret-token"],
    );
    let user = KeyPair::new_user();
    let seed = user.seed().unwrap();
    let nkey = file("nkey", &format!("{seed}\n"));
    let (cert, key) = (certificates.path("client.pem"), certificates.path("client.key"));
    let public = user.public_key();
    come_in(
        &format!(
            "authorization {{ users: [ {{ nkey: {public} }} ] }}\n{}",
            certificates.tls("server", true)
        ),
        "tls",
        &["--bus-nkey", &nkey, "--bus-tls-ca", &ca, "--bus-tls-cert", &cert, "--bus-tls-key", &key],
        &[&seed],
    );
    let (config, credentials) = with_jwt(None);
    let creds = file("creds", &credentials);
    let lines: Vec<&str> =
        credentials.lines().filter(|line| line.len() > 40 && !line.starts_with('-')).collect();
    come_in(
        &format!("{config}{}", certificates.tls("server", false)),
        "nats",
        &["--bus-creds", &creds, "--bus-tls-ca", &ca],
        &lines,
    );
}

/// A wrong password, none, a wrong token, nkey or expired credentials; an authority that is not trusted, a certificate
/// for another name, one that has expired, none of ours where one is asked for or one with another's key, TLS with a server that has none: both
/// roles end with status 1 and one sentence that says what to change. Catches somebody who waits for ever without a
/// word, and a certificate that is taken unseen.
#[test]
fn nobody_else_does() {
    if !can_run() {
        return;
    }
    let certificates = Certificates::new();
    let dir = certificates.0.path();
    let file = |name: &str, text: &str| secret(dir, name, text).to_str().unwrap().to_string();
    let (ca, other_ca) = (certificates.path("ca.pem"), certificates.path("other-ca.pem"));
    let wrong = file("wrong", "wr0ng");
    let user = "authorization { user: me, password: r1ght }\n";
    let by_user = ["--bus-user", "me", "--bus-password-file", &wrong];
    let nkey = file("nkey", &KeyPair::new_user().seed().unwrap());
    let public = KeyPair::new_user().public_key();
    let by_nkey = format!("authorization {{ users: [ {{ nkey: {public} }} ] }}\n");
    let (expired, credentials) = with_jwt(Some(1_700_000_000));
    let creds = file("creds", &credentials);
    let tls = |name: &str| certificates.tls(name, false);
    let trusting = ["--bus-tls-ca", ca.as_str()];
    let (cert, key) = (certificates.path("client.pem"), certificates.path("server.key"));
    let mismatched =
        [trusting.as_slice(), &["--bus-tls-cert", &cert, "--bus-tls-key", &key]].concat();
    let cases: [(String, &str, &[&str], &[&str]); 11] = [
        (user.to_string(), "nats", &by_user, &["refuses the login by user me"]),
        (user.to_string(), "nats", &[], &["asks for a login", "--bus-creds"]),
        (
            "authorization { token: r1ght }\n".to_string(),
            "nats",
            &["--bus-token-file", &wrong],
            &["login by token"],
        ),
        (by_nkey, "nats", &["--bus-nkey", &nkey], &["login by nkey"]),
        (expired, "nats", &["--bus-creds", &creds], &["login by credentials"]),
        (
            tls("server"),
            "tls",
            &["--bus-tls-ca", &other_ca],
            &["no authority that is trusted", "--bus-tls-ca"],
        ),
        (tls("elsewhere"), "tls", &trusting, &["not for the name in tls://localhost"]),
        (tls("expired"), "tls", &trusting, &["certificate has expired"]),
        (
            certificates.tls("server", true),
            "tls",
            &trusting,
            &["asks for a certificate of ours", "--bus-tls-cert"],
        ),
        (
            certificates.tls("server", true),
            "tls",
            &mismatched,
            &["TLS cannot be set up here", "certificate or key"],
        ),
        (String::new(), "tls", &trusting, &["no server with TLS"]),
    ];
    std::thread::scope(|scope| {
        for (config, scheme, flags, says) in &cases {
            scope.spawn(move || stay_out(config, scheme, flags, says, &["wr0ng", "r1ght"]));
        }
    });
}
