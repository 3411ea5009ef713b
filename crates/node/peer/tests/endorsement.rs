//! Whose endorsements a transaction needs: policies of chaincode, collections and keys.

mod common;

use bytes::Bytes;
use common::bench::{Bench, key_policy};
use common::{parameter, results, write, writes};
use prost::Message;
use selvage_proto::kvrwset::{HashedRwSet, KvWriteHash, KvrwSet};
use selvage_proto::peer::{Transaction, TxValidationCode as Code};
use selvage_proto::rwset::{CollectionHashedReadWriteSet, TxReadWriteSet};

#[test]
fn chaincode_policies() {
    let bench = Bench::new();
    let failure = Code::EndorsementPolicyFailure;
    let set = writes("cc", &[("k", "v")]);
    bench.check("one of two", bench.single("cc", &set).seal(), failure);
    let mut repeated = bench.good();
    repeated.endorsers[1] = repeated.endorsers[0].clone();
    bench.check("the same endorser twice", repeated.seal(), failure);
    let mut client = bench.good();
    client.endorsers[1] = bench.network.two.client.clone();
    bench.check("a client as endorser", client.seal(), failure);
    let nothing = results(&[("cc", KvrwSet::default())]);
    bench.check(
        "nothing written",
        bench.single("cc", &nothing).seal(),
        failure,
    );
    bench.check(
        "no results at all",
        bench.single("easy", &TxReadWriteSet::default()).seal(),
        Code::Valid,
    );
}

#[test]
fn several_namespaces() {
    let mut bench = Bench::new();
    let failure = Code::EndorsementPolicyFailure;
    let both = results(&[
        (
            "cc",
            KvrwSet {
                writes: vec![write("k", "v")],
                ..Default::default()
            },
        ),
        (
            "easy",
            KvrwSet {
                writes: vec![write("k", "v")],
                ..Default::default()
            },
        ),
    ]);
    bench.check(
        "a called chaincode counts",
        bench.single("easy", &both).seal(),
        failure,
    );
    let reads = results(&[
        ("cc", KvrwSet::default()),
        (
            "easy",
            KvrwSet {
                writes: vec![write("k", "v")],
                ..Default::default()
            },
        ),
    ]);
    bench.check(
        "one that is only read does not",
        bench.single("easy", &reads).seal(),
        Code::Valid,
    );
    let undefined = Code::InvalidChaincode;
    bench.check(
        "no definition",
        bench.single("no", &writes("no", &[])).seal(),
        undefined,
    );
    bench.world.garbled.insert("easy".into());
    let easy = writes("easy", &[("k", "v")]);
    bench.check(
        "an unreadable definition",
        bench.single("easy", &easy).seal(),
        undefined,
    );
    let lifecycle = writes("_lifecycle", &[("k", "v")]);
    bench.check(
        "lifecycle by one",
        bench.single("_lifecycle", &lifecycle).seal(),
        failure,
    );
    let mut by_both = bench.single("_lifecycle", &lifecycle);
    by_both.endorsers.push(bench.network.two.peer.clone());
    bench.check("lifecycle by the majority", by_both.seal(), Code::Valid);
}

#[test]
fn high_s_endorsements_do_not_count() {
    let bench = Bench::new();
    let tx = bench.good();
    let mut action = tx.endorsed();
    let mut payload = selvage_proto::peer::ChaincodeActionPayload::decode(action.payload.clone())
        .expect("payload");
    let endorsements = &mut payload.action.as_mut().expect("action").endorsements;
    endorsements[0].signature = high_s(&endorsements[0].signature);
    action.payload = payload.encode_to_vec().into();
    let envelope = tx.seal_data(
        Transaction {
            actions: vec![action],
        }
        .encode_to_vec()
        .into(),
    );
    bench.check("high S", envelope, Code::EndorsementPolicyFailure);
}

/// The other signature that ECDSA gives for the same message: s replaced by n - s.
fn high_s(signature: &[u8]) -> Bytes {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = hex::decode(ORDER).expect("hex");
    let r_len = usize::from(signature[3]);
    let (r, rest) = signature[4..].split_at(r_len);
    let s = &rest[2..];
    let mut padded = vec![0; 32 - s.len().min(32)];
    padded.extend_from_slice(&s[s.len().saturating_sub(32)..]);
    let mut borrow = 0i16;
    let mut high = vec![0u8; 32];
    for i in (0..32).rev() {
        let digit = i16::from(order[i]) - i16::from(padded[i]) - borrow;
        borrow = i16::from(digit < 0);
        high[i] = (digit + 256 * borrow) as u8;
    }
    if high[0] & 0x80 != 0 {
        high.insert(0, 0);
    }
    let mut der = vec![0x30, (r.len() + high.len() + 4) as u8, 0x02, r.len() as u8];
    der.extend_from_slice(r);
    der.extend_from_slice(&[0x02, high.len() as u8]);
    der.extend_from_slice(&high);
    der.into()
}

