//! Chaincode: packages, builds, processes, and the protocol between chaincode and peer.
//!
//! From a file to a running contract:
//!
//! 1. [`package`] opens what was installed — Fabric's lifecycle package, or a zip of sources as BCS
//!    takes it — under limits, and names it by label and hash.
//! 2. [`host`] builds it with its own language's tool, once per host and hash, and runs it as a
//!    confined, limited and supervised process. There is no Docker and no external builder.
//! 3. [`ccaas`] reads where a chaincode that runs elsewhere is to be found.
//! 4. [`runtime`] keeps chaincode running, admits its streams, and runs calls on them.
//! 5. [`shim`] is the conversation itself, a state machine without input or output; the ledger is
//!    reached through [`shim::TxContext`], which the peer implements.
//!
//! Fabric's words and where they are here: `ChaincodeSupport`, `HandlerRegistry` and
//! `RuntimeLauncher` are [`runtime::Runtime`]; `Handler` is [`shim::Session`] with one
//! [`shim::TxHandler`] for each transaction; the Docker controller and the platforms are
//! [`host::LocalHost`]; `ChaincodeServerInfo` is [`ccaas::ServerEndpoint`]; the authenticator of
//! chaincode certificates is behind [`runtime::CertificateIssuer`].

use std::future::Future;
use std::pin::Pin;

pub mod ccaas;
pub mod host;
pub mod package;
pub mod runtime;
pub mod shim;

#[cfg(test)]
mod testing;

/// A future on the heap, as traits that are used as objects return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
