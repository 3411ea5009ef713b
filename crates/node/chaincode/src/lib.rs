//! Chaincode packages, builds, processes and the shim protocol.

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