#[test]
fn key_level_policies() {
    let mut bench = Bench::new();
    let failure = Code::EndorsementPolicyFailure;
    let id = |ns: &str, collection: &str, key: &[u8]| {
        (ns.to_owned(), collection.to_owned(), key.to_vec())
    };
    let only_one = key_policy("OR('OneMSP.peer')");
    let only_two = key_policy("OR('TwoMSP.peer')");
    bench
        .world
        .parameters
        .insert(id("cc", "", b"mine"), only_one);
    bench
        .world
        .parameters
        .insert(id("easy", "", b"theirs"), only_two);
    bench
        .world
        .parameters
        .insert(id("easy", "", b"broken"), Bytes::from_static(b"\xff"));
    bench
        .world
        .parameters
        .insert(id("easy", "", b"empty"), Bytes::new());
    let write_one = |cc: &str, key: &str| bench.single(cc, &writes(cc, &[(key, "v")])).seal();
    bench.check(
        "the key's policy replaces",
        write_one("cc", "mine"),
        Code::Valid,
    );
    bench.check(
        "the key's policy is stricter",
        write_one("easy", "theirs"),
        failure,
    );
    bench.check(
        "a policy nobody can read",
        write_one("easy", "broken"),
        failure,
    );
    bench.check(
        "an empty policy is none",
        write_one("easy", "empty"),
        Code::Valid,
    );
    let mixed = bench.single("cc", &writes("cc", &[("mine", "v"), ("k", "v")]));
    bench.check("other keys need the chaincode's", mixed.seal(), failure);
}

#[test]
fn key_level_policies_guard_themselves() {
    let mut bench = Bench::new();
    let failure = Code::EndorsementPolicyFailure;
    for (ns, key, rule) in [
        ("cc", "mine", "OR('OneMSP.peer')"),
        ("easy", "theirs", "OR('TwoMSP.peer')"),
    ] {
        let id = (ns.to_owned(), String::new(), key.as_bytes().to_vec());
        bench.world.parameters.insert(id, key_policy(rule));
    }
    let metadata = |cc: &str, key: &str| {
        let metadata_writes = vec![parameter(key, b"")];
        bench.single(
            cc,
            &results(&[(
                cc,
                KvrwSet {
                    metadata_writes,
                    ..Default::default()
                },
            )]),
        )
    };
    bench.check(
        "metadata needs it as well",
        metadata("easy", "theirs").seal(),
        failure,
    );
    bench.check(
        "metadata allowed by it",
        metadata("cc", "mine").seal(),
        Code::Valid,
    );
}

#[test]
fn a_changed_key_policy_invalidates_the_rest_of_the_block() {
    let bench = Bench::new();
    let (valid, failure) = (Code::Valid, Code::EndorsementPolicyFailure);
    let change = |key: &str| {
        let metadata_writes = vec![parameter(key, &key_policy("OR('OneMSP.peer')"))];
        let set = results(&[(
            "easy",
            KvrwSet {
                metadata_writes,
                ..Default::default()
            },
        )]);
        bench.single("easy", &set)
    };
    let write_one = |key: &str| bench.single("easy", &writes("easy", &[(key, "v")])).seal();
    bench.check_all(
        "value and metadata after a change",
        vec![
            write_one("a"),
            change("a").seal(),
            write_one("a"),
            write_one("b"),
            change("a").seal(),
        ],
        &[valid, valid, failure, valid, failure],
    );
    let mut refused = change("a");
    refused.endorsers = vec![bench.network.two.peer.clone()];
    bench.check_all(
        "a refused change changes nothing",
        vec![refused.seal(), write_one("a")],
        &[failure, valid],
    );
    let twice = change("a");
    bench.check_all(
        "a second copy meets the first",
        vec![twice.seal(), twice.seal()],
        &[valid, failure],
    );
    let mut undecodable = change("a");
    undecodable.action.results = Bytes::from_static(b"\xff");
    bench.check_all(
        "what cannot be decoded does not stall the block",
        vec![
            undecodable.seal(),
            undecodable.seal_data(Bytes::new()),
            write_one("a"),
        ],
        &[Code::BadRwset, Code::InvalidEndorserTransaction, valid],
    );
}

#[test]
fn collections() {
    let bench = Bench::new();
    let failure = Code::EndorsementPolicyFailure;
    let private = |name: &str, hash: &'static [u8]| {
        let hashed = HashedRwSet {
            hashed_writes: vec![KvWriteHash {
                key_hash: Bytes::from_static(hash),
                value_hash: Bytes::from_static(b"value"),
                ..Default::default()
            }],
            ..Default::default()
        };
        CollectionHashedReadWriteSet {
            collection_name: name.into(),
            hashed_rwset: hashed.encode_to_vec().into(),
            pvt_rwset_hash: Bytes::new(),
        }
    };
    let with = |cc: &str, collections: Vec<CollectionHashedReadWriteSet>| {
        let mut set = results(&[(cc, KvrwSet::default())]);
        set.ns_rwset[0].collection_hashed_rwset = collections;
        bench.single(cc, &set).seal()
    };
    let hash = b"key hash";
    bench.check(
        "its own policy",
        with("cc", vec![private("first", hash)]),
        Code::Valid,
    );
    bench.check(
        "the chaincode's",
        with("cc", vec![private("plain", hash)]),
        failure,
    );
    bench.check(
        "each counts",
        with("cc", vec![private("first", hash), private("plain", hash)]),
        failure,
    );
    bench.check(
        "an undefined collection",
        with("cc", vec![private("none", hash)]),
        failure,
    );
    bench.check(
        "the own implicit collection",
        with("_lifecycle", vec![private("_implicit_org_OneMSP", hash)]),
        Code::Valid,
    );
    bench.check(
        "another's implicit collection",
        with("_lifecycle", vec![private("_implicit_org_TwoMSP", hash)]),
        failure,
    );
    bench.check(
        "the implicit collection of nobody",
        with("_lifecycle", vec![private("_implicit_org_NoMSP", hash)]),
        failure,
    );
    let silent = CollectionHashedReadWriteSet {
        collection_name: "none".into(),
        hashed_rwset: Bytes::new(),
        pvt_rwset_hash: Bytes::from_static(b"hash"),
    };
    bench.check(
        "no writes in an undefined one",
        with("easy", vec![silent]),
        Code::Valid,
    );
}
