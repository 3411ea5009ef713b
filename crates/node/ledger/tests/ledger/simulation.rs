//! What a simulator gives, and what it refuses.

use bytes::Bytes;
use prost::Message;
use selvage_ledger::{LedgerError, Metadata, TxRwSet};
use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{KvRead, KvWrite, KvrwSet, RangeQueryInfo, Version};
use selvage_proto::rwset::{NsReadWriteSet, TxReadWriteSet};

use crate::support::{NS, commit, get, in_memory, put, run, simulate};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn a_set_is_sorted_and_has_each_key_once() {
    let ledger = in_memory();
    put(&ledger, &[("b", "1")]);
    let got = simulate(&ledger, "tx", |s| {
        s.set_state(NS, "z", bytes("1")).unwrap();
        assert_eq!(s.get_state(NS, "b").unwrap(), Some(bytes("1")));
        s.set_state(NS, "z", bytes("2")).unwrap();
        // Writes are not seen by reads.
        assert_eq!(s.get_state(NS, "z").unwrap(), None);
        s.delete_state(NS, "a").unwrap();
        s.get_state(NS, "b").unwrap();
        s.set_state("other", "k", bytes("v")).unwrap();
        s.get_state("another", "k").unwrap();
    });
    let read = |key: &str, version| KvRead {
        key: key.into(),
        version,
    };
    let write = |key: &str, value: &str| KvWrite {
        key: key.into(),
        is_delete: value.is_empty(),
        value: bytes(value),
    };
    let ns = |namespace: &str, set: KvrwSet| NsReadWriteSet {
        namespace: namespace.into(),
        rwset: set.encode_to_vec().into(),
        collection_hashed_rwset: vec![],
    };
    let want = TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![
            ns(
                "another",
                KvrwSet {
                    reads: vec![read("k", None)],
                    ..Default::default()
                },
            ),
            ns(
                NS,
                KvrwSet {
                    reads: vec![
                        // Block 0, transaction 0 is an empty message, not a missing one.
                        read("b", Some(Version::default())),
                        read("z", None),
                    ],
                    writes: vec![write("a", ""), write("z", "2")],
                    ..Default::default()
                },
            ),
            ns(
                "other",
                KvrwSet {
                    writes: vec![write("k", "v")],
                    ..Default::default()
                },
            ),
        ],
    };
    assert_eq!(got.results, want.encode_to_vec());
    assert!(got.private.is_none());
}

fn range_info(results: Bytes) -> Vec<RangeQueryInfo> {
    let set = TxRwSet::decode(results).unwrap();
    let ns = set.namespaces.into_iter().find(|n| n.namespace == NS);
    ns.unwrap().public.range_queries_info
}

