//! TLS, gRPC servers and clients, block delivery and the operations endpoint: everything between
//! two nodes, and nothing about what they say.
//!
//! | here | Fabric |
//! |---|---|
//! | [`tls`], [`server`], [`connect`] | `internal/pkg/comm` |
//! | [`services`] | the service stubs of `fabric-protos-go` |
//! | [`deliver`] | `common/deliver`, block puller and deliver clients |
//! | [`ops`], [`metrics`], [`logging`] | `core/operations`, metric names, `flogging` |
//! | [`throttle`] | `peer.limits.concurrency` |
//! | [`config`] | `common/viperutil`, `core.yaml` and `orderer.yaml` with their variables |
//!
//! A node takes a port with [`server::Server::bind`], makes one [`axum::Router`] of its gRPC
//! services (`tonic::service::Routes::into_axum_router`) and serves it until its
//! [`CancellationToken`] is cancelled. Handlers find the client's certificate and the TLS exporter
//! in the request's extensions, as a [`Connection`].

mod advice;
mod backoff;
mod civil;
pub mod config;
mod connect;
mod connection;
pub mod deliver;
mod error;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod ops;
pub mod server;
pub mod services;
pub mod throttle;
pub mod tls;

pub use advice::advised;
pub use backoff::Backoff;
pub use civil::Moment;
pub use connect::{Dialled, Endpoint, connect, dial};
pub use connection::{Connection, TlsPeer};
pub use error::{NetError, TlsError, describe_connect, describe_status};
pub use tokio_util::sync::CancellationToken;
pub use {axum, tokio_stream, tonic};

/// The largest message of Fabric's clients and servers, in bytes, either way.
///
/// Every generated client and server takes it through `max_decoding_message_size` and
/// `max_encoding_message_size`.
pub const MAX_MESSAGE_BYTES: usize = 100 * 1024 * 1024;
