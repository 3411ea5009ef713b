//! Multi-version concurrency control: a transaction takes effect when what it read is still so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvage_proto::kvrwset::{KvRead, KvReadHash};
use selvage_proto::peer::TxValidationCode;

use super::updates::Updates;
use super::{ops, ranges};
use crate::Version;
use crate::error::LedgerError;
use crate::rwset::{NsRwSet, TxRwSet};
use crate::state::StateView;

/// A transaction that passed every check before this one.
#[derive(Debug)]
pub(crate) struct Tx {
    /// Its index in the block.
    pub(crate) index: usize,
    pub(crate) set: Arc<TxRwSet>,
    /// What is found here.
    pub(crate) code: TxValidationCode,
}

impl Tx {
    /// A transaction that nothing has been found against yet.
    pub(crate) fn new(index: usize, set: Arc<TxRwSet>) -> Self {
        Self {
            index,
            set,
            code: TxValidationCode::Valid,
        }
    }
}

/// A private key whose past is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Purge {
    pub(crate) ns: String,
    pub(crate) collection: String,
    pub(crate) key_hash: Bytes,
}

/// What a block does.
#[derive(Debug, Default)]
pub(crate) struct Validated {
    pub(crate) updates: Updates,
    /// Purged keys with the last transaction that purges them.
    pub(crate) purges: BTreeMap<Purge, Version>,
}

/// Checks the transactions in order, sets their codes and gathers what the valid ones change.
///
/// Without `check` every transaction is taken as valid: that is how stored blocks are replayed.
pub(crate) fn validate(
    block: u64,
    txs: &mut [Tx],
    state: &StateView,
    check: bool,
) -> Result<Validated, LedgerError> {
    let mut result = Validated::default();
    for tx in txs {
        tx.code = if check {
            code_of(&tx.set, state, &result.updates)?
        } else {
            TxValidationCode::Valid
        };
        if tx.code != TxValidationCode::Valid {
            continue;
        }
        let version = Version::new(block, tx.index as u64);
        ops::apply(&tx.set, version, state, &mut result.updates)?;
        note_purges(&tx.set, version, &mut result.purges);
    }
    Ok(result)
}

fn note_purges(set: &TxRwSet, version: Version, purges: &mut BTreeMap<Purge, Version>) {
    for (ns, coll) in set.collections() {
        for write in coll.hashed.hashed_writes.iter().filter(|w| w.is_purge) {
            let purge = Purge {
                ns: ns.to_owned(),
                collection: coll.collection.clone(),
                key_hash: write.key_hash.clone(),
            };
            purges.insert(purge, version);
        }
    }
}

fn code_of(
    set: &TxRwSet,
    state: &StateView,
    updates: &Updates,
) -> Result<TxValidationCode, LedgerError> {
    for ns in &set.namespaces {
        for read in &ns.public.reads {
            if !read_holds(&ns.namespace, read, state, updates)? {
                return Ok(TxValidationCode::MvccReadConflict);
            }
        }
        for info in &ns.public.range_queries_info {
            if !ranges::still_holds(&ns.namespace, info, state, updates)? {
                return Ok(TxValidationCode::PhantomReadConflict);
            }
        }
        if !hashed_reads_hold(ns, state, updates)? {
            return Ok(TxValidationCode::MvccReadConflict);
        }
    }
    Ok(TxValidationCode::Valid)
}

/// A key that an earlier transaction of the block touched conflicts whatever its version.
fn read_holds(
    ns: &str,
    read: &KvRead,
    state: &StateView,
    updates: &Updates,
) -> Result<bool, LedgerError> {
    if updates.public(ns, &read.key).is_some() {
        return Ok(false);
    }
    let committed = state.get(ns, read.key.as_bytes())?.map(|e| e.version);
    Ok(committed == Version::from_proto(read.version.as_ref()))
}

fn hashed_reads_hold(
    ns: &NsRwSet,
    state: &StateView,
    updates: &Updates,
) -> Result<bool, LedgerError> {
    for coll in &ns.collections {
        for KvReadHash { key_hash, version } in &coll.hashed.hashed_reads {
            let (ns, coll) = (ns.namespace.as_str(), coll.collection.as_str());
            if updates.hashed(ns, coll, key_hash).is_some() {
                return Ok(false);
            }
            let committed = state.hashed(ns, coll, key_hash)?.map(|e| e.version);
            if committed != Version::from_proto(version.as_ref()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
