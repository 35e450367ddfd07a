//! `weir deploy` against a real API server: `etcd` and `kube-apiserver` from `$WEIR_KUBE_BIN` or the path
//! (`make test-kubernetes` builds the latter). Where they are missing, only what needs none is tested, and that is said.
//! There is no controller: the test says itself how far parts are.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;
use weir_types::testing::free_port;

const ADMIN: &str = "token-of-admin";
/// Whoever may only look.
const VIEWER: &str = "token-of-viewer";
const PARTS: [(&str, &str); 3] =
    [("weir-nats", "statefulsets"), ("weir-cluster", "statefulsets"), ("weir-node", "daemonsets")];

fn binary(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("WEIR_KUBE_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = own.into_iter().chain(std::env::split_paths(&path).collect::<Vec<_>>());
    dirs.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_200 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("not within a minute: {what}");
}

/// Ends with its owner.
struct Running(Child);

impl Running {
    fn start(program: &Path, arguments: &[String], log: &Path) -> Running {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Running(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    _api: Running,
    _etcd: Running,
    dir: tempfile::TempDir,
    runtime: Runtime,
}

impl Server {
    fn start() -> Option<Server> {
        let (program, etcd) = (binary("kube-apiserver")?, binary("etcd")?);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let (etcd_port, peer, port) = (free_port(), free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let arguments = [
            format!("--data-dir={}", file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        ];
        let etcd = Running::start(&etcd, &arguments, &dir.path().join("etcd.log"));
        let key = file("sa.key");
        let made = Command::new("openssl").args(["genrsa", "-out", &key, "2048"]).output();
        assert!(made.unwrap().status.success());
        let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{VIEWER},viewer,2\n");
        std::fs::write(dir.path().join("tokens.csv"), tokens).unwrap();
        let arguments = [
            format!("--etcd-servers={client}"),
            "--bind-address=127.0.0.1".to_string(),
            "--advertise-address=127.0.0.1".to_string(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", file("certs")),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc".to_string(),
            "--service-cluster-ip-range=10.0.0.0/24".to_string(),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_string(),
            "--endpoint-reconciler-type=none".to_string(),
            "--allow-privileged=true".to_string(),
        ];
        let api = Running::start(&program, &arguments, &dir.path().join("api.log"));
        let certificate = dir.path().join("certs/apiserver.crt");
        let users =
            [ADMIN, VIEWER].map(|token| format!("{{name: {token}, user: {{token: {token}}}}}"));
        let contexts = [("admin", ADMIN), ("viewer", VIEWER)]
            .map(|(name, user)| format!("{{name: {name}, context: {{cluster: c, user: {user}}}}}"));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: admin\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: {}}}}}]\n\
             users: [{}]\ncontexts: [{}]\n",
            certificate.display(),
            users.join(", "),
            contexts.join(", "),
        );
        std::fs::write(dir.path().join("kubeconfig"), text).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = Server { _api: api, _etcd: etcd, dir, runtime };
        until("the API server is there", || {
            certificate.is_file() && {
                let client = server.client();
                server.runtime.block_on(client.apiserver_version()).is_ok()
            }
        });
        Some(server)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    fn client(&self) -> kube::Client {
        let _inside = self.runtime.enter();
        let file = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options);
        kube::Client::try_from(self.runtime.block_on(config).unwrap()).unwrap()
    }

    fn api(
        &self,
        api_version: &str,
        kind: &str,
        plural: &str,
        namespace: &str,
    ) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let named = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&named, plural);
        match namespace {
            "" => Api::all_with(self.client(), &resource),
            namespace => Api::namespaced_with(self.client(), namespace, &resource),
        }
    }

    fn deploy(&self, arguments: &[&str]) -> Said {
        let kubeconfig = self.kubeconfig();
        let place = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        deploy(&[&place, arguments].concat())
    }

    /// Says of a part how far it is, as its controller would.
    fn status(&self, name: &str, plural: &str, status: &Json) {
        let kind = if plural == "daemonsets" { "DaemonSet" } else { "StatefulSet" };
        let api = self.api("apps/v1", kind, plural, "weir");
        let patch = Patch::Merge(json!({"status": status}));
        self.runtime.block_on(api.patch_status(name, &PatchParams::default(), &patch)).unwrap();
    }

    fn secret(&self, name: &str) -> Json {
        let api = self.api("v1", "Secret", "secrets", "weir");
        let secret = self.runtime.block_on(api.get(name)).unwrap();
        serde_json::to_value(secret).unwrap()["data"].clone()
    }
}

