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

mod duration;
pub mod names;

pub use duration::{format_duration, parse_duration};
