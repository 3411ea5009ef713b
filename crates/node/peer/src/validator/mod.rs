//! Gives every transaction of a block its validation code
//! (Fabric: `core/committer/txvalidator/v20`, the built-in VSCC, `statebased`).
//!
//! The work is split where the state comes in:
//!
//! 1. [`Validator::prepare`] needs the bytes and the channel configuration only: decoding, creator
//!    and endorsement signatures, hashes, names. It is where the time goes, it runs on all cores,
//!    and it may run while the block before is being committed.
//! 2. [`Validator::judge`] needs the state just before the block: ids already used, chaincode
//!    definitions, endorsement policies of chaincode, collections and keys.
//!
//! MVCC comes afterwards, in the ledger. The codes and their order are Fabric's. Where a hostile
//! block makes a Fabric peer panic or stall, the transaction gets the code it would get alone in a
//! block: no actions or no data is `INVALID_ENDORSER_TRANSACTION`, an unreadable key-level policy
//! or a write to an undefined collection `ENDORSEMENT_POLICY_FAILURE`, an unreadable chaincode
//! definition `INVALID_CHAINCODE`. Where Fabric's outcome depends on the order of a Go map (several
//! namespaces fail in different ways) the invoked chaincode counts first, then the order of the
//! read/write set.

mod judge;
mod message;
mod scope;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rayon::prelude::*;
use selvage_channel::ChannelConfig;
use selvage_ledger::{DecodedTx, TxRwSet};
use selvage_proto::common::{Block, ConfigEnvelope};
use selvage_proto::peer::TxValidationCode;

use crate::lifecycle::{
    BoxError, ChaincodeDefinition, LIFECYCLE_NAMESPACE, LifecycleError, redefined_chaincode,
};
use message::{Content, Opened};
pub use scope::Scope;

/// Why a block could not be judged. None of these says anything about a transaction: the channel
/// stops, because going on could give other codes than the other peers give.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The worker threads could not be started.
    #[error("cannot start validation threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// The ledger failed while a chaincode definition was read.
    #[error("could not read a chaincode definition")]
    Definition(#[source] LifecycleError),
    /// The ledger failed.
    #[error("could not read the state")]
    State(#[source] BoxError),
    /// A chaincode names a validation plugin that this peer does not have.
    #[error(
        "chaincode {chaincode} asks for validation plugin {plugin}, which this peer does not have: \
         commit a definition with plugin vscc"
    )]
    Plugin {
        /// The chaincode.
        chaincode: String,
        /// The plugin's name.
        plugin: String,
    },
    /// A configuration transaction cannot be read.
    #[error("block {block}: malformed configuration transaction")]
    MalformedConfig {
        /// The block.
        block: u64,
        /// What is wrong with it.
        #[source]
        source: prost::DecodeError,
    },
    /// A configuration transaction does not fit the configuration in force.
    #[error("block {block}: the new configuration is not acceptable")]
    Config {
        /// The block.
        block: u64,
        /// What is wrong with it.
        #[source]
        source: selvage_channel::UpdateError,
    },
    /// A configuration demands a capability that this program does not have.
    #[error("block {block}: the new configuration needs a newer peer")]
    Unsupported {
        /// The block.
        block: u64,
        /// What is missing.
        #[source]
        source: selvage_channel::ConfigError,
    },
}

