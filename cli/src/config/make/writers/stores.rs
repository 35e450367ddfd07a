//! The writer of objects in a store that speaks S3. Who we are is in the sink's `auth`, or in the variables that
//! other programs read it from, too; or it is the role that this machine, container or pod has been given. What comes of
//! the environment belongs to Amazon's stores, and to others if the sink says so.

use weir_sinks::s3::{Access, Authorization, Form, Role, S3Config, S3Sink, Who, parts_of};

use super::{HTTP, How, lines_of, wants_scheme};
use crate::config::access::{secrets_of, target_of};
use crate::config::keys::{AuthConfig, CodecName, RoleName, Secret, SinkConfig};

const REGION: &str = "us-east-1";
/// Where machines of Amazon's ask for what they are.
const METADATA: &str = "http://169.254.169.254";
/// Where their containers ask, when only a path is said.
const AGENT: &str = "http://169.254.170.2";
/// Others are asked in clear on this machine only.
const AGENTS: [&str; 3] =
    ["http://169.254.170.2/", "http://169.254.170.23/", "http://[fd00:ec2::23]/"];

/// A variable of the environment; empty, it is none.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn s3(how: &How<'_>, config: &SinkConfig, codec: CodecName) -> Result<S3Sink, String> {
    let path = config.path.as_deref().and_then(std::path::Path::to_str).unwrap_or_default();
    let (bucket, key) = parts_of(path)?;
    let region = config.region.clone().unwrap_or_else(|| REGION.to_string());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || !region.chars().all(is_name) {
        return Err("`region` is letters, digits and `-`".to_string());
    }
    let url = match &config.url {
        Some(_) => wants_scheme(config, &HTTP)?,
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    if url.contains(['@', '?', '#']) {
        return Err("`url` of a store is http(s)://HOST[:PORT], without user or query".to_string());
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let (auth, who) = who(config, &region, &variable)?;
    // Requests are signed: neither user nor token is a header.
    let tls = how.tls.clone().unwrap_or_default();
    let none = (std::collections::BTreeMap::new(), AuthConfig::default());
    let mut target = target_of(url.clone(), &none.0, &none.1, config.timeout, tls)?;
    target.secrets = secrets_of(&url, &none.0, &auth);
    // Where it is, is no secret, and errors are hard to read without it.
    target.secrets.retain(|secret| *secret != url);
    let form = match codec {
        CodecName::Parquet => Form::Parquet,
        lines => Form::Lines(lines_of(lines)),
    };
    let (bucket, key) = (bucket.to_string(), key.to_string());
    S3Sink::new(S3Config { target, region, bucket, key, who }, form)
}

/// Who we are, and what of it no message may repeat.
fn who(
    config: &SinkConfig,
    region: &str,
    variable: Variables<'_>,
) -> Result<(AuthConfig, Who), String> {
    let (auth, none) = (&config.auth, AuthConfig::default());
    let is_said = *auth != none;
    let is_amazons = config.url.is_none();
    match config.role {
        Some(_) if is_said => Err("a store has `auth` or a `role`".to_string()),
        Some(RoleName::None) => Ok((none, Who::Nobody)),
        Some(RoleName::Machine) => Ok((none, Who::Role(role(region, variable)?))),
        None if is_said => Ok((auth.clone(), access(auth)?)),
        None => match of_environment(variable) {
            Some(auth) => Ok((auth.clone(), access(&auth)?)),
            None if is_amazons && has_role(variable) => {
                Ok((none, Who::Role(role(region, variable)?)))
            }
            None => Ok((none, Who::Nobody)),
        },
    }
}

fn access(auth: &AuthConfig) -> Result<Who, String> {
    match (&auth.user, &auth.password) {
        (Some(id), Some(secret)) => {
            let token = auth.token.as_ref().map(|token| token.0.clone());
            Ok(Who::Key(Access { id: id.0.clone(), secret: secret.0.clone(), token }))
        }
        _ => Err("a store takes `auth.user` and `auth.password`: the id of an access key and its \
                  secret; and `auth.token` with a session's"
            .to_string()),
    }
}

/// As Amazon's own programs look for it.
fn of_environment(variable: Variables<'_>) -> Option<AuthConfig> {
    Some(AuthConfig {
        user: Some(Secret(variable("AWS_ACCESS_KEY_ID")?)),
        password: Some(Secret(variable("AWS_SECRET_ACCESS_KEY")?)),
        token: variable("AWS_SESSION_TOKEN").map(Secret),
        ..AuthConfig::default()
    })
}

/// Nobody has said that there is none.
fn has_role(variable: Variables<'_>) -> bool {
    let is_off = variable("AWS_EC2_METADATA_DISABLED").is_some_and(|it| it == "true");
    let named = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    ];
    !is_off || named.into_iter().any(|name| variable(name).is_some())
}

