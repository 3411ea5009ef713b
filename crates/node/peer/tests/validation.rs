//! Every code a transaction can get from validation, made by breaking a good transaction.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::{Network, Tx, parameter, results, tx_id, write, writes};
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_identity::policy::dsl;
use selvage_peer::lifecycle::{BoxError, ChaincodeDefinition, LifecycleError};
use selvage_peer::validator::{Scope, StateView, ValidateError, Validator};
use selvage_proto::common::{Block, BlockData, BlockHeader, Envelope, HeaderType, Payload};
use selvage_proto::kvrwset::{HashedRwSet, KvWriteHash, KvrwSet};
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{
    ApplicationPolicy, ChaincodeEvent, CollectionConfig, CollectionConfigPackage,
    StaticCollectionConfig, Transaction, TransactionAction, TxValidationCode as Code,
    collection_config,
};
use selvage_proto::rwset::{CollectionHashedReadWriteSet, TxReadWriteSet};

/// A state before the block that tests write down.
#[derive(Default)]
struct World {
    known: BTreeSet<String>,
    definitions: BTreeMap<String, Arc<ChaincodeDefinition>>,
    parameters: BTreeMap<(String, String, Vec<u8>), Bytes>,
    garbled: BTreeSet<String>,
    broken: bool,
}

impl StateView for World {
    fn has_transaction(&self, tx_id: &str) -> Result<bool, BoxError> {
        if self.broken {
            Err("disk gone".into())
        } else {
            Ok(self.known.contains(tx_id))
        }
    }

    fn state(&self, _: &str, _: &str) -> Result<Option<Bytes>, BoxError> {
        Ok(None)
    }

    fn validation_parameter(
        &self,
        namespace: &str,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, BoxError> {
        let id = (namespace.to_owned(), collection.to_owned(), key.to_vec());
        Ok(self.parameters.get(&id).cloned())
    }

    fn definition(&self, name: &str) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError> {
        if name == "_lifecycle" {
            return Ok(Some(Arc::default()));
        }
        if self.garbled.contains(name) {
            return Err(LifecycleError::NotAChaincode("Garbage".into()));
        }
        Ok(self.definitions.get(name).cloned())
    }
}

/// What is broken, how, and the code that follows.
type Case<'a> = (&'static str, &'a dyn Fn(&mut Tx), Code);

/// An encoded application policy over a signature policy in text form.
fn policy(rule: &str) -> Bytes {
    let policy = dsl::parse(rule).unwrap_or_else(|e| panic!("{rule}: {e}"));
    ApplicationPolicy {
        r#type: Some(PolicyType::SignaturePolicy(policy)),
    }
    .encode_to_vec()
    .into()
}

/// A key-level policy as chaincode stores it.
fn key_policy(rule: &str) -> Bytes {
    dsl::parse(rule)
        .unwrap_or_else(|e| panic!("{rule}: {e}"))
        .encode_to_vec()
        .into()
}

const BOTH: &str = "AND('OneMSP.peer', 'TwoMSP.peer')";

fn definition(rule: &str) -> ChaincodeDefinition {
    let mut definition = ChaincodeDefinition {
        sequence: 1,
        ..Default::default()
    };
    definition.validation.validation_plugin = "vscc".into();
    definition.validation.validation_parameter = policy(rule);
    definition
}

fn collection(name: &str, rule: Option<&str>) -> CollectionConfig {
    let endorsement_policy =
        rule.map(|rule| ApplicationPolicy::decode(policy(rule)).expect("policy"));
    let config = StaticCollectionConfig {
        name: name.into(),
        endorsement_policy,
        ..Default::default()
    };
    CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(config)),
    }
}

struct Bench {
    network: Network,
    scope: Arc<Scope>,
    validator: Validator,
    world: World,
}

