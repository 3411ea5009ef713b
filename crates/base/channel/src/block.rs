//! Judging blocks: form, hashes, place in the chain, and the orderers' signatures.

use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_identity::{PolicyError, SignedData};
use selvage_proto::Message;
use selvage_proto::block::{METADATA_SLOTS, header_bytes};
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, ChannelHeader, Consenter,
    Envelope, HeaderType, IdentifierHeader, Metadata, Payload, SignatureHeader,
};
use selvage_proto::msp::SerializedIdentity;

use crate::config::ChannelConfig;
use crate::error::ConfigError;
use crate::names::ORDERER_BLOCK_VALIDATION;

/// Why a block is not acceptable. The texts are close to Fabric's.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// A part is missing.
    #[error("block {number}: {what} is missing")]
    Missing {
        /// The block's number.
        number: u64,
        /// Which part.
        what: &'static str,
    },
    /// A part does not decode.
    #[error("block {number}: {what} does not decode")]
    Decode {
        /// The block's number.
        number: u64,
        /// Which part.
        what: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
    /// Not the block that comes next.
    #[error(
        "expected block number is [{expected}] but actual block number inside block is [{number}]"
    )]
    Number {
        /// The one that comes next.
        expected: u64,
        /// The one received.
        number: u64,
    },
    /// The block does not follow the one before it.
    #[error(
        "Header.PreviousHash of block [{number}] is different from Hash(block.Header) of previous \
         block"
    )]
    PreviousHash {
        /// The block's number.
        number: u64,
    },
    /// The header was not made from the data.
    #[error("Header.DataHash is different from Hash(block.Data) for block with id [{number}]")]
    DataHash {
        /// The block's number.
        number: u64,
    },
    /// No transactions.
    #[error("empty block")]
    Empty,
    /// A transaction is not in its one canonical encoding, so that somebody could add bytes to it
    /// that no signature covers.
    #[error("transaction {index} {reason}")]
    Transaction {
        /// Its place in the block.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The channel cannot say whose signatures count.
    #[error("no `/Channel/Orderer/BlockValidation` policy in config block")]
    NoPolicy,
    /// The orderers' signatures do not suffice.
    #[error("block {number} is not signed as {ORDERER_BLOCK_VALIDATION} asks")]
    Signatures {
        /// The block's number.
        number: u64,
        /// What the policy said.
        source: PolicyError,
    },
    /// A configuration block's transaction does not hold a configuration.
    #[error("block {number} carries no usable configuration")]
    Config {
        /// The block's number.
        number: u64,
        /// Why.
        source: ConfigError,
    },
    /// A configuration block of another channel.
    #[error("config block channel ID [{found}] does not match expected: [{expected}]")]
    OtherChannel {
        /// This channel.
        expected: String,
        /// The one in the block.
        found: String,
    },
    /// A configuration block that names another block as the newest configuration.
    #[error("config block number [{number}] is different than its own config index [{index}]")]
    ConfigIndex {
        /// The block's number.
        number: u64,
        /// The number in its metadata.
        index: u64,
    },
}

/// A block's hash: SHA-256 over the DER form of its header.
pub fn header_hash(header: &BlockHeader) -> [u8; 32] {
    sha256_parts([header_bytes(header).as_slice()])
}

/// The hash over a block's transactions, as it has to stand in the header.
pub fn data_hash(data: &BlockData) -> [u8; 32] {
    sha256_parts(data.data.iter().map(Bytes::as_ref))
}

