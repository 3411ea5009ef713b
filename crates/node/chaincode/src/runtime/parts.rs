//! What the runtime is given by the peer, and the values that pass between them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use selvage_proto::peer::{ChaincodeInput, ChaincodeMessage, SignedProposal};
use tokio::sync::mpsc;

use crate::BoxFuture;
use crate::ccaas::ServerEndpoint;
use crate::shim::{Offer, QueryLimits};

/// A chaincode's own TLS client certificate (Fabric: `accesscontrol.Authenticator`).
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS #8 PEM.
    pub key_pem: String,
    /// The certificate, DER: what the chaincode listener sees.
    pub certificate_der: Bytes,
    /// The authority that issued the listener's certificate, PEM.
    pub root_pem: String,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// Issues TLS client certificates for chaincode, from an authority that lives as long as the peer.
pub trait CertificateIssuer: Send + Sync {
    /// A fresh certificate for one start of `package_id`.
    fn issue(&self, package_id: &str) -> Result<ClientCertificate, String>;
}

/// Both directions of a chaincode stream.
#[derive(Debug)]
pub struct ChaincodeStream {
    /// From the chaincode.
    pub inbound: mpsc::Receiver<ChaincodeMessage>,
    /// To the chaincode.
    pub outbound: mpsc::Sender<ChaincodeMessage>,
}

/// Opens `protos.Chaincode/Connect` on a chaincode that runs as a service.
pub trait ServerDialler: Send + Sync {
    /// Connects within [`ServerEndpoint::dial_timeout`]; the error text goes into the log.
    fn dial(&self, endpoint: ServerEndpoint) -> BoxFuture<'_, Result<ChaincodeStream, String>>;
}

/// Where the installed packages are.
pub trait PackageSource: Send + Sync {
    /// The package file of `package_id`, or `None` when it is not installed.
    fn package(&self, package_id: &str) -> Result<Option<Bytes>, String>;
}

/// Who opened a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamOrigin {
    /// A chaincode connected to the peer's chaincode listener.
    Accepted {
        /// The TLS client certificate it showed, DER.
        client_certificate: Option<Bytes>,
    },
    /// The peer connected to a chaincode that runs as a service.
    Dialled {
        /// The package it was started for.
        package_id: String,
    },
}

/// Names a chaincode to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// `label:hash`.
    pub package_id: String,
    /// Name in the committed definition, for the log tag.
    pub name: String,
    /// Version in the committed definition, for the log tag.
    pub version: String,
}

/// Whether a transaction initialises the chaincode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeKind {
    /// A transaction or query.
    Transaction,
    /// The call that a definition with `init_required` asks for first.
    Init,
}

/// One call of a chaincode.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The chaincode; its name is the namespace of its state.
    pub target: LaunchRequest,
    /// Channel, empty when the proposal names none.
    pub channel: String,
    /// Transaction id.
    pub txid: String,
    /// Transaction or initialisation.
    pub kind: InvokeKind,
    /// Arguments and decorations.
    pub input: ChaincodeInput,
    /// The proposal that caused the call.
    pub proposal: Option<SignedProposal>,
    /// Other than [`RuntimeConfig::execute_timeout`].
    pub timeout: Option<Duration>,
}

/// Settings of [`super::Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where chaincode reaches the peer (`peer.chaincodeAddress`).
    pub peer_address: String,
    /// The peer's MSP id.
    pub msp_id: String,
    /// `peer.networkId`; `dev` in BCS.
    pub network_id: String,
    /// `peer.id`; `peer-<organisation hash>-<number>` in BCS.
    pub peer_id: String,
    /// Longest run of one call (`chaincode.executetimeout`).
    pub execute_timeout: Duration,
    /// Longest wait for build, start and registration (`chaincode.startuptimeout`).
    pub startup_timeout: Duration,
    /// Longest silence of a new stream before `REGISTER`.
    pub registration_timeout: Duration,
    /// Interval of keep-alive messages (`chaincode.keepalive`).
    pub keepalive: Option<Duration>,
    /// Accept chaincode that this peer did not start (`chaincode.mode: dev`).
    pub dev_mode: bool,
    /// Capabilities offered to chaincode (`chaincode.runtimeParams`).
    pub offer: Offer,
    /// Bounds on queries.
    pub queries: QueryLimits,
    /// Log levels and format handed to the chaincode (`chaincode.logging`).
    pub logging: ChaincodeLogging,
    /// Most calls running at one time on one chaincode.
    pub concurrent_calls: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            peer_address: "127.0.0.1:7052".to_owned(),
            msp_id: String::new(),
            network_id: "dev".to_owned(),
            peer_id: "peer".to_owned(),
            execute_timeout: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(300),
            registration_timeout: Duration::from_secs(30),
            keepalive: None,
            dev_mode: false,
            offer: Offer::default(),
            queries: QueryLimits::default(),
            logging: ChaincodeLogging::default(),
            concurrent_calls: 2500,
        }
    }
}

