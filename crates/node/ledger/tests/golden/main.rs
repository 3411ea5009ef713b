//! Blocks written by Hyperledger Fabric 3.1.5, replayed: codes, commit hashes, stored bytes,
//! snapshots of the state and private data must come out as Fabric's.

mod corpus;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use corpus::{Corpus, Lifecycle, read_block};
use prost::Message;
use selvage_env::{MemDisk, RealDisk};
use selvage_ledger::{
    BlockStore, BlockStoreOptions, CHANNEL_CONFIG_KEY, Ledger, LedgerError, LedgerOptions,
    PrivateSets, StateStorage, tx_id_of,
};
use selvage_proto::common::BlockMetadataIndex;
use selvage_proto::peer::TxValidationCode;

fn in_memory() -> Arc<Ledger> {
    let options = LedgerOptions {
        state: StateStorage::Memory,
        ..LedgerOptions::default()
    };
    let disk = Arc::new(MemDisk::new());
    let lifecycle = Arc::new(Lifecycle);
    Ledger::open(disk, Path::new("/ledger"), options, lifecycle).expect("an empty ledger opens")
}

/// The codes a validator gives: Fabric's, except those that the ledger itself must find.
fn validator_codes(filter: &[u8]) -> Vec<TxValidationCode> {
    filter
        .iter()
        .map(|&code| match TxValidationCode::try_from(i32::from(code)) {
            Ok(
                TxValidationCode::MvccReadConflict
                | TxValidationCode::PhantomReadConflict
                | TxValidationCode::InvalidWriteset,
            ) => TxValidationCode::Valid,
            Ok(code) => code,
            Err(_) => panic!("code {code} is none of Fabric's"),
        })
        .collect()
}

/// Commits every block of the corpus as the orderer gave it and compares with Org1's peer.
fn replay(ledger: &Ledger, corpus: &Corpus, from: u64, to: u64) {
    for number in from..to {
        let want = corpus.block(number);
        let filter = want.metadata_slot(BlockMetadataIndex::TransactionsFilter);
        let private = corpus.endorsed_sets("Org1MSP", number);
        let committed = ledger
            .commit(
                corpus.ordered_block(number),
                &validator_codes(filter),
                &private,
            )
            .unwrap_or_else(|e| panic!("block {number}: {e:?}"));
        let got: Vec<u8> = committed.codes.iter().map(|&c| c as u8).collect();
        assert_eq!(got, filter, "codes of block {number}");
        assert_eq!(
            hex::encode(
                committed
                    .block
                    .metadata_slot(BlockMetadataIndex::CommitHash)
            ),
            hex::encode(want.metadata_slot(BlockMetadataIndex::CommitHash)),
            "commit hash of block {number}"
        );
        assert_eq!(committed.raw, corpus.raw(number), "bytes of block {number}");
    }
}

#[test]
fn the_corpus_replays_to_fabrics_bytes() {
    let Some(corpus) = Corpus::find("the_corpus_replays_to_fabrics_bytes") else {
        return;
    };
    let ledger = in_memory();
    replay(&ledger, &corpus, 0, 192);
    corpus.compare_snapshot(&ledger, "191-Org1MSP");
    replay(&ledger, &corpus, 192, corpus.height());
    corpus.compare_snapshot(&ledger, "207-Org1MSP");
    for number in 0..corpus.height() {
        let want = corpus.private_sets("Org1MSP", "end", number);
        let got = ledger.private_data(number).expect("private data");
        assert_eq!(got, want, "private data of block {number}");
    }
    ledger.blocks().verify().expect("the chain holds together");
}

/// Org2's peer has other private data but the same everything else. Here the transactions come
/// decoded, as from a peer's validator.
#[test]
fn another_members_private_data_comes_out_too() {
    let Some(corpus) = Corpus::find("another_members_private_data_comes_out_too") else {
        return;
    };
    let ledger = in_memory();
    for number in 0..corpus.height() {
        let want = corpus.block(number);
        let filter = want.metadata_slot(BlockMetadataIndex::TransactionsFilter);
        let private = corpus.endorsed_sets("Org2MSP", number);
        let block = corpus.ordered_block(number);
        let decoded = support::decoded(&block);
        let committed = ledger
            .commit_decoded(block, &validator_codes(filter), decoded, &private)
            .expect("commits");
        assert_eq!(committed.raw, corpus.raw(number), "bytes of block {number}");
    }
    corpus.compare_snapshot(&ledger, "207-Org2MSP");
    for number in 0..corpus.height() {
        let want = corpus.private_sets("Org2MSP", "end", number);
        let got = ledger.private_data(number).expect("private data");
        assert_eq!(got, want, "private data of block {number}");
    }
}

#[test]
fn the_state_is_rebuilt_from_the_blocks() {
    let Some(corpus) = Corpus::find("the_state_is_rebuilt_from_the_blocks") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let open = || {
        let options = LedgerOptions::default();
        Ledger::open(Arc::new(RealDisk), dir.path(), options, Arc::new(Lifecycle)).expect("opens")
    };
    let ledger = open();
    replay(&ledger, &corpus, 0, 192);
    drop(ledger);
    // Once as the database left it, once from nothing.
    corpus.compare_snapshot(&open(), "191-Org1MSP");
    std::fs::remove_dir_all(dir.path().join("state")).expect("the state goes");
    let ledger = open();
    corpus.compare_snapshot(&ledger, "191-Org1MSP");
    // The commit hash goes on from what the last block carries.
    replay(&ledger, &corpus, 192, corpus.height());
    corpus.compare_snapshot(&ledger, "207-Org1MSP");
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("blocks")).expect("the blocks go");
    let lost = Ledger::open(
        Arc::new(RealDisk),
        dir.path(),
        LedgerOptions::default(),
        Arc::new(Lifecycle),
    );
    assert!(matches!(
        lost.err(),
        Some(LedgerError::StateAhead {
            state: 208,
            blocks: 0
        })
    ));
}

