//! Blocks and answers that Fabric 3.1.5 wrote, as this client sees them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use selvage_client::explorer::{self, BlockView};
use selvage_client::transaction_result;
use selvage_proto::Message;
use selvage_proto::common::Block;
use selvage_proto::gateway::{EndorseResponse, EvaluateResponse};

fn blocks(golden: &Path) -> Vec<BlockView> {
    (0..208)
        .map(|n| golden.join(format!("corpus/blocks/{n:03}.block")))
        .map(|path| fs::read(path).expect("a golden block"))
        .map(|bytes| Block::decode(Bytes::from(bytes)).expect("a block"))
        .map(|block| explorer::block(&block))
        .collect()
}

#[test]
fn every_block_can_be_looked_at() {
    let Some(golden) = selvage_testing::golden_dir("client: explorer") else {
        return;
    };
    let summary = fs::read_to_string(golden.join("corpus/summary.json")).expect("summary.json");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    let expected = summary["transactions_in_blocks_by_code"]
        .as_object()
        .expect("counts");

    let blocks = blocks(&golden);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for pair in blocks.windows(2) {
        assert_eq!(
            pair[1].previous_hash, pair[0].hash,
            "block {}",
            pair[1].number
        );
        assert_eq!(pair[1].commit_hash.len(), 64);
    }
    for tx in blocks.iter().flat_map(|b| &b.transactions) {
        let validation = tx.validation.as_ref().expect("blocks of peers are judged");
        *counts.entry(validation.name.clone()).or_default() += 1;
        assert!(!validation.meaning.is_empty());
        if validation.valid {
            assert_eq!(tx.problem, None, "{}", tx.id);
        }
    }
    for (name, count) in expected {
        assert_eq!(counts.get(name).copied(), count.as_u64(), "{name}");
    }
}

#[test]
fn transactions_show_what_they_did() {
    let Some(golden) = selvage_testing::golden_dir("client: transactions") else {
        return;
    };
    let blocks = blocks(&golden);
    let genesis = blocks[0].transactions[0]
        .config
        .as_ref()
        .expect("a configuration");
    assert_eq!(genesis.consensus, "etcdraft");
    assert_eq!(genesis.application_orgs, ["Org1MSP", "Org2MSP"]);
    assert_eq!(genesis.orderer_orgs, ["OrdererMSP"]);
    let batch = blocks[95].transactions[0]
        .config
        .as_ref()
        .expect("a configuration");
    assert!(
        batch
            .changes
            .iter()
            .any(|c| c == "[Value]  /Channel/Orderer/BatchSize")
    );
    assert!(batch.signed_by.iter().any(|s| s.msp_id == "OrdererMSP"));
    assert_eq!(blocks[95].signers[0].msp_id, "OrdererMSP");

    // A private write: the collection shows hashes, the arguments are in the clear.
    let private = &blocks[33].transactions[0];
    assert_eq!(private.function, "putPrivate");
    assert_eq!(private.chaincode, "gold");
    assert_eq!(private.args[0].text.as_deref(), Some("collOrg1"));
    assert_eq!(private.creator.msp_id, "Org1MSP");
    assert_eq!(private.creator.common_name, "User1@org1.example.com");
    assert!(private.creator.units.contains(&"client".to_owned()));
    assert!(!private.endorsers.is_empty());
    assert!(
        private
            .endorsers
            .iter()
            .all(|e| e.units.contains(&"peer".to_owned()))
    );
    let gold = private
        .namespaces
        .iter()
        .find(|n| n.name == "gold")
        .expect("its state");
    assert_eq!(gold.collections[0].name, "collOrg1");
    assert_eq!(gold.collections[0].writes[0].key.len(), 64);
    let hidden = private.namespaces.iter().find(|n| n.name == "_lifecycle");
    let hidden = &hidden.expect("the hidden reads").reads;
    assert!(
        hidden
            .iter()
            .any(|r| r.key == "namespaces/fields/gold/Sequence")
    );

    let all = blocks.iter().flat_map(|b| &b.transactions);
    assert!(all.clone().any(|t| t.event.is_some()));
    let ranges = all.flat_map(|t| &t.namespaces).flat_map(|n| &n.ranges);
    assert!(ranges.clone().any(|r| !r.reads.is_empty()));
    assert!(ranges.clone().any(|r| !r.hashes.is_empty()));
}

#[test]
fn gateway_answers_decode() {
    let Some(golden) = selvage_testing::golden_dir("client: gateway answers") else {
        return;
    };
    let read = |name: &str| {
        let bytes = fs::read(golden.join("corpus/gateway").join(name));
        Bytes::from(bytes.expect("a recorded answer"))
    };
    let endorsed = EndorseResponse::decode(read("endorse-response.bin")).expect("an answer");
    let envelope = endorsed.prepared_transaction.expect("a transaction");
    assert!(envelope.signature.is_empty(), "the client signs");
    let response = transaction_result(&envelope).expect("a result");
    assert_eq!(response.status, 200);
    let evaluated = EvaluateResponse::decode(read("evaluate-response.bin")).expect("an answer");
    assert_eq!(evaluated.result.expect("a result").status, 200);
}

#[test]
fn damaged_blocks_are_shown_as_far_as_they_go() {
    let Some(golden) = selvage_testing::golden_dir("client: damaged blocks") else {
        return;
    };
    for number in [0, 33, 95] {
        let path = golden.join(format!("corpus/blocks/{number:03}.block"));
        let bytes = fs::read(path).expect("a golden block");
        let block = Block::decode(Bytes::from(bytes)).expect("a block");
        let raw = block.envelopes()[0].clone();
        for at in (0..raw.len()).step_by(43) {
            let mut damaged = raw.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let view = explorer::transaction(&damaged.into(), 0, Some(255));
            assert_eq!(view.size, raw.len());
        }
    }
}
