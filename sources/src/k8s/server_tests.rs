//! The watches against a real API server: `etcd` and `kube-apiserver` from `$WEIR_KUBE_BIN` or the path
//! (`make test-kubernetes` builds the latter). Where they are missing, nothing is tested here, and that is said.
//! There is no kubelet: the test says itself how pods are.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams,
};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;
use weir_types::metadata::MetadataSnapshot;
use weir_types::testing::free_port;

use super::*;
use crate::metadata::k8s::Store;
use crate::metadata::k8s::objects::{Kind, Object};

const ADMIN: &str = "token-of-admin";
const WEIR: &str = "token-of-weir";
/// Pods that come, move and go at once.
const PODS: usize = 200;

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
    fn start(program: &Path, args: &[String], log: &Path) -> Running {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
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
    api: Option<Running>,
    _etcd: Running,
    dir: tempfile::TempDir,
    program: PathBuf,
    etcd_port: u16,
    port: u16,
    runtime: Runtime,
}

impl Server {
    fn start() -> Option<Server> {
        let (program, etcd) = (binary("kube-apiserver")?, binary("etcd")?);
        let dir = tempfile::tempdir().unwrap();
        let (etcd_port, peer, port) = (free_port(), free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let etcd_args = [
            format!("--data-dir={}", dir.path().join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        ];
        let etcd = Running::start(&etcd, &etcd_args, &dir.path().join("etcd.log"));
        let key = dir.path().join("sa.key");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
        assert!(made.unwrap().status.success());
        let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{WEIR},weir,2\n");
        std::fs::write(dir.path().join("tokens.csv"), tokens).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut server = Server { api: None, _etcd: etcd, dir, program, etcd_port, port, runtime };
        server.start_api();
        Some(server)
    }

    fn start_api(&mut self) {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let args = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_string(),
            "--advertise-address=127.0.0.1".to_string(),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", file("certs")),
            format!("--service-account-key-file={}", file("sa.key")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_string(),
            "--service-cluster-ip-range=10.0.0.0/24".to_string(),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_string(),
            "--endpoint-reconciler-type=none".to_string(),
            "--disable-admission-plugins=ServiceAccount".to_string(),
        ];
        let log = self.dir.path().join("api.log");
        self.api = Some(Running::start(&self.program, &args, &log));
        until("the API server is there", || {
            self.dir.path().join("certs/apiserver.crt").is_file() && {
                let client = self.client();
                self.runtime.block_on(client.apiserver_version()).is_ok()
            }
        });
    }

    fn access(&self, token: &str) -> Access {
        let file = self.dir.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n",
            self.port,
            self.dir.path().join("certs/apiserver.crt").display(),
        );
        std::fs::write(&file, text).unwrap();
        Access::of_file(&file).unwrap()
    }

    fn client(&self) -> Client {
        let config = self.access(ADMIN).config(Duration::from_secs(20));
        let _inside = self.runtime.enter();
        Client::try_from(config).unwrap()
    }

    fn api(&self, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let named = GroupVersionKind::gvk(group, "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&named, plural);
        let is_global = ["Namespace", "Node", "ClusterRole", "ClusterRoleBinding"].contains(&kind);
        match is_global {
            true => Api::all_with(self.client(), &resource),
            false => Api::namespaced_with(self.client(), "shop", &resource),
        }
    }

    fn create(&self, (group, kind, plural): (&str, &str, &str), object: &Json) {
        let api = self.api(group, kind, plural);
        let mut object = object.clone();
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(GroupVersionKind::gvk(group, "v1", kind).api_version());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.runtime.block_on(api.create(&PostParams::default(), &object)).unwrap();
    }

    fn patch(&self, (group, kind, plural): (&str, &str, &str), name: &str, patch: &Json) {
        let api = self.api(group, kind, plural);
        let patch = Patch::Merge(patch);
        self.runtime.block_on(api.patch(name, &PatchParams::default(), &patch)).unwrap();
    }

    /// What there is by the server's own word, as a store has it that saw nothing else.
    fn reference(&self, node: &str) -> MetadataSnapshot {
        let mut store = Store::default();
        for watched in &WATCHED {
            let resource = watched.resource();
            let api: Api<DynamicObject> = Api::all_with(self.client(), &resource);
            let list = self.runtime.block_on(api.list(&ListParams::default())).unwrap();
            for object in list.items {
                let json = serde_json::to_value(&object).unwrap();
                let read = Object::read(&resource.api_version, &resource.kind, &json);
                let object = read.unwrap().unwrap();
                let elsewhere = matches!(&object, Object::Pod(pod) if pod.spec.node_name != node);
                if !elsewhere {
                    store.put(object);
                }
            }
        }
        store.snapshot()
    }
}

fn entities(snapshot: &MetadataSnapshot) -> Vec<String> {
    let mut all: Vec<String> = snapshot.entities().map(|one| format!("{one:?}")).collect();
    all.sort();
    all
}

/// What the watches have told so far.
struct Told {
    watches: Watches,
    store: Store,
    now: i64,
}

impl Told {
    fn take(&mut self) {
        self.now += 1;
        while let Some(batch) = self.watches.take() {
            assert!(!batch.is_empty());
            batch.into_iter().for_each(|change| self.store.apply(change, self.now));
        }
    }

    /// Only what is there.
    fn present(&self) -> MetadataSnapshot {
        let mut store = self.store.clone();
        store.forget(i64::MAX);
        store.snapshot()
    }

    fn becomes_what(&mut self, what: &str, server: &Server) {
        let mut expected = Vec::new();
        until(what, || {
            self.take();
            expected = entities(&server.reference("n1"));
            entities(&self.present()) == expected
        });
        let present = self.present();
        for (ip, turns) in server.reference("n1").pod_ips.iter() {
            let owner = turns.last().map(|(_, id)| id.as_str()).filter(|id| !id.is_empty());
            let found = present.pod_by_ip(ip, None).map(|pod| pod.id.as_str());
            assert_eq!(found, owner, "{what}: {ip}");
        }
    }
}

const POD: (&str, &str, &str) = ("", "Pod", "pods");
const SERVICE: (&str, &str, &str) = ("", "Service", "services");
const SLICE: (&str, &str, &str) = ("discovery.k8s.io", "EndpointSlice", "endpointslices");
const ROLE: (&str, &str, &str) = ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles");

fn role(without: &str) -> Json {
    let rules: Vec<Json> = WATCHED
        .iter()
        .filter(|watched| watched.plural != without)
        .map(|watched| {
            let group = watched.resource().group;
            json!({"apiGroups": [group], "resources": [watched.plural],
                "verbs": ["get", "list", "watch"]})
        })
        .collect();
    json!({"metadata": {"name": "weir"}, "rules": rules})
}

fn set_up(server: &Server) {
    server.create(("", "Namespace", "namespaces"), &json!({"metadata": {"name": "shop"}}));
    for node in ["n1", "n2"] {
        server.create(
            ("", "Node", "nodes"),
            &json!({"metadata": {"name": node},
            "spec": {"podCIDR": "10.2.0.0/16"}}),
        );
    }
    server.create(ROLE, &role("endpointslices"));
    let binding = json!({"metadata": {"name": "weir"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "weir"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "weir"}]});
    let kind = ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings");
    server.create(kind, &binding);
    for (kind, plural) in [("ReplicaSet", "replicasets"), ("Deployment", "deployments")] {
        let labels = json!({"app": "web"});
        server.create(("apps", kind, plural), &json!({"metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}));
    }
    for number in 0..5 {
        server.create(
            SERVICE,
            &json!({"metadata": {"name": format!("s{number}")},
            "spec": {"ports": [{"port": 80}]}}),
        );
    }
}

fn create_pod(server: &Server, name: &str, node: &str, ip: &str) {
    server.create(
        POD,
        &json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}}),
    );
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.0.2.1",
        "containerStatuses": [{"name": "c", "containerID": format!("containerd://{name}-{ip}"), "image": "i",
            "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
    let api = server.api("", "Pod", "pods");
    let patch = Patch::Merge(&status);
    server.runtime.block_on(api.patch_status(name, &PatchParams::default(), &patch)).unwrap();
}

fn endpoints(pods: &[(String, String)]) -> Json {
    let each = pods.iter().map(|(name, ip)| {
        json!({"addresses": [ip], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}})
    });
    json!(each.collect::<Vec<_>>())
}

fn delete_pod(server: &Server, name: &str) {
    let api = server.api("", "Pod", "pods");
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    server.runtime.block_on(api.delete(name, &params)).unwrap();
}

/// What the watches tell is what the server says, after each burst of pods that come, move and go; of a kind that
/// may not be read that is said, the rest works, and it comes once it may be; a server that ends and begins anew is
/// watched on. Catches what is missed between list and watch, a pod that is gone and stays, and a watch that never
/// comes back.
#[test]
fn watches_tell_what_the_server_has() {
    let Some(mut server) = Server::start() else {
        eprintln!("no kube-apiserver and etcd here: the watches were not tested against them");
        return;
    };
    set_up(&server);
    let pace = Pace {
        watch: Duration::from_secs(4),
        retry_first: Duration::from_millis(100),
        retry_last: Duration::from_secs(1),
        quiet: Duration::from_secs(2),
    };
    let scope = Scope::Node("n1".to_string());
    let watches = Watches::start(server.access(WEIR), scope, pace).unwrap();
    let mut told = Told { watches, store: Store::default(), now: 0 };
    told.becomes_what("what was there", &server);
    let forbidden = WatchState::Forbidden("may not list endpointslices".to_string());
    until("the slices are forbidden", || {
        told.watches.states()["endpointslices"].state == forbidden
    });
    assert_eq!(told.watches.missing(), "endpointslices: may not list endpointslices");
    server.patch(ROLE, "weir", &role(""));
    until("everything is synced", || told.watches.are_synced());

    let ip = |number: usize| format!("10.2.{}.{}", number / 200, number % 200 + 1);
    let name = |number: usize| format!("p{number}");
    for number in 0..PODS {
        create_pod(&server, &name(number), if number % 10 == 9 { "n2" } else { "n1" }, &ip(number));
    }
    for service in 0..5 {
        let pods: Vec<(String, String)> =
            (0..PODS).filter(|n| n % 5 == service).map(|n| (name(n), ip(n))).collect();
        for (half, pods) in pods.chunks(pods.len() / 2).enumerate() {
            server.create(
                SLICE,
                &json!({"metadata": {"name": format!("s{service}-{half}"),
                "labels": {"kubernetes.io/service-name": format!("s{service}")}},
                "addressType": "IPv4", "endpoints": endpoints(pods), "ports": []}),
            );
        }
    }
    told.becomes_what("pods that came", &server);
    assert!(told.present().pods.values().any(|pod| pod.service_ids.len() == 1));

    // Addresses and endpoints move on while others go.
    for number in (0..PODS).filter(|number| number % 3 == 0) {
        delete_pod(&server, &name(number));
        create_pod(&server, &format!("again-{number}"), "n1", &ip(number));
    }
    for number in (0..PODS).filter(|number| number % 3 == 1) {
        delete_pod(&server, &name(number));
    }
    server.patch(SLICE, "s0-0", &json!({"endpoints": endpoints(&[(name(2), ip(2))])}));
    told.becomes_what("pods that went", &server);
    let gone = told.store.snapshot();
    assert!(gone.pods.values().any(|pod| pod.stop_unix_ns != 0), "what is gone is kept");

    // Away for longer than a watch: nothing of before is lost, and what comes after is told.
    server.api = None;
    until("the server is missed", || told.watches.missing().contains("pods"));
    server.start_api();
    for number in (0..PODS).filter(|number| number % 3 == 2) {
        delete_pod(&server, &name(number));
    }
    create_pod(&server, "last", "n1", "10.2.9.9");
    told.becomes_what("after another start of the server", &server);
    until("all is synced again", || told.watches.are_synced());
    assert!(told.watches.states().values().all(|kind| kind.refused_total == 0));
    let kinds: Vec<Kind> = WATCHED.iter().map(|watched| watched.kind).collect();
    assert!(!kinds.contains(&Kind::Endpoints));
}
