//! Turning a block and the codes its validator gave into a batch of changes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::sha256;
use selvage_proto::common::{Block, HeaderType};
use selvage_proto::kvrwset::{KvWrite, KvrwSet};
use selvage_proto::peer::TxValidationCode;

use crate::error::LedgerError;
use crate::history::Location;
use crate::mvcc::{Purge, Tx, Update, Updates};
use crate::private::{PrivateSet, PrivateSets};
use crate::rwset::{NsRwSet, TxRwSet, is_delete};
use crate::state::{StateEntry, StateView};
use crate::store::Batch;
use crate::tx::{DecodedTx, OpenTx};
use crate::version::put_ordered;
use crate::{Version, keys};

type Result<T> = std::result::Result<T, LedgerError>;

/// The key under which the newest configuration lies in the namespace `""`.
pub const CHANNEL_CONFIG_KEY: &str = "CHANNEL_CONFIG_ENV_BYTES";

/// A block taken apart.
pub(crate) struct Parsed {
    pub(crate) ids: Vec<String>,
    pub(crate) codes: Vec<TxValidationCode>,
    /// The transactions that the validator found valid and that have a read/write set, in order.
    pub(crate) txs: Vec<Tx>,
}

impl Parsed {
    /// The read/write set of a transaction, if it has been decoded.
    fn set(&self, index: usize) -> Option<&Arc<TxRwSet>> {
        let at = self.txs.binary_search_by_key(&index, |tx| tx.index).ok()?;
        Some(&self.txs[at].set)
    }
}

/// Takes a block apart. Transactions that the validator refused are left alone, and those that it
/// hands over decoded are not decoded again.
pub(crate) fn parse(
    block: &Block,
    codes: &[TxValidationCode],
    decoded: Vec<Option<DecodedTx>>,
) -> Result<Parsed> {
    let number = block.number();
    let envelopes = block.envelopes();
    if codes.len() != envelopes.len() {
        return Err(bad(
            number,
            format!("{} codes for {} transactions", codes.len(), envelopes.len()),
        ));
    }
    let mut parsed = Parsed {
        ids: Vec::with_capacity(envelopes.len()),
        codes: codes.to_vec(),
        txs: Vec::with_capacity(envelopes.len()),
    };
    let mut decoded = decoded.into_iter();
    for (index, envelope) in envelopes.iter().enumerate() {
        if let Some(tx) = decoded.next().flatten() {
            parsed.ids.push(tx.id);
            if still_valid(number, index, codes[index])? {
                parsed.txs.push(Tx::new(index, tx.set));
            }
            continue;
        }
        let tx = OpenTx::open(envelope);
        let id = tx.as_ref().and_then(OpenTx::id);
        parsed.ids.push(id.unwrap_or_default());
        if !still_valid(number, index, codes[index])? {
            continue;
        }
        let tx = tx.ok_or_else(|| {
            let reason = format!("transaction {index} is called valid but cannot be decoded");
            bad(number, reason)
        })?;
        match set_of(&tx) {
            Ok(Some(set)) => parsed.txs.push(Tx::new(index, Arc::new(set))),
            Ok(None) => {}
            Err(code) => parsed.codes[index] = code,
        }
    }
    Ok(parsed)
}

/// Whether the validator found a transaction valid; an error if it did not look at it.
fn still_valid(number: u64, index: usize, code: TxValidationCode) -> Result<bool> {
    match code {
        TxValidationCode::Valid => Ok(true),
        TxValidationCode::NotValidated => {
            let reason = format!("transaction {index} was not validated");
            Err(bad(number, reason))
        }
        _ => Ok(false),
    }
}

fn bad(number: u64, reason: String) -> LedgerError {
    LedgerError::BadBlock { number, reason }
}

