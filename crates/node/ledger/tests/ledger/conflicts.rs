//! Which transactions a block makes valid.

use bytes::Bytes;
use prost::Message;
use selvage_ledger::{CommittedBlock, PrivateSets, tx_id_of};
use selvage_proto::common::{BlockMetadataIndex, HeaderType};
use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{
    KvMetadataEntry, KvMetadataWrite, KvWrite, KvrwSet, QueryReadsMerkleSummary, RangeQueryInfo,
};
use selvage_proto::peer::TxValidationCode as Code;
use selvage_proto::rwset::{NsReadWriteSet, TxReadWriteSet};

use crate::support::{
    NS, commit, decoded, envelope, get, in_memory, next_block, put, run, transaction,
};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn check(block: &CommittedBlock, want: &[Code]) {
    assert_eq!(block.codes, want);
    let filter: Vec<u8> = want.iter().map(|&c| c as u8).collect();
    let stored = block
        .block
        .metadata_slot(BlockMetadataIndex::TransactionsFilter);
    assert_eq!(stored, filter);
}

/// A transaction with one public read/write set, as only a forger makes it.
fn forged(id: &str, set: KvrwSet) -> Bytes {
    let results = TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![NsReadWriteSet {
            namespace: NS.into(),
            rwset: set.encode_to_vec().into(),
            collection_hashed_rwset: vec![],
        }],
    };
    transaction(id, results.encode_to_vec().into())
}

#[test]
fn a_read_key_must_be_as_it_was() {
    let ledger = in_memory();
    put(&ledger, &[("k", "0")]);
    let increment = |id: &str| {
        run(&ledger, id, |s| {
            s.get_state(NS, "k").unwrap();
            s.set_state(NS, "k", value(id)).unwrap();
        })
    };
    let late = increment("late");
    let block = commit(&ledger, vec![increment("a"), increment("b")]);
    check(&block, &[Code::Valid, Code::MvccReadConflict]);
    assert_eq!(get(&ledger, "k").as_deref(), Some("a"));
    check(&commit(&ledger, vec![late]), &[Code::MvccReadConflict]);
}

#[test]
fn touching_a_key_conflicts_even_when_it_stays_absent() {
    let ledger = in_memory();
    let read = run(&ledger, "read", |s| {
        s.get_state(NS, "k").unwrap();
    });
    let delete = run(&ledger, "delete", |s| s.delete_state(NS, "k").unwrap());
    let block = commit(&ledger, vec![delete, read.clone()]);
    check(&block, &[Code::Valid, Code::MvccReadConflict]);
    // In the next block it is absent as it was read.
    check(&commit(&ledger, vec![read]), &[Code::Valid]);
}

#[test]
fn blind_writes_do_not_conflict() {
    let ledger = in_memory();
    let write = |id: &str| run(&ledger, id, |s| s.set_state(NS, "k", value(id)).unwrap());
    let block = commit(&ledger, vec![write("a"), write("b")]);
    check(&block, &[Code::Valid, Code::Valid]);
    assert_eq!(get(&ledger, "k").as_deref(), Some("b"));
}

fn scan(ledger: &selvage_ledger::Ledger, id: &str, start: &str, end: &str) -> Bytes {
    run(ledger, id, |s| {
        let range = s.range(NS, start, end).unwrap();
        while s.next(range).unwrap().is_some() {}
    })
}

#[test]
fn phantoms_are_found() {
    let ledger = in_memory();
    put(&ledger, &[("b", "1"), ("d", "1"), ("x", "1")]);
    let cases: [(&[(&str, &str)], Code); 5] = [
        (&[("c", "new")], Code::PhantomReadConflict),
        (&[("b", "")], Code::PhantomReadConflict),
        (&[("d", "changed")], Code::PhantomReadConflict),
        (&[("x", "outside")], Code::Valid),
        (&[("e", "at the end, which is excluded")], Code::Valid),
    ];
    for (writes, want) in cases {
        // Once changed by the block before, once by a transaction before in the same block.
        let read = scan(&ledger, "scan", "a", "e");
        let write = run(&ledger, "write", |s| {
            for (key, text) in writes {
                s.set_state(NS, key, value(text)).unwrap();
            }
        });
        let block = commit(&ledger, vec![write, read.clone()]);
        check(&block, &[Code::Valid, want]);
        check(&commit(&ledger, vec![read]), &[want]);
        put(&ledger, &[("b", "1"), ("c", ""), ("d", "1"), ("e", "")]);
    }
}

