//! Keys of a role: from a scripted other end, where it does what real ones seldom do, and from services of Amazon's kind
//! (moto, where `scripts/test-servers` has put it).

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;
use crate::encode::{Codec, Mode};
use crate::pipe::tests::{Line, delivery};
use crate::s3::tests::{Server, held, missing};
use crate::s3::{Form, S3Config, S3Sink, Who};
use crate::testing::{Request, Running, cache, free_port, serve, target};

const SEC_NS: i64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SEC_NS;

type Answers = Arc<Mutex<VecDeque<String>>>;
type Asked = Arc<Mutex<Vec<Request>>>;

/// Answers in their order; to more than there are it says 500.
fn scripted(answers: &Answers) -> (String, Asked) {
    let (answers, asked) = (Arc::clone(answers), Asked::default());
    let kept = Arc::clone(&asked);
    let addr = serve(move |request| {
        kept.lock().unwrap().push(request);
        let (status, said) = match answers.lock().unwrap().pop_front() {
            Some(said) => (200, said),
            None => (500, "secret-of-nobody".to_string()),
        };
        let len = said.len();
        format!("HTTP/1.1 {status} x\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{said}")
            .into_bytes()
    });
    (format!("http://{addr}"), asked)
}

fn given(id: &str, minute: u32) -> String {
    format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"s/{id}\",\
         \"Token\":\"t/{id}\",\"Expiration\":\"2026-01-01T00:{minute:02}:00Z\"}}"
    )
}

fn keys(role: Role) -> Keys {
    let mut target = target("http://127.0.0.1:1");
    target.timeout = Duration::from_millis(1_000);
    Keys::new(role, &target)
}

fn id_at(keys: &mut Keys, minute: i64) -> Result<Option<String>, String> {
    let renewed = keys.renewed(START_NS + minute * 60 * SEC_NS);
    let id = renewed.map(|found| found.map(|(credentials, _)| credentials.key().to_string()));
    id.map_err(|error| error.to_string())
}

/// Keys are asked for five minutes before they end and not before; while they hold, nobody minds that there are no new
/// ones, and they are not asked for all the time; then it is an error. A store that does not take them is reason enough.
/// Catches keys that end in the middle of writing, and a metadata service that is asked before each object.
#[test]
fn keys_are_asked_for_in_time() {
    let answers = Answers::default();
    let (url, asked) = scripted(&answers);
    let authorization = Some(Authorization::Text("word".to_string()));
    let mut keys = keys(Role::Container { url: format!("{url}/keys"), authorization });
    let will = |said: String| answers.lock().unwrap().push_back(said);
    let questions = || asked.lock().unwrap().len();
    will(given("a", 30));
    assert_eq!(id_at(&mut keys, 0), Ok(Some("a".to_string())));
    assert_eq!(id_at(&mut keys, 24), Ok(None));
    assert_eq!(questions(), 1);
    let head = asked.lock().unwrap()[0].head.clone();
    assert!(head.contains("GET /keys ") && head.contains("authorization: word"), "{head}");
    will(given("b", 40));
    assert_eq!(id_at(&mut keys, 26), Ok(Some("b".to_string())));
    // Nobody gives new ones: once a minute is enough.
    assert_eq!(id_at(&mut keys, 36), Ok(None));
    assert_eq!(id_at(&mut keys, 36), Ok(None));
    assert_eq!(questions(), 3);
    assert_eq!(id_at(&mut keys, 38), Ok(None));
    assert_eq!(questions(), 4);
    let why = id_at(&mut keys, 41).unwrap_err();
    assert!(why.contains("no keys of a role") && why.contains("HTTP 500"), "{why}");
    will(given("c", 59));
    assert_eq!(id_at(&mut keys, 41), Ok(Some("c".to_string())));
    keys.forget();
    will(given("d", 59));
    assert_eq!(id_at(&mut keys, 41), Ok(Some("d".to_string())));
}