#[test]
fn transactions_are_found_by_id() {
    let Some(corpus) = Corpus::find("transactions_are_found_by_id") else {
        return;
    };
    let ledger = in_memory();
    replay(&ledger, &corpus, 0, corpus.height());
    let mut firsts = std::collections::HashMap::new();
    for number in 0..corpus.height() {
        let block = corpus.block(number);
        let filter = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
        for (envelope, &code) in block.envelopes().iter().zip(filter) {
            let id = tx_id_of(envelope);
            let entry = (number, i32::from(code), envelope.clone());
            firsts.entry(id).or_insert(entry);
        }
    }
    assert!(firsts.len() > 200);
    for (id, (number, code, envelope)) in &firsts {
        assert!(ledger.tx_exists(id).expect("index"));
        let tx = ledger.tx_by_id(id).expect("transaction");
        assert_eq!(tx.validation_code, *code, "{id}");
        let bytes = tx.transaction_envelope.expect("envelope").encode_to_vec();
        assert_eq!(bytes, envelope[..], "{id}");
        let block = ledger.block_by_txid(id).expect("block");
        assert_eq!(block.number(), *number);
        let found = ledger.tx_validation_code(id).expect("index");
        assert_eq!(found.map(|(c, n)| (c as i32, n)), Some((*code, *number)));
    }
    assert!(!ledger.tx_exists("none").expect("index"));
    let error = ledger.tx_by_id("none").expect_err("no such transaction");
    assert_eq!(error.to_string(), "no such transaction ID [none] in index");
    let info = ledger.info();
    assert_eq!(info.height, corpus.height());
    let newest = ledger.block_by_hash(&info.current_block_hash);
    assert_eq!(newest.expect("newest").number(), info.height - 1);
    let newest = ledger.block_by_number(u64::MAX).expect("newest");
    let header = newest.header.expect("header");
    assert_eq!(header.previous_hash, info.previous_block_hash);
}

#[test]
fn histories_are_those_of_the_blocks() {
    let Some(corpus) = Corpus::find("histories_are_those_of_the_blocks") else {
        return;
    };
    let ledger = in_memory();
    replay(&ledger, &corpus, 0, corpus.height());
    let histories = corpus.histories();
    assert!(histories.len() > 50);
    for ((ns, key), want) in histories {
        let got: Vec<_> = ledger
            .history(&ns, &key)
            .map(|change| change.expect("history"))
            .map(|m| (m.tx_id, m.value, m.is_delete))
            .collect();
        assert_eq!(got, want, "{ns} {key:?}");
    }
}

/// The small samples: a chain of a Raft network and one of a BFT network.
#[test]
fn the_samples_replay() {
    let Some(dir) = selvage_testing::golden_dir("the_samples_replay") else {
        return;
    };
    for sample in ["raft", "bft"] {
        let ledger = in_memory();
        let mut number = 0;
        loop {
            let path = dir.join(sample).join(format!("b{number}.block"));
            if !path.exists() {
                break;
            }
            let want = read_block(&path);
            let filter = want.metadata_slot(BlockMetadataIndex::TransactionsFilter);
            let codes = validator_codes(filter);
            let committed = ledger
                .commit(want.clone(), &codes, &PrivateSets::new())
                .expect("commits");
            assert_eq!(committed.block, want, "{sample} block {number}");
            number += 1;
        }
        assert!(number >= 4, "{sample} has blocks");
    }
}

#[test]
fn the_newest_configuration_is_state() {
    let Some(corpus) = Corpus::find("the_newest_configuration_is_state") else {
        return;
    };
    let ledger = in_memory();
    replay(&ledger, &corpus, 0, 1);
    let query = ledger.query().expect("query");
    let entry = query.get_entry("", CHANNEL_CONFIG_KEY).expect("state");
    let value = entry.expect("configuration").value;
    let config = selvage_proto::common::ConfigEnvelope::decode(value).expect("decodes");
    assert!(config.config.is_some());
}

/// What an orderer keeps: the same blocks, served as the bytes they were.
#[test]
fn an_orderers_blocks_are_served_as_they_came() {
    let Some(corpus) = Corpus::find("an_orderers_blocks_are_served_as_they_came") else {
        return;
    };
    let disk = Arc::new(MemDisk::new());
    let options = BlockStoreOptions {
        segment_bytes: 100_000,
        ..Default::default()
    };
    let open =
        || BlockStore::open(disk.clone(), Path::new("/chain"), options.clone()).expect("opens");
    let store = open();
    for number in 0..corpus.height() {
        store.append(&corpus.ordered_block(number)).expect("adds");
    }
    drop(store);
    let store = open();
    assert_eq!(store.height(), corpus.height());
    for number in 0..corpus.height() {
        let raw = store.raw_block(number).expect("reads");
        assert_eq!(raw, corpus.ordered_raw(number), "block {number}");
    }
}
