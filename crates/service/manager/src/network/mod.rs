//! An instance's network on paper: names, domains and ports in BCS's forms, the folders that hold
//! its key material, its genesis blocks and its nodes' configuration.

mod consensus;
pub(crate) mod endorser;
pub(crate) mod genesis;
pub(crate) mod keys;
mod names;
pub(crate) mod node_config;
pub(crate) mod ports;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use names::{ChannelPlan, Folders, Network, Node, Org, OrgKind};