/// A session is asked for first, and is said along; what it gives belongs to one role. Of what is no answer nothing is
/// used and no key is repeated, however long it is; and one that never comes ends by its time.
#[test]
fn answers_are_judged() {
    let answers = Answers::default();
    let (url, asked) = scripted(&answers);
    let will =
        |said: &[&str]| *answers.lock().unwrap() = said.iter().map(|it| it.to_string()).collect();
    let mut keys = keys(Role::Machine { url: format!("{url}/") });
    will(&["the-session", "a-role\n", &given("a", 30)]);
    assert_eq!(id_at(&mut keys, 0), Ok(Some("a".to_string())));
    let heads: Vec<String> = asked.lock().unwrap().iter().map(|it| it.head.clone()).collect();
    assert!(heads[0].starts_with("PUT /latest/api/token "), "{heads:?}");
    assert!(heads[0].contains("x-aws-ec2-metadata-token-ttl-seconds: "), "{heads:?}");
    let path = "/latest/meta-data/iam/security-credentials/";
    assert!(heads[1].starts_with(&format!("GET {path} ")), "{heads:?}");
    assert!(heads[2].starts_with(&format!("GET {path}a-role ")), "{heads:?}");
    for head in &heads[1..] {
        assert!(head.contains("x-aws-ec2-metadata-token: the-session"), "{head}");
    }

    let long = given(&"x".repeat(1 << 20), 30);
    let half = given("secret-half", 30).replace("SecretAccessKey", "Other");
    let broken = given("a\\nb", 30);
    let cases: [(&[&str], &str); 7] = [
        (&["the-session", ""], "the machine has no role"),
        (&["the-session", "../../x"], "the machine has no role"),
        (&["the session", "a"], "is no word"),
        (&["the-session", "a", "no JSON with a secret-key"], "cannot be read"),
        (&["the-session", "a", &half], "cannot be read"),
        (&["the-session", "a", &broken], "cannot be read"),
        (&["the-session", "a", &long], "longer than"),
    ];
    for (said, wanted) in cases {
        keys.forget();
        will(said);
        let why = id_at(&mut keys, 0).unwrap_err();
        assert!(why.contains(wanted), "{wanted}: {why}");
        assert!(!why.contains("secret-") && !why.contains("the-session"), "{why}");
    }

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let why = id_at(&mut self::keys(Role::Machine { url }), 0).unwrap_err();
    assert!(why.contains("timeout"), "{why}");
}

/// A token is read out of its file each time, as it is exchanged there, and stands in no message; a file that holds none
/// is named.
#[test]
fn tokens_come_out_of_files() {
    let answers = Answers::default();
    let (url, asked) = scripted(&answers);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let (role, session) = ("arn:aws:iam::1:role/a b".to_string(), "weir".to_string());
    let mut keys = keys(Role::Token { url, file: file.clone(), role, session });
    let why = id_at(&mut keys, 0).unwrap_err();
    assert!(why.contains(file.to_str().unwrap()), "{why}");
    for wrong in [String::new(), "a\nb".to_string(), "x".repeat(70 << 10)] {
        std::fs::write(&file, wrong).unwrap();
        assert!(id_at(&mut keys, 0).unwrap_err().contains("it holds no token"));
    }
    assert!(asked.lock().unwrap().is_empty(), "nobody is asked without");
    for (token, end) in [("first+/=", 10), ("secret-of-nobody", 20)] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let xml = format!(
            "<R><Credentials><AccessKeyId>{end}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
             <SessionToken>t</SessionToken><Expiration>2026-01-01T00:{end}:00.5Z</Expiration></Credentials></R>"
        );
        answers.lock().unwrap().push_back(xml);
        assert_eq!(id_at(&mut keys, end - 10), Ok(Some(end.to_string())));
        let request = asked.lock().unwrap().pop().unwrap();
        let body = String::from_utf8(request.body).unwrap();
        assert!(body.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%20b&"), "{body}");
        assert!(body.ends_with(&format!("WebIdentityToken={}", escaped(token))), "{body}");
    }
    let why = id_at(&mut keys, 30).unwrap_err();
    assert!(why.contains("HTTP 500") && !why.contains("secret-of-nobody"), "{why}");
    answers.lock().unwrap().push_back("<AccessKeyId>a<b/></AccessKeyId>".to_string());
    assert!(id_at(&mut keys, 30).unwrap_err().contains("cannot be read"));
}

