//! A channel as Fabric has them: certificates, policies, configuration updates. What the engines
//! decide is what a peer of Fabric 3 accepts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use selvage_channel::genesis::Consenter;
use selvage_channel::names::ORDERER;
use selvage_channel::{BlockVerifier, ChannelConfig};
use selvage_consensus_bft::{FilterJudge, Judge, Keys, ViewMetadata, check_consenters};
use selvage_crypto::issue::NodeRole;
use selvage_identity::SigningIdentity;
use selvage_ordering::filters::{Author, Filters, Incoming};
use selvage_ordering::{BatchLimits, Parameters};
use selvage_proto::Message as _;
use selvage_proto::common::{
    Block, BlockMetadataIndex, Config, ConfigUpdateEnvelope, Envelope, HeaderType, Metadata,
    OrdererBlockMetadata, Payload,
};
use selvage_proto::orderer::BatchSize;

use crate::harness::{Cluster, SECOND};
use crate::network::{Consortium, NOW, message, update};
use crate::world::World;

/// A consortium with four ordering nodes.
struct Fabric {
    genesis: Block,
    nodes: Vec<Arc<SigningIdentity>>,
    client: SigningIdentity,
    judges: Arc<Mutex<BTreeMap<u64, FilterJudge>>>,
}

/// The judge for whatever configuration is asked for: the nodes of this test share it.
struct Judges(Arc<Mutex<BTreeMap<u64, FilterJudge>>>);

impl Judge for Judges {
    fn judge(&self, sequence: u64, envelope: &Bytes, is_config: bool) -> Result<(), String> {
        let judges = self.0.lock().unwrap();
        judges[&sequence].judge(sequence, envelope, is_config)
    }
}

impl Fabric {
    fn new() -> (Self, Consortium) {
        let mut consortium = Consortium::new();
        let nodes: Vec<Arc<SigningIdentity>> = (1..=4)
            .map(|id| {
                consortium
                    .orderer
                    .member(&format!("orderer{id}"), NodeRole::Orderer)
            })
            .map(Arc::new)
            .collect();
        let profile = &mut consortium.profile;
        profile.capabilities = [("V3_0".to_owned(), true)].into();
        let orderer = profile.orderer.as_mut().unwrap();
        orderer.orderer_type = "BFT".to_owned();
        for (id, node) in (1..).zip(&nodes) {
            let path = format!("orderer{id}.pem");
            let pem = node.certificate().to_pem();
            consortium.material.0.insert(path.clone(), pem.into());
            orderer.consenter_mapping.push(Consenter {
                id,
                host: format!("orderer{id}.example.com"),
                port: 7050,
                msp_id: "OrdererMSP".to_owned(),
                identity: path.clone(),
                client_tls_cert: path.clone(),
                server_tls_cert: path,
            });
        }
        let genesis = consortium.genesis();
        let fabric = Self {
            client: consortium.org1.member("client", NodeRole::Client),
            nodes,
            judges: Arc::default(),
            genesis,
        };
        fabric.takes_effect(&fabric.genesis);
        (fabric, consortium)
    }
}

impl World for Fabric {
    fn ids(&self) -> Vec<u32> {
        (1..=4).collect()
    }

    fn keys(&self, id: u32) -> Arc<dyn Keys> {
        Arc::<SigningIdentity>::clone(&self.nodes[id as usize - 1])
    }

    fn judge(&self) -> Arc<dyn Judge> {
        Arc::new(Judges(self.judges.clone()))
    }

    fn takes_effect(&self, block: &Block) {
        let config = Arc::new(ChannelConfig::from_block(block).unwrap());
        let mut judges = self.judges.lock().unwrap();
        let judge = || FilterJudge::new(config.clone(), Vec::new());
        judges.entry(config.sequence()).or_insert_with(judge);
    }

    fn message(&self, text: &str) -> Bytes {
        let data = Bytes::copy_from_slice(text.as_bytes());
        let envelope = message(&self.client, HeaderType::EndorserTransaction, data);
        envelope.encode_to_vec().into()
    }

    fn genesis(&self) -> Block {
        self.genesis.clone()
    }

    fn parameters(&self, block: &Block) -> Parameters {
        let config = ChannelConfig::from_block(block).unwrap();
        let orderer = config.orderer().unwrap();
        Parameters {
            sequence: config.sequence(),
            limits: BatchLimits {
                max_messages: orderer.batch_size().max_message_count,
                preferred_bytes: orderer.batch_size().preferred_max_bytes,
            },
            timeout: Duration::from_secs(2),
            metadata: orderer.consensus_metadata().clone(),
            consenters: orderer.consenters().into(),
        }
    }
}

/// A configuration message as an orderer makes it from a signed update.
fn configuration(
    current: &ChannelConfig,
    node: &SigningIdentity,
    admin: &SigningIdentity,
    edit: impl FnOnce(&mut Config),
) -> Envelope {
    let mut changed = current.config().clone();
    edit(&mut changed);
    let update = update(current.config(), &changed, &[admin]);
    let author = Author {
        signer: node,
        nonce: [9; 24],
        unix_seconds: NOW,
    };
    let incoming = Incoming::open(update).unwrap();
    let made = Filters::default().process_update(current, &incoming, author);
    made.unwrap().envelope
}

fn batch(config: &mut Config, count: u32) {
    let root = config.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut(ORDERER).unwrap();
    let value = orderer.values.get_mut("BatchSize").unwrap();
    let mut size = BatchSize::decode(value.value.clone()).unwrap();
    size.max_message_count = count;
    value.value = size.encode_to_vec().into();
}

