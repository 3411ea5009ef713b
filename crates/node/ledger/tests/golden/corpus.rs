//! Reading the corpus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use prost::Message;
use selvage_crypto::sha256;
use selvage_ledger::{CollectionInfo, CollectionSource, Ledger, StateReader, TxRwSet};
use selvage_proto::block::METADATA_SLOTS;
use selvage_proto::common::{Block, BlockMetadataIndex, Envelope, HeaderType};
use selvage_proto::internal::SnapshotRecord;
use selvage_proto::kvrwset::{KvWrite, KvrwSet};
use selvage_proto::lifecycle::{StateData, state_data};
use selvage_proto::peer::{self, ProposalResponsePayload, collection_config};
use selvage_proto::rwset::TxPvtReadWriteSet;
use selvage_proto::tx::OpenEnvelope;

pub(crate) struct Corpus {
    dir: PathBuf,
    height: u64,
}

/// What a key's history holds: transaction, value, whether it is a delete.
type Change = (String, Bytes, bool);

pub(crate) fn read_block(path: &Path) -> Block {
    Block::decode(read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Bytes {
    std::fs::read(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .into()
}

impl Corpus {
    pub(crate) fn find(test: &str) -> Option<Self> {
        let dir = selvage_testing::golden_dir(test)?.join("corpus");
        let mut height = 0;
        while dir.join(format!("blocks/{height:03}.block")).exists() {
            height += 1;
        }
        assert!(height > 200, "the corpus has blocks");
        Some(Self { dir, height })
    }

    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    pub(crate) fn raw(&self, number: u64) -> Bytes {
        read(&self.dir.join(format!("blocks/{number:03}.block")))
    }

    pub(crate) fn block(&self, number: u64) -> Block {
        Block::decode(self.raw(number)).expect("a block")
    }

    pub(crate) fn ordered_raw(&self, number: u64) -> Bytes {
        read(&self.dir.join(format!("orderer-blocks/{number:03}.block")))
    }

    /// A block before any peer saw it.
    pub(crate) fn ordered_block(&self, number: u64) -> Block {
        let block = Block::decode(self.ordered_raw(number)).expect("a block");
        let metadata = block.metadata.as_ref().expect("metadata");
        assert!(metadata.metadata.len() <= METADATA_SLOTS);
        assert!(
            block
                .metadata_slot(BlockMetadataIndex::CommitHash)
                .is_empty()
        );
        block
    }

    /// The private sets that a peer delivered for a block, when it was new or at the end.
    pub(crate) fn private_sets(
        &self,
        msp: &str,
        when: &str,
        block: u64,
    ) -> BTreeMap<u64, TxPvtReadWriteSet> {
        let mut sets = BTreeMap::new();
        for tx in 0..32 {
            let name = format!("private/{msp}/{when}/{block:03}-{tx}.bin");
            let path = self.dir.join(name);
            if path.exists() {
                let set = TxPvtReadWriteSet::decode(read(&path)).expect("a private set");
                sets.insert(tx, set);
            }
        }
        sets
    }

    /// The private sets of a block as they were endorsed. Fabric had already taken purged keys out
    /// of what it delivered for a purging transaction; they are found again by their hash.
    pub(crate) fn endorsed_sets(&self, msp: &str, block: u64) -> BTreeMap<u64, TxPvtReadWriteSet> {
        let mut sets = self.private_sets(msp, "live", block);
        for (&tx, set) in &mut sets {
            let envelope = self.block(block).envelopes()[tx as usize].clone();
            let envelope = Envelope::decode(envelope).expect("an envelope");
            let public = set_of(&OpenEnvelope::open(envelope).expect("a transaction"));
            for ns in &mut set.ns_pvt_rwset {
                for coll in &mut ns.collection_pvt_rwset {
                    let want = public.private_hash(&ns.namespace, &coll.collection_name);
                    let want = want.expect("a hash");
                    if sha256(&coll.rwset)[..] != want[..] {
                        coll.rwset = self.purge_of(block, want);
                    }
                }
            }
        }
        sets
    }

    /// The private set with this hash that purges one of the keys named in the steps' arguments.
    fn purge_of(&self, block: u64, hash: &Bytes) -> Bytes {
        for step in std::fs::read_dir(self.dir.join("txs")).expect("steps") {
            let meta = step.expect("a step").path().join("meta.json");
            let meta = std::fs::read_to_string(meta).expect("a description");
            for word in meta.split('"') {
                let purge = KvWrite {
                    key: word.to_owned(),
                    is_delete: true,
                    value: Bytes::new(),
                };
                let set = KvrwSet {
                    writes: vec![purge],
                    ..Default::default()
                };
                let set = Bytes::from(set.encode_to_vec());
                if sha256(&set)[..] == hash[..] {
                    return set;
                }
            }
        }
        panic!("block {block}: no purge has this hash");
    }

    /// Compares every public key and every hash of a private key with a snapshot that Fabric
    /// wrote at the ledger's height.
    pub(crate) fn compare_snapshot(&self, ledger: &Ledger, name: &str) {
        let dir = self.dir.join("snapshot").join(name);
        let query = ledger.query().expect("query");
        for (ns, records) in snapshot(&dir, "public_state") {
            for record in &records {
                let key = std::str::from_utf8(&record.key).expect("a text key");
                let entry = query.get_entry(&ns, key).expect("state");
                let entry = entry.unwrap_or_else(|| panic!("{name}: {ns} {key} is missing"));
                compare(&format!("{name} {ns} {key}"), record, &entry);
            }
            let count = query.range(&ns, "", "").count();
            assert_eq!(count, records.len(), "{name}: keys of {ns:?}");
        }
        for (ns, records) in snapshot(&dir, "private_state_hashes") {
            let (chaincode, coll) = ns.split_once("$$h").expect("a derived namespace");
            for record in &records {
                let entry = query.get_hashed_entry(chaincode, coll, &record.key);
                let entry = entry.expect("state");
                let entry = entry.unwrap_or_else(|| panic!("{name}: {ns} hash is missing"));
                compare(&format!("{name} {ns}"), record, &entry);
            }
        }
    }

    /// The history of every key, newest first, straight from the blocks.
    pub(crate) fn histories(&self) -> BTreeMap<(String, String), Vec<Change>> {
        let mut histories: BTreeMap<_, Vec<Change>> = BTreeMap::new();
        for number in (0..self.height).rev() {
            let block = self.block(number);
            let filter = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
            for (envelope, &code) in block.envelopes().iter().zip(filter).rev() {
                let Ok(envelope) = Envelope::decode(envelope.clone()) else {
                    continue;
                };
                let Ok(tx) = OpenEnvelope::open(envelope) else {
                    continue;
                };
                let endorser = HeaderType::EndorserTransaction as i32;
                if code != 0 || tx.header.channel.r#type != endorser {
                    continue;
                }
                let id = tx.header.channel.tx_id.clone();
                for ns in set_of(&tx).namespaces {
                    for write in ns.public.writes {
                        let change = (id.clone(), write.value, write.is_delete);
                        let key = (ns.namespace.clone(), write.key);
                        histories.entry(key).or_default().push(change);
                    }
                }
            }
        }
        histories
    }
}

fn set_of(tx: &OpenEnvelope) -> TxRwSet {
    let transaction = peer::Transaction::decode(tx.data.clone()).expect("a transaction");
    let action = transaction.actions.into_iter().next().expect("an action");
    let payload = peer::ChaincodeActionPayload::decode(action.payload).expect("a payload");
    let response = payload.action.expect("an action").proposal_response_payload;
    let response = ProposalResponsePayload::decode(response).expect("a response");
    let action = peer::ChaincodeAction::decode(response.extension).expect("an action");
    TxRwSet::decode(action.results).expect("a read/write set")
}

fn compare(what: &str, record: &SnapshotRecord, entry: &selvage_ledger::StateEntry) {
    assert_eq!(record.value, entry.value, "{what}: value");
    assert_eq!(
        record.metadata,
        entry.metadata.clone().unwrap_or_default(),
        "{what}: metadata"
    );
    assert_eq!(record.version, entry.version.to_bytes(), "{what}: version");
}

/// The records of a snapshot file by namespace.
fn snapshot(dir: &Path, file: &str) -> Vec<(String, Vec<SnapshotRecord>)> {
    let mut metadata = read(&dir.join(format!("{file}.metadata")));
    let mut data = read(&dir.join(format!("{file}.data")));
    assert_eq!((metadata.get_u8(), data.get_u8()), (1, 1), "format");
    let varint = |bytes: &mut Bytes| prost::encoding::decode_varint(bytes).expect("a number");
    let mut namespaces = Vec::new();
    for _ in 0..varint(&mut metadata) {
        let len = varint(&mut metadata) as usize;
        let ns = String::from_utf8(metadata.split_to(len).to_vec()).expect("a name");
        let mut records = Vec::new();
        for _ in 0..varint(&mut metadata) {
            let len = varint(&mut data) as usize;
            let record = data.split_to(len);
            records.push(SnapshotRecord::decode(record).expect("a record"));
        }
        namespaces.push((ns, records));
    }
    assert!(data.is_empty(), "all records belong to a namespace");
    namespaces
}

/// Collections as chaincode definitions of the corpus give them.
pub(crate) struct Lifecycle;

impl CollectionSource for Lifecycle {
    fn collections(
        &self,
        ns: &str,
        state: &mut dyn StateReader,
    ) -> Result<Option<Vec<CollectionInfo>>, String> {
        let key = format!("namespaces/fields/{ns}/Collections");
        let stored = state
            .get_state("_lifecycle", &key)
            .map_err(|e| e.to_string())?;
        let mut found: Vec<CollectionInfo> = ["Org1MSP", "Org2MSP", "Org3MSP"]
            .iter()
            .map(|msp| CollectionInfo {
                name: format!("_implicit_org_{msp}"),
                block_to_live: 0,
            })
            .collect();
        if let Some(stored) = stored {
            let data = StateData::decode(stored).map_err(|e| e.to_string())?;
            if let Some(state_data::Type::Bytes(bytes)) = data.r#type {
                let package = peer::CollectionConfigPackage::decode(bytes);
                for config in package.map_err(|e| e.to_string())?.config {
                    let Some(collection_config::Payload::StaticCollectionConfig(config)) =
                        config.payload
                    else {
                        continue;
                    };
                    found.push(CollectionInfo {
                        name: config.name,
                        block_to_live: config.block_to_live,
                    });
                }
            }
        }
        Ok(Some(found))
    }
}
