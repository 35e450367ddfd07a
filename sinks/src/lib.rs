//! Where changes go. A [`delivery`] is what every subscriber of a view receives; encoders make text of
//! it, and a sink writes it somewhere.
//!
//! Encoders, one folder a form: [`json`] (objects and live messages, written straight from packed rows),
//! [`csv`], [`table`] (text for people). They are used by the API, the command line and files alike, so
//! that a row looks the same everywhere.
//!
//! A sink's [`pipe`]: its [`mode`] makes [`element`]s of deliveries, a [`buffer`] keeps them, and a
//! [`sink::Writer`] brings them to the other end as it likes ([`encode`]: lines). Writers, one folder a
//! kind: [`blackhole`], [`clickhouse`], [`console`], [`file`], [`http`], [`kafka`], [`nats`], [`otel`],
//! [`parquet`], [`postgres`], [`prometheus`], [`remote_write`], [`s3`], [`websocket`]. What several of them need, and
//! receivers of alerts too, stands beside them ([`http_client`], [`secrets`], [`tls`]). No subscriptions here.
#![forbid(unsafe_code)]

pub mod blackhole;
pub mod buffer;
pub mod clickhouse;
pub mod console;
pub mod csv;
pub mod delivery;
pub mod element;
pub mod encode;
pub mod file;
pub mod http;
pub mod http_client;
pub mod json;
pub mod kafka;
pub mod mode;
pub mod nats;
mod one_thread;
pub mod otel;
pub mod parquet;
pub mod pipe;
pub mod postgres;
pub mod prometheus;
pub mod remote_write;
pub mod s3;
pub mod secrets;
mod series;
pub mod sink;
pub mod table;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod websocket;
mod words;
