//! Telling others that a block has been committed.

use std::collections::BTreeSet;

use bytes::Bytes;
use selvage_proto::common::Block;
use selvage_proto::peer::TxValidationCode;

/// A block that has become part of the ledger.
#[derive(Debug, Clone)]
pub struct CommittedBlock {
    /// Its number.
    pub number: u64,
    /// The block with its validation codes and commit hash.
    pub block: Block,
    /// The same as stored bytes.
    pub raw: Bytes,
    /// The final validation code of each transaction.
    pub codes: Vec<TxValidationCode>,
    /// The id of each transaction; empty for malformed ones.
    pub tx_ids: Vec<String>,
    /// The commit hash; empty for the first block.
    pub commit_hash: Bytes,
    /// Every namespace in which something public or hashed changed; `""` for the configuration.
    pub namespaces: BTreeSet<String>,
}

/// Hears of every committed block, in order, on the committing thread and once its state can be
/// read. It must not block or commit: hand the block to a bounded queue and return.
pub trait CommitListener: Send + Sync {
    /// A block is part of the ledger now.
    fn committed(&self, block: &std::sync::Arc<CommittedBlock>);
}
