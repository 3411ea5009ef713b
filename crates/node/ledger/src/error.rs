//! What can go wrong in a ledger.

use std::path::PathBuf;

use selvage_env::{DiskError, DiskOp};

use crate::store::StoreError;

/// Errors of the block files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockStoreError {
    /// The disk refused an operation. After a failed sync, or a failed write that could not be
    /// taken back, the store takes no more blocks, because what the disk kept is unknown: the
    /// process should stop and start again.
    #[error("a block file operation failed: {}", advice(.0))]
    Disk(#[from] DiskError),
    /// A record in the middle of the chain does not match its checksum.
    #[error(
        "block file {path} is corrupt at byte {offset} (block {block}): {detail}; \
         restore the file from a backup, or remove the channel and join it again"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// The block that should stand there.
        block: u64,
        /// What does not fit.
        detail: &'static str,
    },
    /// Files do not follow each other.
    #[error("block files in {path} do not join: block {expected} is missing")]
    Gap {
        /// The folder.
        path: PathBuf,
        /// The first missing block.
        expected: u64,
    },
    /// A block was added out of order.
    #[error("block {got} cannot be added, the next block is {expected}")]
    OutOfOrder {
        /// The number that was offered.
        got: u64,
        /// The number that fits.
        expected: u64,
    },
    /// A block does not name the hash of its predecessor.
    #[error(
        "block {number} does not follow its predecessor: previous hash {got}, chain has {have}"
    )]
    PreviousHash {
        /// The block.
        number: u64,
        /// The hash it names, in hexadecimal.
        got: String,
        /// The hash of the block before it, in hexadecimal.
        have: String,
    },
    /// There is no block with this number.
    #[error("no such block number [{number}] in index")]
    NotFound {
        /// The number.
        number: u64,
    },
    /// A block is larger than a record can be.
    #[error("block {number} has {size} bytes, more than {limit}")]
    TooLarge {
        /// The block.
        number: u64,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A block in the files cannot be decoded.
    #[error("block {number} cannot be decoded")]
    Decode {
        /// The block.
        number: u64,
        /// The decoder's answer.
        #[source]
        source: prost::DecodeError,
    },
    /// An earlier write failed; only reads are served.
    #[error("the block files take no more blocks since an earlier write failed")]
    Poisoned,
}

