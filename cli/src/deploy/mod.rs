//! `weir deploy`: the manifests of `deploy/manifests` into a cluster of Kubernetes, and whether they run there. It
//! makes no objects of its own but the two secrets, and knows nothing of what the parts do.

mod access;
mod apply;
#[cfg(test)]
mod chart_tests;
mod manifests;
mod rights;
mod rollout;
mod secrets;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;

use kube::Client;
use serde_json::json;
use weir_sources::k8s::client;

use self::manifests::Object;
use self::secrets::Secrets;
use self::values::fit;
use crate::args::DeployArgs;
use crate::failure::Failure;
use crate::output;

/// The image that the manifests name.
const IMAGE: &str = concat!("weir:", env!("CARGO_PKG_VERSION"));
/// Who we are among those who apply something to an object.
const MANAGER: &str = "weir-deploy";

/// What every step needs.
struct Cluster {
    client: Client,
    /// For messages.
    server: String,
    namespace: String,
    secrets: Secrets,
    dry_run: bool,
}

pub(crate) fn run(args: &DeployArgs) -> Result<(), Failure> {
    let values = values::of(args)?;
    let image = args.image.clone().unwrap_or_else(|| values.image());
    let mut objects = manifests::objects(values.preset(), &args.namespace, &image)?;
    match args.delete {
        true => objects = fit::with_others(&values, objects),
        false => fit::fit(&values, &mut objects),
    }
    if args.print {
        let items: Vec<_> = objects.iter().map(|object| &object.json).collect();
        return output::line(
            &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::No(error.to_string()))?;
    runtime.block_on(async {
        let config = access::config(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
        let server = config.cluster_url.to_string();
        let client = client(config, access::LIMITS);
        let client = client.map_err(|error| access::failure(&server, "reach it", &error))?;
        let namespace = args.namespace.clone();
        let secrets = Secrets::of(&values);
        let cluster = Cluster { client, server, namespace, secrets, dry_run: args.dry_run };
        if args.delete {
            return delete(&cluster, objects).await;
        }
        deploy(&cluster, &objects).await?;
        if args.dry_run {
            return Ok(());
        }
        if !args.no_wait {
            rollout::wait(&cluster, &objects, args.timeout).await?;
        }
        reach(&cluster, args).await
    })
}

async fn deploy(cluster: &Cluster, objects: &[Object]) -> Result<(), Failure> {
    rights::check(cluster, objects, &["get", "create", "patch"]).await?;
    let mut has_namespace = true;
    for object in objects {
        // A server judges nothing that is in no namespace yet.
        if object.namespace.is_some() && !has_namespace {
            output::text(&format!("{} created (not judged: no namespace yet)", object.title()))?;
            continue;
        }
        let outcome = apply::apply(cluster, object).await?;
        said(cluster, &object.title(), outcome.text())?;
        if object.kind == "Namespace" {
            has_namespace = !(cluster.dry_run && outcome == apply::Outcome::Created);
            if has_namespace {
                secrets::ensure(cluster).await?;
            }
        }
    }
    Ok(())
}

fn said(cluster: &Cluster, title: &str, what: &str) -> Result<(), Failure> {
    let how = if cluster.dry_run { " (dry run)" } else { "" };
    output::text(&format!("{title} {what}{how}"))
}

async fn delete(cluster: &Cluster, mut objects: Vec<Object>) -> Result<(), Failure> {
    objects.retain(|object| object.kind != "Namespace");
    objects.reverse();
    rights::check(cluster, &objects, &["delete"]).await?;
    let mut gone = 0;
    for object in &objects {
        if apply::delete(cluster, object).await? {
            said(cluster, &object.title(), "deleted")?;
            gone += 1;
        }
    }
    gone += secrets::delete(cluster).await?;
    let namespace = &cluster.namespace;
    if gone == 0 {
        return output::text(&format!("nothing of Weir is in the namespace {namespace}"));
    }
    output::note(&format!(
        "kept: the namespace {namespace}, its volume claims and what nodes have under /var/lib/weir/{namespace}; \
         `kubectl delete namespace {namespace}` takes the first two"
    ));
    Ok(())
}

/// The end: how people get there.
async fn reach(cluster: &Cluster, args: &DeployArgs) -> Result<(), Failure> {
    let namespace = &cluster.namespace;
    let mut kubectl = String::from("kubectl");
    for (flag, value) in [
        ("--kubeconfig", args.kubeconfig.as_ref().map(|path| path.display().to_string())),
        ("--context", args.context.clone()),
    ] {
        if let Some(value) = value {
            // Writing into a string does not fail.
            let _ = write!(kubectl, " {flag} {value}");
        }
    }
    let mut text = format!(
        "\nTo reach it:\n  {kubectl} -n {namespace} port-forward service/weir-cluster 7070\n"
    );
    if args.show_login {
        let token = secrets::token(cluster).await?;
        let _ = write!(text, "  http://127.0.0.1:7070/#token={token}");
    } else {
        let _ = write!(
            text,
            "  export WEIR_TOKEN=$({kubectl} -n {namespace} get secret {} -o \
             jsonpath='{{.data.token}}' | base64 -d)\n  weir nodes\n\
             The page's login link is printed by `weir deploy --show-login`.",
            cluster.secrets.token
        );
    }
    output::text(&text)
}