#[test]
fn a_query_ends_where_the_caller_stopped() {
    let ledger = in_memory();
    put(&ledger, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let done = simulate(&ledger, "tx", |s| {
        let id = s.range(NS, "a", "z").unwrap();
        assert_eq!(s.next(id).unwrap().unwrap().key, "a");
        assert_eq!(s.next(id).unwrap().unwrap().key, "b");
        s.close(id);
        assert!(matches!(s.next(id), Err(LedgerError::NoSuchRange(0))));
    });
    let info = range_info(done.results);
    assert_eq!(info.len(), 1);
    assert_eq!((&*info[0].start_key, &*info[0].end_key), ("a", "b"));
    assert!(!info[0].itr_exhausted);
    let Some(ReadsInfo::RawReads(reads)) = &info[0].reads_info else {
        panic!("two results stay raw");
    };
    assert_eq!(reads.kv_reads.len(), 2);
}

#[test]
fn equal_queries_count_once_and_empty_ones_carry_no_reads() {
    let ledger = in_memory();
    put(&ledger, &[("a", "1")]);
    let done = simulate(&ledger, "tx", |s| {
        for (start, end) in [("x", "y"), ("a", "b"), ("x", "y")] {
            let id = s.range(NS, start, end).unwrap();
            while s.next(id).unwrap().is_some() {}
        }
    });
    let info = range_info(done.results);
    assert_eq!(info.len(), 2);
    assert_eq!((&*info[0].start_key, &*info[0].end_key), ("x", "y"));
    assert!(info[0].itr_exhausted && info[0].reads_info.is_none());
    assert!(info[1].reads_info.is_some());
}

#[test]
fn ranges_keep_to_their_namespace_and_bounds() {
    let ledger = in_memory();
    let tx = run(&ledger, "tx", |s| {
        for (ns, key) in [
            ("a", "k"),
            (NS, "a"),
            (NS, "b"),
            (NS, "\u{10ffff}"),
            ("cd", "a"),
        ] {
            s.set_state(ns, key, bytes("v")).unwrap();
        }
    });
    commit(&ledger, vec![tx]);
    let check = |start: &str, end: &str, want: &[&str]| {
        let query = ledger.query().unwrap();
        let keys: Vec<_> = query
            .range(NS, start, end)
            .map(|kv| kv.unwrap().key)
            .collect();
        assert_eq!(keys, want, "{start:?}..{end:?}");
    };
    check("", "", &["a", "b", "\u{10ffff}"]);
    check("a", "b", &["a"]);
    check("b", "", &["b", "\u{10ffff}"]);
    check("b", "a", &[]);
    check("a", "a", &[]);
}

#[test]
fn pages_follow_each_other_by_bookmark() {
    let ledger = in_memory();
    put(
        &ledger,
        &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")],
    );
    let mut pages = Vec::new();
    let mut bookmark = String::new();
    loop {
        let mut simulator = ledger.simulator("tx").unwrap();
        let id = simulator.range_paged(NS, &bookmark, "", 2).unwrap();
        let mut page = Vec::new();
        while let Some(kv) = simulator.next(id).unwrap() {
            page.push(kv.key);
        }
        bookmark = simulator.bookmark_and_close(id).unwrap();
        pages.push(page);
        if bookmark.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
}

fn check_refused(error: LedgerError, rule: &str) {
    let want = format!("txid [tx]: unsuppored transaction. {rule}");
    assert_eq!(error.to_string(), want);
}

#[test]
fn read_only_queries_and_writes_exclude_each_other() {
    let ledger = in_memory();
    let mut s = ledger.simulator("tx").unwrap();
    s.range_paged(NS, "", "", 1).unwrap();
    check_refused(
        s.set_state(NS, "k", bytes("v")).unwrap_err(),
        "Transaction has already performed a paginated query. Writes are not allowed",
    );
    let mut s = ledger.simulator("tx").unwrap();
    s.private_range(NS, "coll", "", "").unwrap();
    check_refused(
        s.delete_state(NS, "k").unwrap_err(),
        "Transaction has already performed queries on pvt data. Writes are not allowed",
    );
    let mut s = ledger.simulator("tx").unwrap();
    s.set_state(NS, "k", bytes("v")).unwrap();
    check_refused(
        s.range_paged(NS, "", "", 1).unwrap_err(),
        "Paginated queries are supported only in a read-only transaction",
    );
    check_refused(
        s.private_range(NS, "coll", "", "").unwrap_err(),
        "Queries on pvt data is supported only in a read-only transaction",
    );
}

#[test]
fn rich_queries_are_refused_with_fabrics_texts() {
    let ledger = in_memory();
    let mut s = ledger.simulator("tx").unwrap();
    let text = |e: LedgerError| e.to_string();
    let error = s.execute_query(NS, "{}").unwrap_err();
    assert_eq!(text(error), "ExecuteQuery not supported for leveldb");
    let error = s.execute_query_private(NS, "coll", "{}").unwrap_err();
    assert_eq!(text(error), "ExecuteQuery not supported for leveldb");
    let error = s.execute_query_paged(NS, "{}", "", 1).unwrap_err();
    assert_eq!(
        text(error),
        "ExecuteQueryWithMetadata not supported for leveldb"
    );
}

#[test]
fn a_simulator_sees_one_height() {
    let ledger = in_memory();
    put(&ledger, &[("k", "old")]);
    let mut s = ledger.simulator("tx").unwrap();
    put(&ledger, &[("k", "new"), ("l", "new")]);
    assert_eq!(s.height(), 1);
    assert_eq!(s.get_state(NS, "k").unwrap(), Some(bytes("old")));
    let values = s.get_states(NS, &["l".into(), "k".into()]).unwrap();
    assert_eq!(values, [None, Some(bytes("old"))]);
    assert_eq!(get(&ledger, "k").as_deref(), Some("new"));
}

fn policy(value: &str) -> Metadata {
    Metadata::from([("VALIDATION_PARAMETER".to_owned(), bytes(value))])
}

fn metadata(ledger: &selvage_ledger::Ledger, key: &str) -> Option<Metadata> {
    ledger.query().unwrap().get_state_metadata(NS, key).unwrap()
}

#[test]
fn metadata_lives_and_dies_with_its_key() {
    let ledger = in_memory();
    let set = |id: &str, key: &str, value: Metadata| {
        let tx = run(&ledger, id, |s| {
            s.set_state_metadata(NS, key, value).unwrap();
        });
        commit(&ledger, vec![tx]);
    };
    // Metadata of a key that is not there does nothing.
    set("1", "k", policy("p"));
    assert_eq!((get(&ledger, "k"), metadata(&ledger, "k")), (None, None));
    put(&ledger, &[("k", "v")]);
    set("2", "k", policy("p"));
    let entry = |key: &str| ledger.query().unwrap().get_entry(NS, key).unwrap();
    assert_eq!(entry("k").unwrap().version.block, 2);
    assert_eq!(metadata(&ledger, "k"), Some(policy("p")));
    // A write of the value keeps it, and a simulation tells of it.
    put(&ledger, &[("k", "w")]);
    assert_eq!(metadata(&ledger, "k"), Some(policy("p")));
    let done = simulate(&ledger, "3", |s| {
        s.set_state(NS, "k", bytes("x")).unwrap();
        s.set_state(NS, "l", bytes("x")).unwrap();
        assert_eq!(s.get_state_metadata(NS, "k").unwrap(), Some(policy("p")));
    });
    let key = |k: &str| (NS.to_owned(), String::new(), k.to_owned());
    assert_eq!(done.written_metadata[&key("k")], policy("p"));
    assert_eq!(done.written_metadata[&key("l")], Metadata::new());
    // Empty metadata removes it; deleting the key removes both.
    set("4", "k", Metadata::new());
    assert_eq!(metadata(&ledger, "k"), None);
    assert_eq!(get(&ledger, "k").as_deref(), Some("w"));
    set("5", "k", policy("q"));
    put(&ledger, &[("k", "")]);
    put(&ledger, &[("k", "again")]);
    assert_eq!(metadata(&ledger, "k"), None);
}

#[test]
fn history_is_newest_first_and_leaves_out_invalid_transactions() {
    let ledger = in_memory();
    put(&ledger, &[("k", "1")]);
    put(&ledger, &[("k", "2")]);
    let stale = |id: &str| {
        run(&ledger, id, |s| {
            s.get_state(NS, "k").unwrap();
            s.set_state(NS, "k", bytes(id)).unwrap();
        })
    };
    commit(&ledger, vec![stale("3"), stale("invalid")]);
    put(&ledger, &[("k", "")]);
    let values: Vec<_> = ledger
        .history(NS, "k")
        .map(|m| m.unwrap())
        .map(|m| (m.value, m.is_delete))
        .collect();
    let want = [("", true), ("3", false), ("2", false), ("1", false)];
    assert_eq!(values, want.map(|(v, d)| (bytes(v), d)));
    let s = ledger.simulator("tx").unwrap();
    assert_eq!(s.history(NS, "k").unwrap().count(), 4);
    assert_eq!(s.history(NS, "").unwrap().count(), 0);
}

/// Readers in other threads see whole blocks or nothing of them, whatever is being committed.
#[test]
fn readers_see_whole_blocks() {
    let ledger = in_memory();
    put(&ledger, &[("a", "0"), ("b", "0")]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 60 {
                    let mut s = ledger.simulator("tx").unwrap();
                    let a = s.get_state(NS, "a").unwrap();
                    std::thread::yield_now();
                    assert_eq!(a, s.get_state(NS, "b").unwrap());
                    let text = String::from_utf8(a.unwrap().to_vec()).unwrap();
                    let now = text.parse().unwrap();
                    assert!(now >= last);
                    last = now;
                }
            });
        }
        for n in 1..=60 {
            let text = n.to_string();
            put(&ledger, &[("a", &text), ("b", &text)]);
        }
    });
}
