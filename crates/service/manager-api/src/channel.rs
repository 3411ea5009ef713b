//! Channels as operation 19 lists them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `Channel`. `consensusNodes` is camel-case on the wire, its neighbours are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// Channel name, which is also its id.
    pub name: String,
    /// Free text.
    pub description: String,
    /// RFC 3339.
    pub create_time: String,
    /// Consensus in the words of `basic_info.consensus`.
    pub consensus: String,
    /// Organisation name to node names.
    pub peers: BTreeMap<String, Vec<String>>,
    /// Orderer organisation name to node names.
    #[serde(rename = "consensusNodes")]
    pub consensus_nodes: BTreeMap<String, Vec<String>>,
}

/// Answer of operation 19.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListBlockchainChannelsResponse {
    /// Channels of the instance.
    pub channels: Vec<Channel>,
}
