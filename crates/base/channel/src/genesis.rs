//! Building a channel's first block from a profile, as `configtxgen -outputBlock` does.
//!
//! A profile has the shape of an entry under `Profiles` in Fabric's `configtx.yaml`
//! ([`ConfigTx::from_yaml`] reads such a file). The tree it leads to, with its modification
//! policies and versions, is the one Fabric's tool makes.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_proto::block::METADATA_SLOTS;
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, ChannelHeader, Config,
    ConfigEnvelope, ConfigGroup, Envelope, Header, HeaderType, LastConfig, Metadata,
    OrdererBlockMetadata, Payload, SignatureHeader,
};
use selvage_proto::{Message as _, Timestamp};

use crate::block::data_hash;
use crate::names::{NameError, check_channel_id};

mod encode;
mod model;

pub use encode::{application_org_group, channel_group, orderer_org_group};
pub(crate) use encode::{bft_block_validation, bft_quorum};
pub use model::{
    AnchorPeer, Application, BatchSize, ConfigTx, Consenter, EtcdRaft, EtcdRaftConsenter,
    EtcdRaftOptions, Orderer, Organization, Policy, PolicyKind, Profile, SmartBft,
};

/// Bytes of randomness in the block's signature header; they make its transaction id unique.
pub const NONCE_BYTES: usize = 24;

/// Why no block can be built. Each names the part of the profile to mend.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The text is no YAML, or not of the shape of a `configtx.yaml`.
    #[error("configtx.yaml cannot be read: {0}")]
    Yaml(String),
    /// No such profile.
    #[error("Could not find profile: {0}")]
    NoProfile(String),
    /// The channel's id is not allowed.
    #[error("bad channel ID: {0}")]
    ChannelId(#[from] NameError),
    /// Something in the profile is missing or contradicts something else.
    #[error("{part}: {reason}")]
    Profile {
        /// Where.
        part: String,
        /// What is wrong.
        reason: String,
    },
    /// A file or folder that the profile names cannot be had.
    #[error("{part}: {path} cannot be read: {reason}")]
    Material {
        /// Who needs it.
        part: String,
        /// The path in the profile.
        path: String,
        /// Why not.
        reason: String,
    },
}

/// Where the certificates come from that a profile names by path.
pub trait Material {
    /// One file. The error is a text for people.
    fn file(&self, path: &str) -> Result<Bytes, String>;

    /// All files below a folder, by their path relative to it (`cacerts/ca.pem`, `config.yaml`).
    fn folder(&self, path: &str) -> Result<BTreeMap<String, Bytes>, String>;
}

/// Certificates held in memory, by path.
#[derive(Debug, Clone, Default)]
pub struct MemoryMaterial(pub BTreeMap<String, Bytes>);

impl Material for MemoryMaterial {
    fn file(&self, path: &str) -> Result<Bytes, String> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| "no such file".to_owned())
    }

    fn folder(&self, path: &str) -> Result<BTreeMap<String, Bytes>, String> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let inside = |(name, bytes): (&String, &Bytes)| {
            let relative = name.strip_prefix(&prefix)?;
            Some((relative.to_owned(), bytes.clone()))
        };
        let files: BTreeMap<_, _> = self.0.iter().filter_map(inside).collect();
        if files.is_empty() {
            return Err("no such folder".to_owned());
        }
        Ok(files)
    }
}

/// Builds a channel's genesis block from a profile.
///
/// `unix_seconds` stands in the header; `nonce` has to be random.
pub fn genesis_block(
    profile: &Profile,
    channel_id: &str,
    material: &dyn Material,
    unix_seconds: i64,
    nonce: [u8; NONCE_BYTES],
) -> Result<Block, GenesisError> {
    check_channel_id(channel_id)?;
    let group = channel_group(profile, material)?;
    Ok(block_from_group(channel_id, group, unix_seconds, nonce))
}

/// Wraps a finished configuration tree into block 0.
pub fn block_from_group(
    channel_id: &str,
    group: ConfigGroup,
    unix_seconds: i64,
    nonce: [u8; NONCE_BYTES],
) -> Block {
    let signature_header = SignatureHeader {
        creator: Bytes::new(),
        nonce: nonce.to_vec().into(),
    };
    let channel_header = ChannelHeader {
        r#type: HeaderType::Config as i32,
        version: 1,
        timestamp: Some(Timestamp {
            seconds: unix_seconds,
            nanos: 0,
        }),
        channel_id: channel_id.to_owned(),
        // No creator: the id is the hash of the nonce alone.
        tx_id: hex::encode(sha256_parts([&nonce[..]])),
        ..Default::default()
    };
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: 0,
            channel_group: Some(group),
        }),
        last_update: None,
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: config.encode_to_vec().into(),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    let data = BlockData {
        data: vec![envelope.encode_to_vec().into()],
    };
    let mut block = Block {
        header: Some(BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata {
            metadata: vec![Bytes::new(); METADATA_SLOTS],
        }),
    };
    let signed = OrdererBlockMetadata {
        last_config: Some(LastConfig { index: 0 }),
        consenter_metadata: Bytes::new(),
    };
    let signatures = Metadata {
        value: signed.encode_to_vec().into(),
        signatures: Vec::new(),
    };
    block.set_metadata_slot(BlockMetadataIndex::Signatures, signatures.encode_to_vec());
    block
}
