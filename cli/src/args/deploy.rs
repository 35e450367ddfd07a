//! What `weir deploy` and `weir probe` take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::parse_duration;

/// Sizes of all parts, as the chart has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Up to about 10 machines, or a laptop.
    S,
    /// Up to about 100.
    M,
    /// More, or busy ones.
    L,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Where it goes; made if it is not there.
    #[arg(short, long, default_value = "weir", value_parser = parse_namespace, value_name = "NAME")]
    pub(crate) namespace: String,
    /// How large: requests, limits and what is kept [default: m].
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,
    /// Values of the chart, as for helm: a file in YAML. Several go into each other, later ones first.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// Single values, over the files: a.b=c,d[0]=e,f={x,y}.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The same, whose values are text whatever they look like.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set_string: Vec<String>,
    /// The image of Weir, as the cluster's machines find it [default: weir:VERSION].
    #[arg(long, value_parser = parse_image, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Which cluster [default: KUBECONFIG, else ~/.kube/config, else that of the pod we are in].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// And which context of it [default: the present one].
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Let the server judge everything, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print what would be applied, as a list in JSON, and ask no server. The secrets are not in it.
    #[arg(long, conflicts_with_all = ["dry_run", "delete", "show_login"])]
    pub(crate) print: bool,
    /// Do not wait until all parts are ready.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait so long for it.
    #[arg(long, value_parser = parse_duration, default_value = "5m", value_name = "5m")]
    pub(crate) timeout: Duration,
    /// Print the login link in the end; who sees it gets in.
    #[arg(long, conflicts_with_all = ["dry_run", "delete"])]
    pub(crate) show_login: bool,
    /// Take everything away again, except the namespace and the volumes.
    #[arg(long)]
    pub(crate) delete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeWhat {
    /// It lives.
    Alive,
    /// It answers; with --node: its sources run, and the bus was reached.
    Ready,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    pub(crate) what: ProbeWhat,
    /// The node of the data directory (--data-dir) instead of the server.
    #[arg(long)]
    pub(crate) node: bool,
}

/// A label of DNS (RFC 1123), as Kubernetes wants names of namespaces.
fn parse_namespace(text: &str) -> Result<String, String> {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_ends = !text.starts_with('-') && !text.ends_with('-');
    if (1..=63).contains(&text.len()) && text.bytes().all(is_fine) && has_ends {
        return Ok(text.to_string());
    }
    Err("write small letters, digits and -, at most 63".to_string())
}

fn parse_image(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
    if !text.is_empty() && text.len() <= 512 && text.chars().all(is_fine) {
        return Ok(text.to_string());
    }
    Err("this is no reference of an image: write like registry.example/weir:0.1.0".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes would refuse later is wrong usage now.
    #[test]
    fn names() {
        for text in ["weir", "a", "kube-system", "1a"] {
            assert_eq!(parse_namespace(text).as_deref(), Ok(text));
        }
        for text in ["", "-a", "a-", "A", "a.b", "a b", &"a".repeat(64)] {
            assert!(parse_namespace(text).is_err(), "{text}");
        }
        for text in ["weir:1", "r.example:5000/a/weir@sha256:ab", "[::1]:5000/weir"] {
            assert!(parse_image(text).is_ok(), "{text}");
        }
        for text in ["", "a b", "a\n", "a\"b", &"a".repeat(513)] {
            assert!(parse_image(text).is_err(), "{text}");
        }
    }
}
