//! Every signature in the blocks a real network wrote, judged as its peers judged them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use selvage_identity::policy::build::{role_principal, signed_by_any_member};
use selvage_identity::{Msp, MspFiles, MspManager, MspVersion, policy};
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, HeaderType, Metadata, Payload,
    SignatureHeader,
};
use selvage_proto::peer::{ChaincodeActionPayload, Transaction};

const ORGANISATIONS: [(&str, &str); 3] = [
    ("Org1MSP", "peerOrganizations/org1.example.com"),
    ("Org2MSP", "peerOrganizations/org2.example.com"),
    ("OrdererMSP", "ordererOrganizations/example.com"),
];

fn files_below(root: &Path, inside: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(root.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if inside.is_empty() {
            name
        } else {
            format!("{inside}/{name}")
        };
        if entry.file_type().unwrap().is_dir() {
            files_below(root, &path, files);
        } else {
            files.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

fn folder(root: &Path) -> MspFiles {
    let mut files = BTreeMap::new();
    files_below(root, "", &mut files);
    MspFiles::new(files)
}

fn network(golden: &Path) -> Arc<MspManager> {
    let crypto = golden.join("corpus/network/crypto");
    let msps = ORGANISATIONS.map(|(id, path)| {
        let config = folder(&crypto.join(path).join("msp"))
            .verifying_config(id)
            .unwrap();
        Arc::new(Msp::new(&config, MspVersion::V1_4_3).unwrap())
    });
    Arc::new(MspManager::new(msps))
}

fn blocks(golden: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(golden.join("corpus/blocks")).unwrap();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 100, "only {} blocks", paths.len());
    paths
}

#[derive(Default, Debug)]
struct Seen {
    creators: usize,
    endorsements: usize,
    orderers: usize,
    foreign: usize,
    endorsement_failures: usize,
}

/// The creator's and the endorsers' signatures of one transaction; `false` for the first that is
/// not good. The organisation that joined later is not in `manager`.
fn check_envelope(manager: &Arc<MspManager>, envelope: &Envelope, code: u8, seen: &mut Seen) {
    let Ok(payload) = Payload::decode(envelope.payload.clone()) else {
        return;
    };
    let Some(header) = payload.header else { return };
    let channel = ChannelHeader::decode(header.channel_header.clone()).unwrap();
    if channel.r#type != i32::from(HeaderType::EndorserTransaction) {
        return;
    }
    let creator = SignatureHeader::decode(header.signature_header.clone())
        .unwrap()
        .creator;
    match manager.deserialize(&creator) {
        Err(_) => seen.foreign += 1,
        // An orderer admits only good signatures, so every creator in a block is valid.
        Ok(creator) => {
            creator.validate().unwrap();
            creator
                .verify(&envelope.payload, &envelope.signature)
                .unwrap();
            seen.creators += 1;
        }
    }
    let Ok(transaction) = Transaction::decode(payload.data) else {
        return;
    };
    for action in transaction.actions {
        let Ok(action) = ChaincodeActionPayload::decode(action.payload) else {
            continue;
        };
        let Some(endorsed) = action.action else {
            continue;
        };
        for endorsement in &endorsed.endorsements {
            let Ok(endorser) = manager.deserialize(&endorsement.endorser) else {
                seen.foreign += 1;
                continue;
            };
            let message = [
                &endorsed.proposal_response_payload[..],
                &endorsement.endorser[..],
            ];
            let good = endorser
                .verify_parts(&message, &endorsement.signature)
                .is_ok()
                && endorser.validate().is_ok();
            match (code, good) {
                (0, true) => {
                    let peer = role_principal(endorser.msp_id(), MspRoleType::Peer);
                    endorser.satisfies(&peer).unwrap();
                    seen.endorsements += 1;
                }
                // The policy may have been satisfied without it.
                (0, false) if endorsed.endorsements.len() > 2 => seen.endorsement_failures += 1,
                (0, false) => panic!("a VALID transaction with a bad endorsement"),
                (_, true) => seen.endorsements += 1,
                (_, false) => seen.endorsement_failures += 1,
            }
        }
    }
}

fn check_block_signature(manager: &Arc<MspManager>, block: &Block, seen: &mut Seen) {
    let slots = &block.metadata.as_ref().unwrap().metadata;
    let slot = &slots[BlockMetadataIndex::Signatures as usize];
    let metadata = Metadata::decode(slot.clone()).unwrap();
    let header = selvage_proto::block::header_bytes(block.header.as_ref().unwrap());
    for signature in &metadata.signatures {
        let creator = SignatureHeader::decode(signature.signature_header.clone())
            .unwrap()
            .creator;
        let orderer = manager.deserialize(&creator).unwrap();
        let message = [
            &metadata.value[..],
            &signature.signature_header[..],
            &header[..],
        ];
        orderer
            .verify_parts(&message, &signature.signature)
            .unwrap();
        orderer
            .satisfies(&role_principal("OrdererMSP", MspRoleType::Orderer))
            .unwrap();
        seen.orderers += 1;
    }
}

#[test]
fn every_signature_in_the_blocks_is_judged_as_fabric_did() {
    let test = "every_signature_in_the_blocks_is_judged_as_fabric_did";
    let Some(golden) = selvage_testing::golden_dir(test) else {
        return;
    };
    let manager = network(&golden);
    let mut seen = Seen::default();
    for path in blocks(&golden) {
        let block = Block::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
        check_block_signature(&manager, &block, &mut seen);
        let slots = &block.metadata.as_ref().unwrap().metadata;
        let codes = &slots[BlockMetadataIndex::TransactionsFilter as usize];
        for (data, code) in block.data.as_ref().unwrap().data.iter().zip(codes) {
            if let Ok(envelope) = Envelope::decode(data.clone()) {
                check_envelope(&manager, &envelope, *code, &mut seen);
            }
        }
    }
    println!("{seen:?}");
    assert!(
        seen.creators > 200 && seen.endorsements > 400 && seen.orderers > 100,
        "{seen:?}"
    );
    assert!(
        seen.endorsement_failures > 0,
        "the blocks hold forged endorsements: {seen:?}"
    );
}

#[test]
fn nodes_and_users_of_the_network_are_who_they_say() {
    let test = "nodes_and_users_of_the_network_are_who_they_say";
    let Some(golden) = selvage_testing::golden_dir(test) else {
        return;
    };
    let manager = network(&golden);
    let crypto = golden.join("corpus/network/crypto");
    let [(_, org1), (_, org2), (_, orderers)] = ORGANISATIONS;
    use MspRoleType::{Admin, Client, Member, Orderer, Peer};
    for (path, id, role) in [
        (
            format!("{org1}/peers/peer0.org1.example.com/msp"),
            "Org1MSP",
            Peer,
        ),
        (
            format!("{org2}/peers/peer0.org2.example.com/msp"),
            "Org2MSP",
            Peer,
        ),
        (
            format!("{org1}/users/Admin@org1.example.com/msp"),
            "Org1MSP",
            Admin,
        ),
        (
            format!("{org1}/users/User1@org1.example.com/msp"),
            "Org1MSP",
            Client,
        ),
        (
            format!("{orderers}/orderers/orderer1.example.com/msp"),
            "OrdererMSP",
            Orderer,
        ),
    ] {
        let signer = folder(&crypto.join(&path)).signing_identity(id).unwrap();
        let identity = manager.deserialize(&signer.serialized()).unwrap();
        identity.verify(b"m", &signer.sign(b"m")).unwrap();
        for other in [Member, Admin, Client, Peer, Orderer] {
            let is = identity.satisfies(&role_principal(id, other)).is_ok();
            assert_eq!(is, other == role || other == Member, "{path} as {other:?}");
        }
        let members = policy::compile(&signed_by_any_member(&[id]), manager.clone()).unwrap();
        members.evaluate_identities(&[identity]).unwrap();
    }
}
