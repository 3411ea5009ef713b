//! Approvals and commits of definitions leave the recorded read/write sets, hidden reads included.

use prost::Message;
use selvage_proto::common::{ChannelHeader, Envelope, Payload, SignatureHeader};
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeInput, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, ProposalResponsePayload, Transaction,
};

use super::peer::{GoldenPeer, block};
use crate::scc::{LifecycleCall, SimulatorState, invoke_lifecycle};

/// One call of `_lifecycle` as a block holds it.
struct Recorded {
    msp_id: String,
    tx_id: String,
    input: ChaincodeInput,
    results: bytes::Bytes,
}

fn recorded(envelope: &bytes::Bytes) -> Option<Recorded> {
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let header = payload.header?;
    let channel = ChannelHeader::decode(header.channel_header).ok()?;
    let creator = SignatureHeader::decode(header.signature_header)
        .ok()?
        .creator;
    let action = Transaction::decode(payload.data)
        .ok()?
        .actions
        .into_iter()
        .next()?;
    let action = ChaincodeActionPayload::decode(action.payload).ok()?;
    let proposal = ChaincodeProposalPayload::decode(action.chaincode_proposal_payload).ok()?;
    let spec = ChaincodeInvocationSpec::decode(proposal.input)
        .ok()?
        .chaincode_spec?;
    if spec.chaincode_id?.name != "_lifecycle" {
        return None;
    }
    let response = action.action?.proposal_response_payload;
    let response = ProposalResponsePayload::decode(response).ok()?;
    Some(Recorded {
        msp_id: SerializedIdentity::decode(creator).ok()?.mspid,
        tx_id: channel.tx_id,
        input: spec.input?,
        results: ChaincodeAction::decode(response.extension).ok()?.results,
    })
}

#[tokio::test]
async fn definitions_are_written_as_fabric_writes_them() {
    let Some(corpus) = super::corpus("golden lifecycle") else {
        return;
    };
    for org in ["org1", "org2"] {
        let peer = GoldenPeer::new(&corpus, org);
        let mut compared = 0;
        for number in 1..200 {
            let block = block(&corpus, number);
            for call in block.envelopes().iter().filter_map(recorded) {
                let name = String::from_utf8_lossy(&call.input.args[0]).into_owned();
                // Only its own organisation's peer has what an approval compares with.
                if name.starts_with("Approve") && call.msp_id != peer.msp_id {
                    continue;
                }
                assert_eq!(
                    replay(&peer, &call, &name),
                    call.results,
                    "{name} in block {number}"
                );
                compared += 1;
            }
            peer.commit_next();
        }
        assert!(compared >= 8, "only {compared} calls were found");
    }
}

fn replay(peer: &GoldenPeer, call: &Recorded, name: &str) -> bytes::Bytes {
    let channel = peer.channel();
    let config = channel.config();
    let mut simulator = channel.ledger().simulator(&call.tx_id).unwrap();
    let lifecycle = LifecycleCall {
        channel_id: channel.id(),
        view: Some(&*config),
        msp_id: &peer.msp_id,
        packages: &*peer.chaincodes,
    };
    let mut state = SimulatorState(&mut simulator);
    let input = &call.input.args[1];
    let response = invoke_lifecycle(&lifecycle, name, input, Some(&mut state));
    assert_eq!(response.status, 200, "{}", response.message);
    simulator.done().unwrap().results
}
