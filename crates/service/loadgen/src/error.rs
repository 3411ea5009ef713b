use std::path::PathBuf;

use selvage_net::NetError;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file that describes the network or the identity cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there but does not say what it must.
    #[error("{}: {reason}", .path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong, and what to do.
        reason: String,
    },
    /// The identity's certificate or key is unusable.
    #[error("the identity cannot sign: {0}")]
    Identity(String),
    /// A connection cannot be set up.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why.
        source: NetError,
    },
    /// A call failed that the run cannot do without.
    #[error("{call} at {address} failed: {reason}")]
    Call {
        /// Which call.
        call: &'static str,
        /// `host:port`.
        address: String,
        /// Status and message.
        reason: String,
    },
    /// The network answered, but with nothing to work on.
    #[error("{0}")]
    Plan(String),
}
