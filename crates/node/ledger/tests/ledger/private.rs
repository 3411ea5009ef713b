//! Private data: hashes for all, values for members, and an end for both.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256;
use selvage_env::{Fault, FaultKind, MemDisk};
use selvage_ledger::{Ledger, LedgerError, Metadata, PrivateSets, Simulation, Simulator};
use selvage_proto::kvrwset::KvrwSet;
use selvage_proto::peer::TxValidationCode as Code;
use selvage_proto::transientstore::TxPvtReadWriteSetWithConfigInfo;

use crate::support::{
    COLL, NS, SHORT, commit, commit_private, in_memory, next_block, open_on, put, simulate,
    transaction,
};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn hash(text: &str) -> Bytes {
    sha256(text.as_bytes()).to_vec().into()
}

/// Commits one simulated transaction, with its private sets when `member`.
fn commit_one(ledger: &Ledger, id: &str, done: Simulation, member: bool) -> Code {
    let mut sets = PrivateSets::new();
    if let Some(private) = done.private.filter(|_| member) {
        sets.insert(0, private);
    }
    let block = commit_private(ledger, vec![transaction(id, done.results)], &sets);
    block.codes[0]
}

fn write(ledger: &Ledger, id: &str, coll: &str, key: &str, text: &str, member: bool) {
    let done = simulate(ledger, id, |s| {
        s.set_private_data(NS, coll, key, value(text)).unwrap();
    });
    assert_eq!(commit_one(ledger, id, done, member), Code::Valid);
}

fn read(ledger: &Ledger, coll: &str, key: &str) -> Result<Option<Bytes>, LedgerError> {
    ledger
        .simulator("r")
        .unwrap()
        .get_private_data(NS, coll, key)
}

#[test]
fn members_see_values_and_all_see_hashes() {
    let member = in_memory();
    let other = in_memory();
    let done = simulate(&member, "tx", |s| {
        s.set_private_data(NS, COLL, "k", value("v")).unwrap();
    });
    // Looking up the collection is a read of the definition.
    let set = selvage_ledger::TxRwSet::decode(done.results.clone()).unwrap();
    let names: Vec<_> = set.namespaces.iter().map(|n| &*n.namespace).collect();
    assert_eq!(names, ["_lifecycle", NS]);
    let private = &done.private.as_ref().unwrap().ns_pvt_rwset[0].collection_pvt_rwset[0];
    let want = sha256(&private.rwset);
    assert_eq!(set.private_hash(NS, COLL).unwrap()[..], want);
    assert!(set.has_private_writes());

    commit_one(&member, "tx", done.clone(), true);
    commit_one(&other, "tx", done, false);
    assert_eq!(read(&member, COLL, "k").unwrap(), Some(value("v")));
    let error = read(&other, COLL, "k").unwrap_err();
    assert_eq!(
        error.to_string(),
        "private data matching public hash version is not available. Public hash version = \
         {BlockNum: 0, TxNum: 0}, Private data version = <nil>"
    );
    for ledger in [&member, &other] {
        let mut s = ledger.simulator("h").unwrap();
        let got = s.get_private_data_hash(NS, COLL, "k").unwrap();
        assert_eq!(got, Some(hash("v")));
        assert_eq!(s.get_private_data_hash(NS, COLL, "l").unwrap(), None);
        let query = ledger.query().unwrap();
        let got = query.get_private_data_hash(NS, COLL, "k").unwrap();
        assert_eq!(got, Some(hash("v")));
    }
    assert_eq!(member.private_data(0).unwrap().len(), 1);
    assert!(other.private_data(0).unwrap().is_empty());
}

