//! Blocks and transactions on their way into the ledger, and what lies in its files and state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use selvage_env::{Disk, MemDisk, OpenMode};
use selvage_ledger::{
    BlockStore, BlockStoreOptions, Ledger, LedgerOptions, NoCollections, PrivateSets, StateStorage,
    TxRwSet,
};
use selvage_peer::deliver::filtered_block;
use selvage_peer::lifecycle::{
    BoxError, ChaincodeDefinition, LifecycleError, collection_rule, legacy_validation,
    read_definition, validation_rule,
};
use selvage_peer::validator::{Scope, StateView, Validator};
use selvage_proto::common::{Block, BlockData, BlockHeader, Envelope, Header, HeaderType, Payload};
use selvage_proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWrite, KvRead, KvReadHash, KvWrite, KvWriteHash,
    KvrwSet, RangeQueryInfo, Version,
};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, Endorsement, ProposalResponsePayload, Response, Transaction, TransactionAction,
    TxValidationCode,
};
use selvage_proto::rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet};

use crate::golden;
use crate::peer::{CHAINCODE, COLLECTION, collections};
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{CHANNEL, world};

/// The state before the block: one chaincode is defined.
struct Before {
    definition: Arc<ChaincodeDefinition>,
}

impl StateView for Before {
    fn has_transaction(&self, _: &str) -> Result<bool, BoxError> {
        Ok(false)
    }

    fn state(&self, _: &str, _: &str) -> Result<Option<Bytes>, BoxError> {
        Ok(None)
    }

    fn validation_parameter(
        &self,
        _: &str,
        _: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, BoxError> {
        // One key has a policy that nobody can read.
        Ok((key == b"guarded").then(|| Bytes::from_static(b"\xff")))
    }

    fn definition(&self, name: &str) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError> {
        Ok((name == CHAINCODE).then(|| self.definition.clone()))
    }
}

fn before() -> &'static Before {
    static BEFORE: OnceLock<Before> = OnceLock::new();
    BEFORE.get_or_init(|| {
        use selvage_identity::policy::build::signed_by_any_member;
        use selvage_proto::peer::ApplicationPolicy;
        use selvage_proto::peer::application_policy::Type;
        let policy = ApplicationPolicy {
            r#type: Some(Type::SignaturePolicy(signed_by_any_member(&["OneMSP"]))),
        };
        let mut definition = ChaincodeDefinition {
            sequence: 1,
            collections: collections(),
            ..Default::default()
        };
        definition.validation.validation_plugin = "vscc".to_owned();
        definition.validation.validation_parameter = policy.encode_to_vec().into();
        Before {
            definition: Arc::new(definition),
        }
    })
}

/// The input is what a transaction read and wrote; it is endorsed and signed here. Then the block
/// goes the way of every block, and one of garbage beside it.
pub(super) fn transaction(input: &[u8]) {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| Validator::new(1).expect("a thread"));
    let envelopes = vec![endorsed(input), Bytes::copy_from_slice(input)];
    let block = Block {
        header: Some(BlockHeader::default()),
        data: Some(BlockData { data: envelopes }),
        metadata: None,
    };
    let scope = Arc::new(Scope::new(world().config.clone()));
    let prepared = validator.prepare(&block, &scope);
    let Ok(judged) = validator.judge(&prepared, before()) else {
        return; // a configuration that cannot follow, or a chaincode with another plugin
    };
    assert_eq!(judged.codes.len(), 2);
    let readable = TxRwSet::decode(Bytes::copy_from_slice(input)).is_ok();
    assert!(readable || judged.codes[0] == TxValidationCode::BadRwset);
    let private = PrivateSets::new();
    let decoded = prepared.decoded();
    let fast = ledger().commit_decoded(block.clone(), &judged.codes, decoded, &private);
    let slow = ledger().commit(block, &judged.codes, &private);
    let (Ok(fast), Ok(slow)) = (fast, slow) else {
        panic!("a block that was validated can be committed");
    };
    assert_eq!(
        fast.raw, slow.raw,
        "decoded once or twice, the block is the same"
    );
    assert_eq!((&fast.tx_ids, &fast.codes), (&slow.tx_ids, &slow.codes));
    if fast.codes[0] == TxValidationCode::Valid {
        reach("committed as valid");
    }
    let _ = filtered_block(&fast.block);
    let _ = prepared.lifecycle_changes(&fast.codes);
}

