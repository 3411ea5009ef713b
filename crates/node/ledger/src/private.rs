//! Private write sets and those that wait for their block (Fabric: pvtdatastorage, transientstore).
//!
//! They live in a database of their own, made when the first one comes: no block holds private
//! values, so they must survive a rebuild of the state, and they must really go when they expire
//! or are purged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvage_crypto::sha256;
use selvage_env::Disk;
use selvage_proto::kvrwset::KvrwSet;
use selvage_proto::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use selvage_proto::transientstore::TxPvtReadWriteSetWithConfigInfo;

use crate::error::LedgerError;
use crate::mvcc::Purge;
use crate::store::{Batch, Durability, Store};
use crate::version::{put_ordered, take_ordered};
use crate::{Version, keys};

type Result<T> = std::result::Result<T, LedgerError>;

/// Private write sets of a block, by index of their transaction.
pub type PrivateSets = BTreeMap<u64, TxPvtReadWriteSet>;

/// One collection's private write set, with the transaction that wrote it.
#[derive(Debug, Clone)]
pub(crate) struct PrivateSet {
    pub(crate) version: Version,
    pub(crate) ns: String,
    pub(crate) collection: String,
    pub(crate) rwset: Bytes,
}

/// Opens the database below when it is first needed.
pub(crate) type OpenStore = Box<dyn Fn() -> Result<Arc<dyn Store>> + Send + Sync>;

pub(crate) struct PrivateStore {
    opened: Mutex<Option<Arc<dyn Store>>>,
    open: OpenStore,
}

impl PrivateStore {
    /// Opens the database at once when it is there already.
    pub(crate) fn new(disk: &dyn Disk, dir: Option<PathBuf>, open: OpenStore) -> Result<Self> {
        let store = Self {
            opened: Mutex::new(None),
            open,
        };
        if let Some(dir) = dir {
            let there = disk.exists(&dir).map_err(crate::BlockStoreError::Disk)?;
            if there {
                store.get_or_open()?;
            }
        }
        Ok(store)
    }

    fn get(&self) -> Option<Arc<dyn Store>> {
        self.opened.lock().clone()
    }

    fn get_or_open(&self) -> Result<Arc<dyn Store>> {
        let mut opened = self.opened.lock();
        if let Some(store) = opened.as_ref() {
            return Ok(store.clone());
        }
        let store = (self.open)()?;
        *opened = Some(store.clone());
        Ok(store)
    }

    /// Every set of a block that has not expired, without purged keys.
    pub(crate) fn of_block(&self, block: u64) -> Result<Vec<PrivateSet>> {
        let Some(store) = self.get() else {
            return Ok(Vec::new());
        };
        let prefix = keys::private_block(block);
        let mut sets = Vec::new();
        for entry in store.view().range(&prefix, &keys::end_of(&prefix)) {
            let (key, rwset) = entry?;
            let (version, ns, collection) =
                keys::parse_private_set(&key).ok_or(LedgerError::Malformed {
                    what: "private set key",
                })?;
            sets.push(PrivateSet {
                version,
                ns,
                collection,
                rwset,
            });
        }
        Ok(sets)
    }

    /// Keeps the sets of a block durably. `expiry` gives the block with which a set expires.
    pub(crate) fn put(
        &self,
        sets: &[PrivateSet],
        mut expiry: impl FnMut(&PrivateSet) -> Result<Option<u64>>,
    ) -> Result<()> {
        if sets.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for set in sets {
            let (ns, coll) = (&set.ns, &set.collection);
            for write in decode(&set.rwset)?.writes {
                let hash = sha256(write.key.as_bytes());
                batch.put(keys::private_key(ns, coll, &hash, set.version), Vec::new());
            }
            if let Some(block) = expiry(set)? {
                batch.put(keys::expiring_set(block, set.version, ns, coll), Vec::new());
            }
            batch.put(keys::private_set(set.version, ns, coll), set.rwset.to_vec());
        }
        self.get_or_open()?.commit(batch, Durability::Synced)?;
        Ok(())
    }

    /// Removes what a block purges and what expires with it, durably.
    pub(crate) fn trim(&self, block: u64, purges: &BTreeMap<Purge, Version>) -> Result<()> {
        let Some(store) = self.get() else {
            return Ok(());
        };
        let mut batch = Batch::default();
        let mut trimmed: BTreeMap<Vec<u8>, KvrwSet> = BTreeMap::new();
        for (purge, &until) in purges {
            trim_key(&*store, purge, until, &mut batch, &mut trimmed)?;
        }
        for (key, set) in trimmed {
            batch.put(key, set.encode_to_vec());
        }
        let expiring = keys::expiry_block(b'x', block);
        for entry in store.view().range(&expiring, &keys::end_of(&expiring)) {
            let (key, _) = entry?;
            expire_set(&*store, &key, &mut batch)?;
            batch.remove(key.to_vec());
        }
        if !batch.ops.is_empty() {
            store.commit(batch, Durability::Synced)?;
        }
        Ok(())
    }

