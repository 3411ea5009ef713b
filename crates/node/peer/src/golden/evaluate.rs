//! Queries recorded at the end of the recorded channel, system chaincode included.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
use super::{Replayed, corpus};

/// The message that a recorded query holds in a field.
fn recorded<M: Message + Default>(query: &Value, field: &str) -> M {
    let text = query[field].as_str().unwrap();
    M::decode(STANDARD.decode(text).unwrap().as_slice()).unwrap()
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
    let mut replayed = Replayed::default();
    for query in queries.iter().filter(|q| q["Peer"] == peer.msp_id.as_str()) {
        let signed: SignedProposal = recorded(query, "SignedProposalB64");
        peer.at_time_of(&signed);
        let expected: ProposalResponse = recorded(query, "ResponseB64");
        let found = peer.endorser.process(signed).await;
        let function = query["Function"].as_str().unwrap_or_default();
        let outcome = found.map_err(|e| e.to_string()).and_then(|f| {
            let (f, expected) = (in_order(f, function), in_order(expected, function));
            compare(f, expected)
        });
        let name = || format!("{} {function} {}", query["Chaincode"], query["Args"]);
        replayed.add(name, outcome);
    }
    replayed.settle(org, "queries", 100);
}

#[tokio::test]
async fn recorded_queries_give_the_recorded_answers_of_org1() {
    if let Some(corpus) = corpus("golden queries of org1") {
        replay(&corpus, "org1").await;
    }
}

#[tokio::test]
async fn recorded_queries_give_the_recorded_answers_of_org2() {
    if let Some(corpus) = corpus("golden queries of org2") {
        replay(&corpus, "org2").await;
    }
}