fn ledger() -> Arc<Ledger> {
    let options = LedgerOptions {
        state: StateStorage::Memory,
        ..LedgerOptions::default()
    };
    let disk = Arc::new(MemDisk::new());
    Ledger::open(disk, Path::new("/l"), options, Arc::new(NoCollections)).expect("a ledger")
}

/// A transaction with these results that nothing else is wrong with.
fn endorsed(results: &[u8]) -> Bytes {
    let world = world();
    let id = ChaincodeId {
        name: CHAINCODE.to_owned(),
        version: "1".to_owned(),
        ..Default::default()
    };
    let extension = ChaincodeHeaderExtension {
        chaincode_id: Some(id.clone()),
    };
    let user = &world.client;
    let signer = selvage_proto::common::SignatureHeader {
        creator: user.identity().serialized(),
        nonce: Bytes::from_static(b"nonce"),
    };
    let channel = selvage_proto::common::ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        channel_id: CHANNEL.to_owned(),
        tx_id: tx_id(&signer),
        extension: extension.encode_to_vec().into(),
        ..Default::default()
    };
    let header = Header {
        channel_header: channel.encode_to_vec().into(),
        signature_header: signer.encode_to_vec().into(),
    };
    let input = Bytes::from_static(b"\x0a\x00");
    let hash = selvage_crypto::sha256_parts([
        &header.channel_header[..],
        &header.signature_header[..],
        &input[..],
    ]);
    let action = ChaincodeAction {
        results: Bytes::copy_from_slice(results),
        response: Some(Response {
            status: 200,
            ..Default::default()
        }),
        chaincode_id: Some(id),
        ..Default::default()
    };
    let response: Bytes = ProposalResponsePayload {
        proposal_hash: hash.to_vec().into(),
        extension: action.encode_to_vec().into(),
    }
    .encode_to_vec()
    .into();
    let endorser = world.peer.serialized();
    let signature = world.peer.sign_parts(&[&response, &endorser]);
    let payload = ChaincodeActionPayload {
        chaincode_proposal_payload: input,
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: response,
            endorsements: vec![Endorsement {
                endorser,
                signature: signature.into(),
            }],
        }),
    };
    let transaction = Transaction {
        actions: vec![TransactionAction {
            header: header.signature_header.clone(),
            payload: payload.encode_to_vec().into(),
        }],
    };
    let payload = Payload {
        header: Some(header),
        data: transaction.encode_to_vec().into(),
    };
    let envelope: Envelope = user.signed(payload.encode_to_vec().into());
    envelope.encode_to_vec().into()
}

