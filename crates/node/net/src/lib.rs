//! TLS, gRPC servers and clients, block delivery and the operations endpoint.

pub mod config;
mod connect;
mod connection;
mod error;
pub mod server;
pub mod services;
pub mod throttle;
pub mod tls;

pub use connect::{Endpoint, connect};
pub use connection::{Connection, TlsPeer};
pub use error::{NetError, TlsError};

/// The largest message of Fabric's clients and servers, in bytes, either way.
///
/// Every generated client and server takes it through `max_decoding_message_size` and
/// `max_encoding_message_size`.
pub const MAX_MESSAGE_BYTES: usize = 100 * 1024 * 1024;
