//! What a transaction may ask of the peer: the seam between the shim and the ledger.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use selvage_proto::peer::{ChaincodeInput, ChaincodeMessage};
use selvage_proto::queryresult::{KeyModification, Kv};

/// Why the peer refused a request of the chaincode.
///
/// The text reaches the chaincode unchanged behind `<TYPE> failed: transaction ID: <id>: `, so an
/// implementation words it as Fabric does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContextError(pub String);

impl From<String> for ContextError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ContextError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Names an open iterator of one [`TxContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryHandle(pub u64);

/// One result of an iterator.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryItem {
    /// A key with its value: range scans and rich queries.
    Kv(Kv),
    /// One change of a key: history queries.
    Modification(KeyModification),
}

/// What the creator of the proposal may do with a private data collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectionAccess {
    /// May read (`member_only_read`).
    pub read: bool,
    /// May write (`member_only_write`).
    pub write: bool,
}

/// The application capabilities of a channel that the shim depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplicationCapabilities {
    /// `V1_3` or later: key-level endorsement policies, that is, key metadata.
    pub key_level_endorsement: bool,
    /// `V2_5` or later: purging private data.
    pub purge_private_data: bool,
}

/// A call from one chaincode to another.
#[derive(Debug, Clone, PartialEq)]
pub struct ChaincodeCall {
    /// Name of the called chaincode, without version or channel.
    pub chaincode: String,
    /// The channel it is called on; the caller's channel when the caller named none.
    pub channel: String,
    /// The transaction, which is the caller's.
    pub txid: String,
    /// Arguments.
    pub input: ChaincodeInput,
}

/// What a chaincode's transaction can reach: a simulator, history, collections, other chaincodes.
///
/// One value belongs to one running transaction and is used by one caller at a time, hence
/// `&mut self`. Calls are synchronous: they read a local store. The namespace is an argument so
/// that a call from chaincode to chaincode in one channel can go on with the caller's simulator.
///
/// Implementations bound what they hold (open iterators, bytes read); the shim bounds the number
/// of iterators per transaction as well.
pub trait TxContext: Send {
    /// False when the proposal names no channel, so that there is no state to read.
    fn has_ledger(&self) -> bool {
        true
    }

    /// Whether `chaincode` is part of the peer (`qscc`, `cscc`, `_lifecycle`, …).
    fn is_system_chaincode(&self, chaincode: &str) -> bool;

    /// The capabilities of `channel`, or `None` when the peer has no configuration for it.
    fn application_capabilities(&self, channel: &str) -> Option<ApplicationCapabilities>;

    /// What the proposal's creator may do in a collection. The shim asks once per collection.
    fn collection_access(
        &mut self,
        namespace: &str,
        collection: &str,
    ) -> Result<CollectionAccess, ContextError>;

    /// The public value of a key.
    fn get_state(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, ContextError>;

    /// The public values of several keys, in their order.
    fn get_state_multiple(
        &mut self,
        namespace: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>, ContextError> {
        keys.iter()
            .map(|key| self.get_state(namespace, key))
            .collect()
    }

    /// Writes a public value.
    fn set_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), ContextError>;

    /// Deletes a public key.
    fn delete_state(&mut self, namespace: &str, key: &str) -> Result<(), ContextError>;

    /// The metadata of a public key, by name.
    fn get_state_metadata(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<Vec<(String, Bytes)>, ContextError>;

    /// Replaces the metadata of a public key by this one entry.
    fn set_state_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        name: &str,
        value: Bytes,
    ) -> Result<(), ContextError>;

    /// A private value.
    fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, ContextError>;

    /// Several private values, in the order of the keys.
    fn get_private_multiple(
        &mut self,
        namespace: &str,
        collection: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Bytes>>, ContextError> {
        keys.iter()
            .map(|key| self.get_private(namespace, collection, key))
            .collect()
    }

    /// The hash of a private value, which peers outside the collection have too.
    fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, ContextError>;

    /// Writes a private value.
    fn set_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), ContextError>;

    /// Deletes a private key.
    fn delete_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), ContextError>;

    /// Deletes a private key and its past values.
    fn purge_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), ContextError>;

    /// The metadata of a private key, by name.
    fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Vec<(String, Bytes)>, ContextError>;

    /// Replaces the metadata of a private key by this one entry.
    fn set_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        name: &str,
        value: Bytes,
    ) -> Result<(), ContextError>;

    /// Opens a scan over `[start, end)`; empty bounds are open.
    fn range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryHandle, ContextError>;

    /// As [`TxContext::range`], ending after `page_size` results (0: no limit). Its bookmark, the
    /// next key to read, is returned by [`TxContext::query_close`].
    fn range_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        page_size: i32,
    ) -> Result<QueryHandle, ContextError>;

    /// Opens a scan over private keys.
    fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryHandle, ContextError>;

    /// Opens a rich query over public values.
    fn rich_query(&mut self, namespace: &str, query: &str) -> Result<QueryHandle, ContextError>;

    /// Opens one page of a rich query.
    fn rich_query_page(
        &mut self,
        namespace: &str,
        query: &str,
        bookmark: &str,
        page_size: i32,
    ) -> Result<QueryHandle, ContextError>;

    /// Opens a rich query over private values.
    fn private_rich_query(
        &mut self,
        namespace: &str,
        collection: &str,
        query: &str,
    ) -> Result<QueryHandle, ContextError>;

    /// Opens the history of a key. Without a history index the text is Fabric's
    /// `history database is not enabled`.
    fn history(&mut self, namespace: &str, key: &str) -> Result<QueryHandle, ContextError>;

    /// The next result of an open iterator, or `None` at its end.
    fn query_next(&mut self, handle: QueryHandle) -> Result<Option<QueryItem>, ContextError>;

    /// Closes an iterator and returns its bookmark (empty when it has none). Closing an unknown
    /// or closed handle does nothing.
    fn query_close(&mut self, handle: QueryHandle) -> String;

    /// Whether the call may be made: the called chaincode's access control (resource
    /// `peer/ChaincodeToChaincode`) and, for another channel, that the peer has its ledger
    /// (`failed to find ledger for channel: <id>`).
    fn check_call(&mut self, call: &ChaincodeCall) -> Result<(), ContextError>;

    /// Runs the called chaincode and returns its last message (`COMPLETED` or `ERROR`).
    ///
    /// Reads and writes of a callee in the same channel join this transaction; those of a callee
    /// in another channel are dropped. The shim puts `execute failed: ` before an error.
    fn call_chaincode<'a>(
        &'a mut self,
        call: ChaincodeCall,
    ) -> Pin<Box<dyn Future<Output = Result<ChaincodeMessage, ContextError>> + Send + 'a>>;
}
