//! Why a configuration is not usable.

use crate::capabilities::Unsupported;
use crate::names::NameError;
use crate::tree::TreeNameError;

/// Why a configuration is not usable. Texts follow Fabric's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A part does not decode.
    #[error("{what} does not decode")]
    Decode {
        /// Which part.
        what: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// A part is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The transaction is not a configuration.
    #[error("block {number} is not a configuration block")]
    NotConfigBlock {
        /// The block's number.
        number: u64,
    },
    /// The transaction is not a configuration.
    #[error("envelope is of type {0}, not CONFIG")]
    NotConfig(i32),
    /// The channel's id is not allowed.
    #[error("bad channel ID: {0}")]
    ChannelId(NameError),
    /// An element's name is not allowed.
    #[error("error converting config to map")]
    Name(#[from] TreeNameError),
    /// A group has a value nobody knows.
    #[error("Unexpected key {key} in group {group}")]
    UnexpectedValue {
        /// The group's path.
        group: String,
        /// The value's name.
        key: String,
    },
    /// A group that must not be there.
    #[error("group {group} may not contain the group {child}")]
    UnexpectedGroup {
        /// The group's path.
        group: String,
        /// The child's name.
        child: String,
    },
    /// A value's content is not allowed.
    #[error("{path}: {reason}")]
    Value {
        /// The element's path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Capabilities that do not fit together.
    #[error("{0}")]
    Capability(String),
    /// A capability this program does not have.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// An organisation's membership service cannot be set up.
    #[error("setting up the MSP of {org} failed")]
    Msp {
        /// The organisation's path.
        org: String,
        /// Why.
        source: selvage_identity::MspError,
    },
    /// Two organisations define the same membership service differently.
    #[error("Attempted to define two different versions of MSP: {0}")]
    MspConflict(String),
    /// A policy does not compile.
    #[error("policy {path} {reason}")]
    Policy {
        /// The policy's path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