/// Services of Amazon's kind, on a port. `None`: they are not there.
fn moto() -> Option<(Running, String)> {
    let packages = cache("aws");
    packages.join("moto").is_dir().then_some(())?;
    let port = free_port();
    let code = format!(
        "import sys; sys.path.insert(0, {:?}); import moto.server; \
         moto.server.main(['-H', '127.0.0.1', '-p', '{port}'])",
        packages.to_str()?
    );
    let is_ready = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let running = Running::start(
        Path::new("/usr/bin/env"),
        &["python3".to_string(), "-c".to_string(), code],
        is_ready,
    )?;
    Some((running, format!("http://127.0.0.1:{port}")))
}

fn no_moto() {
    weir_types::testing::skipped("there is no ~/.cache/weir/aws/moto");
}

fn written(config: S3Config) -> Line {
    let sink = S3Sink::new(config, Form::Lines(Codec::Json)).unwrap();
    let mut line = Line::in_memory(Mode::Changelog, Box::new(sink));
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1), ("b", 1, 1)], true)).unwrap();
    line.flush().unwrap();
    line
}

/// A store that checks signatures takes what is signed with keys that an agent gives; with others, and where nobody gives
/// any, nothing arrives and it is said why, without the keys. Catches requests that are signed by nobody.
#[test]
fn a_container_with_a_role_writes() {
    let key = ["the-id", "the/secret+key"];
    let Some(server) = Server::of_key(tempfile::tempdir().unwrap(), key) else { return missing() };
    let with = |secret: &str| {
        let keys = format!("{{\"AccessKeyId\":\"the-id\",\"SecretAccessKey\":\"{secret}\"}}");
        let answers: Answers = Arc::new(Mutex::new([keys].into()));
        let (url, _) = scripted(&answers);
        let who = Who::Role(Role::Container { url, authorization: None });
        S3Config { who, ..server.config("t.jsonl") }
    };
    drop(written(with("the/secret+key")));
    let objects = server.objects("");
    let seqs: Vec<u64> = objects.values().flat_map(|path| held(path)).map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [1, 2]);
    let nowhere = Role::Machine { url: "http://127.0.0.1:1".to_string() };
    let nobody = S3Config { who: Who::Role(nowhere), ..server.config("t.jsonl") };
    for (config, wanted) in [(with("another-secret"), "HTTP 403"), (nobody, "no keys of a role")] {
        let mut sink = S3Sink::new(config, Form::Lines(Codec::Json)).unwrap();
        let why = crate::sink::Writer::check(&mut sink).unwrap_err().to_string();
        assert!(why.contains(wanted) && !why.contains("another-secret"), "{why}");
    }
}

/// On a machine with a role a store takes what is written and lists it, with what the metadata service gives: a key, its
/// secret, and the session's token.
#[test]
fn a_machine_with_a_role_writes() {
    let Some((_moto, url)) = moto() else { return no_moto() };
    is_written_by(Role::Machine { url: url.clone() }, &url);
}

/// With a token in a file a token service gives keys, with which a store takes what is written.
#[test]
fn a_pod_with_a_token_writes() {
    let Some((_moto, url)) = moto() else { return no_moto() };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "a.b.c\n").unwrap();
    let (role, session) = ("arn:aws:iam::123456789012:role/weir".to_string(), "weir".to_string());
    is_written_by(Role::Token { url: url.clone(), file, role, session }, &url);
}

fn is_written_by(role: Role, url: &str) {
    assert!(ureq::put(format!("{url}/kept")).send_empty().unwrap().status().is_success());
    let config = S3Config {
        target: target(url),
        region: "us-east-1".to_string(),
        bucket: "kept".to_string(),
        key: "a/t.jsonl".to_string(),
        who: Who::Role(role),
    };
    let line = written(config);
    assert!(!format!("{:?}", line.health()).contains("secret"));
    let listed = crate::testing::get(&format!("{url}/kept?list-type=2")).unwrap();
    assert_eq!(listed.matches("<Key>a/t-").count(), 1, "{listed}");
}
