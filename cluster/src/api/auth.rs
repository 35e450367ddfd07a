//! Who may come in. Always: the `Host` must be one of ours and a browser's `Origin` must match it
//! (DNS rebinding, cross-site websockets). With a token: every path but health, login and the page's
//! static files wants it as `Authorization: Bearer` or as the cookie that the login exchange sets.

use std::net::IpAddr;

use actix_web::body::MessageBody;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::{ApiError, ApiState};

const COOKIE: &str = "weir_token";

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

/// `name[:port]` → (name, port); IPv6 in brackets.
fn split_host(host: &str) -> (&str, Option<u16>) {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((name, port)) => (name, port.strip_prefix(':').and_then(|p| p.parse().ok())),
            None => (host, None),
        };
    }
    match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (host, None),
    }
}

impl Auth {
    fn host_allowed(&self, host: &str) -> bool {
        let (name, port) = split_host(host);
        if port.is_some_and(|port| port != self.listen_port) {
            return self.hosts.iter().any(|allowed| allowed == host);
        }
        if name == "localhost" || self.hosts.iter().any(|allowed| allowed == name) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|ip| {
            ip == self.listen_ip
                || (self.listen_ip.is_unspecified()
                    && (self.local_ips.contains(&ip) || ip.is_loopback()))
        })
    }

    /// A browser's origin must be the page's own: same host and port as the request's `Host`.
    fn origin_allowed(origin: &str, host: &str) -> bool {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
    }

    fn token_given(&self, request: &ServiceRequest) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let cookie = request.cookie(COOKIE);
        let given = bearer.or_else(|| cookie.as_ref().map(Cookie::value));
        given.is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
    }

    /// Exchanges the token for the page's cookie.
    #[must_use]
    pub fn login(&self, given: &str) -> Option<Cookie<'static>> {
        let token = self.token.as_ref()?;
        same(given.as_bytes(), token.as_bytes()).then(|| {
            Cookie::build(COOKIE, token.clone())
                .path("/")
                .http_only(true)
                .same_site(SameSite::Strict)
                .finish()
        })
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

fn is_open(path: &str) -> bool {
    !path.starts_with("/api/") && path != "/metrics" || path == "/api/v1/login"
}

/// Runs before every handler.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    check(&request)?;
    next.call(request).await
}

fn check(request: &ServiceRequest) -> Result<(), ApiError> {
    let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server has no state")
    })?;
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or_else(|| request.uri().host()).unwrap_or_default();
    if !state.auth.host_allowed(host) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            format!("`{host}` is not a name of this server; allow it with `weir up --host NAME`"),
        ));
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !Auth::origin_allowed(origin, host) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "another page may not call this server",
            ));
        }
    }
    if is_open(request.path()) {
        return Ok(());
    }
    if !state.auth.token_given(request) {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a token is needed: it is in the data directory's `token` file, and in the login link \
             that `weir up` prints",
        ));
    }
    if request.method() == Method::POST {
        let json = text(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.split(';').next().unwrap_or("").trim() == "application/json");
        if !json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type",
                "send `Content-Type: application/json`",
            ));
        }
    }
    Ok(())
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
            hosts: vec!["weir.example".into()],
            local_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5))],
        }
    }

    /// DNS rebinding: a foreign name that resolves to us is refused; our names and ports pass.
    #[test]
    fn hosts() {
        let loopback = auth(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for good in ["127.0.0.1:7070", "localhost:7070", "localhost", "weir.example:7070"] {
            assert!(loopback.host_allowed(good), "{good}");
        }
        for bad in ["evil.example:7070", "127.0.0.1:7071", "10.0.0.5:7070", "", "[::1]:7070"] {
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
        assert!(auth.login("secret").is_some_and(|c| c.http_only() == Some(true)));
        assert!(auth.login("secreT").is_none());
        assert!(auth.login("").is_none());
    }

    /// Health and the page are open, data is not.
    #[test]
    fn open_paths() {
        for open in ["/", "/index.html", "/assets/x.js", "/healthz", "/readyz", "/api/v1/login"] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["/api/v1/scripts", "/api/v1/live", "/metrics", "/api/v1/run"] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