/// Who gives keys: what the environment of a pod or a container says, else the machine.
fn role(region: &str, variable: Variables<'_>) -> Result<Role, String> {
    if let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let role = variable("AWS_ROLE_ARN");
        let role = role.ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is of use with AWS_ROLE_ARN only")?;
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = || format!("https://sts.{region}.amazonaws.com{china}/");
        let url = http_url("AWS_ENDPOINT_URL_STS", variable)?.unwrap_or_else(own);
        let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "weir".to_string());
        return Ok(Role::Token { url, file: file.into(), role, session });
    }
    let path = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let of_path = path.map(|path| format!("{AGENT}/{}", path.trim_start_matches('/')));
    let of_agent = match of_path {
        Some(url) => Some(url),
        None => http_url("AWS_CONTAINER_CREDENTIALS_FULL_URI", variable)?,
    };
    if let Some(url) = of_agent {
        if !is_near(&url) {
            return Err(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI is https://…, or on this machine".into()
            );
        }
        let text = || variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Authorization::Text);
        let file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let authorization = file.map(|file| Authorization::File(file.into())).or_else(text);
        return Ok(Role::Container { url, authorization });
    }
    let url = http_url("AWS_EC2_METADATA_SERVICE_ENDPOINT", variable)?;
    Ok(Role::Machine { url: url.unwrap_or_else(|| METADATA.to_string()) })
}

fn http_url(name: &str, variable: Variables<'_>) -> Result<Option<String>, String> {
    let Some(url) = variable(name) else { return Ok(None) };
    match HTTP.iter().any(|scheme| url.starts_with(scheme)) {
        true => Ok(Some(url)),
        false => Err(format!("{name} begins with http:// or https://")),
    }
}

/// What is told there in clear is not told to others.
fn is_near(url: &str) -> bool {
    let with_end = format!("{url}/");
    let host = url.strip_prefix("http://").unwrap_or_default().split('/').next();
    let host = host.unwrap_or_default();
    let is_loopback = host.parse::<std::net::SocketAddr>().is_ok_and(|at| at.ip().is_loopback())
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
        || host.split(':').next() == Some("localhost");
    let is_agent = AGENTS.iter().any(|agent| with_end.starts_with(agent));
    !url.contains('@') && (url.starts_with("https://") || is_loopback || is_agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(variables: &[(&str, &str)]) -> Result<Role, String> {
        let found = |name: &str| {
            let found = variables.iter().find(|(have, _)| *have == name);
            found.map(|(_, value)| value.to_string())
        };
        role("eu-west-1", &found)
    }

    /// Who gives keys is what Amazon's own programs would ask, in their order; in clear only who is near. Catches a token
    /// of a pod that goes to whoever a variable names.
    #[test]
    fn roles_are_those_of_the_environment() {
        let machine = |url: &str| Role::Machine { url: url.to_string() };
        assert_eq!(role_of(&[]), Ok(machine(METADATA)));
        let other = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]")];
        assert_eq!(role_of(&other), Ok(machine("http://[fd00:ec2::254]")));
        let pod = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn")];
        let token = |url: &str, session: &str| Role::Token {
            url: url.to_string(),
            file: "/t".into(),
            role: "arn".to_string(),
            session: session.to_string(),
        };
        let own = "https://sts.eu-west-1.amazonaws.com/";
        assert_eq!(role_of(&pod), Ok(token(own, "weir")));
        let more = [("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"), ("AWS_ROLE_SESSION_NAME", "s")];
        let more = [&pod[..], &more[..], &other[..]].concat();
        assert_eq!(role_of(&more), Ok(token("http://127.0.0.1:1", "s")));
        assert!(role_of(&pod[..1]).is_err_and(|why| why.contains("AWS_ROLE_ARN")));
        let at = |url: &str| role_of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
        for near in [
            "https://x/y",
            "http://127.0.0.1:9/y",
            "http://127.1.2.3/y",
            "http://[::1]:9/y",
            "http://localhost/y",
            "http://169.254.170.23/v1/credentials",
        ] {
            let role = Role::Container { url: near.to_string(), authorization: None };
            assert_eq!(at(near), Ok(role), "{near}");
        }
        for far in ["http://x/y", "http://169.254.170.2.x/", "http://localhost:1@x/", "ftp://x"] {
            assert!(at(far).is_err(), "{far}");
        }
        let agent = [
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/f"),
        ];
        let authorization = Some(Authorization::File("/f".into()));
        let url = format!("{AGENT}/v2/x");
        assert_eq!(role_of(&agent), Ok(Role::Container { url, authorization }));
    }
}
