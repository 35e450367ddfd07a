//! The two secrets: what lets parts onto the bus, and people to the server. Made once with random contents, and never
//! changed; nothing here prints them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};

use super::values::Values;
use super::{Cluster, MANAGER, access, said};
use crate::data_dir::new_token;
use crate::failure::Failure;

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Their keys.
const BUS_KEY: &str = "password";
const TOKEN_KEY: &str = "token";

/// What they are called, and whether they are ours to make.
pub(super) struct Secrets {
    bus: String,
    pub(super) token: String,
    create: bool,
}

impl Secrets {
    pub(super) fn of(values: &Values) -> Secrets {
        let text = |path: &str| values.text(path).to_string();
        let create = values.is("secrets.create");
        Secrets { bus: text("bus.secret"), token: text("token.secret"), create }
    }

    fn all(&self) -> [(&str, &str); 2] {
        [(&self.bus, BUS_KEY), (&self.token, TOKEN_KEY)]
    }
}

fn api(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

fn failed(cluster: &Cluster, verb: &str, name: &str, error: &kube::Error) -> Failure {
    access::failure(&cluster.server, &format!("{verb} secret/{name}"), error)
}

/// Makes what is missing.
pub(super) async fn ensure(cluster: &Cluster) -> Result<(), Failure> {
    if !cluster.secrets.create {
        return Ok(());
    }
    for (name, key) in cluster.secrets.all() {
        let found = api(cluster).get_opt(name).await;
        let found = found.map_err(|error| failed(cluster, "look at", name, &error))?;
        let title = format!("secret/{name}");
        if let Some(secret) = found {
            value(&secret, name, key)?;
            said(cluster, &title, "unchanged")?;
            continue;
        }
        // It begins with a letter: the bus's configuration would take digits for a number.
        let secret = made(name, key, format!("w{}", new_token()?));
        let params =
            PostParams { dry_run: cluster.dry_run, field_manager: Some(MANAGER.to_string()) };
        let created = api(cluster).create(&params, &secret).await;
        created.map_err(|error| failed(cluster, "create", name, &error))?;
        said(cluster, &title, "created")?;
    }
    Ok(())
}

fn made(name: &str, key: &str, text: String) -> Secret {
    let labels = [("app.kubernetes.io/name", "weir"), (MANAGED_BY, MANAGER)];
    let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_string()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([(key.to_string(), text)])),
        type_: Some("Opaque".to_string()),
        ..Secret::default()
    }
}

fn value(secret: &Secret, name: &str, key: &str) -> Result<String, Failure> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default();
    match text.trim() {
        "" => Err(Failure::No(format!(
            "secret/{name} is there, but its key `{key}` has no text: put one there, or delete the secret"
        ))),
        text => Ok(text.to_string()),
    }
}

/// What lets people in.
pub(super) async fn token(cluster: &Cluster) -> Result<String, Failure> {
    let (name, key) = (cluster.secrets.token.as_str(), TOKEN_KEY);
    let secret = api(cluster).get(name).await;
    value(&secret.map_err(|error| failed(cluster, "read", name, &error))?, name, key)
}

/// Deletes those that we made; how many.
pub(super) async fn delete(cluster: &Cluster) -> Result<usize, Failure> {
    let mut gone = 0;
    for (name, _) in cluster.secrets.all() {
        let found = api(cluster).get_opt(name).await;
        let found = found.map_err(|error| failed(cluster, "look at", name, &error))?;
        let Some(secret) = found else { continue };
        let labels = secret.metadata.labels.unwrap_or_default();
        if labels.get(MANAGED_BY).is_none_or(|by| by != MANAGER) {
            said(cluster, &format!("secret/{name}"), "kept: somebody else made it")?;
            continue;
        }
        let params = DeleteParams { dry_run: cluster.dry_run, ..DeleteParams::default() };
        match api(cluster).delete(name, &params).await {
            Ok(_) => said(cluster, &format!("secret/{name}"), "deleted")?,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(failed(cluster, "delete", name, &error)),
        }
        gone += 1;
    }
    Ok(gone)
}
