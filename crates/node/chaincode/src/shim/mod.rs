//! The peer's side of the chaincode stream, without any input or output of its own.
//!
//! [`Session`] is one stream: registration, the capabilities offered with `READY`, and the routing
//! of messages to transactions. [`TxHandler`] is one transaction on that stream: it turns each
//! request of the chaincode into calls on a [`TxContext`] and the answer to send back. Both only
//! take messages and return messages, so every path is tested without a process or a socket.

mod context;
mod query;
mod session;
mod tx;

pub use context::{
    ApplicationCapabilities, ChaincodeCall, CollectionAccess, ContextError, QueryHandle, QueryItem,
    TxContext,
};
pub use session::{Offer, Session, SessionError, SessionEvent};
pub use tx::{QueryLimits, Step, TxHandler};

#[cfg(test)]
mod tests;
