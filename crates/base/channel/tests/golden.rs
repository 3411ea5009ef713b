//! Blocks, configurations and updates that Fabric 3.1.5 wrote, judged and made again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use selvage_channel::genesis::{ConfigTx, MemoryMaterial, genesis_block};
use selvage_channel::{BlockError, BlockVerifier, ChannelConfig, UpdateError};
use selvage_channel::{block, config_transaction, open_config, update};
use selvage_proto::Message;
use selvage_proto::common::{
    Block, BlockMetadataIndex, Config, ConfigUpdate, ConfigUpdateEnvelope, Envelope, Metadata,
    Payload, SignatureHeader,
};
use selvage_proto::tx::OpenEnvelope;

fn read_block(path: &Path) -> Block {
    let bytes = fs::read(path).expect("a golden block");
    Block::decode(Bytes::from(bytes)).expect("a golden block decodes")
}

/// The blocks of a folder, in order.
fn blocks(dir: &Path) -> Vec<Block> {
    let files = fs::read_dir(dir).expect("a golden folder");
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("a file").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "block"));
    let mut blocks: Vec<Block> = paths.iter().map(|p| read_block(p)).collect();
    blocks.sort_by_key(Block::number);
    blocks
}

/// Every configuration of a chain with the configuration transaction that brought it, and every
/// block judged on the way.
fn follow(chain: &[Block]) -> Vec<Arc<ChannelConfig>> {
    let genesis = block::verify_genesis(&chain[0]).expect("a genesis block");
    let mut configs = vec![Arc::new(genesis)];
    let header = chain[0].header.as_ref().expect("a header");
    let mut verifier = BlockVerifier::after(configs[0].clone(), header);
    for block in &chain[1..] {
        verifier
            .verify(block)
            .unwrap_or_else(|e| panic!("block {}: {e}", block.number()));
        if block::is_config_block(block) {
            let envelope = config_transaction(block).expect("a configuration");
            let (_, next) = open_config(&envelope).expect("a configuration");
            let current = configs.last().expect("the genesis");
            let next = current.apply(&next);
            let next = next.unwrap_or_else(|e| panic!("block {}: {e}", block.number()));
            configs.push(Arc::new(next));
            verifier.set_config(configs[configs.len() - 1].clone());
        }
    }
    configs
}

#[test]
fn every_block_of_the_corpus_follows() {
    let Some(golden) = selvage_testing::golden_dir("channel: corpus blocks") else {
        return;
    };
    for folder in ["corpus/orderer-blocks", "corpus/blocks"] {
        let chain = blocks(&golden.join(folder));
        assert_eq!(chain.len(), 208, "{folder}");
        let configs = follow(&chain);
        let last = configs.last().expect("configurations");
        assert_eq!(last.channel_id(), "goldchannel");
        assert_eq!(last.sequence() as usize, configs.len() - 1);
        last.check_supported_by_peer().expect("known capabilities");
        last.check_supported_by_orderer()
            .expect("known capabilities");
        let orderer = last.orderer().expect("an orderer section");
        assert_eq!(orderer.consensus_type(), "etcdraft");
        assert_eq!(last.orderer_endpoints(), ["127.0.0.1:21001"]);
        let application = last.application().expect("an application section");
        let orgs: Vec<&str> = application.orgs().keys().map(String::as_str).collect();
        assert_eq!(orgs, ["Org1MSP", "Org2MSP", "Org3MSP"]);
    }
}

#[test]
fn raft_and_bft_chains_follow() {
    let Some(golden) = selvage_testing::golden_dir("channel: raft and bft blocks") else {
        return;
    };
    for (folder, consensus) in [("raft", "etcdraft"), ("bft", "BFT")] {
        let configs = follow(&blocks(&golden.join(folder)));
        let orderer = configs[0].orderer().expect("an orderer section");
        assert_eq!(orderer.consensus_type(), consensus);
    }
}