fn tx_id(signer: &selvage_proto::common::SignatureHeader) -> String {
    let hash = selvage_crypto::sha256_parts([&signer.nonce[..], &signer.creator[..]]);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn transaction_seeds() -> Vec<Vec<u8>> {
    let version = Some(Version {
        block_num: 1,
        tx_num: 2,
    });
    let entry = KvMetadataEntry {
        name: "VALIDATION_PARAMETER".into(),
        value: Bytes::from_static(b"\x12\x00"),
    };
    let public = KvrwSet {
        reads: vec![KvRead {
            key: "k".into(),
            version,
        }],
        range_queries_info: vec![RangeQueryInfo {
            start_key: "a".into(),
            end_key: "z".into(),
            itr_exhausted: true,
            ..Default::default()
        }],
        writes: vec![
            KvWrite {
                key: "k".into(),
                value: Bytes::from_static(b"v"),
                ..Default::default()
            },
            KvWrite {
                key: "guarded".into(),
                is_delete: true,
                ..Default::default()
            },
        ],
        metadata_writes: vec![KvMetadataWrite {
            key: "k".into(),
            entries: vec![entry],
        }],
    };
    let hashed = HashedRwSet {
        hashed_reads: vec![KvReadHash {
            key_hash: vec![1; 32].into(),
            version: None,
        }],
        hashed_writes: vec![KvWriteHash {
            key_hash: vec![2; 32].into(),
            value_hash: vec![3; 32].into(),
            is_purge: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    let set = |public: KvrwSet| TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![NsReadWriteSet {
            namespace: CHAINCODE.into(),
            rwset: public.encode_to_vec().into(),
            collection_hashed_rwset: vec![CollectionHashedReadWriteSet {
                collection_name: COLLECTION.into(),
                hashed_rwset: hashed.encode_to_vec().into(),
                pvt_rwset_hash: vec![4; 32].into(),
            }],
        }],
    };
    // Nothing that a policy of its own guards: this one is valid.
    let free = KvrwSet {
        writes: public.writes[..1].to_vec(),
        ..Default::default()
    };
    let mut free = set(free);
    free.ns_rwset[0].collection_hashed_rwset.clear();
    let mut seeds = vec![set(public).encode_to_vec(), free.encode_to_vec()];
    seeds.extend(golden::files("corpus/txs", |name| name == "envelope.bin"));
    seeds
}

const STORE: &str = "/store";
const HEAD: usize = 20;
const RECORD: usize = 28;

/// A store of three small blocks in two files; the input damages it: which file, where, and with
/// what. Checksums are put right again when the first byte is odd, so that lengths and numbers can
/// be wrong in a record that looks whole.
pub(super) fn block_files(input: &[u8]) {
    let mut pick = Pick::new(input);
    let right = pick.byte() & 1 == 1;
    let mut files = store_files();
    while !pick.is_empty() {
        let (which, how) = (pick.byte(), pick.byte());
        let place = usize::from(pick.byte()) | usize::from(pick.byte()) << 8;
        let count = files.len();
        let (_, bytes) = &mut files[usize::from(which) % count];
        let place = place % (bytes.len() + 1);
        match how % 4 {
            0 => bytes.truncate(place),
            1 => drop(bytes.splice(place..place, pick.piece().iter().copied())),
            2 => {
                let new = pick.piece();
                let end = bytes.len().min(place + new.len());
                bytes[place..end].copy_from_slice(&new[..end - place]);
            }
            _ => bytes.clear(),
        }
    }
    if right {
        for (name, bytes) in &mut files {
            sum_up(name, bytes);
        }
    }
    reopen(&files);
}

/// File names and contents, in the order of their names.
type Files = Vec<(String, Vec<u8>)>;

fn options() -> BlockStoreOptions {
    BlockStoreOptions {
        segment_bytes: 200,
        ..BlockStoreOptions::default()
    }
}

fn store_files() -> Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    let make = || {
        let disk = Arc::new(MemDisk::new());
        let store = BlockStore::open(disk.clone(), Path::new(STORE), options()).expect("a store");
        for _ in 0..5 {
            append(&store).expect("a block");
        }
        drop(store);
        let mut files = Vec::new();
        for name in disk.list(Path::new(STORE)).expect("the files") {
            let path = Path::new(STORE).join(&name);
            files.push((name, disk.read(&path, 1 << 20).expect("a file")));
        }
        files.retain(|(name, _)| name.ends_with(".seg") || name.ends_with(".idx"));
        files.sort();
        assert!(files.len() >= 4, "several segments and their indexes");
        files
    };
    FILES.get_or_init(make).clone()
}

fn append(store: &BlockStore) -> Result<Bytes, selvage_ledger::BlockStoreError> {
    let info = store.info();
    let block = Block {
        header: Some(BlockHeader {
            number: info.height,
            previous_hash: info.current_hash,
            data_hash: vec![1; 32].into(),
        }),
        data: Some(BlockData {
            data: vec![Bytes::from_static(b"an envelope")],
        }),
        metadata: None,
    };
    store.append(&block)
}

/// Opens a store of these files. When that works, every block it claims to have can be read or is
/// refused by name, one more can be added, and it is still there after another start.
fn reopen(files: &[(String, Vec<u8>)]) {
    let disk = Arc::new(MemDisk::new());
    let folder = Path::new(STORE);
    disk.create_dir_all(folder).expect("a folder");
    for (name, bytes) in files {
        let path: PathBuf = folder.join(name);
        let file = disk.open(&path, OpenMode::CreateNew).expect("a file");
        file.append(bytes).expect("written");
    }
    let Ok(store) = BlockStore::open(disk.clone(), folder, options()) else {
        return;
    };
    reach("opened");
    let height = store.height();
    assert!(store.first_block() <= height);
    for number in height.saturating_sub(20)..height {
        let _ = store.block(number);
    }
    let _ = (store.block(height), store.block(u64::MAX), store.verify());
    let Ok(added) = append(&store) else {
        return;
    };
    drop(store);
    let store = BlockStore::open(disk, folder, options()).expect("opened once, opened again");
    assert_eq!(store.height(), height + 1);
    assert_eq!(
        store.raw_block(height).expect("acknowledged, so there"),
        added
    );
}

/// Puts the checksums of a file right, record by record, as far as its lengths lead.
fn sum_up(name: &str, bytes: &mut [u8]) {
    let seal = |bytes: &mut [u8], end: usize| {
        if bytes.len() >= end + 4 {
            let sum = crc32c(&bytes[..end]).to_le_bytes();
            bytes[end..end + 4].copy_from_slice(&sum);
        }
    };
    seal(bytes, HEAD - 4);
    if name.ends_with(".idx") {
        return;
    }
    let mut at = HEAD;
    while bytes.len() >= at + RECORD {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
        let end = (at + RECORD)
            .saturating_add(length as usize)
            .min(bytes.len());
        let sum = crc32c(&bytes[at + RECORD..end]).to_le_bytes();
        bytes[at + 20..at + 24].copy_from_slice(&sum);
        seal(&mut bytes[at..], 24);
        at = end;
    }
}

/// CRC-32C, bit by bit.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

pub(super) fn block_files_seeds() -> Vec<Vec<u8>> {
    let files = store_files().len() as u8;
    let mut seeds = vec![vec![0], vec![1]];
    for file in 0..files {
        for place in [0u8, 8, 21, 28, 36, 60, 100] {
            let put = Put::default()
                .byte(1)
                .byte(file)
                .byte(2)
                .byte(place)
                .byte(0);
            seeds.push(put.piece([0xff, 0xff]).rest([]));
            seeds.push(vec![0, file, 0, place, 0]);
        }
    }
    seeds
}

/// Pieces are the values of a definition's keys, in the order in which they are asked for.
pub(super) fn lifecycle_state(input: &[u8]) {
    let mut pick = Pick::new(input);
    let mut asked = BTreeMap::new();
    let mut get = |key: &str| {
        let value = asked
            .entry(key.to_owned())
            .or_insert_with(|| Bytes::copy_from_slice(pick.piece()));
        Ok((!value.is_empty()).then(|| value.clone()))
    };
    let read = read_definition(CHAINCODE, &mut get);
    let _ = legacy_validation(CHAINCODE, &mut get);
    let definition = match read {
        Ok(Some(definition)) => {
            reach("a definition");
            definition
        }
        Ok(None) => return,
        Err(error) => return assert!(!error.is_ledger_failure(), "{error}"),
    };
    let scope = &*world().config;
    let rule = validation_rule(CHAINCODE, &definition, scope);
    assert_eq!(rule.policy, definition.validation.validation_parameter);
    for collection in [COLLECTION, "_implicit_org_OneMSP", "_implicit_org_", ""] {
        let _ = collection_rule(&definition, collection, scope);
        let _ = definition.collection(collection);
    }
    let policies = Scope::new(world().config.clone());
    assert_eq!(policies.config().channel_id(), CHANNEL);
}

pub(super) fn lifecycle_state_seeds() -> Vec<Vec<u8>> {
    use selvage_peer::lifecycle::{DEFINITION_FIELDS, DEFINITION_TYPE, encode_bytes, encode_int64};
    let metadata = selvage_proto::lifecycle::StateMetadata {
        datatype: DEFINITION_TYPE.to_owned(),
        fields: DEFINITION_FIELDS.map(str::to_owned).to_vec(),
    };
    let definition = &before().definition;
    let values = |sequence: Vec<u8>| {
        Put::default()
            .piece(metadata.encode_to_vec())
            .piece(sequence)
            .piece(encode_bytes(definition.endorsement.encode_to_vec()))
            .piece(encode_bytes(definition.validation.encode_to_vec()))
            .piece(encode_bytes(definition.collections.encode_to_vec()))
            .rest([])
    };
    vec![values(encode_int64(1)), values(encode_bytes(vec![1]))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_the_store_writes() {
        let files = store_files();
        let mut again = files.clone();
        for (name, bytes) in &mut again {
            sum_up(name, bytes);
        }
        assert_eq!(again, files);
    }
}
