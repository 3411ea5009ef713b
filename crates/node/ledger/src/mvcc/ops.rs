//! From a transaction's write set to the new state of each key it writes.
//!
//! Fabric counts a key's operations by adding flags, so a forged set that writes a key twice turns
//! into something else: two writes add up to "metadata only". Peers must agree on what it does,
//! so the sums are kept.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::updates::{Update, Updates};
use crate::Version;
use crate::error::LedgerError;
use crate::rwset::{TxRwSet, is_delete, is_hash_delete};
use crate::state::{StateEntry, StateView, encode_metadata};

const WRITE: u8 = 1;
const SET_METADATA: u8 = 2;
const DROP_METADATA: u8 = 4;
const DELETE: u8 = 8;

/// Namespace, collection (empty for public keys), key or key hash.
type OpKey<'a> = (&'a str, &'a str, Bytes);

#[derive(Default)]
struct Op {
    flags: u8,
    value: Bytes,
    metadata: Option<Bytes>,
}

impl Op {
    fn add(&mut self, flag: u8) {
        self.flags = self.flags.wrapping_add(flag);
    }

    fn metadata(&mut self, metadata: Option<Bytes>) {
        if metadata.is_some() {
            self.add(SET_METADATA);
            self.metadata = metadata;
        } else {
            self.add(DROP_METADATA);
        }
    }

    fn deletes(&self) -> bool {
        self.flags & DELETE != 0
    }

    fn writes_all(&self) -> bool {
        self.flags & WRITE != 0 && self.flags & (SET_METADATA | DROP_METADATA) != 0
    }

    fn writes_value_only(&self) -> bool {
        self.flags | WRITE == WRITE
    }
}

/// Adds the writes of a valid transaction to the block's.
///
/// A write of the value alone keeps the metadata; a write of metadata alone keeps the value and
/// does nothing to a key that is not there, be it for an earlier transaction of the same block
/// (where Fabric's peer stops with a panic).
pub(crate) fn apply(
    set: &TxRwSet,
    version: Version,
    state: &StateView,
    updates: &mut Updates,
) -> Result<(), LedgerError> {
    for ((ns, coll, key), op) in collect(set) {
        let update = if op.deletes() {
            Some((None, None))
        } else if op.writes_all() {
            Some((Some(op.value), op.metadata))
        } else {
            let before = latest(ns, coll, &key, state, updates)?;
            if op.writes_value_only() {
                Some((Some(op.value), before.and_then(|b| b.metadata)))
            } else {
                before.map(|b| (Some(b.value), op.metadata))
            }
        };
        let Some((value, metadata)) = update else {
            continue;
        };
        let update = Update {
            value,
            metadata,
            version,
        };
        if coll.is_empty() {
            let key = String::from_utf8_lossy(&key).into_owned();
            updates.put_public(ns, key, update);
        } else {
            updates.put_hashed(ns, coll, key, update);
        }
    }
    Ok(())
}

fn collect(set: &TxRwSet) -> BTreeMap<OpKey<'_>, Op> {
    let mut ops: BTreeMap<OpKey<'_>, Op> = BTreeMap::new();
    for ns in &set.namespaces {
        let name = ns.namespace.as_str();
        for write in &ns.public.writes {
            let key = Bytes::copy_from_slice(write.key.as_bytes());
            let op = ops.entry((name, "", key)).or_default();
            if is_delete(write) {
                op.add(DELETE);
            } else {
                op.add(WRITE);
                op.value = write.value.clone();
            }
        }
        for write in &ns.public.metadata_writes {
            let key = Bytes::copy_from_slice(write.key.as_bytes());
            let op = ops.entry((name, "", key)).or_default();
            op.metadata(encode_metadata(&write.entries));
        }
        for coll in &ns.collections {
            let coll_name = coll.collection.as_str();
            for write in &coll.hashed.hashed_writes {
                let key = (name, coll_name, write.key_hash.clone());
                let op = ops.entry(key).or_default();
                if is_hash_delete(write) {
                    op.add(DELETE);
                } else {
                    op.add(WRITE);
                    op.value = write.value_hash.clone();
                }
            }
            for write in &coll.hashed.metadata_writes {
                let key = (name, coll_name, write.key_hash.clone());
                let op = ops.entry(key).or_default();
                op.metadata(encode_metadata(&write.entries));
            }
        }
    }
    ops
}

struct Latest {
    value: Bytes,
    metadata: Option<Bytes>,
}

/// The key as the transactions before left it; `None` when it is not there.
fn latest(
    ns: &str,
    coll: &str,
    key: &[u8],
    state: &StateView,
    updates: &Updates,
) -> Result<Option<Latest>, LedgerError> {
    let updated = if coll.is_empty() {
        std::str::from_utf8(key)
            .ok()
            .and_then(|key| updates.public(ns, key))
    } else {
        updates.hashed(ns, coll, key)
    };
    if let Some(update) = updated {
        return Ok(update.value.clone().map(|value| Latest {
            value,
            metadata: update.metadata.clone(),
        }));
    }
    let committed = if coll.is_empty() {
        state.get(ns, key)?
    } else {
        state.hashed(ns, coll, key)?
    };
    Ok(committed.map(
        |StateEntry {
             value, metadata, ..
         }| Latest { value, metadata },
    ))
}