/// Changes one thing about a block and says which error it has to give.
fn check_spoilt(golden: &Path, folder: &str, name: &str, spoil: fn(&mut Block), text: &str) {
    let mut chain = blocks(&golden.join(folder));
    let config = Arc::new(ChannelConfig::from_block(&chain[0]).expect("a genesis block"));
    let header = chain[0].header.as_ref().expect("a header");
    let mut verifier = BlockVerifier::after(config, header);
    verifier.verify(&chain[1]).expect("untouched");
    let block = &mut chain[2];
    spoil(block);
    let error = verifier.verify(block).expect_err(name);
    assert!(
        error.to_string().contains(text),
        "{folder}, {name}: {error}"
    );
    assert_eq!(verifier.next_number(), 2, "{name}: stays where it was");
}

fn edit_signatures(block: &mut Block, edit: impl Fn(&mut Metadata)) {
    let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
    let mut metadata = Metadata::decode(slot).expect("signatures");
    edit(&mut metadata);
    let bytes = metadata.encode_to_vec();
    block.set_metadata_slot(BlockMetadataIndex::Signatures, bytes);
}

#[test]
fn spoilt_blocks_are_refused() {
    let Some(golden) = selvage_testing::golden_dir("channel: spoilt blocks") else {
        return;
    };
    for folder in ["corpus/orderer-blocks", "bft"] {
        let check = |name, spoil, text| check_spoilt(&golden, folder, name, spoil, text);
        check(
            "number",
            |b| b.header.as_mut().unwrap().number = 7,
            "expected block number is [2]",
        );
        check(
            "previous hash",
            |b| b.header.as_mut().unwrap().previous_hash = vec![1].into(),
            "PreviousHash",
        );
        check(
            "data hash",
            |b| b.header.as_mut().unwrap().data_hash = vec![0; 32].into(),
            "DataHash",
        );
        check("no data", |b| b.data = None, "empty block");
        check(
            "no transactions",
            |b| b.data.as_mut().unwrap().data.clear(),
            "empty block",
        );
        check("no metadata", |b| b.metadata = None, "metadata is missing");
        check(
            "a missing slot",
            |b| drop(b.metadata.as_mut().unwrap().metadata.pop()),
            "metadata is missing",
        );
        check(
            "no signatures",
            |b| edit_signatures(b, |m| m.signatures.clear()),
            "is not signed",
        );
        check(
            "another last configuration",
            |b| edit_signatures(b, |m| m.value = vec![0x0a, 2, 8, 1].into()),
            "is not signed",
        );
        check(
            "half of a signature",
            |b| {
                edit_signatures(b, |m| {
                    m.signatures
                        .iter_mut()
                        .for_each(|s| s.signature.truncate(20));
                });
            },
            "is not signed",
        );
    }
}

#[test]
fn transactions_have_one_encoding() {
    let Some(golden) = selvage_testing::golden_dir("channel: well-formed transactions") else {
        return;
    };
    let chain = blocks(&golden.join("corpus/orderer-blocks"));
    let is_config = |b: &&Block| !block::is_config_block(b);
    let plain = chain.iter().skip(1).find(is_config).expect("a plain block");
    let raw = plain.envelopes()[0].clone();
    let check = |name: &str, raw: Vec<u8>, accepted: bool| {
        let mut data = plain.data.clone().expect("data");
        data.data[0] = raw.into();
        let result = block::check_well_formed(&data);
        assert_eq!(result.is_ok(), accepted, "{name}: {result:?}");
    };
    let with = |tail: &[u8]| [raw.as_ref(), tail].concat();
    let envelope = Envelope::decode(raw.clone()).expect("an envelope");
    check("as it came", raw.to_vec(), true);
    check("a field nobody knows yet", with(&[0x1a, 1, 7]), true);
    check("an empty payload after it", with(&[0x0a, 0]), false);
    check(
        "the signature again",
        {
            let again = Envelope {
                payload: Bytes::new(),
                signature: envelope.signature.clone(),
            };
            with(&again.encode_to_vec())
        },
        false,
    );
    check("cut short", raw[..raw.len() - 1].to_vec(), false);
    check(
        "no signature",
        Envelope {
            signature: Bytes::new(),
            ..envelope.clone()
        }
        .encode_to_vec(),
        false,
    );
    check(
        "no payload",
        Envelope {
            payload: Bytes::new(),
            ..envelope.clone()
        }
        .encode_to_vec(),
        false,
    );
    check(
        "a foreign field in front",
        [&[0x1a, 1, 7], raw.as_ref()].concat(),
        false,
    );
    check("nothing", Vec::new(), false);
}

