//! Why a chaincode could not be started or a call failed, in Fabric's words.

use crate::shim::ContextError;

use super::parts::HostError;

/// Why a chaincode is not running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Building the package failed.
    #[error("error building chaincode: error building image: {0}")]
    Build(HostError),
    /// The TLS certificate could not be issued.
    #[error("could not get connection info: failed to generate TLS certificates for {0}: {1}")]
    Certificate(String, String),
    /// The process could not be started.
    #[error("error starting container: {0}")]
    Start(HostError),
    /// The process ended before it registered.
    #[error("chaincode registration failed: {0}")]
    Exited(String),
    /// The chaincode service could not be reached.
    #[error("connection to {0} failed: {1}")]
    Connect(String, String),
    /// It took too long. What was begun goes on, so a later call finds it done.
    #[error("timeout expired while starting chaincode {0} for transaction")]
    Timeout(String),
    /// The peer is stopping.
    #[error("the peer is stopping")]
    Stopping,
}

/// Why a call brought no answer of the chaincode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// It is not running.
    #[error("could not launch chaincode {0}: {1}")]
    Launch(String, LaunchError),
    /// The transaction is running already.
    #[error("error sending: {0}")]
    Duplicate(ContextError),
    /// It took too long.
    #[error("error sending: timeout expired while executing transaction")]
    Timeout,
    /// The chaincode went away.
    #[error("error sending: chaincode stream terminated")]
    Terminated,
    /// Too many calls are running on this chaincode.
    #[error("error sending: {0} calls are running on this chaincode already, try again later")]
    Overloaded(usize),
}

/// Why an execution brought no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// The chaincode gave no answer.
    #[error("failed to execute transaction {0}: {1}")]
    Invoke(String, InvokeError),
    /// The chaincode failed outside its contract.
    #[error("transaction returned with failure: {0}")]
    Failure(String),
    /// Its answer is not a response.
    #[error("failed to unmarshal response for transaction {0}: {1}")]
    Response(String, String),
    /// Its answer is neither completion nor error.
    #[error("unexpected response type {1} for transaction {0}")]
    Unexpected(String, i32),
}