/// Errors of a ledger.
///
/// Texts that chaincode or a client sees are Fabric's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The block files failed.
    #[error("block store failed")]
    Blocks(#[source] BlockStoreError),
    /// The state database failed.
    #[error("state database failed")]
    Store(#[source] StoreError),
    /// Stored bytes cannot be understood.
    #[error("state database holds a malformed {what}")]
    Malformed {
        /// The kind of entry.
        what: &'static str,
    },
    /// The state is ahead of the block files, so files were lost or belong to another ledger.
    #[error(
        "the state database [height={state}] is ahead of the block store [height={blocks}]; \
         restore the block files or remove the state folder so that it is rebuilt"
    )]
    StateAhead {
        /// Height of the state.
        state: u64,
        /// Height of the block files.
        blocks: u64,
    },
    /// A block cannot be committed as it stands.
    #[error("block {number} cannot be committed: {reason}")]
    BadBlock {
        /// The block.
        number: u64,
        /// Why.
        reason: String,
    },
    /// An earlier commit failed half-way. Reads are served, writes are not.
    #[error("the ledger takes no more blocks since an earlier commit failed")]
    Poisoned,
    /// There is no block with this number.
    #[error("no such block number [{0}] in index")]
    NoSuchBlock(u64),
    /// There is no block with this hash (hexadecimal).
    #[error("no such block hash [{0}] in index")]
    NoSuchHash(String),
    /// There is no transaction with this id.
    #[error("no such transaction ID [{0}] in index")]
    NoSuchTransaction(String),
    /// A history entry names a transaction that does not write the key.
    #[error(
        "no namespace or key is found for namespace {namespace} and key {key} \
         with decoded blockNum {block} and tranNum {tx}"
    )]
    HistoryMismatch {
        /// Namespace asked for.
        namespace: String,
        /// Key asked for.
        key: String,
        /// Block of the entry.
        block: u64,
        /// Transaction of the entry.
        tx: u64,
    },
    /// The state database has no rich queries.
    #[error("ExecuteQuery not supported for leveldb")]
    NoRichQueries,
    /// The state database has no rich queries with pagination.
    #[error("ExecuteQueryWithMetadata not supported for leveldb")]
    NoRichQueriesPaged,
    /// A chaincode without collections asked for one.
    #[error(
        "collection config not defined for chaincode [{0}], pass the collection configuration \
         upon chaincode definition/instantiation"
    )]
    NoCollections(String),
    /// The collection is not one of the chaincode's.
    #[error("collection [{collection}] not defined in the collection config for chaincode [{ns}]")]
    NoSuchCollection {
        /// The chaincode.
        ns: String,
        /// The collection.
        collection: String,
    },
    /// The caller's collection source failed.
    #[error("{0}")]
    Collections(String),
    /// This peer does not hold the newest private value.
    #[error(
        "private data matching public hash version is not available. \
         Public hash version = {public}, Private data version = {private}"
    )]
    PrivateDataMissing {
        /// Version of the hash.
        public: String,
        /// Version of the value here.
        private: String,
    },
    /// A simulator was told to do something that its earlier operations forbid.
    #[error("txid [{txid}]: unsuppored transaction. {rule}")]
    Unsupported {
        /// The transaction.
        txid: String,
        /// Fabric's text for the rule.
        rule: &'static str,
    },
    /// A range handle is not, or no longer, open.
    #[error("range query {0} is not open")]
    NoSuchRange(u64),
    /// Private write sets handed in with a block do not match the public hash.
    #[error(
        "hash of pvt data for collection [{ns}:{collection}] does not match with the \
             corresponding hash in the public data"
    )]
    PrivateHash {
        /// The chaincode.
        ns: String,
        /// The collection.
        collection: String,
    },
}

/// What an operator can do about a failed disk operation.
fn advice(error: &DiskError) -> &'static str {
    match error.kind() {
        _ if error.is_full() => "the disk is full, make room on it",
        std::io::ErrorKind::PermissionDenied => {
            "make the data folder writable for the user that runs this node"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "its file system is read-only, as the system makes it after a fault of the disk: see \
             the kernel's log, repair it, mount it writable, and start this node again"
        }
        std::io::ErrorKind::WouldBlock => {
            "another process uses the data folder, stop it or choose another folder"
        }
        _ => "check the disk under the data folder",
    }
}

impl BlockStoreError {
    /// Whether what the disk holds is unknown or known to be wrong. Starting again checks the
    /// files and cuts off what was never acknowledged.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Disk(e) => e.op == DiskOp::Sync || !e.is_full(),
            Self::Corrupt { .. } | Self::Gap { .. } | Self::Poisoned => true,
            _ => false,
        }
    }

    /// Whether the operator must make room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(e) if e.is_full())
    }
}

impl LedgerError {
    /// Whether the node must stop: a write or a sync failed and what the disk holds is unknown.
    /// Starting again recovers from the block files. Reads are still served meanwhile.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Poisoned | Self::StateAhead { .. } | Self::Malformed { .. } => true,
            Self::Store(e) => e.is_fatal(),
            Self::Blocks(e) => e.is_fatal(),
            _ => false,
        }
    }

    /// Whether the operator must make room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Blocks(e) => e.is_full(),
            Self::Store(e) => e.is_full(),
            _ => false,
        }
    }
}

impl From<BlockStoreError> for LedgerError {
    fn from(e: BlockStoreError) -> Self {
        Self::Blocks(e)
    }
}

impl From<StoreError> for LedgerError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}