impl Bench {
    /// Chaincode `cc` needs both organisations, `easy` only the first.
    fn new() -> Self {
        let network = Network::new();
        let config = ChannelConfig::from_block(&network.genesis).expect("configuration");
        let mut world = World::default();
        let mut cc = definition(BOTH);
        cc.collections = CollectionConfigPackage {
            config: vec![
                collection("plain", None),
                collection("first", Some("OR('OneMSP.peer')")),
            ],
        };
        world.definitions.insert("cc".into(), Arc::new(cc));
        world
            .definitions
            .insert("easy".into(), Arc::new(definition("OR('OneMSP.peer')")));
        Self {
            network,
            scope: Arc::new(Scope::new(Arc::new(config))),
            validator: Validator::new(2).expect("threads"),
            world,
        }
    }

    /// A transaction of `cc` that both organisations endorsed.
    fn good(&self) -> Tx {
        let endorsers = [&self.network.one.peer, &self.network.two.peer];
        Tx::new(
            &self.network.one.client,
            &endorsers,
            "cc",
            &writes("cc", &[("k", "v")]),
        )
    }

    /// A transaction that only the first organisation endorsed.
    fn single(&self, chaincode: &str, results: &TxReadWriteSet) -> Tx {
        Tx::new(
            &self.network.one.client,
            &[&self.network.one.peer],
            chaincode,
            results,
        )
    }

    fn codes(&self, envelopes: Vec<Bytes>) -> Result<Vec<Code>, ValidateError> {
        let block = Block {
            header: Some(BlockHeader {
                number: 5,
                ..Default::default()
            }),
            data: Some(BlockData { data: envelopes }),
            metadata: None,
        };
        let prepared = self.validator.prepare(&block, &self.scope);
        Ok(self.validator.judge(&prepared, &self.world)?.codes)
    }

    fn check(&self, what: &str, envelope: Bytes, expected: Code) {
        let codes = self
            .codes(vec![envelope])
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(codes, [expected], "{what}");
    }

    fn check_all(&self, what: &str, envelopes: Vec<Bytes>, expected: &[Code]) {
        let codes = self
            .codes(envelopes)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(codes, expected, "{what}");
    }
}

#[test]
fn a_good_transaction_is_valid() {
    let bench = Bench::new();
    bench.check("good", bench.good().seal(), Code::Valid);
    bench.check(
        "easy",
        bench.single("easy", &writes("easy", &[("k", "v")])).seal(),
        Code::Valid,
    );
}