struct Said {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = output.status.code().unwrap();
        Said { status, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Said {
    #[track_caller]
    fn fails(&self, status: i32, says: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        for text in says {
            assert!(self.err.contains(text), "{text:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("token-of"), "{}", self.err);
    }

    #[track_caller]
    fn succeeds(&self) -> &str {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        &self.out
    }
}

fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.stdin(Stdio::null()).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command
}

fn deploy(arguments: &[&str]) -> Said {
    weir().arg("deploy").args(arguments).output().unwrap().into()
}

/// What is wrong before any server is asked, and a server that is none, are told apart by status and words.
#[test]
fn without_a_cluster() {
    let home = tempfile::tempdir().unwrap();
    let nowhere: Said = weir().arg("deploy").env("HOME", home.path()).output().unwrap().into();
    nowhere.fails(2, &["no kubeconfig", ".kube/config", "--kubeconfig"]);
    deploy(&["--kubeconfig", "/nonexistent"]).fails(2, &["/nonexistent"]);
    deploy(&["--kubeconfig", "/dev/zero"]).fails(2, &["no kubeconfig file"]);
    deploy(&["--namespace", "Not_One"]).fails(2, &["small letters"]);
    deploy(&["--preset", "xl"]).fails(2, &["xl"]);
    let file = home.path().join("config");
    let path = file.to_str().unwrap();
    let port = free_port();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {{token: token-of-somebody}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&file, &text).unwrap();
    let address = format!("127.0.0.1:{port}");
    deploy(&["--kubeconfig", path]).fails(3, &[&address, "does not answer", "--context"]);
    deploy(&["--kubeconfig", path, "--context", "y"])
        .fails(2, &["no context \"y\"", "there are: x"]);
    std::fs::write(&file, text.replace("users:", "users: [token-of")).unwrap();
    deploy(&["--kubeconfig", path]).fails(2, &[path]);
    std::fs::write(&file, text.replace("current-context: x\n", "")).unwrap();
    deploy(&["--kubeconfig", path]).fails(2, &["no context is the present one", "there are: x"]);
    let printed = deploy(&["--print", "--namespace", "other", "--image", "r.example/weir:9"]);
    let list: Json = serde_json::from_str(printed.succeeds()).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"][0]["metadata"]["name"], "other");
    deploy(&["--set", "cluster.nope=1"]).fails(2, &["at '/cluster'", "'nope' not allowed"]);
    std::fs::write(&file, "cluster:\n  config: {rules: [a.yml]}\n").unwrap();
    let printed = deploy(&["--print", "-f", path, "--set", "preset=s,networkPolicy.enabled=false"]);
    let list: Json = serde_json::from_str(printed.succeeds()).unwrap();
    let items = list["items"].as_array().unwrap();
    let has = |kind: &str, name: &str| {
        items.iter().any(|item| item["kind"] == kind && item["metadata"]["name"] == name)
    };
    assert!(has("ConfigMap", "weir-cluster") && !has("NetworkPolicy", "weir-node"), "{list}");
}

/// Applied, applied again without a change, changed by hand and mended, of another size, taken away: each says what it
/// did, and secrets stay as they were first made. Who may not do it is told what is missing, before anything is done.
#[test]
fn against_an_api_server() {
    let Some(server) = Server::start() else {
        return eprintln!(
            "no kube-apiserver and etcd here: `weir deploy` was not tested against them"
        );
    };
    let said = server.deploy(&["--dry-run"]);
    assert!(said.succeeds().contains("namespace/weir created (dry run)"), "{}", said.out);
    let missing = "create, get, patch clusterroles (rbac.authorization.k8s.io)";
    let told = ["nothing was changed", missing, "secrets in namespace weir"];
    // A young server gives the right to ask for rights a moment after it answers.
    until("the API server has its roles", || {
        !server.deploy(&["--context", "viewer"]).err.contains("may not look at")
    });
    server.deploy(&["--context", "viewer"]).fails(1, &told);
    let namespaces = server.api("v1", "Namespace", "namespaces", "");
    let found = server.runtime.block_on(namespaces.get_opt("weir")).unwrap();
    assert!(found.is_none(), "a dry run and one that was refused change nothing");

    let said = server.deploy(&["--no-wait", "--preset", "s"]);
    let out = said.succeeds();
    for line in [
        "namespace/weir created",
        "clusterrole.rbac.authorization.k8s.io/weir:weir created",
        "secret/weir-bus created",
        "secret/weir-token created",
        "daemonset.apps/weir-node created",
        "statefulset.apps/weir-cluster created",
        "port-forward service/weir-cluster 7070",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(said.err.is_empty(), "{}", said.err);
    let secrets = [server.secret("weir-bus"), server.secret("weir-token")];
    assert!(secrets[0]["password"].is_string() && secrets[1]["token"].is_string());
    applied_again(&server);
    assert_eq!(secrets, [server.secret("weir-bus"), server.secret("weir-token")]);
    with_values(&server);
    rolled_out(&server);
    taken_away(&server);
}

fn changes(said: &Said) -> Vec<&str> {
    let lines = said.succeeds().lines();
    lines.filter(|line| line.contains(" configured") || line.contains(" created")).collect()
}

fn applied_again(server: &Server) {
    let again = server.deploy(&["--no-wait", "--preset", "s"]);
    assert_eq!(changes(&again), Vec::<&str>::new());
    let dry = server.deploy(&["--dry-run", "--preset", "m"]);
    let parts =
        ["statefulset.apps/weir-cluster", "statefulset.apps/weir-nats", "daemonset.apps/weir-node"];
    let found = changes(&dry);
    assert!(
        found.len() == 3 && found.iter().zip(parts).all(|(line, part)| line.starts_with(part)),
        "{found:?}"
    );
    assert_eq!(changes(&server.deploy(&["--no-wait", "--preset", "s"])), Vec::<&str>::new());
    let api = server.api("apps/v1", "DaemonSet", "daemonsets", "weir");
    let patch = Patch::Merge(json!({"spec": {"template": {"spec": {"hostPID": false}}}}));
    server.runtime.block_on(api.patch("weir-node", &PatchParams::default(), &patch)).unwrap();
    let mended = server.deploy(&["--no-wait", "--preset", "s"]);
    assert_eq!(changes(&mended), ["daemonset.apps/weir-node configured"]);
    let shown = server.deploy(&["--no-wait", "--preset", "s", "--show-login"]);
    assert!(shown.succeeds().contains("http://127.0.0.1:7070/#token="), "{}", shown.out);
}

/// A configuration by values comes into the part that answers, and goes again; secrets of other names are made beside
/// those that are there.
fn with_values(server: &Server) {
    let set = "cluster.config.alerts.external_url=http://h:1/,token.secret=ours";
    let values = ["--no-wait", "--preset", "s", "--set", set];
    let said = server.deploy(&values);
    let wanted = [
        "secret/ours created",
        "configmap/weir-cluster created",
        "statefulset.apps/weir-cluster configured",
    ];
    assert_eq!(changes(&said), wanted);
    assert_eq!(changes(&server.deploy(&values)), Vec::<&str>::new());
    let maps = server.api("v1", "ConfigMap", "configmaps", "weir");
    let map = server.runtime.block_on(maps.get("weir-cluster")).unwrap();
    let text = map.data["data"]["weir.yaml"].as_str().unwrap();
    assert!(text.contains("http://h:1/"), "{text}");
    let without = server.deploy(&["--no-wait", "--preset", "s"]);
    assert_eq!(changes(&without), ["statefulset.apps/weir-cluster configured"]);
    assert!(
        server.deploy(&["--delete", "--dry-run"]).succeeds().contains("configmap/weir-cluster")
    );
}

/// Waits until all parts are ready; says what keeps them.
fn rolled_out(server: &Server) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "weir-node-x", "labels": {"app.kubernetes.io/name": "weir"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "weir-node"}});
    let pods = server.api("v1", "Pod", "pods", "weir");
    let pod: DynamicObject = serde_json::from_value(pod).unwrap();
    server.runtime.block_on(pods.create(&PostParams::default(), &pod)).unwrap();
    let status = Patch::Merge(
        json!({"status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "",
        "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}}),
    );
    let params = PatchParams::default();
    let patched = pods.patch_status("weir-node-x", &params, &status);
    server.runtime.block_on(patched).unwrap();
    let daemon = |ready: i32| {
        json!({"observedGeneration": 9, "desiredNumberScheduled": 5, "currentNumberScheduled": 5,
            "updatedNumberScheduled": 5, "numberMisscheduled": 0, "numberReady": ready})
    };
    server.status("weir-node", "daemonsets", &daemon(3));
    let late = server.deploy(&["--preset", "s", "--timeout", "1s"]);
    late.fails(1, &["3 of 5 nodes ready", "weir-node-x: ErrImagePull: no such image", "--timeout"]);
    for (name, plural) in PARTS {
        let status = match plural {
            "daemonsets" => daemon(5),
            _ => {
                json!({"observedGeneration": 9, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1})
            }
        };
        server.status(name, plural, &status);
    }
    let done = server.deploy(&["--preset", "s", "--timeout", "1m"]);
    assert!(done.succeeds().contains("To reach it"), "{}", done.out);
    assert!(done.err.contains("daemonset.apps/weir-node: 5 of 5 nodes ready"), "{}", done.err);
}

fn taken_away(server: &Server) {
    let dry = server.deploy(&["--delete", "--dry-run"]);
    assert!(dry.succeeds().contains("daemonset.apps/weir-node deleted (dry run)"), "{}", dry.out);
    server.deploy(&["--delete", "--context", "viewer"]).fails(1, &["delete daemonsets (apps)"]);
    let gone = server.deploy(&["--delete"]);
    let out = gone.succeeds();
    let map = "configmap/weir-cluster deleted";
    for line in
        ["daemonset.apps/weir-node deleted", "secret/weir-token deleted", "clusterrole", map]
    {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(
        !out.contains("namespace/weir deleted") && gone.err.contains("kept: the namespace weir")
    );
    let again = server.deploy(&["--delete"]);
    assert!(again.succeeds().contains("nothing of Weir is in the namespace weir"), "{}", again.out);
}
