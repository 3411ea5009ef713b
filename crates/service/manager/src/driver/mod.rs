//! Drivers run the nodes of instances. The manager says what should run ([`NodeSpec`]) and asks
//! what is observed; how a node is started, kept alive and stopped is the driver's affair.

pub(crate) mod health;
pub(crate) mod local;
mod process;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use futures::future::BoxFuture;

use crate::error::ManagerError;

/// A node that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeSpec {
    /// `<instance>/<node>`.
    pub(crate) id: String,
    /// Node name for messages.
    pub(crate) name: String,
    /// `peer` or `orderer`.
    pub(crate) program: &'static str,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its folder: configuration, identity, data, log.
    pub(crate) dir: PathBuf,
    /// The address its public port listens on.
    pub(crate) listen: IpAddr,
    /// Where its health answers.
    pub(crate) health: SocketAddr,
    /// Ports it listens on.
    pub(crate) ports: Vec<u16>,
}

impl NodeSpec {
    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", self.name))
    }
}

/// What was seen of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Whether its health endpoint answers that all is well.
    pub(crate) healthy: bool,
    /// The process, if one runs.
    pub(crate) pid: Option<i32>,
    /// Starts since the driver first saw it, less one.
    pub(crate) restarts: u32,
    /// Why it is not healthy, in words; empty when it is.
    pub(crate) detail: String,
}

/// Runs nodes somewhere.
pub(crate) trait Driver: Send + Sync {
    /// Makes the node run and keeps it running. Doing it again changes nothing.
    fn apply(&self, spec: NodeSpec) -> BoxFuture<'_, Result<(), ManagerError>>;
    /// Stops the node and forgets it, one that an earlier manager left running included. Nodes
    /// that do not run are fine.
    fn remove<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), ManagerError>>;
    /// Looks at the node now. None when it was never applied.
    fn observe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Observation>>;
    /// Stops every node; they stay on record.
    fn stop_all(&self) -> BoxFuture<'_, ()>;
}