#[test]
fn collections_must_be_defined() {
    let ledger = in_memory();
    let mut s = ledger.simulator("tx").unwrap();
    let error = s.get_private_data(NS, "unknown", "k").unwrap_err();
    assert_eq!(
        error.to_string(),
        "collection [unknown] not defined in the collection config for chaincode [cc]"
    );
    let error = s
        .set_private_data("none", COLL, "k", value("v"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "collection config not defined for chaincode [none], pass the collection configuration \
         upon chaincode definition/instantiation"
    );
}

#[test]
fn hashed_reads_conflict() {
    let ledger = in_memory();
    write(&ledger, "1", COLL, "k", "v", true);
    let update = |id: &str, text: &str| {
        simulate(&ledger, id, |s| {
            s.get_private_data(NS, COLL, "k").unwrap();
            s.set_private_data(NS, COLL, "k", value(text)).unwrap();
        })
    };
    let (a, b, late) = (update("a", "a"), update("b", "b"), update("late", "late"));
    assert!(a.private_reads.contains(&(NS.to_owned(), COLL.to_owned())));
    let sets = PrivateSets::from([(0, a.private.unwrap()), (1, b.private.unwrap())]);
    let envelopes = vec![transaction("a", a.results), transaction("b", b.results)];
    let block = commit_private(&ledger, envelopes, &sets);
    assert_eq!(block.codes, [Code::Valid, Code::MvccReadConflict]);
    assert_eq!(read(&ledger, COLL, "k").unwrap(), Some(value("a")));
    // What the invalid transaction wrote is kept, as Fabric does, but is not state.
    assert_eq!(ledger.private_data(1).unwrap().len(), 2);
    assert_eq!(
        commit_one(&ledger, "late", late, true),
        Code::MvccReadConflict
    );
}

#[test]
fn private_queries_and_multiple_reads() {
    let ledger = in_memory();
    for (n, key) in ["a", "b", "c"].iter().enumerate() {
        write(&ledger, &n.to_string(), COLL, key, key, true);
    }
    let mut s = ledger.simulator("tx").unwrap();
    let id = s.private_range(NS, COLL, "a", "c").unwrap();
    let mut keys = Vec::new();
    while let Some(kv) = s.next(id).unwrap() {
        assert_eq!((&*kv.namespace, &kv.value), (NS, &value(&kv.key)));
        keys.push(kv.key);
    }
    assert_eq!(keys, ["a", "b"]);
    let wanted = ["c".to_owned(), "x".to_owned()];
    let values = s.get_private_data_multiple(NS, COLL, &wanted).unwrap();
    assert_eq!(values, [Some(value("c")), None]);
    let set = selvage_ledger::TxRwSet::decode(s.done().unwrap().results).unwrap();
    let coll = set.collections().find(|(ns, _)| *ns == NS).unwrap().1;
    assert_eq!(coll.hashed.hashed_reads.len(), 2);
    assert!(
        set.namespaces
            .iter()
            .all(|n| n.public.range_queries_info.is_empty())
    );
}

/// A change of metadata gives the hash a new version, and the value follows it.
#[test]
fn metadata_renews_the_version_of_the_value() {
    let ledger = in_memory();
    write(&ledger, "1", COLL, "k", "v", true);
    let policy = Metadata::from([("p".to_owned(), value("x"))]);
    let done = simulate(&ledger, "2", |s| {
        s.set_private_data_metadata(NS, COLL, "k", policy.clone())
            .unwrap();
    });
    assert_eq!(commit_one(&ledger, "2", done, true), Code::Valid);
    assert_eq!(read(&ledger, COLL, "k").unwrap(), Some(value("v")));
    let query = ledger.query().unwrap();
    let entry = query
        .get_hashed_entry(NS, COLL, &hash("k"))
        .unwrap()
        .unwrap();
    assert_eq!(entry.version.block, 1);
    let got = query
        .get_private_metadata_by_hash(NS, COLL, &hash("k"))
        .unwrap();
    assert_eq!(got, Some(policy.clone()));
    let mut s = ledger.simulator("3").unwrap();
    assert_eq!(
        s.get_private_data_metadata(NS, COLL, "k").unwrap(),
        Some(policy)
    );
}

#[test]
fn data_expires_after_its_blocks() {
    let ledger = in_memory();
    write(&ledger, "1", SHORT, "k", "v", true);
    write(&ledger, "2", SHORT, "renewed", "old", true);
    write(&ledger, "3", SHORT, "renewed", "new", true);
    // Block 0 lives through blocks 1 and 2 and expires with block 3.
    assert_eq!(read(&ledger, SHORT, "k").unwrap(), Some(value("v")));
    put(&ledger, &[("x", "3")]);
    assert_eq!(read(&ledger, SHORT, "k").unwrap(), None);
    let query = ledger.query().unwrap();
    assert_eq!(query.get_private_data_hash(NS, SHORT, "k").unwrap(), None);
    assert!(ledger.private_data(0).unwrap().is_empty());
    // Block 1 expires with block 4, but its key was written again in block 2.
    put(&ledger, &[("x", "4")]);
    assert_eq!(read(&ledger, SHORT, "renewed").unwrap(), Some(value("new")));
    assert!(ledger.private_data(1).unwrap().is_empty());
    put(&ledger, &[("x", "5")]);
    assert_eq!(read(&ledger, SHORT, "renewed").unwrap(), None);
    assert!(ledger.private_data(2).unwrap().is_empty());
}

/// Peers without the value lose the hash at the same block, or their reads would differ.
#[test]
fn hashes_expire_without_values_too() {
    let ledger = in_memory();
    write(&ledger, "1", SHORT, "k", "v", false);
    for n in 0..3 {
        let query = ledger.query().unwrap();
        assert!(
            query
                .get_private_data_hash(NS, SHORT, "k")
                .unwrap()
                .is_some()
        );
        put(&ledger, &[("x", &n.to_string())]);
    }
    let query = ledger.query().unwrap();
    assert_eq!(query.get_private_data_hash(NS, SHORT, "k").unwrap(), None);
}

#[test]
fn purged_keys_leave_nothing() {
    let ledger = in_memory();
    let both = |s: &mut Simulator, text: &str| {
        s.set_private_data(NS, COLL, "secret", value(text)).unwrap();
        s.set_private_data(NS, COLL, "other", value(text)).unwrap();
    };
    for n in ["1", "2"] {
        let done = simulate(&ledger, n, |s| both(s, n));
        commit_one(&ledger, n, done, true);
    }
    let done = simulate(&ledger, "purge", |s| {
        s.purge_private_data(NS, COLL, "secret").unwrap();
    });
    commit_one(&ledger, "purge", done, true);
    assert_eq!(read(&ledger, COLL, "secret").unwrap(), None);
    assert_eq!(read(&ledger, COLL, "other").unwrap(), Some(value("2")));
    for block in 0..3 {
        let sets = ledger.private_data(block).unwrap();
        let coll = &sets[&0].ns_pvt_rwset[0].collection_pvt_rwset[0];
        let set = KvrwSet::decode(coll.rwset.clone()).unwrap();
        let keys: Vec<_> = set.writes.iter().map(|w| &*w.key).collect();
        let want: &[&str] = if block < 2 { &["other"] } else { &[] };
        assert_eq!(keys, want, "block {block}");
    }
    // A value written after the purge stays.
    write(&ledger, "3", COLL, "secret", "new", true);
    assert_eq!(read(&ledger, COLL, "secret").unwrap(), Some(value("new")));
}

#[test]
fn a_set_that_does_not_match_its_hash_is_dropped() {
    let ledger = in_memory();
    let mut done = simulate(&ledger, "tx", |s| {
        s.set_private_data(NS, COLL, "k", value("v")).unwrap();
    });
    let private = done.private.as_mut().unwrap();
    private.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset = Bytes::from_static(b"\x0a\x00");
    assert_eq!(commit_one(&ledger, "tx", done, true), Code::Valid);
    assert!(read(&ledger, COLL, "k").is_err());
    assert!(ledger.private_data(0).unwrap().is_empty());
}

/// Sets stored by an attempt that could not write its block are used by the next attempt.
#[test]
fn private_data_survives_a_failed_block() {
    let disk = Arc::new(MemDisk::new());
    let ledger = open_on(disk.clone()).unwrap();
    put(&ledger, &[("x", "0")]);
    let done = simulate(&ledger, "tx", |s| {
        s.set_private_data(NS, COLL, "k", value("v")).unwrap();
    });
    let sets = PrivateSets::from([(0, done.private.unwrap())]);
    let envelopes = vec![transaction("tx", done.results)];
    disk.set_fault(Some(Fault {
        at: disk.operations(),
        kind: FaultKind::Full,
        sticky: false,
    }));
    let block = next_block(&ledger, envelopes.clone());
    let error = ledger.commit(block, &[Code::Valid], &sets).unwrap_err();
    assert!(error.is_full() && !error.is_fatal(), "{error:?}");
    commit(&ledger, envelopes);
    assert_eq!(read(&ledger, COLL, "k").unwrap(), Some(value("v")));
    assert_eq!(ledger.private_data(1).unwrap(), sets);
}

#[test]
fn a_block_that_does_not_fit_leaves_no_private_data() {
    let ledger = in_memory();
    put(&ledger, &[("x", "0")]);
    let done = simulate(&ledger, "tx", |s| {
        s.set_private_data(NS, COLL, "k", value("v")).unwrap();
    });
    let sets = PrivateSets::from([(0, done.private.unwrap())]);
    let mut block = next_block(&ledger, vec![transaction("tx", done.results)]);
    block.header.as_mut().unwrap().previous_hash = value("another chain");
    assert!(ledger.commit(block, &[Code::Valid], &sets).is_err());
    put(&ledger, &[("x", "1")]);
    assert!(ledger.private_data(1).unwrap().is_empty());
}

#[test]
fn transient_sets_wait_for_their_block() {
    let ledger = in_memory();
    assert!(ledger.transient("a").unwrap().is_empty());
    ledger.remove_transient(&["a".into()]).unwrap();
    ledger.purge_transient_below(9).unwrap();
    let set = |endorsed_at| TxPvtReadWriteSetWithConfigInfo {
        endorsed_at,
        ..Default::default()
    };
    ledger.put_transient("a", 3, &set(3)).unwrap();
    ledger.put_transient("a", 4, &set(4)).unwrap();
    ledger.put_transient("ab", 5, &set(5)).unwrap();
    ledger.put_transient("c", 300, &set(300)).unwrap();
    assert_eq!(ledger.transient("a").unwrap(), [set(3), set(4)]);
    ledger.purge_transient_below(4).unwrap();
    assert_eq!(ledger.transient("a").unwrap(), [set(4)]);
    ledger
        .remove_transient(&["a".into(), "unknown".into()])
        .unwrap();
    assert!(ledger.transient("a").unwrap().is_empty());
    assert_eq!(ledger.transient("ab").unwrap(), [set(5)]);
    ledger.purge_transient_below(300).unwrap();
    assert!(ledger.transient("ab").unwrap().is_empty());
    assert_eq!(ledger.transient("c").unwrap(), [set(300)]);
}
