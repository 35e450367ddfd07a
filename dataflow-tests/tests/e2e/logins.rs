//! Secrets of the environment, as those who judge them have them: a broker of Kafka, a gate in front of a collector, a store,
//! mail servers and a chat.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::alertmanager::Hook;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::mail::{self, MailLogin, MailServer};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::receivers::{self, Collector, Kafka, STORE_USER, Store};
use weir_dataflow_tests::harness::weir::{self, Weir};
use weir_dataflow_tests::harness::{free_port, put, wait_until};

use crate::kills::make_topic;
use crate::reloads::told;
use crate::secrets::SECRET;
use crate::secure::Certificates;

const DEADLINE: Duration = Duration::from_secs(60);
/// Paths of the traffic.
const PATHS: usize = 5;
/// As [`SECRET`], without the line end, which neither a header's value nor a URL can have.
const KEY: &str = "pa$1$word \": #'%41 last";
const HOOK_PATH: &str = "/services/T0/pa$1$word \": #'%41é";
const HOOK_SENT: &str = "POST /services/T0/pa$1$word%20%22:%20%23'%41%C3%A9 HTTP/1.1";

const VIEW: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-10m')\n\
    df = df[df.trace_role == 2]\n\
    px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n";

/// In front of a collector: who says the password is let in, then whoever says another one, then who has the key; the
/// fourth tells in its answer what it was told, and so does the last one, by HTTP.
struct Gate {
    _nginx: Nginx,
    ports: [u16; 5],
}

impl Gate {
    fn start(collector: SocketAddr) -> Gate {
        let ports = [0; 5].map(|_| free_port());
        let [open, closed, keyed, telling, chat] = ports;
        let guarded = |port: u16, file: &str| {
            format!(
                "server {{ listen 127.0.0.1:{port} http2; auth_basic x; auth_basic_user_file {file}; \
                 location / {{ grpc_pass grpc://{collector}; }} }}\n"
            )
        };
        let key = KEY.replace('"', "\\\"");
        let servers = format!(
            "{}{}map $http_api_key $is_known {{ \"{key}\" 1; default 0; }}\n\
             server {{ listen 127.0.0.1:{keyed} http2; if ($is_known = 0) {{ return 403; }}\n  \
             location / {{ grpc_pass grpc://{collector}; }} }}\n\
             server {{ listen 127.0.0.1:{telling} http2; default_type application/grpc;\n  \
             add_header grpc-status 16; add_header grpc-message \"not $http_authorization $http_api_key\";\n  \
             location / {{ return 200; }} }}\n\
             server {{ listen 127.0.0.1:{chat}; location / {{ return 403 \"no $request_uri $uri\"; }} }}\n",
            guarded(open, "known"),
            guarded(closed, "others")
        );
        let files = [("known", SECRET), ("others", "other")]
            .map(|(name, word)| (name, format!("me:{{SHA}}{}\n", sha1(word))));
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        Gate { _nginx: Nginx::start_with(open, &servers, &files).unwrap(), ports }
    }
}

/// As files of passwords have it.
fn sha1(text: &str) -> String {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha1", "-binary"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    base64::engine::general_purpose::STANDARD.encode(child.wait_with_output().unwrap().stdout)
}

/// All that tells who is let in.
struct Judges {
    _collector: Collector,
    gate: Gate,
    _kafka: Kafka,
    broker: SocketAddr,
    store: Store,
    closed_store: Store,
    chat: Hook,
    certificates: Certificates,
    by_plain: MailServer,
    by_login: MailServer,
    closed_mail: MailServer,
}

impl Judges {
    fn start() -> Option<Judges> {
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !receivers::are_installed() || !mail::is_installed() || !has("faketime") {
            weir_types::testing::skipped("there is no collector, aiosmtpd or faketime");
            return None;
        }
        let stores = (Store::start_for(SECRET), Store::start());
        let (Some(kafka), (Some(store), Some(closed_store))) =
            (Kafka::start_guarded(SECRET), stores)
        else {
            weir_types::testing::skipped("there is no Kafka, or no store that speaks S3");
            return None;
        };
        let (kafka, broker) = kafka.unwrap();
        make_topic(kafka.0.addr);
        let (collector, certificates) = (Collector::start().unwrap(), Certificates::new());
        let files = ["server.pem", "server.key"].map(|file| certificates.path(file));
        let guarded = |mechanism: &str, password: &str| {
            let tls = files.each_ref().map(String::as_str);
            let login = MailLogin { mechanism, user: "me", password, tls };
            MailServer::start_guarded(&login).unwrap()
        };
        Some(Judges {
            gate: Gate::start(collector.0.addr),
            _collector: collector,
            _kafka: kafka,
            broker,
            store: store.unwrap(),
            closed_store: closed_store.unwrap(),
            chat: Hook::start(200).unwrap(),
            by_plain: guarded("PLAIN", SECRET),
            by_login: guarded("LOGIN", SECRET),
            closed_mail: guarded("PLAIN", "other"),
            certificates,
        })
    }

