//! Protobuf messages, envelopes and blocks.

use bytes::Bytes;
use prost::Message;
use selvage_channel::block::{self, BlockVerifier};
use selvage_channel::{ChannelConfig, config_transaction, open_config};
use selvage_client::{explorer, transaction_result};
use selvage_ledger::tx_id_of;
use selvage_ordering::filters::{Filters, Incoming};
use selvage_peer::deliver::filtered_block;
use selvage_proto::block::header_bytes;
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadata, BlockMetadataIndex, ChannelHeader, Envelope,
    Header, HeaderType, Metadata, MetadataSignature, Payload, SignatureHeader,
};
use selvage_proto::tx::OpenEnvelope;
use selvage_proto::{
    Timestamp, common, discovery, etcdraft, gateway, gossip, kvrwset, lifecycle, msp,
};
use selvage_proto::{orderer, peer, rwset};

use crate::golden;
use crate::pick::Pick;
use crate::reach::reach;
use crate::world::{CHANNEL, NOW, world};

/// Decoded and encoded again a message is the same, and not much longer than what was read.
fn round_trip<M: Message + Default + PartialEq>(input: &[u8]) {
    let Ok(message) = M::decode(input) else {
        return;
    };
    if message != M::default() {
        reach("a message that says something");
    }
    let bytes = message.encode_to_vec();
    assert_eq!(bytes.len(), message.encoded_len());
    let again = M::decode(bytes.as_slice()).expect("what was encoded decodes");
    // A number that is none is never equal to itself.
    assert!(again == message || again.encode_to_vec() == bytes);
}

macro_rules! kinds {
    ($($message:ty),* $(,)?) => {
        [$(round_trip::<$message>),*]
    };
}

static KINDS: &[fn(&[u8])] = &kinds![
    common::Block,
    common::Envelope,
    common::Payload,
    common::Config,
    common::ConfigEnvelope,
    common::ConfigUpdate,
    common::ConfigUpdateEnvelope,
    common::SignaturePolicyEnvelope,
    common::ImplicitMetaPolicy,
    common::MspPrincipal,
    common::Metadata,
    common::OrdererBlockMetadata,
    discovery::Request,
    discovery::Response,
    discovery::SignedRequest,
    gateway::EndorseRequest,
    gateway::EvaluateRequest,
    gateway::SubmitRequest,
    gateway::SignedCommitStatusRequest,
    gateway::SignedChaincodeEventsRequest,
    gossip::GossipMessage,
    kvrwset::KvrwSet,
    kvrwset::HashedRwSet,
    lifecycle::ApproveChaincodeDefinitionForMyOrgArgs,
    lifecycle::CommitChaincodeDefinitionArgs,
    lifecycle::StateData,
    lifecycle::StateMetadata,
    msp::FabricMspConfig,
    msp::SerializedIdentity,
    orderer::SeekInfo,
    orderer::StepRequest,
    orderer::ClusterNodeServiceStepRequest,
    etcdraft::ConfigMetadata,
    etcdraft::BlockMetadata,
    selvage_consensus_raft::wire::Message,
    selvage_consensus_raft::wire::ConfChange,
    selvage_consensus_bft::wire::Message,
    selvage_consensus_bft::wire::Record,
    orderer::BroadcastResponse,
    orderer::DeliverResponse,
    peer::ChaincodeMessage,
    peer::ChaincodeAction,
    peer::ChaincodeActionPayload,
    peer::ChaincodeProposalPayload,
    peer::ChaincodeInvocationSpec,
    peer::CollectionConfigPackage,
    peer::DeliverResponse,
    peer::Proposal,
    peer::ProposalResponse,
    peer::ProposalResponsePayload,
    peer::SignedProposal,
    peer::Transaction,
    rwset::TxReadWriteSet,
    rwset::TxPvtReadWriteSet,
];

/// The first byte says which message the rest is.
pub(super) fn messages(input: &[u8]) {
    let mut pick = Pick::new(input);
    pick.of(KINDS)(pick.rest());
}

pub(super) fn messages_seeds() -> Vec<Vec<u8>> {
    let update = common::ConfigUpdate {
        channel_id: "ch".into(),
        read_set: Some(Default::default()),
        ..Default::default()
    };
    let metadata = lifecycle::StateMetadata {
        datatype: "ChaincodeDefinition".into(),
        fields: vec!["Sequence".into()],
    };
    let samples = [
        envelope_seed(),
        update.encode_to_vec(),
        metadata.encode_to_vec(),
    ];
    let kinds = 0..KINDS.len() as u8;
    kinds
        .flat_map(|kind| samples.iter().map(move |s| [&[kind][..], s].concat()))
        .collect()
}

