//! Queries recorded at the end of the recorded channel, system chaincode included.

use std::path::Path;

use prost::Message;
use selvage_proto::common::Config;
use selvage_proto::lifecycle::{
    CheckCommitReadinessResult, QueryChaincodeDefinitionResult, QueryChaincodeDefinitionsResult,
};
use selvage_proto::peer::{
    ChaincodeAction, ProposalResponse, ProposalResponsePayload, SignedProposal,
};
use serde_json::Value;

use super::endorse::compare;
use super::peer::GoldenPeer;

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let word = chunk.iter().fold(0u32, |word, d| word << 6 | u32::from(*d));
        let word = word << (6 * (4 - chunk.len()));
        out.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    out
}

/// Encodes the answers that hold maps again: Go writes their entries in any order.
fn in_order(mut response: ProposalResponse, function: &str) -> ProposalResponse {
    let Some(inner) = response.response.as_mut().filter(|r| r.status == 200) else {
        return response;
    };
    let bytes = inner.payload.clone();
    inner.payload = match function {
        "GetChannelConfig" => Config::decode(bytes).unwrap().encode_to_vec(),
        "QueryChaincodeDefinition" => QueryChaincodeDefinitionResult::decode(bytes)
            .unwrap()
            .encode_to_vec(),
        "CheckCommitReadiness" => CheckCommitReadinessResult::decode(bytes)
            .unwrap()
            .encode_to_vec(),
        "QueryChaincodeDefinitions" => {
            let mut result = QueryChaincodeDefinitionsResult::decode(bytes).unwrap();
            result
                .chaincode_definitions
                .sort_by(|a, b| a.name.cmp(&b.name));
            result.encode_to_vec()
        }
        _ => return response,
    }
    .into();
    let result = inner.clone();
    if !response.payload.is_empty() {
        let mut payload = ProposalResponsePayload::decode(response.payload).unwrap();
        let mut action = ChaincodeAction::decode(payload.extension).unwrap();
        action.response = Some(result);
        payload.extension = action.encode_to_vec().into();
        response.payload = payload.encode_to_vec().into();
    }
    response
}

async fn replay(corpus: &Path, org: &str) {
    let peer = GoldenPeer::new(corpus, org);
    let blocks = std::fs::read_dir(corpus.join("blocks")).unwrap().count() as u64;
    while peer.channel().height() < blocks {
        peer.commit_next();
    }
    let queries: Vec<Value> =
        serde_json::from_slice(&std::fs::read(corpus.join("evaluate.json")).unwrap()).unwrap();
    let (mut total, mut failed) = (0, Vec::new());
    for query in queries.iter().filter(|q| q["Peer"] == peer.msp_id.as_str()) {
        total += 1;
        let bytes = decode_base64(query["SignedProposalB64"].as_str().unwrap());
        let signed = SignedProposal::decode(bytes.as_slice()).unwrap();
        peer.at_time_of(&signed);
        let bytes = decode_base64(query["ResponseB64"].as_str().unwrap());
        let expected = ProposalResponse::decode(bytes.as_slice()).unwrap();
        let found = peer.endorser.process(signed).await;
        let function = query["Function"].as_str().unwrap_or_default();
        let outcome = found.map_err(|e| e.to_string()).and_then(|f| {
            let (f, expected) = (in_order(f, function), in_order(expected, function));
            compare(f, expected)
        });
        if let Err(error) = outcome {
            let (name, function) = (&query["Chaincode"], &query["Function"]);
            let error: String = error.chars().take(600).collect();
            failed.push(format!("{name} {function} {}: {error}", query["Args"]));
        }
    }
    eprintln!(
        "{org}: {} of {total} recorded queries reproduced",
        total - failed.len()
    );
    assert!(total > 100, "only {total} queries were found");
    assert!(
        failed.is_empty(),
        "{} of {total} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[tokio::test]
async fn recorded_queries_give_the_recorded_answers_of_org1() {
    if let Some(golden) = selvage_testing::golden_dir("golden queries of org1") {
        replay(&golden.join("corpus"), "org1").await;
    }
}

#[tokio::test]
async fn recorded_queries_give_the_recorded_answers_of_org2() {
    if let Some(golden) = selvage_testing::golden_dir("golden queries of org2") {
        replay(&golden.join("corpus"), "org2").await;
    }
}
