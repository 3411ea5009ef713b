//! What clients send: transactions of one chaincode, endorsed by nobody but otherwise as peers take
//! them.

use bytes::Bytes;
use prost::Message as _;
use selvage_proto::common::{Envelope, HeaderType, Payload};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ProposalResponsePayload,
    Response, Transaction, TransactionAction,
};

use crate::cluster::envelope;

/// The chaincode of every transaction.
pub const CHAINCODE: &str = "cc";

/// An encoded envelope with a transaction of this id and these simulation results.
pub fn transaction(id: &str, results: Bytes) -> Bytes {
    let action = ChaincodeAction {
        results,
        response: Some(Response {
            status: 200,
            ..Response::default()
        }),
        ..ChaincodeAction::default()
    };
    let response = ProposalResponsePayload {
        extension: action.encode_to_vec().into(),
        ..ProposalResponsePayload::default()
    };
    let payload = ChaincodeActionPayload {
        action: Some(ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            endorsements: Vec::new(),
        }),
        ..ChaincodeActionPayload::default()
    };
    let transaction = Transaction {
        actions: vec![TransactionAction {
            header: Bytes::new(),
            payload: payload.encode_to_vec().into(),
        }],
    };
    let kind = HeaderType::EndorserTransaction;
    let envelope = envelope(kind, id, transaction.encode_to_vec().into());
    envelope.encode_to_vec().into()
}

/// The simulation results of a transaction in an envelope.
pub fn results_of(envelope: &Bytes) -> Option<Bytes> {
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let transaction = Transaction::decode(payload.data).ok()?;
    let action = transaction.actions.into_iter().next()?;
    let action = ChaincodeActionPayload::decode(action.payload)
        .ok()?
        .action?;
    let response = ProposalResponsePayload::decode(action.proposal_response_payload).ok()?;
    Some(ChaincodeAction::decode(response.extension).ok()?.results)
}