/// Both ways in: as a client's message at an orderer, and as an element of a block at a peer.
pub(super) fn envelope(input: &[u8]) {
    let raw = Bytes::copy_from_slice(input);
    let id = tx_id_of(&raw);
    let Ok(envelope) = Envelope::decode(raw.clone()) else {
        assert!(id.is_empty());
        return;
    };
    if let Ok(open) = OpenEnvelope::open(envelope.clone()) {
        reach("an open envelope");
        assert_eq!(open.payload_bytes, envelope.payload);
        assert!(open.header.channel.tx_id.is_empty() || open.header.channel.tx_id == id);
    }
    if let Ok(incoming) = Incoming::open(envelope.clone()) {
        assert_eq!(incoming.envelope, envelope);
        if incoming.kind().is_ok() {
            reach("a message of a known kind");
        }
        let _ = Filters::default().check_normal(&world().config, &incoming, NOW);
    }
    let _ = ChannelConfig::from_envelope(&envelope);
    if transaction_result(&envelope).is_ok() {
        reach("a transaction's result");
    }
    let view = explorer::transaction(&raw, 0, Some(0));
    bounded(&view, input);
}

/// What is shown of bytes is not many times longer than the bytes.
fn bounded(view: &impl serde::Serialize, input: &[u8]) {
    let shown = serde_json::to_string(view).expect("views can be shown");
    assert!(
        shown.len() <= 64 * input.len() + 64 * 1024,
        "{} bytes are shown of {}",
        shown.len(),
        input.len()
    );
}

fn envelope_seed() -> Vec<u8> {
    let channel = ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        channel_id: CHANNEL.into(),
        tx_id: "00".into(),
        timestamp: Some(Timestamp {
            seconds: NOW,
            nanos: 1,
        }),
        ..Default::default()
    };
    let signer = SignatureHeader {
        creator: Bytes::from_static(b"\x0a\x01M\x12\x01c"),
        nonce: Bytes::from_static(b"nonce"),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: signer.encode_to_vec().into(),
        }),
        data: Bytes::from_static(b"\x0a\x02\x0a\x00"),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec()
}

pub(super) fn envelope_seeds() -> Vec<Vec<u8>> {
    let mut seeds = golden::files("corpus/txs", |name| name == "envelope.bin");
    seeds.push(envelope_seed());
    seeds
}

/// A block is looked at by everybody who may get one.
pub(super) fn block(input: &[u8]) {
    let Ok(block) = Block::decode(input) else {
        return;
    };
    let header = block.header.clone().unwrap_or_default();
    assert!(header_bytes(&header).len() <= header.encoded_len() + 32);
    if let Some(data) = &block.data
        && block::check_well_formed(data).is_ok()
    {
        reach("well formed");
    }
    let is_config = block::is_config_block(&block);
    if let Ok(envelope) = config_transaction(&block)
        && open_config(&envelope).is_ok()
    {
        reach("a configuration");
    }
    let _ = block.last_config_index();
    let _ = block::verify_genesis(&block);
    if block::verify_config_block(&block).is_ok() {
        assert!(is_config);
    }
    let config = world().config.clone();
    let hash = Bytes::copy_from_slice(&header.previous_hash);
    let mut verifier = BlockVerifier::new(config, header.number, hash);
    let _ = verifier.verify(&block);
    let _ = verifier.verify_attestation(&block);
    if let Ok(filtered) = filtered_block(&block) {
        reach("filtered");
        assert!(filtered.filtered_transactions.len() <= block.envelopes().len());
    }
    bounded(&explorer::block(&block), input);
    let mut changed = block;
    changed.set_metadata_slot(BlockMetadataIndex::CommitHash, vec![1]);
    assert_eq!(changed.metadata_slot(BlockMetadataIndex::CommitHash), [1]);
}

pub(super) fn block_seeds() -> Vec<Vec<u8>> {
    let data = BlockData {
        data: vec![envelope_seed().into(), Bytes::from_static(b"noise")],
    };
    let signatures = Metadata {
        value: Bytes::from_static(b"\x0a\x02\x08\x01"),
        signatures: vec![MetadataSignature {
            signature_header: SignatureHeader::default().encode_to_vec().into(),
            signature: Bytes::from_static(b"signature"),
            ..Default::default()
        }],
    };
    let mut block = Block {
        header: Some(BlockHeader {
            number: 1,
            previous_hash: vec![1; 32].into(),
            data_hash: block::data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: Some(BlockMetadata::default()),
    };
    let slot = BlockMetadataIndex::Signatures;
    block.set_metadata_slot(slot, signatures.encode_to_vec());
    block.set_metadata_slot(BlockMetadataIndex::TransactionsFilter, vec![0, 1]);
    let mut seeds = golden::files("corpus/blocks", |name| name.ends_with(".block"));
    seeds.extend(golden::files("bft", |name| name.ends_with(".block")));
    seeds.extend(golden::files("raft", |name| name.ends_with(".block")));
    seeds.push(block.encode_to_vec());
    seeds
}
