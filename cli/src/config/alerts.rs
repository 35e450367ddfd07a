//! Of `weir.yaml`: files of alert rules, and where alerts go. Rules are judged as `weir rules check` judges them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use weir_cluster::judge::{Judge, runs, views_of};
use weir_cluster::service::{AlertsSpec, MailServer, MailTo, ReceiverSpec, Sender};
use weir_rules::file::RuleFile;
use weir_rules::labels::{Labels, is_plain_label};
use weir_rules::notify::mail::Envelope;
use weir_rules::pack;
use weir_rules::state::{AlertRule, Settings};
use weir_rules::yaml::FILE_BYTES_MAX;
use weir_sinks::http_client::Target;

use super::access::{print_of, target_of, tls_of};
use super::keys::{AuthConfig, Config, Secret, Span, TlsConfig};
use super::{bounded, judge_name};
use crate::script;

/// Files that the patterns of `rules` may name.
const FILES_MAX: usize = 256;
/// Each has a thread and a queue.
const RECEIVERS_MAX: usize = 32;
const RECIPIENTS_MAX: usize = 50;

/// An Alertmanager of API version 2. Each is told everything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertmanagerConfig {
    /// `http://HOST:PORT`, and a path before `/api/v2/alerts`, if there is one.
    url: Secret,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    #[serde(default)]
    auth: AuthConfig,
    /// Of `https`.
    #[serde(default)]
    tls: TlsConfig,
    #[serde(default = "default_timeout")]
    timeout: Span,
}

/// One attempt takes no longer, as with Prometheus.
fn default_timeout() -> Span {
    Span(Duration::from_secs(10))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReceiverKind {
    /// Payload version "4", as Alertmanager's.
    Webhook,
    /// Slack's incoming webhooks, and what takes the same.
    Slack,
    Smtp,
}

/// Who is told of each alert once when it fires and once when it is over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiverConfig {
    name: String,
    #[serde(rename = "type")]
    kind: ReceiverKind,
    /// `http://…`, `https://…`; of `smtp`: `smtp://HOST:PORT` or `smtps://HOST:PORT`.
    url: Secret,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    #[serde(default)]
    auth: AuthConfig,
    /// Of `https`; of `smtp` and `smtps` only `ca`.
    #[serde(default)]
    tls: TlsConfig,
    /// Of `smtp`: an address.
    from: Option<String>,
    /// Of `smtp`: addresses.
    to: Option<Vec<String>>,
    #[serde(default = "default_timeout")]
    timeout: Span,
}

/// What holds for all alerts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AlertsConfig {
    /// Where people reach this server: links of alerts begin with it.
    external_url: String,
    /// On every alert that leaves.
    external_labels: BTreeMap<String, String>,
    /// After which Alertmanagers are told again.
    resend: Span,
    /// Rules that come with Weir; `weir rules builtin` prints them.
    builtin: BuiltinConfig,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BuiltinConfig {
    enabled: bool,
    /// Names of those that do not run.
    disabled: Vec<String>,
}

impl Default for AlertsConfig {
    fn default() -> AlertsConfig {
        AlertsConfig {
            external_url: String::new(),
            external_labels: BTreeMap::new(),
            resend: Span(Duration::from_secs(60)),
            builtin: BuiltinConfig::default(),
        }
    }
}

/// The files that patterns name now, sorted. A name without wildcards has to be there.
pub(crate) fn files(base: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut found = BTreeSet::new();
    for pattern in patterns {
        if !pattern.contains(['*', '?', '[']) {
            found.insert(base.join(pattern));
            continue;
        }
        let folder = base.to_str().ok_or("rules: the configuration's folder is no text")?;
        // What looks like a pattern in the name of our folder is none.
        let folder = glob::Pattern::escape(folder);
        let whole = Path::new(&folder).join(pattern);
        let matches = glob::glob(&whole.to_string_lossy())
            .map_err(|error| format!("rules: `{pattern}` is no pattern: {}", error.msg))?;
        for path in matches {
            found.insert(path.map_err(|error| format!("rules: {error}"))?);
            if found.len() > FILES_MAX {
                break;
            }
        }
        if found.len() > FILES_MAX {
            return Err(format!("rules: `{pattern}` names more than {FILES_MAX} files"));
        }
    }
    Ok(found.into_iter().collect())
}

