//! HTTP and websocket: the contract's paths, its safe defaults, and the page's static files.
//!
//! [`auth`] decides who may come in (token, Host, Origin), [`http`] answers questions, `metrics` those
//! about the server, [`run`] gives one answer of a script, [`live`] carries subscriptions. Answers are
//! JSON; errors are `{"error":{"code","message","diagnostics"?}}`
//! with a fitting status.

pub mod auth;
mod compile;
mod connection;
mod error;
pub mod faults;
mod frames;
pub mod http;
mod live;
mod metrics;
mod run;

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

pub use error::ApiError;

use crate::service::Service;

/// Largest request body.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

/// One static file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// `index.html`, `assets/…`
    pub path: &'static str,
    pub bytes: &'static [u8],
}

/// What the API serves beside the service itself.
pub struct ApiState {
    pub service: Service,
    pub auth: auth::Auth,
    pub assets: &'static [Asset],
    /// What works on this machine and why not, as `weir doctor -o json` prints it.
    pub doctor: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// With test faults: what kills other parts.
    pub kill_part: Option<faults::KillPart>,
    /// CPU and memory of this process.
    pub process: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// The server on an already bound socket. Await it, or stop it through its handle.
pub fn serve(listener: TcpListener, state: ApiState) -> std::io::Result<Server> {
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(web::PayloadConfig::new(REQUEST_BYTES_MAX))
            .app_data(
                web::JsonConfig::default()
                    .limit(REQUEST_BYTES_MAX)
                    .error_handler(|error, _| ApiError::bad_json(&error).into()),
            )
            .wrap(from_fn(auth::guard))
            .configure(http::routes)
            .configure(live::routes)
            .configure(faults::routes)
            .default_service(web::route().to(http::fallback))
    })
    .workers(1)
    .on_connect(connection::on_connect)
    // A client that is gone takes its request with it.
    .h1_allow_half_closed(false)
    .disable_signals()
    .shutdown_timeout(2)
    .listen(listener)?
    .run();
    Ok(server)
}
