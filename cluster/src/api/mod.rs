//! HTTP and websocket: the contract's paths, its safe defaults, and the page's static files.
//!
//! [`routes`] is the table of what there is, [`guard`] stands before each row of it and decides who
//! may come in by the rules of [`auth`], [`http`] answers questions, `metrics` those about the server, [`run`] gives one answer of a
//! script, [`live`] carries subscriptions, [`login`] and [`sessions`] keep browsers. Answers are JSON;
//! errors are `{"error":{"code","message","diagnostics"?}}` with a fitting status.

mod actor_metrics;
mod alerts;
pub mod auth;
mod body;
mod connection;
mod connections;
mod cost;
mod counters;
mod error;
mod explain;
pub mod faults;
mod frames;
mod generation;
mod guard;
pub mod http;
mod live;
mod login;
mod metrics;
mod operators;
mod parts;
mod preview;
mod query_metrics;
pub mod routes;
mod run;
mod sessions;
mod sink_metrics;
mod status;
mod stream;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use weir_actors::{KillSwitch, Stop};

pub use error::ApiError;
pub use guard::Access;
pub use sessions::SaveSessions;

use crate::service::Service;
use connections::Connections;
use counters::Counters;
use sessions::Sessions;

/// Largest request body.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Connections that may be open at all; above, the kernel lets clients wait. Websockets and newcomers
/// have lower limits of their own, with an answer.
const CONNECTIONS_MAX: usize = 4_096;
/// From the first byte to the head's end. A local client needs milliseconds.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long what a refused client still sends is taken and thrown away, so that it reads why.
const LINGER: Duration = Duration::from_secs(2);

/// One static file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// `index.html`, `assets/…`
    pub path: &'static str,
    pub bytes: &'static [u8],
}

/// Sessions over a restart.
pub struct SessionStore {
    /// What the last server saved; empty if none has.
    pub saved: String,
    pub save: SaveSessions,
}

/// What the API serves beside the service itself.
pub struct ApiConfig {
    pub service: Service,
    pub auth: auth::Auth,
    pub sessions: SessionStore,
    pub assets: &'static [Asset],
    /// What works on this machine and why not, as `weir doctor -o json` prints it.
    pub doctor: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// With test faults: what kills other parts.
    pub kill_part: Option<faults::KillPart>,
    /// CPU and memory of this process.
    pub process: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// What handlers see.
pub(crate) struct ApiState {
    service: Service,
    auth: auth::Auth,
    sessions: Sessions,
    counters: Arc<Counters>,
    doctor: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    kill_part: Option<faults::KillPart>,
    process: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// What rules would have done is found out for one at a time.
    pub(crate) previews: tokio::sync::Mutex<()>,
}

impl ApiState {
    fn new(config: ApiConfig) -> ApiState {
        let ApiConfig { service, auth, sessions, assets: _, doctor, kill_part, process } = config;
        let counters = Arc::new(Counters::default());
        let token = auth.token.clone().unwrap_or_default();
        let SessionStore { saved, save } = sessions;
        let sessions = Sessions::restore(token, &saved, save, counters.clone());
        let previews = tokio::sync::Mutex::default();
        ApiState { service, auth, sessions, counters, doctor, kill_part, process, previews }
    }

    fn now_unix_s(&self) -> u64 {
        u64::try_from(self.service.clock.now_unix_ns() / 1_000_000_000).unwrap_or(0)
    }
}

/// It stops within this: clients that are in the middle of something have two seconds.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Serves on an already bound socket in the current actix system, as a part below `root`.
pub fn start(root: &KillSwitch, listener: TcpListener, config: ApiConfig) -> std::io::Result<()> {
    let server = serve(listener, config)?;
    let part = root.child("api").part("http", Stop::Asked { within: STOP_MAX });
    let (handle, asked) = (server.handle(), part.stop_requested());
    actix_web::rt::spawn(async move {
        asked.await;
        handle.stop(false).await;
    });
    actix_web::rt::spawn(async move {
        part.running();
        match server.await {
            Ok(()) => part.stopped(),
            Err(error) => part.failed(&error.to_string()),
        }
    });
    Ok(())
}

/// The server. Await it, or stop it through its handle.
///
/// Each connection serves one request: actix times the head of a connection's first request only, so
/// that a second one could take for ever.
fn serve(listener: TcpListener, config: ApiConfig) -> std::io::Result<Server> {
    let assets = config.assets;
    let state = web::Data::new(ApiState::new(config));
    let clock = state.service.clock.clone();
    let connections = Arc::new(Connections::new(state.counters.clone(), clock));
    actix_web::rt::spawn(Connections::sweep(Arc::downgrade(&connections)));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(web::PayloadConfig::new(REQUEST_BYTES_MAX))
            .app_data(
                web::JsonConfig::default()
                    .limit(REQUEST_BYTES_MAX)
                    .error_handler(|error, _| ApiError::bad_json(&error).into()),
            )
            .wrap(from_fn(guard::address))
            .configure(|config| routes::register(config, assets))
            .default_service(web::route().to(routes::fallback))
    })
    .on_connect(move |io, extensions| connections.connected(io, extensions))
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    // A client that is gone takes its request with it.
    .h1_allow_half_closed(false)
    .keep_alive(KeepAlive::Disabled)
    .client_request_timeout(HEAD_TIME_MAX)
    .client_disconnect_timeout(LINGER)
    .disable_signals()
    .shutdown_timeout(2)
    .listen(listener)?
    .run();
    Ok(server)
}