/// The header type of a block's only transaction, if it has exactly one that decodes.
fn only_type(data: &BlockData) -> Option<i32> {
    let [only] = data.data.as_slice() else {
        return None;
    };
    let envelope = Envelope::decode(only.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let header = ChannelHeader::decode(payload.header?.channel_header).ok()?;
    Some(header.r#type)
}

/// Whether a block is a configuration block: one transaction, of type CONFIG.
pub fn is_config_block(block: &Block) -> bool {
    let kind = block.data.as_ref().and_then(only_type);
    kind == Some(HeaderType::Config as i32)
}

/// Checks that every transaction is an envelope with payload and signature in canonical encoding.
/// Configuration blocks are exempt: their genesis has no signature, and nothing can hide beside a
/// single transaction whose update is verified.
pub fn check_well_formed(data: &BlockData) -> Result<(), BlockError> {
    if data.data.is_empty() {
        return Err(BlockError::Empty);
    }
    let exempt = [
        HeaderType::Config as i32,
        HeaderType::OrdererTransaction as i32,
    ];
    if only_type(data).is_some_and(|t| exempt.contains(&t)) {
        return Ok(());
    }
    for (index, raw) in data.data.iter().enumerate() {
        check_envelope(raw).map_err(|reason| BlockError::Transaction { index, reason })?;
    }
    Ok(())
}

/// The canonical encoding is field 1, then field 2, each once with a minimal length, then whatever
/// fields the sender knew and this program does not (Fabric keeps those as they came).
fn check_envelope(raw: &Bytes) -> Result<(), &'static str> {
    let envelope = Envelope::decode(raw.clone()).map_err(|_| "is invalid")?;
    if envelope.payload.is_empty() {
        return Err("has no payload");
    }
    if envelope.signature.is_empty() {
        return Err("has no signature");
    }
    let canonical = envelope.encode_to_vec();
    let Some(rest) = raw.strip_prefix(canonical.as_slice()) else {
        return Err("does not match its raw form");
    };
    if rest.is_empty() || only_unknown_fields(rest) {
        return Ok(());
    }
    Err("has trailing bytes")
}

/// Whether encoded fields are all foreign to an envelope. They decoded already, so a later field 1
/// or 2 would have replaced the first and the prefix would not have matched, unless it was equal.
fn only_unknown_fields(mut rest: &[u8]) -> bool {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    while !rest.is_empty() {
        let Ok((tag, wire)) = decode_key(&mut rest) else {
            return false;
        };
        if tag <= 2 || skip_field(wire, tag, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
    }
    true
}

/// Follows a chain of blocks and judges each next one by the configuration in force before it.
#[derive(Debug, Clone)]
pub struct BlockVerifier {
    config: Arc<ChannelConfig>,
    number: u64,
    hash: Bytes,
}

impl BlockVerifier {
    /// A verifier for what follows the block with this number and header hash.
    pub fn new(config: Arc<ChannelConfig>, number: u64, hash: impl Into<Bytes>) -> Self {
        Self {
            config,
            number,
            hash: hash.into(),
        }
    }

    /// A verifier for what follows a block.
    pub fn after(config: Arc<ChannelConfig>, newest: &BlockHeader) -> Self {
        let hash = header_hash(newest).to_vec();
        Self::new(config, newest.number, hash)
    }

    /// The configuration blocks are judged by.
    pub fn config(&self) -> &Arc<ChannelConfig> {
        &self.config
    }

    /// The number of the block expected next.
    pub fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Judges the next block and moves on to it. After a configuration block, pass the new
    /// configuration to [`Self::set_config`] before the next call.
    pub fn verify(&mut self, block: &Block) -> Result<(), BlockError> {
        let hash = block_verify(&self.config, block, self.number, &self.hash)?;
        self.number = block.number();
        self.hash = hash.to_vec().into();
        Ok(())
    }

    /// As [`Self::verify`] for a block delivered without its data, to learn that it exists.
    pub fn verify_attestation(&mut self, block: &Block) -> Result<(), BlockError> {
        let header = check_place(block, self.number, &self.hash)?;
        verify_signatures(&self.config, header, block.metadata.as_ref())?;
        self.hash = header_hash(header).to_vec().into();
        self.number = header.number;
        Ok(())
    }

    /// Judges by another configuration from now on.
    pub fn set_config(&mut self, config: Arc<ChannelConfig>) {
        self.config = config;
    }
}

/// Judges a block that should follow the block with this number and header hash: place, form, data
/// hash, and the orderers' signatures. Returns the block's own header hash.
pub fn block_verify(
    config: &ChannelConfig,
    block: &Block,
    previous_number: u64,
    previous_hash: &[u8],
) -> Result<[u8; 32], BlockError> {
    let header = check_place(block, previous_number, previous_hash)?;
    let number = header.number;
    let data = block.data.as_ref().ok_or(BlockError::Empty)?;
    check_well_formed(data)?;
    if header.data_hash != data_hash(data)[..] {
        return Err(BlockError::DataHash { number });
    }
    verify_signatures(config, header, block.metadata.as_ref())?;
    if is_config_block(block) {
        check_config_block(config, block)?;
    }
    Ok(header_hash(header))
}

fn check_place<'a>(
    block: &'a Block,
    previous_number: u64,
    previous_hash: &[u8],
) -> Result<&'a BlockHeader, BlockError> {
    let missing = |number, what| BlockError::Missing { number, what };
    let header = block.header.as_ref().ok_or(missing(0, "header"))?;
    let number = header.number;
    let expected = previous_number.wrapping_add(1);
    if number != expected {
        return Err(BlockError::Number { expected, number });
    }
    if header.previous_hash != previous_hash {
        return Err(BlockError::PreviousHash { number });
    }
    let slots = block.metadata.as_ref().map_or(0, |m| m.metadata.len());
    if slots < METADATA_SLOTS {
        return Err(missing(number, "metadata"));
    }
    Ok(header)
}