/// What a transaction reads and writes. A configuration writes itself.
fn set_of(tx: &OpenTx) -> std::result::Result<Option<TxRwSet>, TxValidationCode> {
    match HeaderType::try_from(tx.channel.r#type) {
        Ok(HeaderType::EndorserTransaction) => {
            let action = tx.action().ok_or(TxValidationCode::NilTxaction)?;
            let set = TxRwSet::decode(action.results);
            set.map(Some)
                .map_err(|_| TxValidationCode::InvalidOtherReason)
        }
        Ok(HeaderType::Config) => {
            let write = KvWrite {
                key: CHANNEL_CONFIG_KEY.to_owned(),
                is_delete: false,
                value: tx.data.clone(),
            };
            let public = KvrwSet {
                writes: vec![write],
                ..Default::default()
            };
            Ok(Some(TxRwSet {
                namespaces: vec![NsRwSet {
                    public,
                    ..Default::default()
                }],
            }))
        }
        _ => Ok(None),
    }
}

/// Changes of private values, by namespace and collection.
#[derive(Debug, Default)]
pub(crate) struct PrivateUpdates {
    pub(crate) keys: BTreeMap<(String, String), BTreeMap<String, Update>>,
}

impl PrivateUpdates {
    fn get(&self, ns: &str, coll: &str, key: &str) -> Option<&Update> {
        let names = (ns.to_owned(), coll.to_owned());
        self.keys.get(&names)?.get(key)
    }

    fn put(&mut self, ns: &str, coll: &str, key: &str, value: Option<Bytes>, version: Version) {
        let names = (ns.to_owned(), coll.to_owned());
        let update = Update {
            value,
            metadata: None,
            version,
        };
        let keys = self.keys.entry(names).or_default();
        keys.insert(key.to_owned(), update);
    }
}

/// The private sets of a block that match the hashes in it; others are dropped, as nobody
/// endorsed them. Sets of invalid transactions are kept too, because a later reset may find the
/// transactions valid.
pub(crate) fn matching_sets(block: &Block, parsed: &Parsed, sets: &PrivateSets) -> Vec<PrivateSet> {
    let mut kept = Vec::new();
    for (&index, set) in sets {
        let public = match parsed.set(index as usize) {
            Some(set) => set.clone(),
            None => match decode_set(block, index as usize) {
                Some(set) => Arc::new(set),
                None => continue,
            },
        };
        for ns in &set.ns_pvt_rwset {
            for coll in &ns.collection_pvt_rwset {
                let want = public.private_hash(&ns.namespace, &coll.collection_name);
                if want.is_none_or(|want| want[..] != sha256(&coll.rwset)[..]) {
                    tracing::warn!(
                        block = block.number(),
                        tx = index,
                        chaincode = ns.namespace,
                        collection = coll.collection_name,
                        "private data does not match its hash in the block and is dropped"
                    );
                    continue;
                }
                kept.push(PrivateSet {
                    version: Version::new(block.number(), index),
                    ns: ns.namespace.clone(),
                    collection: coll.collection_name.clone(),
                    rwset: coll.rwset.clone(),
                });
            }
        }
    }
    kept
}

/// The set of an endorser transaction, be it valid or not.
fn decode_set(block: &Block, index: usize) -> Option<TxRwSet> {
    let action = OpenTx::open(block.envelopes().get(index)?)?.action()?;
    TxRwSet::decode(action.results).ok()
}

/// The private values that the valid transactions of a block write.
pub(crate) fn private_updates(
    sets: &[PrivateSet],
    codes: &[TxValidationCode],
    updates: &Updates,
    state: &StateView,
) -> Result<PrivateUpdates> {
    let mut private = PrivateUpdates::default();
    let mut touched = BTreeSet::new();
    for set in sets {
        if codes.get(set.version.tx as usize) != Some(&TxValidationCode::Valid) {
            continue;
        }
        let decoded = <KvrwSet as prost::Message>::decode(set.rwset.clone());
        let Ok(decoded) = decoded else {
            continue;
        };
        let (ns, coll) = (set.ns.as_str(), set.collection.as_str());
        for write in &decoded.writes {
            let value = (!is_delete(write)).then(|| write.value.clone());
            private.put(ns, coll, &write.key, value, set.version);
        }
        for write in decoded.metadata_writes {
            touched.insert((ns.to_owned(), coll.to_owned(), write.key));
        }
    }
    for (ns, coll, key) in touched {
        renew_version(&ns, &coll, &key, updates, state, &mut private)?;
    }
    Ok(private)
}

