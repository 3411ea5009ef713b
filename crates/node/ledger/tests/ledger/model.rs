//! Random transactions against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use selvage_ledger::Ledger;
use selvage_proto::peer::TxValidationCode as Code;

use crate::support::{NS, commit, get, in_memory, run, simulate};

#[derive(Debug, Clone)]
enum Op {
    Get(u8),
    Put(u8, u8),
    Delete(u8),
    /// Over keys from the first to before the second, stopping after so many results.
    Scan(u8, u8, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u8..7;
    prop_oneof![
        key.clone().prop_map(Op::Get),
        (key.clone(), any::<u8>()).prop_map(|(k, v)| Op::Put(k, v)),
        key.clone().prop_map(Op::Delete),
        (key.clone(), key, 0usize..9).prop_map(|(a, b, n)| Op::Scan(a, b, n)),
    ]
}

fn name(key: u8) -> String {
    format!("key{key}")
}

/// Value and version of every key.
type State = BTreeMap<String, (String, (u64, usize))>;

/// Start, end, after how many results it stopped, and the results.
type Scan = (String, String, Option<usize>, Vec<(String, (u64, usize))>);

/// What a transaction saw, and its writes.
#[derive(Default)]
struct Seen {
    gets: Vec<(String, Option<(u64, usize)>)>,
    scans: Vec<Scan>,
    writes: BTreeMap<String, Option<String>>,
}

fn between(state: &State, start: &str, end: &str) -> Vec<(String, (u64, usize))> {
    state
        .iter()
        .filter(|(k, _)| k.as_str() >= start && k.as_str() < end)
        .map(|(k, (_, version))| (k.clone(), *version))
        .collect()
}

fn look(state: &State, ops: &[Op]) -> Seen {
    let mut seen = Seen::default();
    for op in ops {
        match op {
            Op::Get(k) => {
                let version = state.get(&name(*k)).map(|(_, v)| *v);
                seen.gets.push((name(*k), version));
            }
            Op::Put(k, v) => {
                seen.writes.insert(name(*k), Some(v.to_string()));
            }
            Op::Delete(k) => {
                seen.writes.insert(name(*k), None);
            }
            Op::Scan(a, b, limit) => {
                let mut found = between(state, &name(*a), &name(*b));
                // Asking once more than there is tells that there is no more.
                let open = *limit <= found.len() && *limit > 0;
                if *limit == 0 {
                    continue;
                }
                found.truncate(*limit);
                let limit = open.then_some(*limit);
                seen.scans.push((name(*a), name(*b), limit, found));
            }
        }
    }
    seen
}

fn holds(state: &State, touched: &BTreeMap<String, ()>, seen: &Seen) -> Code {
    for (key, version) in &seen.gets {
        if touched.contains_key(key) || state.get(key).map(|(_, v)| *v) != *version {
            return Code::MvccReadConflict;
        }
    }
    for (start, end, limit, found) in &seen.scans {
        let mut now = between(state, start, end);
        if limit.is_some() {
            // Up to and with the last key that was seen.
            let last = &found[found.len() - 1].0;
            now.retain(|(key, _)| key <= last);
        }
        if now != *found {
            return Code::PhantomReadConflict;
        }
    }
    Code::Valid
}

fn envelope(ledger: &Ledger, id: &str, ops: &[Op]) -> Bytes {
    run(ledger, id, |s| {
        for op in ops {
            match op {
                Op::Get(k) => {
                    s.get_state(NS, &name(*k)).unwrap();
                }
                Op::Put(k, v) => {
                    let value = Bytes::from(v.to_string());
                    s.set_state(NS, &name(*k), value).unwrap();
                }
                Op::Delete(k) => s.delete_state(NS, &name(*k)).unwrap(),
                Op::Scan(a, b, limit) => {
                    if *limit == 0 {
                        continue;
                    }
                    let range = s.range(NS, &name(*a), &name(*b)).unwrap();
                    for _ in 0..*limit {
                        if s.next(range).unwrap().is_none() {
                            break;
                        }
                    }
                }
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Codes and state of random blocks are the model's.
    #[test]
    fn blocks_do_what_the_model_does(
        blocks in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(op(), 0..5), 1..6), 1..6),
    ) {
        let ledger = in_memory();
        let mut state = State::new();
        for (number, txs) in blocks.iter().enumerate() {
            let envelopes = txs
                .iter()
                .enumerate()
                .map(|(index, ops)| envelope(&ledger, &format!("{number}-{index}"), ops))
                .collect();
            let seen: Vec<Seen> = txs.iter().map(|ops| look(&state, ops)).collect();
            let mut touched = BTreeMap::new();
            let mut want = Vec::new();
            for (index, seen) in seen.iter().enumerate() {
                let code = holds(&state, &touched, seen);
                want.push(code);
                if code != Code::Valid {
                    continue;
                }
                for (key, value) in &seen.writes {
                    touched.insert(key.clone(), ());
                    match value {
                        Some(value) => {
                            let version = (number as u64, index);
                            state.insert(key.clone(), (value.clone(), version));
                        }
                        None => {
                            state.remove(key);
                        }
                    }
                }
            }
            let block = commit(&ledger, envelopes);
            prop_assert_eq!(&block.codes, &want);
            for key in 0..7 {
                let want = state.get(&name(key)).map(|(value, _)| value.clone());
                prop_assert_eq!(get(&ledger, &name(key)), want);
            }
        }
    }

    /// The bytes of a set depend on what was touched, not on the order.
    #[test]
    fn sets_do_not_depend_on_order(
        reads in proptest::collection::btree_set("[a-d]{1,2}", 0..6),
        writes in proptest::collection::btree_map("[a-d]{1,2}", "[a-z]{0,2}", 0..6),
        private in proptest::collection::btree_map("[a-d]{1,2}", "[a-z]{0,2}", 0..6),
    ) {
        let ledger = in_memory();
        let forward = simulate(&ledger, "tx", |s| {
            for key in &reads {
                s.get_state(NS, key).unwrap();
            }
            for (key, value) in &writes {
                s.set_state(NS, key, value.clone().into()).unwrap();
            }
            for (key, value) in &private {
                s.set_private_data(NS, "coll", key, value.clone().into()).unwrap();
            }
        });
        let backward = simulate(&ledger, "tx", |s| {
            for (key, value) in private.iter().rev() {
                s.set_private_data(NS, "coll", key, value.clone().into()).unwrap();
            }
            for (key, value) in writes.iter().rev() {
                s.set_state(NS, key, "other".into()).unwrap();
                s.set_state(NS, key, value.clone().into()).unwrap();
            }
            for key in reads.iter().rev() {
                s.get_state(NS, key).unwrap();
                s.get_state(NS, key).unwrap();
            }
        });
        prop_assert_eq!(forward.results, backward.results);
        prop_assert_eq!(forward.private, backward.private);
    }

    /// Nothing that stands in a block makes the ledger panic.
    #[test]
    fn hostile_bytes_do_no_harm(
        noise in proptest::collection::vec(any::<u8>(), 0..60),
        results in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let ledger = in_memory();
        let tx = crate::support::transaction("tx", results.into());
        let block = crate::support::next_block(&ledger, vec![noise.into(), tx]);
        let codes = [Code::BadPayload, Code::Valid];
        let none = selvage_ledger::PrivateSets::new();
        ledger.commit(block, &codes, &none).unwrap();
    }
}