/// Checks the orderers' signatures over a header and its metadata against
/// `/Channel/Orderer/BlockValidation`.
///
/// A signature names its signer by certificate, or, on BFT channels, by the consenter's number;
/// numbers that the channel does not list are skipped.
pub fn verify_signatures(
    config: &ChannelConfig,
    header: &BlockHeader,
    metadata: Option<&BlockMetadata>,
) -> Result<(), BlockError> {
    let number = header.number;
    let slot = metadata.and_then(|m| m.metadata.get(BlockMetadataIndex::Signatures as usize));
    let slot = slot.ok_or(BlockError::Missing {
        number,
        what: "signature metadata",
    })?;
    let decode = |source, what| BlockError::Decode {
        number,
        what,
        source,
    };
    let signed = Metadata::decode(slot.clone()).map_err(|e| decode(e, "signature metadata"))?;
    let der = header_bytes(header);
    let consenters = match config.orderer() {
        Some(orderer) if config.capabilities().bft() => Some(orderer.consenters()),
        _ => None,
    };
    let mut set = Vec::with_capacity(signed.signatures.len());
    for signature in &signed.signatures {
        let by_number =
            signature.signature_header.is_empty() && !signature.identifier_header.is_empty();
        let (prefix, identity) = match consenters {
            Some(consenters) if by_number => {
                let identifier = IdentifierHeader::decode(signature.identifier_header.clone())
                    .map_err(|e| decode(e, "identifier header"))?;
                let Some(identity) = consenter_identity(consenters, identifier.identifier) else {
                    continue;
                };
                (&signature.identifier_header, identity)
            }
            _ => {
                let header = SignatureHeader::decode(signature.signature_header.clone())
                    .map_err(|e| decode(e, "signature header"))?;
                (&signature.signature_header, header.creator)
            }
        };
        set.push(SignedData {
            data: [signed.value.as_ref(), prefix.as_ref(), &der]
                .concat()
                .into(),
            identity,
            signature: signature.signature.clone(),
        });
    }
    let policy = config.policy(ORDERER_BLOCK_VALIDATION);
    policy
        .ok_or(BlockError::NoPolicy)?
        .evaluate(&set)
        .map_err(|source| BlockError::Signatures { number, source })
}

fn consenter_identity(consenters: &[Consenter], number: u32) -> Option<Bytes> {
    let consenter = consenters.iter().find(|c| c.id == number)?;
    let identity = SerializedIdentity {
        mspid: consenter.msp_id.clone(),
        id_bytes: consenter.identity.clone(),
    };
    Some(identity.encode_to_vec().into())
}

fn check_config_block(config: &ChannelConfig, block: &Block) -> Result<(), BlockError> {
    let number = block.number();
    let wrong = |source| BlockError::Config { number, source };
    let envelope = crate::config::config_transaction(block).map_err(wrong)?;
    let (found, _) = crate::config::open_config(&envelope).map_err(wrong)?;
    if found != config.channel_id() {
        let expected = config.channel_id().to_owned();
        return Err(BlockError::OtherChannel { expected, found });
    }
    let index = block
        .last_config_index()
        .map_err(|source| BlockError::Decode {
            number,
            what: "signature metadata",
            source,
        })?;
    if index != number {
        return Err(BlockError::ConfigIndex { number, index });
    }
    Ok(())
}

/// Checks a block from which a node is to start a channel: number 0, one configuration transaction,
/// hashes that fit, a configuration that can be used. A genesis block carries no signatures.
pub fn verify_genesis(block: &Block) -> Result<ChannelConfig, BlockError> {
    let missing = |what| BlockError::Missing { number: 0, what };
    let header = block.header.as_ref().ok_or(missing("header"))?;
    if header.number != 0 {
        let number = header.number;
        return Err(BlockError::Number {
            expected: 0,
            number,
        });
    }
    if !header.previous_hash.is_empty() {
        return Err(BlockError::PreviousHash { number: 0 });
    }
    verify_config_block(block)
}

/// Checks a configuration block by itself: hash over its data, one configuration transaction, a
/// configuration that can be used. Says nothing about who signed it.
pub fn verify_config_block(block: &Block) -> Result<ChannelConfig, BlockError> {
    let number = block.number();
    let missing = |what| BlockError::Missing { number, what };
    let header = block.header.as_ref().ok_or(missing("header"))?;
    let data = block.data.as_ref().ok_or(missing("data"))?;
    if header.data_hash != data_hash(data)[..] {
        return Err(BlockError::DataHash { number });
    }
    ChannelConfig::from_block(block).map_err(|source| BlockError::Config { number, source })
}
