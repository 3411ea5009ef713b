//! Every recorded proposal gives the recorded response, byte for byte up to the signature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use selvage_proto::peer::{ProposalResponse, SignedProposal};
use serde_json::Value;

use super::peer::{GoldenPeer, read};
use super::{Replayed, corpus};

/// How many blocks before its own a transaction may have been endorsed.
const BEFORE: u64 = 8;
/// Number of recorded blocks that matter here.
const LAST: u64 = 207;

struct Step {
    folder: PathBuf,
    name: String,
    /// Heights at which it may have been endorsed.
    heights: std::ops::RangeInclusive<u64>,
    outcome: Result<(), String>,
}

fn steps(corpus: &Path, msp_id: &str) -> Vec<Step> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(corpus.join("txs"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    let metas: Vec<Value> = folders
        .iter()
        .map(|f| serde_json::from_slice(&read(f.join("meta.json"))).unwrap())
        .collect();
    let mut first_of_group: BTreeMap<String, u64> = BTreeMap::new();
    for meta in metas.iter().rev() {
        if let (Some(group), Some(block)) = (
            meta["broadcast_group"].as_str(),
            meta["block_number"].as_u64(),
        ) {
            first_of_group.insert(group.to_owned(), block);
        }
    }
    let mut next = LAST;
    let mut out = Vec::new();
    for (folder, meta) in folders.iter().zip(&metas).rev() {
        let block = meta["block_number"].as_u64();
        let group = meta["broadcast_group"].as_str();
        let own = group.and_then(|g| first_of_group.get(g).copied()).or(block);
        let latest = own.unwrap_or(next);
        next = block.unwrap_or(next);
        if folder.join("proposal.bin").exists() && !meta["responses"][msp_id].is_null() {
            out.push(Step {
                folder: folder.clone(),
                name: folder.file_name().unwrap().to_string_lossy().into_owned(),
                heights: latest.saturating_sub(BEFORE).max(1)..=latest,
                outcome: Err("was never tried".to_owned()),
            });
        }
    }
    out.reverse();
    out
}

/// Runs a step on the peer as it is now and compares.
async fn try_step(peer: &GoldenPeer, step: &Step) -> Result<(), String> {
    let signed = SignedProposal::decode(read(step.folder.join("proposal.bin"))).unwrap();
    peer.at_time_of(&signed);
    let answer = peer.endorser.process(signed).await;
    let file = step.folder.join(format!("response-{}.bin", peer.msp_id));
    if !file.exists() {
        let meta: Value = serde_json::from_slice(&read(step.folder.join("meta.json"))).unwrap();
        let expected = meta["responses"][&peer.msp_id]["grpc_error"]
            .as_str()
            .unwrap_or_default();
        let found = answer.err().map(|e| e.to_string()).unwrap_or_default();
        let found = format!("rpc error: code = Unknown desc = {found}");
        return if found == expected {
            Ok(())
        } else {
            Err(format!("{found} != {expected}"))
        };
    }
    let expected = ProposalResponse::decode(read(file)).unwrap();
    compare(answer.map_err(|e| e.to_string())?, expected)
}

pub(super) fn compare(
    mut found: ProposalResponse,
    mut expected: ProposalResponse,
) -> Result<(), String> {
    if found.response != expected.response {
        return Err(format!(
            "response {:?} != {:?}",
            found.response, expected.response
        ));
    }
    if found.payload != expected.payload {
        return Err("payload differs".to_owned());
    }
    for response in [&mut found, &mut expected] {
        if let Some(endorsement) = &mut response.endorsement {
            endorsement.signature.clear();
        }
        if let Some(interest) = &mut response.interest {
            interest.chaincodes.sort_by_key(|c| c.encode_to_vec());
        }
    }
    if found.endorsement != expected.endorsement {
        return Err("another endorser".to_owned());
    }
    if found.interest != expected.interest {
        return Err(format!(
            "interest {:?} != {:?}",
            found.interest, expected.interest
        ));
    }
    if found == expected {
        Ok(())
    } else {
        Err("another field differs".to_owned())
    }
}

async fn replay(corpus: &Path, org: &str) {
    let peer = GoldenPeer::new(corpus, org);
    let mut steps = steps(corpus, &peer.msp_id);
    for height in 1..=LAST {
        let open = |step: &&mut Step| step.outcome.is_err() && step.heights.contains(&height);
        for step in steps.iter_mut().filter(open) {
            step.outcome = try_step(&peer, step).await;
        }
        peer.commit_next();
    }
    let mut replayed = Replayed::default();
    for Step { name, outcome, .. } in steps {
        replayed.add(|| name, outcome);
    }
    replayed.settle(org, "responses", 200);
}

#[tokio::test]
async fn recorded_proposals_give_the_recorded_responses_of_org1() {
    if let Some(corpus) = corpus("golden endorsements of org1") {
        replay(&corpus, "org1").await;
    }
}

#[tokio::test]
async fn recorded_proposals_give_the_recorded_responses_of_org2() {
    if let Some(corpus) = corpus("golden endorsements of org2") {
        replay(&corpus, "org2").await;
    }
}