/// The updates of the corpus with the configuration they met and the one they led to.
fn updates(chain: &[Block]) -> Vec<(Arc<ChannelConfig>, Envelope, Config)> {
    let configs = follow(chain);
    let config_blocks = chain[1..].iter().filter(|b| block::is_config_block(b));
    let update = |(current, block): (&Arc<ChannelConfig>, &Block)| {
        let envelope = config_transaction(block).expect("a configuration");
        let (_, next) = open_config(&envelope).expect("a configuration");
        let update = next.last_update.expect("an update");
        (current.clone(), update, next.config.expect("a config"))
    };
    configs.iter().zip(config_blocks).map(update).collect()
}

#[test]
fn updates_lead_where_fabric_took_them() {
    let Some(golden) = selvage_testing::golden_dir("channel: updates") else {
        return;
    };
    let updates = updates(&blocks(&golden.join("corpus/orderer-blocks")));
    assert!(updates.len() >= 4, "only {} updates", updates.len());
    for (current, envelope, expected) in updates {
        let proposed = current.propose_update(&envelope).expect("Fabric took it");
        assert!(
            proposed.config.as_ref() == Some(&expected),
            "the configurations differ"
        );
        assert!(
            proposed.last_update.as_ref() == Some(&envelope),
            "the updates differ"
        );

        // The update that configtxlator made is the one made here.
        let open = update::open_update(&envelope).expect("an update");
        let theirs = ConfigUpdate::decode(open.config_update).expect("an update");
        let mut ours = update::compute(current.config(), &expected).expect("a difference");
        ours.channel_id.clone_from(&theirs.channel_id);
        assert!(ours == theirs, "the updates differ");
    }
}

/// Takes an update apart, lets `edit` change it, and puts it together again.
fn edited(envelope: &Envelope, edit: impl FnOnce(&mut ConfigUpdateEnvelope)) -> Envelope {
    let mut payload = Payload::decode(envelope.payload.clone()).expect("a payload");
    let mut update = ConfigUpdateEnvelope::decode(payload.data.clone()).expect("an update");
    edit(&mut update);
    payload.data = update.encode_to_vec().into();
    Envelope {
        payload: payload.encode_to_vec().into(),
        ..envelope.clone()
    }
}