/// A scan that stopped early covers its last key and nothing after it.
#[test]
fn an_open_scan_ends_with_its_last_key() {
    let ledger = in_memory();
    put(&ledger, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let first_two = |id: &str| {
        run(&ledger, id, |s| {
            let range = s.range(NS, "a", "z").unwrap();
            s.next(range).unwrap();
            s.next(range).unwrap();
        })
    };
    let write = |key: &str| run(&ledger, key, |s| s.set_state(NS, key, value("2")).unwrap());
    let block = commit(&ledger, vec![write("c"), first_two("1")]);
    check(&block, &[Code::Valid, Code::Valid]);
    let block = commit(&ledger, vec![write("b"), first_two("2")]);
    check(&block, &[Code::Valid, Code::PhantomReadConflict]);
}

fn many(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("k{n:05}"), "v".into()))
        .collect()
}

fn put_many(ledger: &selvage_ledger::Ledger, pairs: &[(String, String)]) {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    put(ledger, &pairs);
}

/// Long scans are summed up in hashes; every kind of change still shows.
#[test]
fn phantoms_in_summaries_are_found() {
    let ledger = in_memory();
    put_many(&ledger, &many(2700));
    let read = scan(&ledger, "scan", "k", "l");
    check(&commit(&ledger, vec![read.clone()]), &[Code::Valid]);
    for (key, text) in [
        ("k00000", "x"),
        ("k02699", "x"),
        ("k01300", ""),
        ("k013001", "new"),
        ("k99999", "new"),
    ] {
        let write = run(&ledger, key, |s| s.set_state(NS, key, value(text)).unwrap());
        let read = scan(&ledger, "again", "k", "l");
        let block = commit(&ledger, vec![write, read]);
        check(&block, &[Code::Valid, Code::PhantomReadConflict]);
    }
}

/// A scan whose summary has a full first level, and then enough new keys to make a second one:
/// Fabric's peer stops on this with an index out of range.
#[test]
fn a_summary_that_outgrows_its_level_is_a_phantom() {
    let ledger = in_memory();
    put_many(&ledger, &many(50 * 51));
    let read = scan(&ledger, "scan", "k", "l");
    put_many(&ledger, &many(50 * 51 + 60)[50 * 51..]);
    check(&commit(&ledger, vec![read]), &[Code::PhantomReadConflict]);
}

#[test]
fn forged_summaries_are_phantoms() {
    let ledger = in_memory();
    put_many(&ledger, &many(5));
    let summary = |max_degree, max_level, hashes: usize| {
        forged(
            &format!("{max_degree}-{max_level}-{hashes}"),
            KvrwSet {
                range_queries_info: vec![RangeQueryInfo {
                    start_key: "k".into(),
                    end_key: "l".into(),
                    itr_exhausted: true,
                    reads_info: Some(ReadsInfo::ReadsMerkleHashes(QueryReadsMerkleSummary {
                        max_degree,
                        max_level,
                        max_level_hashes: vec![value("hash"); hashes],
                    })),
                }],
                ..Default::default()
            },
        )
    };
    for (degree, level, hashes) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (2, 9, 0), (50, 1, 0)] {
        let block = commit(&ledger, vec![summary(degree, level, hashes)]);
        check(&block, &[Code::PhantomReadConflict]);
    }
}

/// Fabric adds up flags per key, so a key written twice in one forged set counts as metadata only.
#[test]
fn a_key_written_twice_keeps_its_old_value() {
    let ledger = in_memory();
    put(&ledger, &[("k", "old")]);
    let write = |key: &str| KvWrite {
        key: key.into(),
        is_delete: false,
        value: value("new"),
    };
    let twice = KvrwSet {
        writes: vec![write("k"), write("k"), write("absent"), write("absent")],
        ..Default::default()
    };
    check(&commit(&ledger, vec![forged("tx", twice)]), &[Code::Valid]);
    assert_eq!(get(&ledger, "k").as_deref(), Some("old"));
    assert_eq!(get(&ledger, "absent"), None);
}

/// Fabric's peer stops on this with a panic.
#[test]
fn metadata_of_a_key_deleted_in_the_same_block_does_nothing() {
    let ledger = in_memory();
    put(&ledger, &[("k", "v")]);
    let delete = run(&ledger, "delete", |s| s.delete_state(NS, "k").unwrap());
    let entry = KvMetadataEntry {
        name: "n".into(),
        value: value("v"),
    };
    let set = KvrwSet {
        metadata_writes: vec![KvMetadataWrite {
            key: "k".into(),
            entries: vec![entry],
        }],
        ..Default::default()
    };
    let block = commit(&ledger, vec![delete, forged("metadata", set)]);
    check(&block, &[Code::Valid, Code::Valid]);
    assert_eq!(get(&ledger, "k"), None);
}