/// A change of metadata gives the hash of a key a new version; the value must follow, or the next
/// read would take it for stale. Only when the value is the one the hash stands for.
fn renew_version(
    ns: &str,
    coll: &str,
    key: &str,
    updates: &Updates,
    state: &StateView,
    private: &mut PrivateUpdates,
) -> Result<()> {
    let Some(hashed) = updates.hashed(ns, coll, &sha256(key.as_bytes())) else {
        return Ok(());
    };
    let latest = match private.get(ns, coll, key) {
        Some(update) => update.value.clone().map(|value| (value, update.version)),
        None => state
            .private(ns, coll, key)?
            .map(|entry| (entry.value, entry.version)),
    };
    if let Some((value, version)) = latest
        && version != hashed.version
        && hashed.value.as_deref() == Some(&sha256(&value)[..])
    {
        private.put(ns, coll, key, Some(value), hashed.version);
    }
    Ok(())
}

/// Deletes the values of purged keys unless something newer is written to them here.
pub(crate) fn purge_values(
    purges: &BTreeMap<Purge, Version>,
    state: &StateView,
    private: &mut PrivateUpdates,
) -> Result<()> {
    for (purge, &version) in purges {
        let (ns, coll) = (purge.ns.as_str(), purge.collection.as_str());
        let stored = state
            .view()
            .get(&keys::plain_key(ns, coll, &purge.key_hash))?;
        let Some(key) = stored.and_then(|key| String::from_utf8(key.to_vec()).ok()) else {
            continue;
        };
        let newer = private
            .get(ns, coll, &key)
            .is_some_and(|update| update.version >= version);
        if !newer {
            private.put(ns, coll, &key, None, version);
        }
    }
    Ok(())
}

/// Plans when the private keys written by a block expire, and carries out what expires with it.
/// Expiry is not part of the commit hash.
pub(crate) fn expire(
    block: u64,
    state: &StateView,
    updates: &mut Updates,
    private: &mut PrivateUpdates,
    mut expiry: impl FnMut(&str, &str) -> Result<Option<u64>>,
    batch: &mut Batch,
) -> Result<()> {
    plan_expiry(block, updates, private, &mut expiry, batch)?;
    let due = keys::expiry_block(b'e', block);
    for entry in state.view().range(&due, &keys::end_of(&due)) {
        let (entry, key) = entry?;
        let what = "expiry entry";
        let parsed = keys::parse_expiring_key(&entry);
        let (committed, ns, coll, hash) = parsed.ok_or(LedgerError::Malformed { what })?;
        let key = std::str::from_utf8(&key).map_err(|_| LedgerError::Malformed { what })?;
        batch.remove(entry.to_vec());
        let hash_is_old = state
            .hashed(&ns, &coll, &hash)?
            .is_some_and(|e| e.version.block == committed);
        let value_is_old = !key.is_empty()
            && state
                .private(&ns, &coll, key)?
                .is_some_and(|e| e.version.block == committed);
        // No transaction has this index, so the version sorts after all of the block.
        let version = Version::new(block, u64::MAX);
        if hash_is_old && updates.hashed(&ns, &coll, &hash).is_none() {
            let gone = Update {
                value: None,
                metadata: None,
                version,
            };
            updates.put_hashed(&ns, &coll, hash.into(), gone);
        }
        let remove = !key.is_empty() && (hash_is_old || value_is_old);
        if remove && private.get(&ns, &coll, key).is_none() {
            private.put(&ns, &coll, key, None, version);
        }
    }
    Ok(())
}

fn plan_expiry(
    block: u64,
    updates: &Updates,
    private: &PrivateUpdates,
    expiry: &mut impl FnMut(&str, &str) -> Result<Option<u64>>,
    batch: &mut Batch,
) -> Result<()> {
    let mut planned = HashSet::new();
    for ((ns, coll), values) in &private.keys {
        let Some(at) = expiry(ns, coll)? else {
            continue;
        };
        for (key, update) in values {
            let hash = sha256(key.as_bytes());
            if update.value.is_some() {
                let committed = update.version.block;
                let entry = keys::expiring_key(at, committed, ns, coll, &hash);
                batch.put(entry, key.clone().into_bytes());
            }
            planned.insert((ns.as_str(), coll.as_str(), hash));
        }
    }
    for (ns, colls) in &updates.hashed {
        for (coll, hashes) in colls {
            let Some(at) = expiry(ns, coll)? else {
                continue;
            };
            for (hash, update) in hashes {
                let known = <[u8; 32]>::try_from(&hash[..])
                    .is_ok_and(|h| planned.contains(&(ns.as_str(), coll.as_str(), h)));
                if update.value.is_some() && !known && hash.len() == 32 {
                    let entry = keys::expiring_key(at, block, ns, coll, hash);
                    batch.put(entry, Vec::new());
                }
            }
        }
    }
    Ok(())
}