    /// Name, keys, and what its row says if it is refused; `""`: it is let in.
    fn sinks(&self) -> Vec<(&'static str, String, &'static str)> {
        let kafka = |user: &str, mechanism: &str| {
            format!(
                "type: kafka, brokers: ['{}'], topic: kept, encoding: {{mode: changelog}}, \
                 auth: {{user: {user}, mechanism: {mechanism}}}",
                self.broker
            )
        };
        let otel = |at: usize, auth: &str| {
            format!(
                "type: opentelemetry, protocol: grpc, url: 'http://127.0.0.1:{}', \
                 encoding: {{mode: upsert}}{auth}",
                self.gate.ports[at]
            )
        };
        let store = |store: &Store| {
            format!(
                "type: file, path: 's3://kept/rows.jsonl', url: 'http://{}', auth: {{user: {STORE_USER}}}, \
                 encoding: {{mode: changelog}}, batch: {{timeout: 500ms}}",
                store.0.addr
            )
        };
        let me = ", auth: {user: me}";
        vec![
            ("plain", kafka("me", "PLAIN"), ""),
            ("scram256", kafka("me", "SCRAM-SHA-256"), ""),
            ("scram512", kafka("me", "SCRAM-SHA-512"), ""),
            ("strange", kafka("stranger", "PLAIN"), "refuses user stranger"),
            ("strange256", kafka("stranger", "SCRAM-SHA-256"), "refuses user stranger"),
            ("strange512", kafka("stranger", "SCRAM-SHA-512"), "refuses user stranger"),
            ("points", otel(0, me), ""),
            ("closed", otel(1, me), "HTTP 401"),
            ("keyed", otel(2, ""), ""),
            ("telling", otel(3, me), "gRPC status 16: not *** ***"),
            ("store", store(&self.store), ""),
            ("elsewhere", store(&self.closed_store), "HTTP 403"),
        ]
    }

    fn config(&self, dir: &Path) -> String {
        std::fs::write(dir.join("view.pxl"), VIEW).unwrap();
        let expr = VIEW.replace('\n', "\n      ");
        let rules = format!(
            "groups:\n- name: g\n  rules:\n  - alert: Seen\n    expr: |\n      {}\n",
            expr.trim_end()
        );
        std::fs::write(dir.join("rules.yml"), rules).unwrap();
        let sink = |(name, keys, _): (&str, String, &str)| {
            format!(
                "  {name}: {{{keys}, inputs: [{{file: view.pxl}}], retry: {{initial: 100ms, max: 1s}}}}\n"
            )
        };
        let sinks: String = self.sinks().into_iter().map(sink).collect();
        let ca = self.certificates.path("ca.pem");
        let mail = |name: &str, server: &MailServer| {
            format!(
                "- {{name: {name}, type: smtp, url: 'smtp://{}', from: w@example.org, to: [o@example.org], \
                 auth: {{user: me}}, tls: {{ca: '{ca}'}}}}\n",
                server.addr
            )
        };
        let text = format!(
            "rules: [rules.yml]\nsinks:\n{sinks}receivers:\n{}{}{}\
             - {{name: chat, type: slack}}\n- {{name: no-chat, type: slack}}\n",
            mail("by-plain", &self.by_plain),
            mail("by-login", &self.by_login),
            mail("no-mail", &self.closed_mail)
        );
        put(dir, "weir.yaml", &text)
    }

    /// What is secret, and stands in the environment only.
    fn environment(&self) -> Vec<(String, String)> {
        let sinks = self.sinks().into_iter().map(|(name, ..)| name).filter(|name| *name != "keyed");
        let of_sink = |name: &str| format!("WEIR_SINKS_{}_AUTH_PASSWORD", name.to_uppercase());
        let mut all: Vec<_> = sinks.map(|name| (of_sink(name), SECRET.to_string())).collect();
        for name in ["KEYED", "TELLING"] {
            all.push((format!("WEIR_SINKS_{name}_HEADERS_API_KEY"), KEY.to_string()));
        }
        let mails = [0, 1, 2].map(|n| format!("WEIR_RECEIVERS_{n}_AUTH_PASSWORD"));
        all.extend(mails.map(|name| (name, SECRET.to_string())));
        let no_chat = SocketAddr::from(([127, 0, 0, 1], self.gate.ports[4]));
        for (n, to) in [(3, self.chat.addr), (4, no_chat)] {
            all.push((format!("WEIR_RECEIVERS_{n}_URL"), format!("http://{to}{HOOK_PATH}")));
        }
        all
    }
}

