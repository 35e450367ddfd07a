//! The table of all routes. A route is closed unless it says [`Route::open`] here; everything that
//! is registered comes from this table, and whatever it does not name is answered by a closed
//! fallback. Tests ask each row.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::guard::{Any, Get, Head, Post};
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, HttpResponse, web};

use super::guard::{Access, Body, Policy, admit, check};
use super::{
    ApiError, ApiState, Asset, REQUEST_BYTES_MAX, cost, explain, faults, http, live, login,
    preview, run,
};

/// A token and some punctuation.
const LOGIN_BYTES_MAX: usize = 4 << 10;

/// What changes nothing, and what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Post,
}

/// One row of the table.
pub(super) struct Route {
    kind: Kind,
    path: String,
    policy: Policy,
    /// The handler; the guard of its method is added here.
    handler: Box<dyn Fn(actix_web::Route) -> actix_web::Route>,
}

/// A row as tests see it.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    pub method: &'static str,
    /// As the router knows it: `{name}` stands for a part.
    pub path: String,
    pub access: Access,
}

/// A handler of this module's table.
macro_rules! to {
    ($handler:expr) => {
        |route| route.to($handler)
    };
}

fn get(path: &str, handler: impl Fn(actix_web::Route) -> actix_web::Route + 'static) -> Route {
    Route::closed(Kind::Get, path, handler)
}

fn post(path: &str, handler: impl Fn(actix_web::Route) -> actix_web::Route + 'static) -> Route {
    Route::closed(Kind::Post, path, handler)
}

impl Route {
    fn closed(
        kind: Kind,
        path: &str,
        handler: impl Fn(actix_web::Route) -> actix_web::Route + 'static,
    ) -> Route {
        let body = Body::Bytes(if kind == Kind::Post { REQUEST_BYTES_MAX } else { 0 });
        let policy = Policy { access: Access::Closed, body };
        Route { kind, path: path.to_string(), policy, handler: Box::new(handler) }
    }

    /// Everybody may call it.
    fn open(mut self) -> Route {
        self.policy.access = Access::Open;
        self
    }

    fn body(mut self, body: Body) -> Route {
        self.policy.body = body;
        self
    }

    fn register(&self, config: &mut web::ServiceConfig) {
        let policy = self.policy;
        let method = match self.kind {
            Kind::Get => web::route().guard(Any(Get()).or(Head())),
            Kind::Post => web::route().guard(Post()),
        };
        let route = (self.handler)(method);
        let gate = from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            admit(policy, request, next)
        });
        config.service(web::resource(self.path.as_str()).route(route).wrap(gate));
    }
}

/// All routes of a server with this page.
pub(super) fn table(assets: &'static [Asset]) -> Vec<Route> {
    let mut routes = vec![
        get("/healthz", to!(async || HttpResponse::Ok().body("ok\n"))).open(),
        get("/readyz", to!(http::readyz)).open(),
        get("/metrics", to!(http::prometheus)),
        post("/api/v1/login", to!(login::login)).open().body(Body::Bytes(LOGIN_BYTES_MAX)),
        post("/api/v1/logout", to!(login::logout)).body(Body::Bytes(LOGIN_BYTES_MAX)),
        get("/api/v1/scripts", to!(http::scripts)),
        get("/api/v1/scripts/{name:.+}", to!(http::script)),
        get("/api/v1/schema", to!(http::schema)),
        get("/api/v1/schema/{table}", to!(http::schema_of)),
        get("/api/v1/funcs", to!(http::funcs)),
        get("/api/v1/queries", to!(http::queries)),
        get("/api/v1/queries/{query}", to!(explain::of_query)),
        get("/api/v1/nodes", to!(http::nodes)),
        get("/api/v1/sinks", to!(http::sinks)),
        get("/api/v1/alerts", to!(http::alerts)),
        get("/api/v1/alerts/history", to!(http::alerts_history)),
        post("/api/v1/alerts/preview", to!(preview::preview)),
        get("/api/v1/stats", to!(http::stats)),
        get("/api/v1/doctor", to!(http::doctor)),
        get("/api/v1/live", to!(live::upgrade)).body(Body::Stream),
        post("/api/v1/run", to!(run::run)),
        post("/api/v1/check", to!(http::check)),
        post("/api/v1/explain", to!(explain::of_script)),
        post("/api/v1/explain/cost", to!(cost::of_script)),
        post("/api/v1/test/fault", to!(faults::kill)),
        post("/api/v1/test/order", to!(faults::order)),
    ];
    for asset in assets {
        let answer = move || {
            let answer = http::asset(asset);
            async { answer }
        };
        routes.push(get(&format!("/{}", asset.path), move |route| route.to(answer)).open());
        if asset.path == "index.html" {
            routes.push(get("/", move |route| route.to(answer)).open());
        }
    }
    routes
}

/// Which routes there are, and who may call them.
#[must_use]
pub fn list(assets: &'static [Asset]) -> Vec<RouteInfo> {
    let info = |route: Route| RouteInfo {
        method: if route.kind == Kind::Get { "GET" } else { "POST" },
        path: route.path,
        access: route.policy.access,
    };
    table(assets).into_iter().map(info).collect()
}

pub(super) fn register(config: &mut web::ServiceConfig, assets: &'static [Asset]) {
    table(assets).iter().for_each(|route| route.register(config));
}

/// Where no route is. That nothing is there is not for everybody either.
pub(super) async fn fallback(
    request: HttpRequest,
    state: web::Data<ApiState>,
) -> Result<HttpResponse, ApiError> {
    check(&state, Access::Closed, &request)?;
    let message = format!("there is nothing at {}", request.path());
    Err(ApiError::not_found("not_found", message))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &[Asset] = &[Asset { path: "index.html", bytes: b"" }];

    /// What is open is known by name: catches a route that was opened by mistake. Two rows of one
    /// path would be two resources, of which the router only ever asks the first.
    #[test]
    fn few_are_open() {
        let routes = list(PAGE);
        let open: Vec<&str> = routes
            .iter()
            .filter(|route| route.access == Access::Open)
            .map(|route| route.path.as_str())
            .collect();
        assert_eq!(open, ["/healthz", "/readyz", "/api/v1/login", "/index.html", "/"]);
        let paths: BTreeSet<&str> = routes.iter().map(|route| route.path.as_str()).collect();
        assert_eq!(paths.len(), routes.len());
    }
}
