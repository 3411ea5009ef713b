//! Making blocks: the next header, and the metadata an orderer signs.
//!
//! Fabric's names for this: `BlockWriter.CreateNextBlock`, `addLastConfig`, `addBlockSignature`.

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_identity::SigningIdentity;
use selvage_proto::Message as _;
use selvage_proto::block::{METADATA_SLOTS, header_bytes};
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, LastConfig, Metadata,
    MetadataSignature, OrdererBlockMetadata, SignatureHeader,
};

/// Bytes of randomness in a signature header.
pub const NONCE_BYTES: usize = 24;

/// The end of a chain: what the next block has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    number: u64,
    hash: Bytes,
}

impl Tip {
    /// The tip after the block with this header.
    pub fn after(header: &BlockHeader) -> Self {
        Self {
            number: header.number,
            hash: sha256_parts([header_bytes(header).as_slice()])
                .to_vec()
                .into(),
        }
    }

    /// The newest block's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The newest block's header hash.
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// Makes the next block from encoded envelopes and moves the tip onto it. The block carries all
    /// metadata slots, empty.
    pub fn next_block(&mut self, envelopes: Vec<Bytes>) -> Block {
        let header = BlockHeader {
            number: self.number + 1,
            previous_hash: self.hash.clone(),
            data_hash: sha256_parts(envelopes.iter().map(Bytes::as_ref))
                .to_vec()
                .into(),
        };
        *self = Self::after(&header);
        Block {
            header: Some(header),
            data: Some(BlockData { data: envelopes }),
            metadata: Some(BlockMetadata {
                metadata: vec![Bytes::new(); METADATA_SLOTS],
            }),
        }
    }
}

/// The value that block signatures cover: the last configuration's block number and what the engine
/// adds. An index of zero still appears as an empty message, as Fabric writes it.
pub fn signed_value(last_config: u64, consenter_metadata: Bytes) -> Bytes {
    OrdererBlockMetadata {
        last_config: Some(LastConfig { index: last_config }),
        consenter_metadata,
    }
    .encode_to_vec()
    .into()
}

/// The consenter metadata of a stored block, out of its [`signed_value`]; empty for a genesis block.
pub fn consenter_metadata(block: &Block) -> Bytes {
    let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
    let value = Metadata::decode(slot).unwrap_or_default().value;
    OrdererBlockMetadata::decode(value)
        .unwrap_or_default()
        .consenter_metadata
}

/// Fills the LAST_CONFIG and SIGNATURES slots and signs as one orderer does (solo and Raft).
///
/// `last_config` is the number of the newest configuration block, which is this block's own number
/// when it is one. The signature covers value, signature header and DER header.
pub fn sign_block(
    block: &mut Block,
    last_config: u64,
    consenter_metadata: Bytes,
    signer: &SigningIdentity,
    nonce: [u8; NONCE_BYTES],
) {
    let value = signed_value(last_config, consenter_metadata);
    let signature_header: Bytes = SignatureHeader {
        creator: signer.serialized(),
        nonce: nonce.to_vec().into(),
    }
    .encode_to_vec()
    .into();
    let header = block.header.clone().unwrap_or_default();
    let mut message = Vec::with_capacity(value.len() + signature_header.len() + 96);
    message.extend_from_slice(&value);
    message.extend_from_slice(&signature_header);
    message.extend_from_slice(&header_bytes(&header));
    let signature = MetadataSignature {
        signature_header,
        signature: signer.sign(&message).into(),
        identifier_header: Bytes::new(),
    };
    set_signatures(block, last_config, value, vec![signature]);
}

/// Fills the LAST_CONFIG and SIGNATURES slots with signatures an engine collected (BFT).
pub fn set_signatures(
    block: &mut Block,
    last_config: u64,
    value: Bytes,
    signatures: Vec<MetadataSignature>,
) {
    let index = LastConfig { index: last_config }.encode_to_vec();
    let last = Metadata {
        value: index.into(),
        signatures: Vec::new(),
    };
    block.set_metadata_slot(BlockMetadataIndex::LastConfig, last.encode_to_vec());
    let signed = Metadata { value, signatures };
    block.set_metadata_slot(BlockMetadataIndex::Signatures, signed.encode_to_vec());
}