/// Puts every change of the state into the batch.
pub(crate) fn put_state(updates: &Updates, private: &PrivateUpdates, batch: &mut Batch) {
    for (ns, entries) in &updates.public {
        for (key, update) in entries {
            put_entry(keys::state(ns, key.as_bytes()), update, batch);
        }
    }
    for (ns, colls) in &updates.hashed {
        for (coll, entries) in colls {
            let ns = keys::hashed_ns(ns, coll);
            for (hash, update) in entries {
                put_entry(keys::state(&ns, hash), update, batch);
            }
        }
    }
    for ((ns, coll), entries) in &private.keys {
        let derived = keys::private_ns(ns, coll);
        for (key, update) in entries {
            put_entry(keys::state(&derived, key.as_bytes()), update, batch);
            let plain = keys::plain_key(ns, coll, &sha256(key.as_bytes()));
            match update.value {
                Some(_) => batch.put(plain, key.clone().into_bytes()),
                None => batch.remove(plain),
            }
        }
    }
}

fn put_entry(key: Vec<u8>, update: &Update, batch: &mut Batch) {
    let Some(value) = update.value.clone() else {
        batch.remove(key);
        return;
    };
    let entry = StateEntry {
        value,
        metadata: update.metadata.clone(),
        version: update.version,
    };
    batch.put(key, entry.encode());
}

/// Puts the history of every key that the valid transactions write.
pub(crate) fn put_history(number: u64, parsed: &Parsed, at: &[Location], batch: &mut Batch) {
    for tx in &parsed.txs {
        if parsed.codes[tx.index] != TxValidationCode::Valid {
            continue;
        }
        let version = Version::new(number, tx.index as u64);
        let mut location = Vec::new();
        at[tx.index].encode(&mut location);
        for ns in &tx.set.namespaces {
            // Fabric keeps no history of the configuration.
            if ns.namespace.is_empty() {
                continue;
            }
            for write in &ns.public.writes {
                let key = keys::history(&ns.namespace, &write.key, version);
                batch.put(key, location.clone());
            }
        }
    }
}

/// What the index keeps of a transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TxEntry {
    pub(crate) version: Version,
    pub(crate) code: u8,
    pub(crate) location: Location,
}

impl TxEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.version.to_bytes();
        out.push(self.code);
        self.location.encode(&mut out);
        out
    }

    pub(crate) fn decode(stored: &[u8]) -> Option<Self> {
        let mut rest = stored;
        let block = crate::version::take_ordered(&mut rest)?;
        let tx = crate::version::take_ordered(&mut rest)?;
        let (&code, mut rest) = rest.split_first()?;
        Some(Self {
            version: Version::new(block, tx),
            code,
            location: Location::decode(&mut rest)?,
        })
    }
}

/// Puts the transactions and the block itself into the indexes. The first transaction with an id
/// keeps it, be it valid or not.
pub(crate) fn put_indexes(
    number: u64,
    hash: &[u8],
    parsed: &Parsed,
    at: &[Location],
    state: &StateView,
    batch: &mut Batch,
) -> Result<()> {
    let mut seen = HashSet::new();
    for (index, id) in parsed.ids.iter().enumerate() {
        let key = keys::tx_id(id);
        if !seen.insert(id) || state.view().get(&key)?.is_some() {
            continue;
        }
        let entry = TxEntry {
            version: Version::new(number, index as u64),
            code: parsed.codes[index] as u8,
            location: at[index],
        };
        batch.put(key, entry.encode());
    }
    let mut value = Vec::new();
    put_ordered(&mut value, number);
    batch.put(keys::block_hash(hash), value);
    let mut height = Vec::new();
    put_ordered(&mut height, number + 1);
    batch.put(keys::HEIGHT.to_vec(), height);
    Ok(())
}
