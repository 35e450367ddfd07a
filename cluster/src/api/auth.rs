//! Who may come in, as pure rules: which names are this server's (`Host`), which pages may call it
//! (`Origin`), and which token opens it. When they are asked is [`super::guard`]'s matter.

use std::net::{IpAddr, Ipv6Addr};

/// The rules of one server.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `None`: `--insecure-no-auth`.
    pub token: Option<String>,
    pub listen_ip: IpAddr,
    pub listen_port: u16,
    /// `--host NAME`, beside the listening address and `localhost`.
    pub hosts: Vec<String>,
    /// Addresses of this machine, allowed when listening on a wildcard.
    pub local_ips: Vec<IpAddr>,
}

/// `name[:port]` → (name, port); IPv6 in brackets. `None`: neither.
fn split_host(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        None => Some((name, None)),
        Some(port) if digits(port) => Some((name, Some(port.parse().ok()?))),
        Some(_) => None,
    }
}

impl Auth {
    pub(super) fn host_allowed(&self, host: &str) -> bool {
        let Some((name, port)) = split_host(host) else { return false };
        let listed = |what: &str| self.hosts.iter().any(|host| host.eq_ignore_ascii_case(what));
        if port.is_some_and(|port| port != self.listen_port) {
            return listed(host);
        }
        if name.eq_ignore_ascii_case("localhost") || listed(name) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|ip| {
            ip == self.listen_ip
                || (self.listen_ip.is_unspecified()
                    && (self.local_ips.contains(&ip) || ip.is_loopback()))
        })
    }

    /// A browser's origin must be the page's own: same host and port as the request's `Host`.
    pub(super) fn origin_allowed(origin: &str, host: &str) -> bool {
        origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    }

    /// True for the server's token, and for anything where none is wanted.
    pub(super) fn is_token(&self, given: &str) -> bool {
        self.token.as_ref().is_none_or(|token| same(given.as_bytes(), token.as_bytes()))
    }

    /// The session cookie's name. Browsers send cookies to every port of a host: servers on other
    /// ports must not take each other's away.
    pub(super) fn cookie_name(&self) -> String {
        format!("weir_session_{}", self.listen_port)
    }
}

/// The token of an `Authorization` value; the scheme's case means nothing (RFC 9110, 11.1).
pub(super) fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn auth(listen_ip: IpAddr) -> Auth {
        Auth {
            token: Some("secret".into()),
            listen_ip,
            listen_port: 7070,
            hosts: vec!["weir.example".into(), "proxy.example:443".into()],
            local_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5))],
        }
    }

    /// DNS rebinding: a foreign name that resolves to us is refused; our names and ports pass. What
    /// is no host at all is refused, too: catches a port that does not parse taken for none.
    #[test]
    fn hosts() {
        let loopback = auth(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for good in [
            "127.0.0.1:7070",
            "localhost:7070",
            "localhost",
            "LocalHost:7070",
            "weir.example:7070",
            "proxy.example:443",
        ] {
            assert!(loopback.host_allowed(good), "{good}");
        }
        for bad in [
            "evil.example:7070",
            "127.0.0.1:7071",
            "10.0.0.5:7070",
            "",
            "[::1]:7070",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:+7070",
            "127.0.0.1:7070:1",
            "127.0.0.1:70000",
            "localhost:7070@evil.example",
            "[127.0.0.1]evil",
            "[127.0.0.1]:7070",
            "[localhost]:7070",
            "[127.0.0.1",
        ] {
            assert!(!loopback.host_allowed(bad), "{bad}");
        }
        let any = auth(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert!(any.host_allowed("10.0.0.5:7070"));
        assert!(!any.host_allowed("10.0.0.6:7070"));
        let six = auth("::1".parse().unwrap());
        assert!(six.host_allowed("[::1]:7070"));
    }

    /// Only the page's own origin, and only the right token.
    #[test]
    fn origins_and_tokens() {
        assert!(Auth::origin_allowed("http://localhost:7070", "localhost:7070"));
        assert!(!Auth::origin_allowed("http://evil.example", "localhost:7070"));
        assert!(!Auth::origin_allowed("null", "localhost:7070"));
        let auth = auth(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(auth.is_token("secret"));
        assert!(!auth.is_token("secreT"));
        assert!(!auth.is_token(""));
        for value in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(bearer_token(value), Some("secret"), "{value}");
        }
        for value in ["secret", "Basic secret", "Bearer", "Bearersecret"] {
            assert_eq!(bearer_token(value), None, "{value}");
        }
    }
}