#[test]
fn envelopes_and_headers() {
    let bench = Bench::new();
    let good = bench.good();
    bench.check(
        "no envelope",
        Bytes::from_static(b"\xff\xff"),
        Code::InvalidOtherReason,
    );
    bench.check("empty envelope", Bytes::new(), Code::BadCommonHeader);
    let envelope = |payload: Bytes| {
        Bytes::from(
            Envelope {
                payload,
                signature: Bytes::from_static(b"s"),
            }
            .encode_to_vec(),
        )
    };
    bench.check(
        "no payload",
        envelope(Bytes::from_static(b"\xff")),
        Code::BadPayload,
    );
    let mut headless = Payload {
        header: Some(good.header()),
        data: Bytes::new(),
    };
    if let Some(header) = headless.header.as_mut() {
        header.channel_header = Bytes::from_static(b"\xff");
    }
    let headless = headless.encode_to_vec().into();
    bench.check(
        "no channel header",
        envelope(headless),
        Code::BadCommonHeader,
    );
    let broken = |change: &dyn Fn(&mut Tx)| {
        let mut tx = good.clone();
        change(&mut tx);
        tx.seal()
    };
    for (what, change) in [
        (
            "type",
            &(|tx: &mut Tx| tx.channel.r#type = 42) as &dyn Fn(&mut Tx),
        ),
        ("message type", &|tx| {
            tx.channel.r#type = HeaderType::Message as i32
        }),
        ("epoch", &|tx| tx.channel.epoch = 1),
        ("no nonce", &|tx| tx.signer.nonce = Bytes::new()),
        ("no creator", &|tx| tx.signer.creator = Bytes::new()),
    ] {
        bench.check(what, broken(change), Code::BadCommonHeader);
    }
}

#[test]
fn creators() {
    let bench = Bench::new();
    let good = bench.good();
    let mut other = good.clone();
    other.creator = bench.network.two.client.clone();
    bench.check(
        "another's signature",
        other.seal(),
        Code::BadCreatorSignature,
    );
    let mut stranger = good.clone();
    let outside = Network::new();
    stranger.creator = outside.one.client.clone();
    stranger.signer.creator = outside.one.client.serialized();
    stranger.channel.tx_id = tx_id(&stranger.signer);
    bench.check(
        "unknown authority",
        stranger.seal(),
        Code::BadCreatorSignature,
    );
    let mut elsewhere = good.clone();
    elsewhere.channel.channel_id = "otherchannel".into();
    bench.check(
        "another channel",
        elsewhere.seal(),
        Code::BadCreatorSignature,
    );
    let mut unsigned = Envelope::decode(good.seal()).expect("envelope");
    unsigned.signature = Bytes::new();
    bench.check(
        "no signature",
        unsigned.encode_to_vec().into(),
        Code::BadCreatorSignature,
    );
    let mut orderer = good.clone();
    orderer.creator = bench.network.ordering.client.clone();
    orderer.signer.creator = orderer.creator.serialized();
    orderer.channel.tx_id = tx_id(&orderer.signer);
    bench.check(
        "a creator of the orderer organisation",
        orderer.seal(),
        Code::Valid,
    );
}

#[test]
fn transactions() {
    let bench = Bench::new();
    let good = bench.good();
    let mut wrong_id = good.clone();
    wrong_id.channel.tx_id = "00".into();
    bench.check("transaction id", wrong_id.seal(), Code::BadProposalTxid);
    let mut update = good.clone();
    update.channel.r#type = HeaderType::ConfigUpdate as i32;
    bench.check(
        "configuration update",
        update.seal(),
        Code::UnsupportedTxPayload,
    );
    let invalid = Code::InvalidEndorserTransaction;
    bench.check("no data", good.seal_data(Bytes::new()), invalid);
    bench.check(
        "no transaction",
        good.seal_data(Bytes::from_static(b"\xff")),
        invalid,
    );
    let seal = |actions: Vec<TransactionAction>| {
        good.seal_data(Transaction { actions }.encode_to_vec().into())
    };
    bench.check("no action", seal(vec![]), invalid);
    bench.check(
        "two actions",
        seal(vec![good.endorsed(), good.endorsed()]),
        invalid,
    );
    let mut headless = good.endorsed();
    headless.header = Bytes::new();
    bench.check("an action without header", seal(vec![headless]), invalid);
    let mut empty = good.endorsed();
    empty.payload = Bytes::new();
    bench.check("an action without payload", seal(vec![empty]), invalid);
    let mut foreign = bench.good().endorsed();
    foreign.header = good.header().signature_header;
    bench.check("another proposal's answer", seal(vec![foreign]), invalid);
    let hash = |tx: &Tx| {
        let header = tx.header();
        let proposal = tx.proposal.encode_to_vec();
        let parts = [
            &header.channel_header[..],
            &header.signature_header,
            &proposal,
        ];
        (
            selvage_crypto::sha256_parts(parts).to_vec(),
            Bytes::from(proposal),
        )
    };
    let answer = |extension: &'static [u8]| {
        let (hash, proposal) = hash(&good);
        let response = selvage_proto::peer::ProposalResponsePayload {
            proposal_hash: hash.into(),
            extension: Bytes::from_static(extension),
        };
        seal(vec![
            good.endorse(response.encode_to_vec().into(), proposal),
        ])
    };
    bench.check(
        "no action in the answer",
        answer(b""),
        Code::BadResponsePayload,
    );
    bench.check(
        "no readable action",
        answer(b"\xff"),
        Code::BadResponsePayload,
    );
}