/// `chaincode.logging` of `core.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaincodeLogging {
    /// Level of the chaincode.
    pub level: String,
    /// Level of the shim inside it.
    pub shim: String,
    /// Line format, which only the Go shim of old reads.
    pub format: String,
}

impl Default for ChaincodeLogging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            shim: "warning".to_owned(),
            format: "%{time:2006-01-02 15:04:05.000 MST} [%{module}] %{shortfunc} -> \
                     %{level:.4s} %{id:03x} %{message}"
                .to_owned(),
        }
    }
}

/// How a chaincode is reached, once built.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// As a process of this host, which connects to the peer.
    Process,
    /// As a service, to which the peer connects.
    Server(ServerEndpoint),
}

/// Everything a process needs to find and trust its peer.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The package to run.
    pub package_id: String,
    /// `--peer.address`.
    pub peer_address: String,
    /// `CORE_PEER_LOCALMSPID`.
    pub msp_id: String,
    /// `CORE_CHAINCODE_LOGGING_*`.
    pub logging: ChaincodeLogging,
    /// TLS material, or `None` when TLS is off.
    pub tls: Option<ClientCertificate>,
    /// Tag of its output in the peer's log, without brackets.
    pub log_tag: String,
}

/// A process that was started.
pub struct RunningChaincode {
    /// Resolves when it has ended, with what to say about it.
    pub exited: BoxFuture<'static, String>,
    /// Ends it. Dropping this ends it too.
    pub stop: Box<dyn StopHandle>,
}

impl fmt::Debug for RunningChaincode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningChaincode").finish_non_exhaustive()
    }
}

/// Ends a process and everything it started.
pub trait StopHandle: Send + Sync {
    /// Asks politely, then kills. Returns at once; [`RunningChaincode::exited`] tells the end.
    fn stop(&self);
}

/// Builds packages and runs them (Fabric: `ContainerRouter`).
pub trait ChaincodeHost: Send + Sync {
    /// Builds the package unless that was done before.
    fn build<'a>(&'a self, package_id: &'a str) -> BoxFuture<'a, Result<Target, HostError>>;

    /// Starts a built package.
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<RunningChaincode, HostError>>;

    /// The output of the last build of the package on this host.
    fn build_log(&self, package_id: &str) -> Option<String>;
}

/// Why a package could not be built or started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No such package.
    #[error("chaincode package '{0}' is not installed on this peer")]
    NotInstalled(String),
    /// The package store failed.
    #[error("cannot read chaincode package '{package_id}': {reason}")]
    Store {
        /// The package.
        package_id: String,
        /// What happened.
        reason: String,
    },
    /// The package is damaged.
    #[error("chaincode package '{package_id}' is not usable: {reason}")]
    Package {
        /// The package.
        package_id: String,
        /// What is wrong.
        reason: String,
    },
    /// No builder for this kind of chaincode, or its toolchain is missing.
    #[error("{0}")]
    Unsupported(String),
    /// The build failed.
    #[error("build of chaincode package '{package_id}' failed: {reason}")]
    Build {
        /// The package.
        package_id: String,
        /// The last lines of its output.
        reason: String,
    },
    /// The process did not start.
    #[error("cannot start chaincode package '{package_id}': {reason}")]
    Start {
        /// The package.
        package_id: String,
        /// What happened.
        reason: String,
    },
    /// A folder of the host is not usable.
    #[error("cannot use {path}: {reason}", path = path.display())]
    Disk {
        /// The folder or file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// No way to confine processes.
    #[error("{0}")]
    Sandbox(String),
}