    /// Keeps a private set that its transaction's block will need.
    pub(crate) fn put_transient(
        &self,
        id: &str,
        height: u64,
        set: &TxPvtReadWriteSetWithConfigInfo,
    ) -> Result<()> {
        let store = self.get_or_open()?;
        // Copies may come from several peers; each gets a number of its own.
        let prefix = keys::transient_prefix(id);
        let _only_writer = self.opened.lock();
        let mut entries = store.view().range(&prefix, &keys::end_of(&prefix));
        let number = match entries.next_back().transpose()? {
            None => 0,
            Some((key, _)) => take_ordered(&mut &key[prefix.len()..])
                .and_then(|last| last.checked_add(1))
                .ok_or(LedgerError::Malformed {
                    what: "number of a waiting private set",
                })?,
        };
        let mut value = Vec::new();
        put_ordered(&mut value, height);
        set.encode(&mut value)
            .expect("a vector takes any number of bytes");
        let mut batch = Batch::default();
        batch.put(keys::transient(id, number), value);
        batch.put(keys::transient_height(height, id, number), Vec::new());
        store.commit(batch, Durability::Synced)?;
        Ok(())
    }

    pub(crate) fn transient(&self, id: &str) -> Result<Vec<TxPvtReadWriteSetWithConfigInfo>> {
        let Some(store) = self.get() else {
            return Ok(Vec::new());
        };
        let prefix = keys::transient_prefix(id);
        let entries = store.view().range(&prefix, &keys::end_of(&prefix));
        entries
            .map(|entry| {
                let (_, value) = entry?;
                let mut rest = &value[..];
                let what = "private set waiting for its block";
                take_ordered(&mut rest).ok_or(LedgerError::Malformed { what })?;
                TxPvtReadWriteSetWithConfigInfo::decode(value.slice_ref(rest))
                    .map_err(|_| LedgerError::Malformed { what })
            })
            .collect()
    }

    pub(crate) fn remove_transient(&self, ids: &[String]) -> Result<()> {
        let Some(store) = self.get() else {
            return Ok(());
        };
        let mut batch = Batch::default();
        for id in ids {
            let prefix = keys::transient_prefix(id);
            for entry in store.view().range(&prefix, &keys::end_of(&prefix)) {
                let (key, value) = entry?;
                let height = take_ordered(&mut &value[..]);
                let number = take_ordered(&mut &key[prefix.len()..]);
                if let (Some(height), Some(number)) = (height, number) {
                    batch.remove(keys::transient_height(height, id, number));
                }
                batch.remove(key.to_vec());
            }
        }
        if !batch.ops.is_empty() {
            store.commit(batch, Durability::Buffered)?;
        }
        Ok(())
    }

    pub(crate) fn purge_transient_below(&self, height: u64) -> Result<()> {
        let Some(store) = self.get() else {
            return Ok(());
        };
        let start = keys::transient_height(0, "", 0);
        let end = keys::expiry_block(b'u', height);
        let mut batch = Batch::default();
        for entry in store.view().range(&start[..1], &end) {
            let (key, _) = entry?;
            if let Some(set) = keys::transient_of_height(&key) {
                batch.remove(set);
            }
            batch.remove(key.to_vec());
        }
        if !batch.ops.is_empty() {
            store.commit(batch, Durability::Buffered)?;
        }
        Ok(())
    }
}

fn decode(rwset: &Bytes) -> Result<KvrwSet> {
    KvrwSet::decode(rwset.clone()).map_err(|_| LedgerError::Malformed {
        what: "private write set",
    })
}

/// Takes a purged key out of every set written up to and with the purge.
fn trim_key(
    store: &dyn Store,
    purge: &Purge,
    until: Version,
    batch: &mut Batch,
    trimmed: &mut BTreeMap<Vec<u8>, KvrwSet>,
) -> Result<()> {
    let prefix = keys::private_key_prefix(&purge.ns, &purge.collection, &purge.key_hash);
    for entry in store.view().range(&prefix, &keys::end_of(&prefix)) {
        let (key, _) = entry?;
        let version = keys::version_after(&prefix, &key);
        let Some(version) = version.filter(|v| *v <= until) else {
            continue;
        };
        let set_key = keys::private_set(version, &purge.ns, &purge.collection);
        if !trimmed.contains_key(&set_key) {
            let Some(stored) = store.get(&set_key)? else {
                continue;
            };
            trimmed.insert(set_key.clone(), decode(&stored)?);
        }
        if let Some(set) = trimmed.get_mut(&set_key) {
            set.writes
                .retain(|w| sha256(w.key.as_bytes())[..] != purge.key_hash[..]);
        }
        batch.remove(key.to_vec());
    }
    Ok(())
}

/// Removes the set that an expiry entry names, with the index of its keys.
fn expire_set(store: &dyn Store, entry: &[u8], batch: &mut Batch) -> Result<()> {
    let Some((version, ns, coll)) = keys::parse_expiring_set(entry) else {
        return Err(LedgerError::Malformed {
            what: "expiry entry",
        });
    };
    let key = keys::private_set(version, &ns, &coll);
    if let Some(stored) = store.get(&key)? {
        for write in decode(&stored)?.writes {
            let hash = sha256(write.key.as_bytes());
            batch.remove(keys::private_key(&ns, &coll, &hash, version));
        }
    }
    batch.remove(key);
    Ok(())
}

/// Sets by transaction, as Fabric delivers them.
pub(crate) fn assemble(sets: Vec<PrivateSet>) -> PrivateSets {
    let mut txs = PrivateSets::new();
    for set in sets {
        let tx = txs.entry(set.version.tx).or_default();
        let coll = CollectionPvtReadWriteSet {
            collection_name: set.collection,
            rwset: set.rwset,
        };
        match tx.ns_pvt_rwset.last_mut() {
            Some(ns) if ns.namespace == set.ns => ns.collection_pvt_rwset.push(coll),
            _ => tx.ns_pvt_rwset.push(NsPvtReadWriteSet {
                namespace: set.ns,
                collection_pvt_rwset: vec![coll],
            }),
        }
    }
    txs
}
