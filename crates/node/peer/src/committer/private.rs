//! Private write sets that this peer holds for the transactions of a block.

use selvage_crypto::sha256;
use selvage_ledger::{Ledger, LedgerError, PrivateSets, TxRwSet};
use selvage_proto::peer::TxValidationCode;
use selvage_proto::rwset::{
    CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet, tx_read_write_set,
};

use crate::validator::Prepared;

/// Blocks after which private data of endorsements that never came to a block goes, and how often
/// that is looked at, unless the configuration says otherwise.
pub(super) const DEFAULT_RETENTION: u64 = 20_000;

/// What endorsements left behind for a block: the write sets, and the transactions they wait for.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) sets: PrivateSets,
    pub(super) tx_ids: Vec<String>,
}

/// Finds the private write sets of the transactions that passed validation. Those this peer does
/// not hold stay missing: the block is committed with their hashes.
pub(super) fn waiting(
    ledger: &Ledger,
    prepared: &Prepared,
    codes: &[TxValidationCode],
) -> Result<Waiting, LedgerError> {
    let mut found = Waiting::default();
    for (index, tx_id, rwset) in prepared.private_writers() {
        found.tx_ids.push(tx_id.to_owned());
        if codes.get(index) != Some(&TxValidationCode::Valid) {
            continue;
        }
        let mut namespaces: Vec<NsPvtReadWriteSet> = Vec::new();
        for entry in ledger.transient(tx_id)? {
            for ns in entry.pvt_rwset.unwrap_or_default().ns_pvt_rwset {
                take_matching(rwset, ns, &mut namespaces);
            }
        }
        if !namespaces.is_empty() {
            let set = TxPvtReadWriteSet {
                data_model: tx_read_write_set::DataModel::Kv as i32,
                ns_pvt_rwset: namespaces,
            };
            found.sets.insert(index as u64, set);
        }
    }
    Ok(found)
}

/// Moves the collections of `ns` whose bytes have the hash in the public set to `chosen`, each
/// collection once.
fn take_matching(rwset: &TxRwSet, ns: NsPvtReadWriteSet, chosen: &mut Vec<NsPvtReadWriteSet>) {
    let name = ns.namespace;
    let matching = |c: &CollectionPvtReadWriteSet| {
        rwset
            .private_hash(&name, &c.collection_name)
            .is_some_and(|hash| hash[..] == sha256(&c.rwset)[..])
    };
    let collections: Vec<_> = ns
        .collection_pvt_rwset
        .into_iter()
        .filter(matching)
        .collect();
    if collections.is_empty() {
        return;
    }
    let index = chosen
        .iter()
        .position(|n| n.namespace == name)
        .unwrap_or_else(|| {
            chosen.push(NsPvtReadWriteSet {
                namespace: name.clone(),
                ..Default::default()
            });
            chosen.len() - 1
        });
    let have = &mut chosen[index].collection_pvt_rwset;
    for collection in collections {
        if !have
            .iter()
            .any(|c| c.collection_name == collection.collection_name)
        {
            have.push(collection);
        }
    }
}

/// Drops what the block has used up, and now and then what nothing will ever use.
pub(super) fn forget(
    ledger: &Ledger,
    tx_ids: &[String],
    number: u64,
    retention: u64,
) -> Result<(), LedgerError> {
    if !tx_ids.is_empty() {
        ledger.remove_transient(tx_ids)?;
    }
    if retention > 0 && number > retention && number.is_multiple_of(retention) {
        ledger.purge_transient_below(number - retention)?;
    }
    Ok(())
}