/// What the configuration asks for. `written`: as the file and the environment have it.
pub(super) fn spec(config: &Config, written: &Json, base: &Path) -> Result<AlertsSpec, String> {
    let AlertsConfig { external_url, external_labels, resend, builtin } = &config.alerts;
    if let Some(name) = external_labels.keys().find(|name| !is_plain_label(name)) {
        return Err(format!("alerts.external_labels: `{name}` is no name of a label"));
    }
    if resend.0 < Duration::from_secs(1) {
        return Err("alerts.resend is at least 1s".to_string());
    }
    let settings = Settings {
        external_labels: Labels::new(external_labels.clone()),
        external_url: Arc::from(external_url.as_str()),
        resend_ns: i64::try_from(resend.0.as_nanos()).unwrap_or(i64::MAX),
    };
    let mut texts = Vec::new();
    for path in files(base, &config.rules)? {
        let text = bounded(&path, FILE_BYTES_MAX as u64).map_err(|why| format!("rules: {why}"))?;
        texts.push((path.display().to_string(), text));
    }
    if builtin.enabled {
        texts.push((pack::BUILTIN_FILE.to_string(), pack::BUILTIN.to_string()));
    }
    let parsed: Vec<RuleFile> =
        texts.iter().filter_map(|(_, text)| weir_rules::file::parse(text).ok()).collect();
    // Before any is compiled.
    runs(parsed.iter()).map_err(|why| format!("rules: {why}"))?;
    let views = views_of(parsed.iter());
    let mut rules = Vec::new();
    let mut judge = Judge::new(Arc::clone(&views), &script::allowance);
    for (name, text) in &texts {
        let (report, columns) = judge.file(name, text);
        if let Some(first) = report.problems.first() {
            let more = report.problems.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            return Err(format!("{first}{more}"));
        }
        let all = report.file.groups.iter();
        let all = all.flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let alerts = all.zip(columns);
        rules.extend(alerts.filter_map(|((group, rule), (columns, _))| {
            AlertRule::new(name, group, rule, columns)
        }));
    }
    for name in builtin.disabled.iter().filter(|_| builtin.enabled) {
        let before = rules.len();
        rules.retain(|rule| rule.file != pack::BUILTIN_FILE || rule.name != *name);
        if rules.len() == before {
            return Err(format!("alerts.builtin.disabled: there is no rule `{name}`"));
        }
    }

    Ok(AlertsSpec { rules, views, settings, receivers: receivers(config, written, base)? })
}

fn receivers(config: &Config, written: &Json, base: &Path) -> Result<Vec<ReceiverSpec>, String> {
    if config.alertmanagers.len() + config.receivers.len() > RECEIVERS_MAX {
        return Err(format!("alerts may go to {RECEIVERS_MAX} receivers"));
    }
    let mut specs: Vec<ReceiverSpec> = Vec::new();
    for (idx, to) in config.alertmanagers.iter().enumerate() {
        let at = |why: String| format!("alertmanagers[{idx}]: {why}");
        let (to, tls) =
            http_to(&to.url, &to.headers, &to.auth, (&to.tls, base), to.timeout).map_err(at)?;
        specs.push(ReceiverSpec {
            name: format!("alertmanager-{}", idx + 1),
            sender: Sender::Alertmanager(to),
            print: format!("{} {tls:016x}", written["alertmanagers"][idx]),
        });
    }
    for (idx, receiver) in config.receivers.iter().enumerate() {
        let name = &receiver.name;
        let at = |why: String| format!("receivers[{idx}] {name}: {why}");
        judge_name(name).map_err(at)?;
        if specs.iter().any(|spec| spec.name == *name) {
            return Err(at("another receiver is called so".into()));
        }
        let external_url = config.alerts.external_url.clone();
        let (sender, tls) = sender(receiver, external_url, base).map_err(at)?;
        // What it writes about depends on where the server says it is.
        let print =
            format!("{} {} {tls:016x}", written["receivers"][idx], config.alerts.external_url);
        specs.push(ReceiverSpec { name: name.clone(), sender, print });
    }
    Ok(specs)
}