#[test]
fn actions() {
    let bench = Bench::new();
    let broken = |change: &dyn Fn(&mut Tx)| {
        let mut tx = bench.good();
        change(&mut tx);
        tx.seal()
    };
    let twice = results(&[("cc", KvrwSet::default()), ("cc", KvrwSet::default())]);
    let event = |chaincode: &str| {
        let event = ChaincodeEvent {
            chaincode_id: chaincode.into(),
            ..Default::default()
        };
        Bytes::from(event.encode_to_vec())
    };
    let cases: [Case<'_>; 13] = [
        (
            "extension",
            &|tx| tx.channel.extension = Bytes::from_static(b"\xff"),
            Code::BadHeaderExtension,
        ),
        (
            "results",
            &|tx| tx.action.results = Bytes::from_static(b"\xff"),
            Code::BadRwset,
        ),
        (
            "nested results",
            &|tx| {
                let mut set = writes("cc", &[]);
                set.ns_rwset[0].rwset = Bytes::from_static(b"\xff");
                tx.action.results = set.encode_to_vec().into();
            },
            Code::BadRwset,
        ),
        (
            "no name asked",
            &|tx| tx.extension.chaincode_id = None,
            Code::InvalidOtherReason,
        ),
        (
            "no name ran",
            &|tx| tx.action.chaincode_id = None,
            Code::InvalidOtherReason,
        ),
        (
            "empty name",
            &|tx| tx.extension.chaincode_id = Some(Default::default()),
            Code::InvalidChaincode,
        ),
        (
            "another name",
            &|tx| tx.action.chaincode_id.as_mut().expect("id").name = "easy".into(),
            Code::InvalidChaincode,
        ),
        (
            "no version",
            &|tx| tx.action.chaincode_id.as_mut().expect("id").version = String::new(),
            Code::InvalidChaincode,
        ),
        (
            "event",
            &|tx| tx.action.events = Bytes::from_static(b"\xff"),
            Code::InvalidOtherReason,
        ),
        (
            "another's event",
            &|tx| tx.action.events = event("easy"),
            Code::InvalidOtherReason,
        ),
        (
            "own event",
            &|tx| tx.action.events = event("cc"),
            Code::Valid,
        ),
        (
            "namespace twice",
            &|tx| tx.action.results = twice.encode_to_vec().into(),
            Code::IllegalWriteset,
        ),
        (
            "status 500 and another version",
            &|tx| {
                tx.action.response.as_mut().expect("response").status = 500;
                tx.action.chaincode_id.as_mut().expect("id").version = "9.9".into();
            },
            Code::Valid,
        ),
    ];
    for (what, change, code) in cases {
        bench.check(what, broken(change), code);
    }
}

#[test]
fn duplicates() {
    let mut bench = Bench::new();
    let (tx, other) = (bench.good(), bench.good());
    let (valid, duplicate) = (Code::Valid, Code::DuplicateTxid);
    bench.check_all(
        "twice",
        vec![tx.seal(), other.seal(), tx.seal()],
        &[valid, valid, duplicate],
    );
    let mut refused = tx.clone();
    refused.endorsers.truncate(1);
    bench.check_all(
        "the first copy is invalid",
        vec![refused.seal(), tx.seal()],
        &[Code::EndorsementPolicyFailure, valid],
    );
    bench.world.known.insert(tx.id().to_owned());
    bench.check("on the ledger", tx.seal(), duplicate);
    let mut broken = tx.clone();
    broken.action.results = Bytes::from_static(b"\xff");
    bench.check(
        "a used id counts before the results",
        broken.seal(),
        duplicate,
    );
}

#[test]
fn chaincode_policies() {
    let mut bench = Bench::new();
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

#[test]
fn failures_of_the_ledger_are_no_codes() {
    let mut bench = Bench::new();
    bench.world.broken = true;
    let error = bench
        .codes(vec![bench.good().seal()])
        .expect_err("the state is gone");
    assert!(matches!(error, ValidateError::State(_)), "{error:?}");
    bench.world.broken = false;
    let mut other = definition(BOTH);
    other.validation.validation_plugin = "special".into();
    bench.world.definitions.insert("cc".into(), Arc::new(other));
    let error = bench
        .codes(vec![bench.good().seal()])
        .expect_err("no such plugin");
    assert!(error.to_string().contains("special"), "{error}");
}
