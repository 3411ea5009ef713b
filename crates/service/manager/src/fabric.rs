//! What the manager asks of running nodes, in Fabric's protocols. One implementation speaks to real
//! nodes; unit tests put another in its place.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use selvage_client::{Definition, Invocation};
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;
use selvage_proto::lifecycle::query_installed_chaincodes_result::InstalledChaincode as Installed;

use crate::error::ManagerError;
use crate::network::{ChannelPlan, Folders, Network, Node, Org};

/// An instance's network together with the folders of its key material.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) network: Arc<Network>,
    pub(crate) folders: Folders,
}

/// A peer of a site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) site: &'a Site,
    pub(crate) org: &'a Org,
    pub(crate) node: &'a Node,
}

impl Site {
    /// Every peer.
    pub(crate) fn peers(&self) -> impl Iterator<Item = At<'_>> {
        self.network.peers.iter().flat_map(|org| self.peers_of(org))
    }

    /// The peers of an organisation.
    pub(crate) fn peers_of<'a>(&'a self, org: &'a Org) -> impl Iterator<Item = At<'a>> {
        org.nodes.iter().map(move |node| At {
            site: self,
            org,
            node,
        })
    }

    /// The peers of a channel.
    pub(crate) fn peers_in<'a>(&'a self, channel: &'a ChannelPlan) -> impl Iterator<Item = At<'a>> {
        self.network
            .members(channel)
            .flat_map(|org| self.peers_of(org))
    }
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
    /// Id of the package.
    pub(crate) package_id: String,
    /// Fabric package (`tgz`).
    pub(crate) package: Bytes,
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

    /// Channels an orderer serves.
    fn orderer_channels<'a>(&'a self, site: &'a Site, node: &'a Node) -> Answer<'a, Vec<String>>;

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

    /// Installs a chaincode package on a peer, which builds it, unless it is there.
    fn install<'a>(&'a self, at: At<'a>, package: &'a Bytes) -> Answer<'a, ()>;

    /// The chaincode packages on a peer.
    fn installed<'a>(&'a self, at: At<'a>) -> Answer<'a, Vec<Installed>>;

    /// A chaincode package, as a peer has it.
    fn package<'a>(&'a self, at: At<'a>, package_id: &'a str) -> Answer<'a, Bytes>;

    /// The definitions that a peer has seen committed in a channel.
    fn definitions<'a>(
        &'a self,
        at: At<'a>,
        channel: &'a ChannelPlan,
    ) -> Answer<'a, Vec<Committed>>;

    /// Waits until every peer of a channel has the blocks that any of them has now. Peers asked to
    /// endorse the same proposal at different heights read different versions and do not agree.
    fn level<'a>(&'a self, site: &'a Site, channel: &'a ChannelPlan) -> Answer<'a, ()>;

    /// Approves a definition for an organisation, and says which package runs it there.
    fn approve<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        org: &'a Org,
        definition: &'a Definition,
        package_id: Option<&'a str>,
    ) -> Answer<'a, ()>;

    /// Commits a definition that the channel's organisations approved.
    fn commit<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        definition: &'a Definition,
    ) -> Answer<'a, ()>;

    /// Calls a chaincode on one peer; what it writes is forgotten. The inner error is a refusal, by
    /// the peer or by the chaincode, in its words.
    fn call<'a>(
        &'a self,
        at: At<'a>,
        channel: &'a ChannelPlan,
        call: &'a Invocation,
    ) -> Answer<'a, Result<(), String>>;

    /// Submits a transaction as a user of the channel's first organisation and waits for its
    /// commit.
    fn submit<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        call: &'a Invocation,
    ) -> Answer<'a, ()>;

    /// Proves that the channel works: every member's first peer answers a query about it, and the
    /// chaincode, when there is one, answers too.
    fn smoke<'a>(
        &'a self,
        site: &'a Site,
        channel: &'a ChannelPlan,
        chaincode: Option<&'a ChaincodePlan>,
    ) -> Answer<'a, ()>;
}
