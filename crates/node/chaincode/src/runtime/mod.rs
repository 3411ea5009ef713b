//! The chaincode that runs for this peer: who is registered, who is starting, and calls to them.
//!
//! Fabric's words: this is `ChaincodeSupport` with its `HandlerRegistry` and `RuntimeLauncher`.
//! gRPC stays outside: a stream is a pair of channels, given to [`Runtime::serve`].

mod call;
mod error;
mod parts;
mod registry;
mod stream;
mod supervise;

use std::sync::Arc;

use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{ChaincodeEvent, ChaincodeMessage, Response};
use tokio::sync::mpsc;

use crate::shim::{SessionError, TxContext};

pub use error::{ExecuteError, InvokeError, LaunchError};
pub use parts::{
    CertificateIssuer, ChaincodeHost, ChaincodeLogging, ChaincodeStream, ClientCertificate,
    HostError, Invocation, InvokeKind, LaunchRequest, PackageSource, RunningChaincode,
    RuntimeConfig, ServerDialler, StartRequest, StopHandle, StreamOrigin, Target,
};
pub use registry::ChaincodeStatus;

use registry::Registry;

/// What a [`Runtime`] stands on.
pub struct RuntimeParts {
    /// Builds and starts packages.
    pub host: Arc<dyn ChaincodeHost>,
    /// Issues the certificates by which chaincode proves which package it is. `None` when the
    /// chaincode listener has no TLS; then any process on the network may claim a package that
    /// is starting.
    pub certificates: Option<Arc<dyn CertificateIssuer>>,
    /// Connects to chaincode that runs as a service.
    pub dialler: Arc<dyn ServerDialler>,
}

/// All chaincode of one peer.
pub struct Runtime {
    config: RuntimeConfig,
    parts: RuntimeParts,
    registry: Registry,
}

impl Runtime {
    /// A runtime with nothing running. Its methods need a tokio runtime with timers.
    pub fn new(config: RuntimeConfig, parts: RuntimeParts) -> Arc<Self> {
        Arc::new(Self {
            config,
            parts,
            registry: Registry::default(),
        })
    }

    /// Serves one chaincode stream until it ends. Dropping the future ends it too.
    ///
    /// # Errors
    /// Why the stream ended, unless the chaincode closed it.
    pub async fn serve(
        &self,
        origin: StreamOrigin,
        inbound: mpsc::Receiver<ChaincodeMessage>,
        outbound: mpsc::Sender<ChaincodeMessage>,
    ) -> Result<(), SessionError> {
        stream::serve(&self.config, &self.registry, origin, inbound, outbound).await
    }

    /// Builds an installed package, so that its first start is quick. Waits for the end.
    pub async fn build(&self, package_id: &str) -> Result<Target, HostError> {
        self.parts.host.build(package_id).await
    }

    /// The output of the last build of a package on this host.
    pub fn build_log(&self, package_id: &str) -> Option<String> {
        self.parts.host.build_log(package_id)
    }

    /// Builds and starts a chaincode unless it runs, and waits until it can be called.
    ///
    /// Giving up waiting, by the startup timeout or by dropping the future, does not stop what was
    /// begun: a later call finds it running.
    pub async fn launch(self: &Arc<Self>, request: &LaunchRequest) -> Result<(), LaunchError> {
        self.ready_link(request).await.map(drop)
    }

    /// Calls a chaincode, starting it first if need be, and returns its last message: `COMPLETED`
    /// or `ERROR`. This is what a calling chaincode is given.
    pub async fn invoke(
        self: &Arc<Self>,
        invocation: Invocation,
        ctx: &mut dyn TxContext,
    ) -> Result<ChaincodeMessage, InvokeError> {
        let link = match self.ready_link(&invocation.target).await {
            Ok(link) => link,
            Err(error) => {
                return Err(InvokeError::Launch(invocation.target.package_id, error));
            }
        };
        call::run(&self.config, &link, invocation, ctx).await
    }

    /// Calls a chaincode for an endorsement: its response, and its event with chaincode and
    /// transaction filled in.
    pub async fn execute(
        self: &Arc<Self>,
        invocation: Invocation,
        ctx: &mut dyn TxContext,
    ) -> Result<(Response, Option<ChaincodeEvent>), ExecuteError> {
        let txid = invocation.txid.clone();
        let name = invocation.target.name.clone();
        match self.invoke(invocation, ctx).await {
            Ok(message) => read_completion(&txid, &name, message),
            Err(error) => Err(ExecuteError::Invoke(txid, error)),
        }
    }

    /// Whether a chaincode is running, and if not, what its last start came to.
    pub fn status(&self, package_id: &str) -> ChaincodeStatus {
        self.registry.status(package_id)
    }

    /// Stops a chaincode; the next call starts it again.
    pub async fn stop(&self, package_id: &str) {
        self.registry.stop(package_id).await;
    }

    /// Stops every chaincode and waits for their ends. Nothing starts afterwards.
    pub async fn shutdown(&self) {
        self.registry.shutdown().await;
    }
}

/// Reads the message that ends a transaction, for the endorser (Fabric:
/// `processChaincodeExecutionResult`). Calls from chaincode to chaincode get the message itself.
pub fn read_completion(
    txid: &str,
    chaincode: &str,
    message: ChaincodeMessage,
) -> Result<(Response, Option<ChaincodeEvent>), ExecuteError> {
    use selvage_proto::Message;
    let event = message.chaincode_event.map(|event| ChaincodeEvent {
        chaincode_id: chaincode.to_owned(),
        tx_id: txid.to_owned(),
        ..event
    });
    match Type::try_from(message.r#type) {
        Ok(Type::Completed) => match Response::decode(message.payload) {
            Ok(response) => Ok((response, event)),
            Err(error) => Err(ExecuteError::Response(txid.to_owned(), error.to_string())),
        },
        Ok(Type::Error) => Err(ExecuteError::Failure(
            String::from_utf8_lossy(&message.payload).into_owned(),
        )),
        _ => Err(ExecuteError::Unexpected(txid.to_owned(), message.r#type)),
    }
}

#[cfg(test)]
mod tests;
