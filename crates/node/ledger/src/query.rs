//! Reading the state without leaving a trace.

use bytes::Bytes;

use crate::error::LedgerError;
use crate::state::{StateEntry, StateRange, StateView, decode_metadata};
use crate::{Metadata, Version};

/// A key and its value, as range queries give them (Fabric: `queryresult.KV`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// The chaincode.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
}

/// Reads a key; what a [`CollectionSource`] is given.
pub trait StateReader {
    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn get_state(&mut self, ns: &str, key: &str) -> Result<Option<Bytes>, LedgerError>;
}

/// A private data collection, as far as the ledger cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Its name.
    pub name: String,
    /// After how many further blocks its data expires; 0 for never.
    pub block_to_live: u64,
}

/// Knows the collections of a chaincode (Fabric: `DeployedChaincodeInfoProvider`). Chaincode
/// definitions are state like any other, so the peer that understands them implements this.
pub trait CollectionSource: Send + Sync {
    /// Every collection of `ns`, implicit ones included; `None` when it has none.
    ///
    /// What is read through `state` during a simulation becomes part of the read set, as in Fabric.
    ///
    /// # Errors
    /// A text for the caller of the chaincode.
    fn collections(
        &self,
        ns: &str,
        state: &mut dyn StateReader,
    ) -> Result<Option<Vec<CollectionInfo>>, String>;
}

/// A source for ledgers without private data.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCollections;

impl CollectionSource for NoCollections {
    fn collections(
        &self,
        _: &str,
        _: &mut dyn StateReader,
    ) -> Result<Option<Vec<CollectionInfo>>, String> {
        Ok(None)
    }
}

/// The state as of one height, for system chaincodes, validators and lifecycle.
///
/// Commits do not disturb it; drop it soon, because old entries stay on disk as long as it lives.
#[derive(Clone)]
pub struct QueryExecutor {
    state: StateView,
    height: u64,
}

impl QueryExecutor {
    pub(crate) fn new(state: StateView) -> Result<Self, LedgerError> {
        let height = state.height()?;
        Ok(Self { state, height })
    }

    /// Number of the first block that is not seen here.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// When the state cannot be read; so for every method here.
    pub fn get_state(&self, ns: &str, key: &str) -> Result<Option<Bytes>, LedgerError> {
        Ok(self.get_entry(ns, key)?.map(|e| e.value))
    }

    /// The value of a key with metadata and version.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_entry(&self, ns: &str, key: &str) -> Result<Option<StateEntry>, LedgerError> {
        self.state.get(ns, key.as_bytes())
    }

    /// The version of a key.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_version(&self, ns: &str, key: &str) -> Result<Option<Version>, LedgerError> {
        Ok(self.get_entry(ns, key)?.map(|e| e.version))
    }

    /// The metadata of a key, e.g. `VALIDATION_PARAMETER`; `None` when the key or its metadata is
    /// missing.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_state_metadata(&self, ns: &str, key: &str) -> Result<Option<Metadata>, LedgerError> {
        metadata_of(self.get_entry(ns, key)?)
    }

    /// The values of several keys.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_states(&self, ns: &str, keys: &[String]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        keys.iter().map(|key| self.get_state(ns, key)).collect()
    }

    /// Keys from `start` on and before `end`, in byte order; an empty `end` means all that follow.
    pub fn range(&self, ns: &str, start: &str, end: &str) -> RangeScan {
        RangeScan {
            namespace: ns.to_owned(),
            range: self.state.range(ns, start, end),
        }
    }

    /// A private value, as far as this peer has it.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_private_data(
        &self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<StateEntry>, LedgerError> {
        self.state.private(ns, coll, key)
    }

    /// The hash of a private value.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_private_data_hash(
        &self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<Bytes>, LedgerError> {
        Ok(self.state.hashed_by_key(ns, coll, key)?.map(|e| e.value))
    }

    /// The hash of a private value, with metadata and version, by the hash of its key.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_hashed_entry(
        &self,
        ns: &str,
        coll: &str,
        key_hash: &[u8],
    ) -> Result<Option<StateEntry>, LedgerError> {
        self.state.hashed(ns, coll, key_hash)
    }

    /// The metadata of a private key, by the hash of the key.
    ///
    /// # Errors
    /// As [`QueryExecutor::get_state`].
    pub fn get_private_metadata_by_hash(
        &self,
        ns: &str,
        coll: &str,
        key_hash: &[u8],
    ) -> Result<Option<Metadata>, LedgerError> {
        metadata_of(self.state.hashed(ns, coll, key_hash)?)
    }
}

pub(crate) fn metadata_of(entry: Option<StateEntry>) -> Result<Option<Metadata>, LedgerError> {
    entry
        .and_then(|e| e.metadata)
        .map(decode_metadata)
        .transpose()
}

impl StateReader for QueryExecutor {
    fn get_state(&mut self, ns: &str, key: &str) -> Result<Option<Bytes>, LedgerError> {
        QueryExecutor::get_state(self, ns, key)
    }
}

/// The results of a range query that leaves no trace.
pub struct RangeScan {
    namespace: String,
    range: StateRange,
}

impl Iterator for RangeScan {
    type Item = Result<Kv, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.range.next() {
            Ok(None) => None,
            Ok(Some((key, entry))) => Some(Ok(Kv {
                namespace: self.namespace.clone(),
                key,
                value: entry.value,
            })),
            Err(error) => Some(Err(error)),
        }
    }
}