#[test]
fn updates_without_authority_are_refused() {
    let Some(golden) = selvage_testing::golden_dir("channel: refused updates") else {
        return;
    };
    let updates = updates(&blocks(&golden.join("corpus/orderer-blocks")));
    for (current, envelope, _) in &updates {
        let unsigned = edited(envelope, |u| u.signatures.clear());
        let error = current
            .propose_update(&unsigned)
            .expect_err("no signatures");
        let text = error.text();
        assert!(matches!(error, UpdateError::NotAuthorized { .. }), "{text}");
        assert!(
            text.contains("/Admins") && text.contains("signed by nobody"),
            "{text}"
        );

        let forged = edited(envelope, |u| {
            for signature in &mut u.signatures {
                let header = SignatureHeader::decode(signature.signature_header.clone());
                let mut header = header.expect("a header");
                header.nonce = vec![9; 24].into();
                signature.signature_header = header.encode_to_vec().into();
            }
        });
        let error = current
            .propose_update(&forged)
            .expect_err("forged signatures");
        assert!(
            matches!(error, UpdateError::NotAuthorized { .. }),
            "{error}"
        );
    }
    // Where two organisations had to agree, one of them is not enough, and the error says so.
    let two = updates
        .iter()
        .find(|(_, e, _)| update::open_update(e).expect("an update").signatures.len() > 1);
    let (current, envelope, _) = two.expect("an update that two organisations signed");
    let one = edited(envelope, |u| u.signatures.truncate(1));
    let text = current
        .propose_update(&one)
        .expect_err("one signature")
        .text();
    assert!(
        text.contains("MSP"),
        "names the organisation that signed: {text}"
    );

    // An update that was applied builds on versions that are gone.
    let (_, applied, _) = &updates[0];
    let (later, _, _) = &updates[1];
    let error = later.propose_update(applied).expect_err("applied already");
    assert!(matches!(error, UpdateError::StaleRead { .. }), "{error}");
}

#[test]
fn configurations_that_the_update_does_not_give_are_refused() {
    let Some(golden) = selvage_testing::golden_dir("channel: wrong configurations") else {
        return;
    };
    let chain = blocks(&golden.join("corpus/orderer-blocks"));
    for (current, envelope, config) in updates(&chain) {
        let mut next = current.propose_update(&envelope).expect("Fabric took it");
        if let Some(group) = next.config.as_mut().and_then(|c| c.channel_group.as_mut()) {
            group.version += 1;
        }
        let error = current.apply(&next).expect_err("another version");
        assert!(matches!(error, UpdateError::Mismatch), "{error}");

        next.config = Some(Config {
            sequence: config.sequence + 1,
            ..config.clone()
        });
        let error = current.apply(&next).expect_err("another sequence");
        assert!(matches!(error, UpdateError::Sequence { .. }), "{error}");
    }
    let mut foreign = chain[0].clone();
    foreign.header = None;
    assert!(matches!(
        block::verify_genesis(&foreign),
        Err(BlockError::Missing { .. })
    ));
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Bytes>) {
    for entry in fs::read_dir(dir).expect("a golden folder") {
        let path = entry.expect("a file").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(&path).expect("a file").into());
        }
    }
}

#[test]
fn the_genesis_block_is_the_one_configtxgen_made() {
    let Some(golden) = selvage_testing::golden_dir("channel: genesis block") else {
        return;
    };
    let network = golden.join("corpus/network");
    let theirs = read_block(&network.join("genesis.block"));
    let mut files = BTreeMap::new();
    collect(&network.join("crypto"), "crypto/", &mut files);
    let yaml = fs::read_to_string(network.join("configtx.yaml")).expect("a configtx.yaml");
    let configtx = ConfigTx::from_yaml(&yaml).expect("a configtx.yaml");
    let profile = configtx.profile("Gold").expect("the profile");

    let open = |block: &Block| {
        let envelope = Envelope::decode(block.envelopes()[0].clone()).expect("an envelope");
        OpenEnvelope::open(envelope).expect("an envelope")
    };
    let header = open(&theirs).header;
    let time = header.channel.timestamp.as_ref().expect("a time");
    let nonce = header.signature.nonce.as_ref().try_into();
    let nonce = nonce.expect("a nonce of 24 bytes");
    let material = MemoryMaterial(files);
    let ours = genesis_block(profile, "goldchannel", &material, time.seconds, nonce)
        .expect("a genesis block");

    assert_eq!(open(&ours).header.raw, header.raw);
    assert_eq!(ours.metadata, theirs.metadata);
    let (_, ours_config) = open_config(&config_transaction(&ours).unwrap()).expect("a config");
    let (_, config) = open_config(&config_transaction(&theirs).unwrap()).expect("a config");
    assert!(ours_config == config, "the trees differ");
    block::verify_genesis(&ours).expect("usable");
}