/// The state just before a block, as far as validation reads it.
pub trait StateView: Sync {
    /// Whether a transaction with this id is in an earlier block.
    fn has_transaction(&self, tx_id: &str) -> Result<bool, BoxError>;
    /// A public value.
    fn state(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, BoxError>;
    /// The validation parameter in the metadata of a key; in a collection `key` is the key's hash.
    fn validation_parameter(
        &self,
        namespace: &str,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, BoxError>;
    /// The committed definition of a chaincode.
    fn definition(&self, name: &str) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError>;
}

/// A block whose state-independent checks are done.
pub struct Prepared {
    number: u64,
    scope: Arc<Scope>,
    transactions: Vec<Opened>,
}

impl Prepared {
    /// The configuration the checks were made under. If another one is in force when the block is
    /// to be judged, it must be prepared again.
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// Whether the block carries a configuration.
    pub fn reconfigures(&self) -> bool {
        self.transactions
            .iter()
            .any(|tx| matches!(tx.content, Content::Config(_)))
    }

    /// The transactions as they were decoded, each at its place in the block, for the ledger to
    /// work with.
    pub fn decoded(&self) -> Vec<Option<DecodedTx>> {
        let decoded = |tx: &Opened| match &tx.content {
            Content::Endorsed(Ok(action)) => Some(DecodedTx {
                id: tx.tx_id.clone(),
                set: action.rwset.clone(),
            }),
            _ => None,
        };
        self.transactions.iter().map(decoded).collect()
    }

    /// The transactions that carry private write sets: place in the block, id, read/write set.
    pub fn private_writers(&self) -> impl Iterator<Item = (usize, &str, &TxRwSet)> {
        self.transactions
            .iter()
            .enumerate()
            .filter_map(|(index, tx)| match &tx.content {
                Content::Endorsed(Ok(action)) if action.rwset.has_private_writes() => {
                    Some((index, tx.tx_id.as_str(), &*action.rwset))
                }
                _ => None,
            })
    }

    /// Writes of the transactions that ended as valid to `_lifecycle`: whether there are any, and
    /// the chaincodes they redefine.
    pub fn lifecycle_changes(&self, codes: &[TxValidationCode]) -> (bool, Vec<String>) {
        let mut written = false;
        let mut redefined = Vec::new();
        for (tx, code) in self.transactions.iter().zip(codes) {
            let Content::Endorsed(Ok(action)) = &tx.content else {
                continue;
            };
            if *code != TxValidationCode::Valid {
                continue;
            }
            for ns in &action.rwset.namespaces {
                if ns.namespace != LIFECYCLE_NAMESPACE && ns.namespace != "lscc" {
                    continue;
                }
                written |= message::writes(ns);
                let names = ns
                    .public
                    .writes
                    .iter()
                    .filter_map(|w| redefined_chaincode(&w.key));
                redefined.extend(names.map(str::to_owned));
            }
        }
        (written, redefined)
    }
}

/// What validation decided, before MVCC.
pub struct Judged {
    /// One code for each transaction.
    pub codes: Vec<TxValidationCode>,
    /// The configuration that is in force after the block, if the block changes it.
    pub config: Option<Arc<ChannelConfig>>,
}

/// The validation threads, shared by all channels of a peer.
pub struct Validator {
    pool: rayon::ThreadPool,
}

impl Validator {
    /// Starts `threads` workers; 0 means one for each core.
    pub fn new(threads: usize) -> Result<Self, ValidateError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("validate-{i}"))
            .build()
            .map_err(ValidateError::Threads)?;
        Ok(Self { pool })
    }

    /// Does everything that needs only the block and the configuration.
    pub fn prepare(&self, block: &Block, scope: &Arc<Scope>) -> Prepared {
        let envelopes = block.envelopes();
        let transactions = self.pool.install(|| {
            envelopes
                .par_iter()
                .map(|data| message::open(data, scope))
                .collect::<Vec<_>>()
        });
        Prepared {
            number: block.number(),
            scope: scope.clone(),
            transactions,
        }
    }

    /// Decides the code of each transaction against the state just before the block.
    pub fn judge(
        &self,
        prepared: &Prepared,
        view: &impl StateView,
    ) -> Result<Judged, ValidateError> {
        let mut codes = self
            .pool
            .install(|| judge::judge(&prepared.transactions, &prepared.scope, view))?;
        judge::mark_duplicates(&prepared.transactions, &mut codes);
        let config = new_config(prepared)?;
        Ok(Judged { codes, config })
    }
}

/// Applies the configuration transactions of a block. The orderer puts one alone into its block.
fn new_config(prepared: &Prepared) -> Result<Option<Arc<ChannelConfig>>, ValidateError> {
    let block = prepared.number;
    let mut newest: Option<Arc<ChannelConfig>> = None;
    for tx in &prepared.transactions {
        let Content::Config(data) = &tx.content else {
            continue;
        };
        let envelope = ConfigEnvelope::decode(data.clone())
            .map_err(|source| ValidateError::MalformedConfig { block, source })?;
        let current = newest.as_ref().unwrap_or_else(|| prepared.scope.config());
        let applied = current
            .apply(&envelope)
            .map_err(|source| ValidateError::Config { block, source })?;
        applied
            .check_supported_by_peer()
            .map_err(|source| ValidateError::Unsupported { block, source })?;
        newest = Some(Arc::new(applied));
    }
    Ok(newest)
}
