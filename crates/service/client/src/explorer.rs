//! Blocks and transactions as a person looks at them: decoded, named, ready for JSON.
//!
//! Nothing here fails: a block holds whatever its senders put into it, and what does not decode is
//! shown as far as it does, with the reason in [`TransactionView::problem`].

use selvage_channel::block::header_hash;
use selvage_proto::Message as _;
use selvage_proto::common::{Block, BlockMetadataIndex, Metadata};
use serde::Serialize;

mod codes;
mod config;
mod rwset;
mod transaction;
mod value;

pub use codes::{CodeView, code};
pub use config::ConfigView;
pub use rwset::{
    CollectionView, MetadataWriteView, NamespaceView, RangeView, ReadView, VersionView, WriteView,
};
pub use transaction::{EventView, IdentityView, ResponseView, TransactionView, transaction};
pub use value::ValueView;

/// A block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockView {
    /// Its number.
    pub number: u64,
    /// The hash of its header, in hexadecimal.
    pub hash: String,
    /// The hash of the header before it, in hexadecimal; empty for the first block.
    pub previous_hash: String,
    /// The hash over its transactions, in hexadecimal.
    pub data_hash: String,
    /// The hash over the state's changes up to this block, in hexadecimal; empty where the block
    /// comes from an orderer.
    pub commit_hash: String,
    /// Its size in bytes.
    pub size: usize,
    /// The time in its first transaction's header (seconds since 1970), which its sender chose.
    pub time: Option<i64>,
    /// Who signed it.
    pub signers: Vec<IdentityView>,
    /// Its transactions.
    pub transactions: Vec<TransactionView>,
}

/// Decodes a block. Validation codes are there when it comes from a peer.
pub fn block(block: &Block) -> BlockView {
    let header = block.header.clone().unwrap_or_default();
    let filter = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
    let envelopes = block.envelopes().iter().enumerate();
    let transactions: Vec<TransactionView> = envelopes
        .map(|(index, raw)| transaction(raw, index, filter.get(index).copied()))
        .collect();
    let hash = Metadata::decode(block.metadata_slot(BlockMetadataIndex::CommitHash));
    BlockView {
        number: header.number,
        hash: hex::encode(header_hash(&header)),
        previous_hash: hex::encode(&header.previous_hash),
        data_hash: hex::encode(&header.data_hash),
        commit_hash: hex::encode(hash.unwrap_or_default().value),
        size: block.encoded_len(),
        time: transactions.first().and_then(|t| t.time),
        signers: signers(block),
        transactions,
    }
}

fn signers(block: &Block) -> Vec<IdentityView> {
    use selvage_proto::common::{IdentifierHeader, SignatureHeader};
    let metadata = Metadata::decode(block.metadata_slot(BlockMetadataIndex::Signatures));
    let signatures = metadata.unwrap_or_default().signatures.into_iter();
    let signer = |s: selvage_proto::common::MetadataSignature| {
        if s.signature_header.is_empty() {
            let header = IdentifierHeader::decode(s.identifier_header).ok()?;
            return Some(IdentityView::consenter(header.identifier));
        }
        let header = SignatureHeader::decode(s.signature_header).ok()?;
        Some(IdentityView::decode(&header.creator))
    };
    signatures.filter_map(signer).collect()
}