/// And what tells its certificates from others.
fn sender(
    receiver: &ReceiverConfig,
    external_url: String,
    base: &Path,
) -> Result<(Sender, u64), String> {
    let ReceiverConfig { kind, url, headers, auth, tls, from, to, timeout, .. } = receiver;
    if *kind != ReceiverKind::Smtp && (from.is_some() || to.is_some()) {
        return Err("`from` and `to` are for receivers of type smtp".to_string());
    }
    let http = || http_to(url, headers, auth, (tls, base), *timeout);
    match kind {
        ReceiverKind::Webhook => {
            http().map(|(to, print)| (Sender::Webhook { to, external_url }, print))
        }
        ReceiverKind::Slack => http().map(|(to, print)| (Sender::Slack(to), print)),
        ReceiverKind::Smtp => smtp(receiver, base).map(|to| {
            let print = print_of(&to.authorities);
            (Sender::Smtp(to), print)
        }),
    }
}

fn smtp(receiver: &ReceiverConfig, base: &Path) -> Result<MailTo, String> {
    let ReceiverConfig { url, headers, auth, tls, from, to, timeout, .. } = receiver;
    if MailServer::of(&url.0).is_none() {
        return Err("`url` is smtp://HOST:PORT or smtps://HOST:PORT; who it is, `auth` says".into());
    }
    if tls.cert.is_some() || tls.key.is_some() {
        let why = "a receiver of type smtp takes `tls.ca`; who it is, `auth` says";
        return Err(why.to_string());
    }
    let authorities = tls_of(tls, base)?.authorities;
    let others = AuthConfig { user: None, password: None, ..auth.clone() };
    if !headers.is_empty() || others != AuthConfig::default() {
        return Err("a receiver of type smtp takes `auth.user` and `auth.password`".to_string());
    }
    let user = match (&auth.user, &auth.password) {
        (Some(user), Some(password)) => Some((user.0.clone(), password.0.clone())),
        (None, None) => None,
        _ => return Err("`auth` has both `user` and `password`".to_string()),
    };
    let (Some(from), Some(to)) = (from, to) else {
        return Err("a receiver of type smtp needs `from` and `to`".to_string());
    };
    if to.len() > RECIPIENTS_MAX {
        return Err(format!("a mail may go to {RECIPIENTS_MAX} addresses"));
    }
    is_timeout(*timeout)?;
    let envelope = Envelope::new(from, to)?;
    let (url, timeout) = (url.0.clone(), timeout.0);
    let (from, to) = (from.clone(), to.clone());
    Ok(MailTo { url, envelope, from, to, user, authorities, timeout })
}

fn is_timeout(timeout: Span) -> Result<(), String> {
    let fits = (Duration::from_millis(1)..=Duration::from_secs(300)).contains(&timeout.0);
    if fits { Ok(()) } else { Err("timeout is 1ms to 5m".to_string()) }
}

fn http_to(
    url: &Secret,
    headers: &BTreeMap<String, Secret>,
    auth: &AuthConfig,
    (tls, base): (&TlsConfig, &Path),
    timeout: Span,
) -> Result<(Target, u64), String> {
    let Secret(url) = url;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err("`url` begins with http:// or https://, and names a host".to_string());
    }
    is_timeout(timeout)?;
    if *tls != TlsConfig::default() && !url.starts_with("https://") {
        return Err("`tls` is for https".to_string());
    }
    let tls = tls_of(tls, base)?;
    let print = print_of(&tls);
    Ok((target_of(url.clone(), headers, auth, timeout, tls)?, print))
}
