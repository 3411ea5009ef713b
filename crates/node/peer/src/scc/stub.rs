//! What system chaincode sees of the world.

use bytes::Bytes;
use futures::future::BoxFuture;
use selvage_proto::common::SignaturePolicyEnvelope;
use selvage_proto::peer::Response;

use crate::lifecycle::PolicyScope;

/// A call that failed. The caller gets the status and the message, in Fabric's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// 404 for what is not defined, 500 for everything else.
    pub(crate) status: i32,
    /// What went wrong.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            status: 500,
            message: message.into(),
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: 404,
            message: message.into(),
        }
    }

    /// Puts `context: ` in front, as each layer of Fabric does.
    pub(crate) fn within(self, context: impl std::fmt::Display) -> Self {
        Self {
            status: 500,
            message: format!("{context}: {}", self.message),
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        Self {
            status: failure.status,
            message: failure.message,
            payload: Bytes::new(),
        }
    }
}

/// The response of a call that succeeded (Fabric: `shim.Success`).
pub(crate) fn success(payload: impl Into<Bytes>) -> Response {
    Response {
        status: 200,
        message: String::new(),
        payload: payload.into(),
    }
}

/// State as one simulation reads and writes it. Reads see what is committed, not earlier writes.
pub(crate) trait State {
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, String>;
    fn put(&mut self, namespace: &str, key: &str, value: Vec<u8>) -> Result<(), String>;
    fn delete(&mut self, namespace: &str, key: &str) -> Result<(), String>;
    /// Every key of `[start, end)`, in order.
    fn range(&mut self, namespace: &str, start: &str, end: &str) -> Result<Pairs, String>;
    fn private_get(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String>;
    fn private_put(&mut self, at: Place<'_>, value: Vec<u8>) -> Result<(), String>;
    fn private_delete(&mut self, at: Place<'_>) -> Result<(), String>;
    /// SHA-256 of the private value, which every peer of the channel knows.
    fn private_hash(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String>;
    /// Every private key of the collection in `[start, end)`, in order.
    fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        bounds: (&str, &str),
    ) -> Result<Pairs, String>;
}

/// Keys and their values.
pub(crate) type Pairs = Vec<(String, Bytes)>;

/// A key of a collection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) key: &'a str,
}

/// The channel configuration as the lifecycle functions need it.
pub(crate) trait ChannelView: PolicyScope {
    /// Whether an organisation of that MSP id is part of the channel, orderers included.
    fn has_msp(&self, msp_id: &str) -> bool;
    /// Whether the bytes are an identity of an organisation of the channel.
    fn knows_identity(&self, serialized: &[u8]) -> bool;
    /// Compiles a signature policy only to see whether it makes sense.
    fn check_policy(&self, policy: &SignaturePolicyEnvelope) -> Result<(), String>;
    /// Whether the application capabilities allow the lifecycle of Fabric 2.
    fn lifecycle_v20(&self) -> bool;
}

/// A chaincode package on this peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstalledPackage {
    /// `<label>:<hex of SHA-256>`.
    pub(crate) package_id: String,
    /// The label its author gave it.
    pub(crate) label: String,
    /// Definitions that use it: channel, chaincode, version.
    pub(crate) references: Vec<(String, String, String)>,
}

/// The packages of this peer.
pub(crate) trait Packages: Send + Sync {
    /// Keeps and builds a package; gives its id and label.
    fn install(&self, package: Bytes) -> BoxFuture<'_, Result<(String, String), String>>;
    /// Every package that is installed.
    fn list(&self) -> Vec<InstalledPackage>;
    /// The bytes of a package; the error says that it is not there, or why it cannot be read.
    fn load(&self, package_id: &str) -> Result<Bytes, String>;
}
