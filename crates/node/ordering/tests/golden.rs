//! What Fabric 3.1.5's orderer said to real messages, and the blocks it made of them.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use selvage_channel::block::{data_hash, is_config_block};
use selvage_channel::{ChannelConfig, config_transaction, open_config};
use selvage_ordering::block::{Tip, signed_value};
use selvage_ordering::filters::{Filters, Incoming, Kind, Refusal};
use selvage_proto::Message;
use selvage_proto::common::{Block, BlockMetadataIndex, Envelope, Metadata, Status};

/// A moment at which the certificates of the golden network are good.
const NOW: i64 = 1_800_000_000;

fn chain(golden: &Path) -> Vec<Block> {
    (0..208)
        .map(|n| golden.join(format!("corpus/orderer-blocks/{n:03}.block")))
        .map(|path| fs::read(path).expect("a golden block"))
        .map(|bytes| Block::decode(Bytes::from(bytes)).expect("a block"))
        .collect()
}

/// The configurations of the chain and the numbers of the blocks that brought them.
fn configs(chain: &[Block]) -> Vec<(u64, ChannelConfig)> {
    let is_config = |b: &&Block| is_config_block(b);
    let open = |b: &Block| (b.number(), ChannelConfig::from_block(b).expect("a config"));
    chain.iter().filter(is_config).map(open).collect()
}

fn config_at(configs: &[(u64, ChannelConfig)], block: u64) -> &ChannelConfig {
    let before = configs.iter().rev().find(|(n, _)| *n < block);
    &before.expect("the genesis").1
}

#[test]
fn the_filters_say_what_fabrics_said() {
    let Some(golden) = selvage_testing::golden_dir("ordering: filters") else {
        return;
    };
    let configs = configs(&chain(&golden));
    let filters = Filters::default();
    let (mut passed, mut refused) = (0, 0);
    let mut block = 1;
    let mut steps: Vec<_> = fs::read_dir(golden.join("corpus/txs"))
        .expect("the steps")
        .map(|f| f.expect("a step").path())
        .collect();
    steps.sort();
    for step in steps {
        let meta = fs::read_to_string(step.join("meta.json")).expect("meta.json");
        let meta: serde_json::Value = serde_json::from_str(&meta).expect("JSON");
        let Ok(bytes) = fs::read(step.join("envelope.bin")) else {
            continue;
        };
        block = meta["block_number"].as_u64().unwrap_or(block);
        let config = config_at(&configs, block);
        let Ok(envelope) = Envelope::decode(Bytes::from(bytes)) else {
            continue;
        };
        let opened = Incoming::open(envelope);
        let result = opened.and_then(|incoming| match incoming.kind()? {
            Kind::Normal => filters.check_normal(config, &incoming, NOW),
            Kind::ConfigUpdate => config
                .propose_update(&incoming.envelope)
                .map(|_| config.sequence())
                .map_err(|e| Refusal::NotApplicable {
                    channel: config.channel_id().to_owned(),
                    reason: e.text(),
                }),
        });
        let status = meta["broadcast_status"].as_str().unwrap_or("SUCCESS");
        match result {
            Ok(sequence) => {
                assert_eq!(status, "SUCCESS", "{}", step.display());
                assert_eq!(sequence, config.sequence());
                passed += 1;
            }
            Err(refusal) => {
                let expected = Status::from_str_name(status).expect("a status");
                assert_eq!(refusal.status(), expected, "{}: {refusal}", step.display());
                let theirs = meta["broadcast_info"].as_str().expect("a text");
                // How a decoder words its failure differs.
                let theirs = theirs.split("proto:").next().unwrap_or_default();
                let ours = refusal.to_string();
                assert!(
                    ours.starts_with(theirs),
                    "{ours}\nshould start with\n{theirs}"
                );
                refused += 1;
            }
        }
    }
    assert!(passed > 200, "only {passed} messages passed");
    assert_eq!(refused, 4);
}

#[test]
fn expired_identities_are_refused() {
    let Some(golden) = selvage_testing::golden_dir("ordering: expiry") else {
        return;
    };
    let chain = chain(&golden);
    let config = ChannelConfig::from_block(&chain[0]).expect("a config");
    let plain = chain[1..].iter().find(|b| !is_config_block(b));
    let bytes = plain.expect("a plain block").envelopes()[0].clone();
    let message = Incoming::open(Envelope::decode(bytes).expect("an envelope")).expect("a message");
    let check = |filters: &Filters, now| filters.check_normal(&config, &message, now);
    let filters = Filters::default();
    check(&filters, NOW).expect("valid now");
    let late = NOW + 100 * 365 * 86_400;
    let refusal = check(&filters, late).expect_err("long expired");
    assert_eq!(refusal.to_string(), "broadcast client identity expired");
    assert_eq!(refusal.status(), Status::BadRequest);
    let lenient = Filters {
        check_expiry: false,
        ..filters
    };
    check(&lenient, late).expect("expiry is not checked");
}

#[test]
fn the_next_block_is_the_one_fabric_made() {
    let Some(golden) = selvage_testing::golden_dir("ordering: next block") else {
        return;
    };
    let chain = chain(&golden);
    let mut tip = Tip::after(chain[0].header.as_ref().expect("a header"));
    for theirs in &chain[1..] {
        let ours = tip.next_block(theirs.envelopes().to_vec());
        assert_eq!(ours.header, theirs.header);
        assert_eq!(ours.data, theirs.data);
        let data = ours.data.as_ref().expect("data");
        assert_eq!(tip.number(), theirs.number());
        assert_eq!(
            ours.header.unwrap_or_default().data_hash,
            data_hash(data)[..]
        );

        let slot = theirs.metadata_slot(BlockMetadataIndex::Signatures);
        let signed = Metadata::decode(slot).expect("signatures");
        let inner = selvage_proto::common::OrdererBlockMetadata::decode(signed.value.clone());
        let inner = inner.expect("orderer metadata");
        let index = inner.last_config.unwrap_or_default().index;
        assert_eq!(signed_value(index, inner.consenter_metadata), signed.value);
    }
}

#[test]
fn configuration_messages_survive_being_made_again() {
    let Some(golden) = selvage_testing::golden_dir("ordering: configuration messages") else {
        return;
    };
    for block in chain(&golden)[1..].iter().filter(|b| is_config_block(b)) {
        let envelope = config_transaction(block).expect("a configuration");
        let (channel, config) = open_config(&envelope).expect("a configuration");
        assert_eq!(channel, "goldchannel");
        assert!(config.last_update.is_some());
        // A finished configuration may not come from a client.
        let incoming = Incoming::open(envelope).expect("a message");
        assert!(matches!(incoming.kind(), Err(Refusal::NotDirect)));
    }
}