#[test]
fn peers_of_fabric_3_accept_the_blocks() {
    let (fabric, consortium) = Fabric::new();
    let genesis = fabric.genesis();
    let config = Arc::new(ChannelConfig::from_block(&genesis).unwrap());
    let admin = consortium.orderer.member("olga", NodeRole::Admin);
    let node = fabric.nodes[1].clone();
    let mut cluster = Cluster::new(fabric, 1);
    for n in 0..6 {
        cluster.submit(n % 4, &format!("message {n}"));
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_settled);
    let made = configuration(&config, &node, &admin, |config| batch(config, 3));
    cluster.configure(2, made.encode_to_vec().into());
    cluster.run_for(SECOND / 2);
    for n in 0..6 {
        cluster.submit(n % 4, &format!("later {n}"));
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_accepted);
    cluster.check_once();

    let header = genesis.header.as_ref().unwrap();
    let mut verifier = BlockVerifier::after(config, header);
    let mut last_config = 0;
    for (number, block) in &cluster.chain {
        verifier
            .verify(block)
            .unwrap_or_else(|e| panic!("block {number}: {e}"));
        if selvage_channel::block::is_config_block(block) {
            last_config = *number;
            let next = ChannelConfig::from_block(block).unwrap();
            assert_eq!(next.sequence(), 1);
            verifier.set_config(Arc::new(next));
        }
        assert_eq!(block.last_config_index().unwrap(), last_config);
        let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
        let signed = Metadata::decode(slot).unwrap();
        assert!(signed.signatures.len() >= 3);
        let value = OrdererBlockMetadata::decode(signed.value).unwrap();
        let view = ViewMetadata::decode(value.consenter_metadata).unwrap();
        assert_eq!((view.view_id, view.latest_sequence), (0, *number));
        assert_eq!(view.decisions_in_view, number - 1);
    }
    assert!(last_config > 0);
    // One signature fewer than the quorum, and it is no block of this channel.
    let (_, block) = cluster.chain.last_key_value().unwrap();
    let mut spoilt = block.clone();
    let mut signed = Metadata::decode(block.metadata_slot(BlockMetadataIndex::Signatures)).unwrap();
    signed.signatures.truncate(2);
    spoilt.set_metadata_slot(BlockMetadataIndex::Signatures, signed.encode_to_vec());
    let header = cluster.chain[&(block.number() - 1)]
        .header
        .as_ref()
        .unwrap();
    let mut verifier = BlockVerifier::after(verifier.config().clone(), header);
    verifier.verify(&spoilt).unwrap_err();
}

#[test]
fn a_configuration_is_what_its_update_makes_of_the_current_one() {
    let (fabric, consortium) = Fabric::new();
    let config = Arc::new(ChannelConfig::from_block(&fabric.genesis()).unwrap());
    let admin = consortium.orderer.member("olga", NodeRole::Admin);
    let judge = FilterJudge::new(config.clone(), Vec::new());
    let made = configuration(&config, &fabric.nodes[0], &admin, |config| batch(config, 3));
    let check = |envelope: &Envelope, expected: Result<(), &str>| {
        let judged = judge.judge(0, &envelope.encode_to_vec().into(), true);
        match (judged, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.contains(text), "{error}"),
            (judged, expected) => panic!("{judged:?}, not {expected:?}"),
        }
    };
    check(&made, Ok(()));
    let (_, opened) = selvage_channel::open_config(&made).unwrap();
    let next = ChannelConfig::from_envelope(&made).unwrap();
    let consenters = next.orderer().unwrap().consenters();
    check_consenters(consenters, fabric.nodes[0].as_ref()).unwrap();

    // Another configuration around the same update.
    let mut other = opened.clone();
    batch(other.config.as_mut().unwrap(), 500);
    let data = other.encode_to_vec().into();
    let forged = message(&fabric.nodes[0], HeaderType::Config, data);
    check(&forged, Err("does not make this configuration"));
    // An update that nobody signed.
    let mut unsigned = opened.clone();
    let envelope = unsigned.last_update.as_mut().unwrap();
    let mut payload = Payload::decode(envelope.payload.clone()).unwrap();
    let mut signed = ConfigUpdateEnvelope::decode(payload.data).unwrap();
    signed.signatures.clear();
    payload.data = signed.encode_to_vec().into();
    envelope.payload = payload.encode_to_vec().into();
    let data = unsigned.encode_to_vec().into();
    let forged = message(&fabric.nodes[0], HeaderType::Config, data);
    check(&forged, Err("error applying config update"));
    // Made by somebody who may not write.
    let stranger = Consortium::new()
        .orderer
        .member("mallory", NodeRole::Orderer);
    let data = opened.encode_to_vec().into();
    check(&message(&stranger, HeaderType::Config, data), Err("denied"));
    // Of another sequence.
    let judged = judge.judge(5, &made.encode_to_vec().into(), true);
    assert!(judged.unwrap_err().contains("sequence 5"));
}

#[test]
fn a_node_finds_itself_by_its_identity() {
    let (fabric, _) = Fabric::new();
    let parameters = fabric.parameters(&fabric.genesis());
    for (index, node) in fabric.nodes.iter().enumerate() {
        let mut found = parameters.consenters.iter().filter(|c| node.is_me(c));
        assert_eq!(found.next().map(|c| c.id as usize), Some(index + 1));
        assert!(found.next().is_none());
    }
    assert!(!fabric.client.is_me(&parameters.consenters[0]));
    let mut broken = parameters.consenters[0].clone();
    broken.identity = Bytes::from_static(b"nonsense");
    assert!(fabric.nodes[0].verifier(&broken).is_err());
    assert!(!fabric.nodes[0].is_me(&broken));
}