/// Values that could not be sent as they are, are refused where the configuration is judged, and not said.
fn what_cannot_be_sent_is_refused(judges: &Judges, file: &str) {
    let check = |more: &[(&str, String)]| {
        let mut command = Command::new(weir::binary().unwrap());
        command.args(["config", "check", file]).envs(judges.environment());
        command.envs(more.iter().map(|(name, value)| (*name, value.as_str())));
        weir::output_of(command, DEADLINE).unwrap()
    };
    let whole = check(&[]);
    assert!(whole.status.success(), "{whole:?}");
    let url = |end: &str| format!("http://127.0.0.1:1{HOOK_PATH}{end}");
    for (name, value, says) in [
        ("WEIR_SINKS_KEYED_HEADERS_API_KEY", SECRET.to_string(), "`api-key` may have no line ends"),
        (
            "WEIR_SINKS_KEYED_AUTH_TOKEN",
            SECRET.to_string(),
            "`authorization` may have no line ends",
        ),
        ("WEIR_SINKS_KEYED_HEADERS_API_KEY", format!("{KEY} "), "begin or end with a space"),
        ("WEIR_RECEIVERS_3_URL", url("\n"), "%0A"),
    ] {
        let output = check(&[(name, value)]);
        let said = [output.stdout, output.stderr].concat().join("\n");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && !said.contains("pa$1"), "{said}");
    }
}

/// What a message may hold of a secret that it should not.
fn forms() -> Vec<String> {
    let login = |user: &str| STANDARD_NO_PAD.encode(format!("{user}{SECRET}"));
    let encoded = ["", "me:", "\0me\0"].map(|user| login(user)[..16].to_string());
    let plain = [SECRET, KEY, "pa$1", "pa%241", "pa%24", "word%20", "T0/pa", "%41"];
    plain.into_iter().map(str::to_string).chain(encoded).collect()
}

/// A password, a key and a webhook's path of the environment with everything that YAML, shells, URLs and patterns know are
/// used byte for byte: by SASL of each mechanism, in gRPC's metadata, for a store's signatures, by mail's logins and in the
/// URL of a chat; where they are refused, and repeated in whatever form, nothing of them is in what the server says or
/// writes. Catches a login that normalizes what it is given, and an answer that is shown with what it quotes.
#[test]
fn judges_get_them_as_they_are() {
    if !super::can_capture() {
        return;
    }
    let Some(judges) = Judges::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = judges.config(dir.path());
    what_cannot_be_sent_is_refused(&judges, &file);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let mut command = Command::new(weir::binary().unwrap());
    command.envs(judges.environment());
    let weir = Weir::start_by(command, &["--trace", &trace, "--config", &file]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: (0..PATHS).map(|n| format!("/{n}")).collect(),
        requests: 2 * PATHS,
        requests_per_sec: 50,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);

    let rows = |what: &str, more: &[&str]| {
        let args = [&[what], more, &["-o", "jsonl"]].concat();
        weir.run(&args, DEADLINE).unwrap().json_lines()
    };
    let until = |what: &str, more: &[&str], name: &str, wanted: &dyn Fn(&Json) -> bool| {
        let row = || rows(what, more).into_iter().find(|row| row["name"] == name).unwrap();
        let done = wait_until(DEADLINE, || wanted(&row()).then_some(()));
        assert!(done.is_some(), "{} {:#?}", row(), weir.log());
    };
    for (name, _, refused) in judges.sinks() {
        until("sinks", &[], name, &|row| match refused {
            "" => row["rows_sent"].as_u64() >= Some(PATHS as u64),
            why => row["last_error"].as_str().unwrap().contains(why),
        });
    }
    for name in ["by-plain", "by-login", "chat"] {
        until("alerts", &["--receivers"], name, &|row| row["sent"].as_u64() >= Some(1));
    }
    for (name, why) in [("no-mail", "refuses user me"), ("no-chat", "HTTP 403: no ***")] {
        let is_refused = |row: &Json| row["last_error"].as_str().unwrap().contains(why);
        until("alerts", &["--receivers"], name, &is_refused);
    }
    let servers = [&judges.by_plain, &judges.by_login, &judges.closed_mail];
    for (server, mechanism) in servers.into_iter().zip(["PLAIN", "LOGIN", "PLAIN"]) {
        let wanted = json!({"mechanism": mechanism, "user": "me", "password": SECRET});
        let logins = server.logins();
        assert!(!logins.is_empty() && logins.iter().all(|login| *login == wanted), "{logins:?}");
    }
    let heads = judges.chat.heads();
    assert!(heads.iter().all(|head| head.starts_with(HOOK_SENT)), "{heads:?}");
    for text in told(&weir, dir.path()) {
        for form in forms() {
            assert!(!text.contains(&form), "{form}: {text}");
        }
    }
}
