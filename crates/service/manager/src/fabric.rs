//! What the manager asks of running nodes, in Fabric's protocols. One implementation speaks to real
//! nodes; unit tests put another in its place.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::error::ManagerError;
use crate::network::{ChannelPlan, Folders, Network, Node, Org};

/// An instance's network together with the folders of its key material.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) network: Arc<Network>,
    pub(crate) folders: Folders,
}

/// A chaincode to be installed everywhere in a channel and committed there.
#[derive(Debug, Clone)]
pub(crate) struct ChaincodePlan {
    /// Name in the channel.
    pub(crate) name: String,
    /// Version in the definition.
    pub(crate) version: String,
    /// A function that only reads and its arguments, to see whether the chaincode answers.
    pub(crate) probe: &'static [&'static str],
    /// Label of the package.
    pub(crate) label: String,
    /// Fabric package (`tgz`).
    pub(crate) package: bytes::Bytes,
}

/// A future of the trait's methods.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, ManagerError>>;

/// Requests to nodes. Every one may be repeated.
pub(crate) trait Fabric: Send + Sync {
    /// Makes an orderer serve a channel, unless it does.
    fn join_orderer<'a>(
        &'a self,
        site: &'a Site,
        node: &'a Node,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, ()>;

    /// Makes a peer join a channel, unless it has.
    fn join_peer<'a>(
        &'a self,
        site: &'a Site,
        org: &'a Org,
        node: &'a Node,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, ()>;

    /// Channels a peer has joined.
    fn peer_channels<'a>(
        &'a self,
        site: &'a Site,
        org: &'a Org,
        node: &'a Node,
    ) -> Answer<'a, Vec<String>>;

    /// Installs a chaincode on every peer of a channel, approves it for every organisation and
    /// commits it, leaving out what is done already.
    fn deploy_chaincode<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        plan: &'a ChaincodePlan,
    ) -> Answer<'a, ()>;

    /// Names and versions of the chaincodes committed in a channel.
    fn committed<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, Vec<(String, String)>>;

    /// Proves that the channel works: every member's first peer answers a query about it, and the
    /// chaincode, when there is one, answers too.
    fn smoke<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        chaincode: Option<&'a ChaincodePlan>,
    ) -> Answer<'a, ()>;
}