#[test]
fn what_the_validator_refused_stays_refused() {
    let ledger = in_memory();
    let write = |id: &str| run(&ledger, id, |s| s.set_state(NS, id, value("v")).unwrap());
    let noise = value("no envelope");
    let block = next_block(&ledger, vec![write("a"), write("b"), noise]);
    let codes = [
        Code::EndorsementPolicyFailure,
        Code::Valid,
        Code::NilEnvelope,
    ];
    let done = ledger.commit(block, &codes, &PrivateSets::new()).unwrap();
    check(&done, &codes);
    assert_eq!(get(&ledger, "a"), None);
    assert_eq!(get(&ledger, "b").as_deref(), Some("v"));
    // Malformed transactions are indexed under the empty id, as in Fabric.
    let found = ledger.tx_validation_code("").unwrap();
    assert_eq!(found, Some((Code::NilEnvelope, 0)));
}

#[test]
fn results_that_cannot_be_read_are_refused_here() {
    let ledger = in_memory();
    let no_set = transaction("a", value("\u{7f}no set"));
    let no_action = envelope(HeaderType::EndorserTransaction, "b", Vec::new());
    let block = commit(&ledger, vec![no_set, no_action]);
    check(&block, &[Code::InvalidOtherReason, Code::NilTxaction]);
}

#[test]
fn what_the_validator_decoded_is_not_decoded_again() {
    let ledger = in_memory();
    let write = |id: &str| run(&ledger, id, |s| s.set_state(NS, id, value("v")).unwrap());
    let known = next_block(&ledger, vec![write("a"), write("b"), write("c")]);
    let mut decoded = decoded(&known);
    decoded.truncate(2);
    let envelopes = vec![value("no envelope"), value("nor this"), write("c")];
    let block = next_block(&ledger, envelopes);
    let codes = [Code::Valid, Code::EndorsementPolicyFailure, Code::Valid];
    let done = ledger
        .commit_decoded(block, &codes, decoded, &PrivateSets::new())
        .unwrap();
    check(&done, &codes);
    assert_eq!(done.tx_ids, ["a", "b", "c"]);
    let found = ["a", "b", "c"].map(|key| get(&ledger, key).is_some());
    assert_eq!(found, [true, false, true]);
}

#[test]
fn a_block_must_be_validated_in_full() {
    let ledger = in_memory();
    let write = run(&ledger, "a", |s| s.set_state(NS, "a", value("v")).unwrap());
    let none = PrivateSets::new();
    for (envelopes, codes) in [
        (vec![write.clone()], vec![]),
        (vec![write.clone()], vec![Code::NotValidated]),
        (vec![value("noise")], vec![Code::Valid]),
    ] {
        let block = next_block(&ledger, envelopes);
        let error = ledger.commit(block, &codes, &none).unwrap_err();
        assert!(error.to_string().contains("cannot be committed"), "{error}");
        assert!(!error.is_fatal());
    }
    assert_eq!(ledger.height(), 0);
    commit(&ledger, vec![write]);
}

#[test]
fn the_first_transaction_keeps_its_id() {
    let ledger = in_memory();
    let tx = |text: &str| {
        run(&ledger, "same", |s| {
            s.set_state(NS, "k", value(text)).unwrap();
        })
    };
    let (first, second) = (tx("first"), tx("second"));
    let block = next_block(&ledger, vec![first.clone(), second.clone()]);
    let codes = [Code::EndorsementPolicyFailure, Code::Valid];
    ledger.commit(block, &codes, &PrivateSets::new()).unwrap();
    commit(&ledger, vec![second]);
    let found = ledger.tx_validation_code("same").unwrap();
    assert_eq!(found, Some((Code::EndorsementPolicyFailure, 0)));
    let stored = ledger.tx_by_id("same").unwrap().transaction_envelope;
    assert_eq!(stored.unwrap().encode_to_vec(), first);
}

#[test]
fn a_configuration_is_state_and_has_a_computed_id() {
    let ledger = in_memory();
    let config = envelope(HeaderType::Config, "", b"configuration".to_vec());
    let id = tx_id_of(&config);
    assert_eq!(id.len(), 64);
    let block = commit(&ledger, vec![config]);
    assert!(block.namespaces.contains("") && block.namespaces.len() == 1);
    assert!(ledger.tx_exists(&id).unwrap());
    let query = ledger.query().unwrap();
    let stored = query.get_state("", selvage_ledger::CHANNEL_CONFIG_KEY);
    assert_eq!(stored.unwrap(), Some(value("configuration")));
    let history = ledger.history("", selvage_ledger::CHANNEL_CONFIG_KEY);
    assert_eq!(history.count(), 0);
}
