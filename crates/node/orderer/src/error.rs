//! Why an orderer does not start, or does not do what its administrator asks.

use std::path::PathBuf;

use selvage_channel::block::BlockError;
use selvage_ledger::BlockStoreError;
use selvage_net::{NetError, TlsError};
use thiserror::Error;

/// Why an orderer does not start or stops.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OrdererError {
    /// The settings cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] selvage_net::config::ConfigError),
    /// Logging cannot be set up.
    #[error("FABRIC_LOGGING_SPEC cannot be followed")]
    Logging(#[from] selvage_net::logging::LoggingError),
    /// A file that the settings name cannot be read.
    #[error("cannot read {what} {}: {hint}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The node's own identity cannot be used.
    #[error(
        "the local MSP in {} (General.LocalMSPDir, General.LocalMSPID {msp_id}) cannot be used: \
         {reason}",
        folder.display()
    )]
    LocalMsp {
        /// The folder.
        folder: PathBuf,
        /// The id that the settings give.
        msp_id: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS settings cannot be used.
    #[error("the TLS settings of {section} cannot be used")]
    Tls {
        /// The section of the file.
        section: &'static str,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// A listener cannot be had, or failed.
    #[error("{section}")]
    Listen {
        /// The section of the file.
        section: &'static str,
        /// Why.
        #[source]
        source: NetError,
    },
    /// The folder of the blocks cannot be used.
    #[error("the ledger folder {} (FileLedger.Location) cannot be used: {hint}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
        /// Why.
        #[source]
        source: selvage_env::DiskError,
    },
    /// A channel's blocks cannot be used.
    #[error("channel {channel} cannot be opened")]
    Channel {
        /// The channel.
        channel: String,
        /// Why.
        #[source]
        source: Box<ChainError>,
    },
    /// A channel's disk failed while the node ran; going on could lose blocks.
    #[error("the orderer stopped because channel {channel} can no longer write: {reason}")]
    Stopped {
        /// The channel.
        channel: String,
        /// Why.
        reason: String,
    },
}

impl ChainError {
    /// Whether what is stored of this one channel is the trouble: others can be served.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => {
                matches!(
                    error,
                    BlockStoreError::Corrupt { .. } | BlockStoreError::Gap { .. }
                )
            }
            Self::Config { .. } | Self::Metadata { .. } | Self::JoinBlock(_) => true,
            Self::OtherChannel(_) => true,
            _ => false,
        }
    }
}

/// Why a channel cannot be opened or joined.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The block files failed.
    #[error("its block files failed")]
    Store(#[from] BlockStoreError),
    /// A file operation on the channel's folder failed.
    #[error("its folder failed")]
    Disk(#[from] selvage_env::DiskError),
    /// The newest configuration block cannot be used.
    #[error("its configuration block {number} cannot be used")]
    Config {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: BlockError,
    },
    /// The configuration asks for something this program cannot do.
    #[error("its configuration is not supported")]
    Unsupported(#[source] selvage_channel::ConfigError),
    /// The newest block's metadata is unreadable.
    #[error("the metadata of its block {number} is unreadable")]
    Metadata {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
    /// The consensus type has no engine here.
    #[error(
        "consensus type \"{0}\" is not built into this orderer, which runs \"solo\", \
         \"etcdraft\" and \"BFT\": create the channel with one of them"
    )]
    ConsensusType(String),
    /// The consenters of the configuration cannot be used.
    #[error("its consenters cannot be used")]
    Consenters(#[source] selvage_consensus_raft::MembershipError),
    /// The consenters of a BFT configuration cannot be used.
    #[error("its consenters cannot be used: {0}")]
    BftConsenters(String),
    /// The Raft engine cannot start.
    #[error("its consensus engine cannot start")]
    Raft(#[source] selvage_consensus_raft::StartError),
    /// The BFT engine cannot start.
    #[error("its consensus engine cannot start")]
    Bft(#[source] selvage_consensus_bft::StartError),
    /// The engine's journal cannot be used.
    #[error("its journal cannot be used")]
    Journal(#[source] selvage_ordering::journal::JournalError),
    /// The block that was kept for joining is damaged.
    #[error(
        "the block it was told to join with is unreadable: remove the channel here and join it again"
    )]
    JoinBlock(#[source] prost::DecodeError),
    /// Fetching blocks needs TLS.
    #[error(
        "a channel ordered by several nodes needs TLS between them: set General.TLS, or \
         General.Cluster with a listener of its own"
    )]
    NoTls,
    /// There is no orderer section.
    #[error("its configuration has no Orderer group")]
    NoOrderer,
    /// The files hold another channel.
    #[error("its blocks belong to channel {0}")]
    OtherChannel(String),
    /// The channel has no block.
    #[error("it has no block")]
    Empty,
}
