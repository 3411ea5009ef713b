//! Every code a transaction can get from validation, made by breaking a good transaction.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::bench::{BOTH, Bench, Case, definition};
use common::{Network, Tx, results, tx_id, writes};
use prost::Message;
use selvage_peer::validator::ValidateError;
use selvage_proto::common::{Envelope, HeaderType, Payload};
use selvage_proto::kvrwset::KvrwSet;
use selvage_proto::peer::{
    ChaincodeActionPayload, ChaincodeEvent, ProposalResponsePayload, Transaction,
    TransactionAction, TxValidationCode as Code,
};

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
}

#[test]
fn answers_of_endorsers() {
    let bench = Bench::new();
    let good = bench.good();
    let seal = |actions: Vec<TransactionAction>| {
        good.seal_data(Transaction { actions }.encode_to_vec().into())
    };
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
    let cases: [Case<'_>; 8] = [
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
    ];
    for (what, change, code) in cases {
        bench.check(what, broken(change), code);
    }
}

#[test]
fn events_and_namespaces() {
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
    let cases: [Case<'_>; 5] = [
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
fn configurations() {
    let bench = Bench::new();
    let mut config = bench.good();
    config.channel.r#type = HeaderType::Config as i32;
    let invalid = Code::InvalidConfigTransaction;
    bench.check("no data", config.seal_data(Bytes::new()), invalid);
    // Its id is no hash, as in the blocks of an orderer: nobody looks at it.
    config.channel.tx_id = "00".into();
    bench.check("no data, any id", config.seal_data(Bytes::new()), invalid);
    let error = bench
        .codes(vec![config.seal_data(Bytes::from_static(b"\xff"))])
        .expect_err("no configuration");
    assert!(
        matches!(error, ValidateError::MalformedConfig { .. }),
        "{error:?}"
    );
}

/// Breaks a good transaction in each way and looks at the code.
fn check_broken(bench: &Bench, cases: &[Case<'_>]) {
    for (what, change, code) in cases {
        let mut tx = bench.good();
        change(&mut tx);
        bench.check(what, tx.seal(), *code);
    }
}

/// Leaves one endorser where the policy asks for two.
fn alone(tx: &mut Tx) {
    tx.endorsers.truncate(1);
}

// The tests of two faults go through Fabric's order: each has a fault and one that comes later, and
// the first counts.

#[test]
fn two_faults_in_headers() {
    let bench = Bench::new();
    let other = |tx: &mut Tx| tx.creator = bench.network.two.client.clone();
    let wrong_id = |tx: &mut Tx| tx.channel.tx_id = "00".into();
    let kind = |tx: &mut Tx, kind: HeaderType| tx.channel.r#type = kind as i32;
    let unreadable = Envelope {
        payload: Bytes::from_static(b"\xff"),
        signature: Bytes::new(),
    };
    let unreadable = unreadable.encode_to_vec().into();
    bench.check("payload, then signature", unreadable, Code::BadPayload);
    let cases: [Case<'_>; 4] = [
        (
            "type, then signature",
            &|tx| {
                kind(tx, HeaderType::Message);
                other(tx);
            },
            Code::BadCommonHeader,
        ),
        (
            "signature, then a type that peers do not take",
            &|tx| {
                other(tx);
                kind(tx, HeaderType::ConfigUpdate);
            },
            Code::BadCreatorSignature,
        ),
        (
            "signature, then id",
            &|tx| {
                other(tx);
                wrong_id(tx);
            },
            Code::BadCreatorSignature,
        ),
        (
            "a type that peers do not take, then id",
            &|tx| {
                kind(tx, HeaderType::ConfigUpdate);
                wrong_id(tx);
            },
            Code::UnsupportedTxPayload,
        ),
    ];
    check_broken(&bench, &cases);
    let without_data = |what: &str, change: &dyn Fn(&mut Tx), code: Code| {
        let mut tx = bench.good();
        change(&mut tx);
        bench.check(what, tx.seal_data(Bytes::new()), code);
    };
    let unsigned = |tx: &mut Tx| {
        other(tx);
        kind(tx, HeaderType::Config);
    };
    let what = "signature, then no configuration";
    without_data(what, &unsigned, Code::BadCreatorSignature);
    let what = "id, then no transaction";
    without_data(what, &wrong_id, Code::BadProposalTxid);
}

#[test]
fn two_faults_in_actions() {
    let bench = Bench::new();
    let garbage = Bytes::from_static(b"\xff");
    let cases: [Case<'_>; 4] = [
        (
            "extension, then results",
            &|tx| {
                tx.channel.extension = garbage.clone();
                tx.action.results = garbage.clone();
            },
            Code::BadHeaderExtension,
        ),
        (
            "results, then no name asked",
            &|tx| {
                tx.action.results = garbage.clone();
                tx.extension.chaincode_id = None;
            },
            Code::BadRwset,
        ),
        (
            "no name ran, then an empty one asked",
            &|tx| {
                tx.action.chaincode_id = None;
                tx.extension.chaincode_id = Some(Default::default());
            },
            Code::InvalidOtherReason,
        ),
        (
            "another name, then an event",
            &|tx| {
                tx.action.chaincode_id.as_mut().expect("id").name = "easy".into();
                tx.action.events = garbage.clone();
            },
            Code::InvalidChaincode,
        ),
    ];
    check_broken(&bench, &cases);

    let good = bench.good();
    let mut answered = good.endorsed();
    let mut payload = ChaincodeActionPayload::decode(answered.payload).expect("payload");
    let endorsed = payload.action.as_mut().expect("action");
    let answer = endorsed.proposal_response_payload.clone();
    let mut answer = ProposalResponsePayload::decode(answer).expect("answer");
    answer.extension = garbage.clone();
    endorsed.proposal_response_payload = answer.encode_to_vec().into();
    endorsed.endorsements.clear();
    answered.payload = payload.encode_to_vec().into();
    let transaction = Transaction {
        actions: vec![answered],
    };
    let sealed = good.seal_data(transaction.encode_to_vec().into());
    let what = "answer, then no endorsers";
    bench.check(what, sealed, Code::BadResponsePayload);
}

#[test]
fn two_faults_before_the_policy() {
    let bench = Bench::new();
    let twice = results(&[("cc", KvrwSet::default()), ("cc", KvrwSet::default())]);
    let twice = Bytes::from(twice.encode_to_vec());
    let rename = |tx: &mut Tx| {
        for id in [&mut tx.extension.chaincode_id, &mut tx.action.chaincode_id] {
            id.as_mut().expect("id").name = "undefined".into();
        }
    };
    let cases: [Case<'_>; 5] = [
        (
            "event, then a namespace twice",
            &|tx| {
                tx.action.events = Bytes::from_static(b"\xff");
                tx.action.results = twice.clone();
            },
            Code::InvalidOtherReason,
        ),
        (
            "a namespace twice, then an undefined chaincode",
            &|tx| {
                tx.action.results = twice.clone();
                rename(tx);
            },
            Code::IllegalWriteset,
        ),
        (
            "a namespace twice, then too few endorsers",
            &|tx| {
                tx.action.results = twice.clone();
                alone(tx);
            },
            Code::IllegalWriteset,
        ),
        (
            "an undefined chaincode, then too few endorsers of another",
            &|tx| {
                rename(tx);
                alone(tx);
            },
            Code::InvalidChaincode,
        ),
        (
            "too few endorsers, then an undefined chaincode that is written to",
            &|tx| {
                let mut set = results(&[("cc", KvrwSet::default())]);
                let more = writes("undefined", &[("k", "v")]);
                set.ns_rwset.extend(more.ns_rwset);
                tx.action.results = set.encode_to_vec().into();
                alone(tx);
            },
            Code::EndorsementPolicyFailure,
        ),
    ];
    check_broken(&bench, &cases);
}

#[test]
fn two_faults_one_of_them_a_used_id() {
    let mut bench = Bench::new();
    let good = bench.good();
    let mut wrong_id = good.clone();
    wrong_id.channel.tx_id = "00".into();
    let transaction = Transaction::default();
    let unanswered = good.seal_data(transaction.encode_to_vec().into());
    let mut headless = good.clone();
    headless.channel.extension = Bytes::from_static(b"\xff");
    let mut few = good.clone();
    alone(&mut few);
    bench.world.known.insert(good.id().to_owned());
    bench.world.known.insert("00".to_owned());
    bench.check("id, then used", wrong_id.seal(), Code::BadProposalTxid);
    let invalid = Code::InvalidEndorserTransaction;
    bench.check("no action, then used", unanswered, invalid);
    let duplicate = Code::DuplicateTxid;
    bench.check("used, then extension", headless.seal(), duplicate);
    bench.check("used, then too few endorsers", few.seal(), duplicate);

    // In its block, only a copy that is good otherwise is a copy.
    let good = bench.good();
    let mut few = good.clone();
    alone(&mut few);
    bench.check_all(
        "too few endorsers, then twice in the block",
        vec![good.seal(), few.seal(), good.seal()],
        &[Code::Valid, Code::EndorsementPolicyFailure, duplicate],
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
