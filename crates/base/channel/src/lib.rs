//! Channel configuration: what the members of a channel agreed on, and who may change it.
//!
//! A channel's configuration is a tree of groups, values and policies, carried by the genesis block
//! and replaced as a whole by later configuration blocks. [`ChannelConfig`] is that tree read,
//! checked and ready to be asked; [`update`] judges and makes changes; [`genesis`] builds the first
//! one from a `configtx.yaml`; [`block`] judges blocks by the configuration in force.
//!
//! | here | Fabric |
//! |---|---|
//! | [`ChannelConfig`] | `channelconfig.Bundle`, channel resources |
//! | [`OrdererConfig`], [`ApplicationConfig`] | the `Orderer` and `Application` groups |
//! | [`PolicyTree`] | policy manager; signature and implicit meta policies |
//! | [`AclRule`], [`ChannelConfig::acl_rule`] | `aclmgmt`, the `ACLs` value |
//! | [`update`] | `configtx` validation, `configtxlator compute_update` |
//! | [`genesis`] | `configtxgen -outputBlock`, `configtx.yaml` |
//! | [`block::BlockVerifier`] | block verification assistant of deliver clients |
//!
//! Nothing in here does input or output: files named by a `configtx.yaml` come in through
//! [`genesis::Material`].

mod acl;
pub mod block;
mod capabilities;
mod config;
mod duration;
mod error;
pub mod genesis;
mod msps;
pub mod names;
mod policies;
mod sections;
mod tree;
pub mod update;

pub use acl::{AclRule, default_rule};
pub use block::{BlockError, BlockVerifier, block_verify};
pub use capabilities::{
    ApplicationCapabilities, Capabilities, ChannelCapabilities, OrdererCapabilities, Section,
    Unsupported,
};
pub use config::{ChannelConfig, config_transaction, open_config};
pub use duration::{format_duration, parse_duration};
pub use error::ConfigError;
pub use policies::PolicyTree;
pub use sections::{
    ApplicationConfig, ApplicationOrg, CONSENSUS_BFT, CONSENSUS_RAFT, CONSENSUS_SOLO,
    OrdererConfig, OrdererOrg,
};
pub use tree::TreeNameError;
pub use update::UpdateError;
