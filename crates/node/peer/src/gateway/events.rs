//! `ChaincodeEvents`: events of valid transactions, block by block (Fabric: `chaincodeevents.go`).

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use prost::Message;
use selvage_net::tonic::Status;
use selvage_proto::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, HeaderType, Payload,
};
use selvage_proto::gateway::{ChaincodeEventsRequest, ChaincodeEventsResponse};
use selvage_proto::orderer::{SeekPosition, seek_position};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, ProposalResponsePayload, Transaction,
    TxValidationCode,
};

use crate::channels::PeerChannel;
use crate::report;

/// Which events a client has not seen yet.
struct Wanted {
    chaincode: String,
    /// Set until the transaction after which events count has passed.
    after: Option<String>,
}

impl Wanted {
    fn take(&mut self, event: &ChaincodeEvent) -> bool {
        if let Some(after) = &self.after {
            if event.tx_id == *after {
                self.after = None;
            }
            return false;
        }
        event.chaincode_id == self.chaincode
    }
}

/// The events that a request asks for, without end. Blocks without any are passed over.
pub(super) fn follow(
    channel: Arc<PeerChannel>,
    request: ChaincodeEventsRequest,
) -> Result<impl Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send, Status> {
    let next = start_block(&channel, &request)?;
    let after = Some(request.after_transaction_id).filter(|id| !id.is_empty());
    let wanted = Wanted {
        chaincode: request.chaincode_id,
        after,
    };
    Ok(futures::stream::try_unfold(
        (channel, next, wanted),
        |(channel, next, wanted)| next_events(channel, next, wanted),
    ))
}

type Following = (Arc<PeerChannel>, u64, Wanted);

async fn next_events(
    channel: Arc<PeerChannel>,
    mut next: u64,
    mut wanted: Wanted,
) -> Result<Option<(ChaincodeEventsResponse, Following)>, Status> {
    let mut height = channel.height_watch();
    loop {
        if height.wait_for(|height| *height > next).await.is_err() {
            return Ok(None);
        }
        let block = match channel.recent_block(next) {
            Some(block) => block,
            None => {
                let block = channel.ledger().block_by_number(next);
                Arc::new(block.map_err(|e| Status::aborted(report(&e)))?)
            }
        };
        let events = events_of(&block).map_err(|e| Status::aborted(e.to_string()))?;
        let events: Vec<_> = events.into_iter().filter(|e| wanted.take(e)).collect();
        let block_number = next;
        next += 1;
        if !events.is_empty() {
            let response = ChaincodeEventsResponse {
                events,
                block_number,
            };
            return Ok(Some((response, (channel, next, wanted))));
        }
    }
}

fn start_block(channel: &PeerChannel, request: &ChaincodeEventsRequest) -> Result<u64, Status> {
    let after = &request.after_transaction_id;
    if !after.is_empty()
        && let Ok(Some((_, block))) = channel.ledger().tx_validation_code(after)
    {
        return Ok(block);
    }
    start_position(request.start_position.as_ref(), channel.height())
}

fn start_position(position: Option<&SeekPosition>, height: u64) -> Result<u64, Status> {
    let invalid = |kind: &str| {
        let text = format!("invalid start position type: *orderer.SeekPosition_{kind}");
        Err(Status::invalid_argument(text))
    };
    match position.and_then(|p| p.r#type.as_ref()) {
        None | Some(seek_position::Type::NextCommit(_)) => Ok(height),
        Some(seek_position::Type::Specified(block)) => Ok(block.number),
        Some(seek_position::Type::Newest(_)) => invalid("Newest"),
        Some(seek_position::Type::Oldest(_)) => invalid("Oldest"),
    }
}

/// The events of a block's valid transactions, in order.
fn events_of(block: &Block) -> Result<Vec<ChaincodeEvent>, prost::DecodeError> {
    let filter = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
    let mut out = Vec::new();
    for (i, envelope) in block.envelopes().iter().enumerate() {
        let payload = Payload::decode(Envelope::decode(envelope.clone())?.payload)?;
        let header = payload.header.unwrap_or_default();
        let channel = ChannelHeader::decode(header.channel_header)?;
        let code = filter.get(i).copied().map(i32::from);
        let valid = code == Some(TxValidationCode::Valid as i32);
        if valid && channel.r#type == HeaderType::EndorserTransaction as i32 {
            let transaction = Transaction::decode(payload.data)?;
            let actions = transaction.actions.into_iter();
            out.extend(actions.filter_map(|action| event_of(action.payload)));
        }
    }
    Ok(out)
}

fn event_of(action: Bytes) -> Option<ChaincodeEvent> {
    let action = ChaincodeActionPayload::decode(action).ok()?.action?;
    let payload = ProposalResponsePayload::decode(action.proposal_response_payload).ok()?;
    let action = ChaincodeAction::decode(payload.extension).ok()?;
    let event = ChaincodeEvent::decode(action.events).ok()?;
    let named = [&event.chaincode_id, &event.event_name, &event.tx_id];
    named.iter().all(|name| !name.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_proto::orderer::{SeekNextCommit, SeekOldest, SeekSpecified};

    fn event(chaincode: &str, tx: &str) -> ChaincodeEvent {
        ChaincodeEvent {
            chaincode_id: chaincode.into(),
            tx_id: tx.into(),
            event_name: "e".into(),
            payload: Bytes::new(),
        }
    }

    #[test]
    fn events_count_after_the_checkpoint() {
        let events = [
            event("a", "1"),
            event("a", "2"),
            event("b", "3"),
            event("a", "4"),
        ];
        let check = |after: Option<&str>, expected: &[&str]| {
            let mut wanted = Wanted {
                chaincode: "a".into(),
                after: after.map(Into::into),
            };
            let taken: Vec<&str> = events
                .iter()
                .filter(|e| wanted.take(e))
                .map(|e| e.tx_id.as_str())
                .collect();
            assert_eq!(taken, expected);
        };
        check(None, &["1", "2", "4"]);
        check(Some("2"), &["4"]);
        check(Some("3"), &["4"]);
        check(Some("9"), &[]);
    }

    #[test]
    fn positions_are_turned_into_blocks() {
        let at = |kind| start_position(Some(&SeekPosition { r#type: Some(kind) }), 7);
        assert_eq!(start_position(None, 7).unwrap(), 7);
        assert_eq!(
            at(seek_position::Type::NextCommit(SeekNextCommit {})).unwrap(),
            7
        );
        assert_eq!(
            at(seek_position::Type::Specified(SeekSpecified { number: 3 })).unwrap(),
            3
        );
        let error = at(seek_position::Type::Oldest(SeekOldest {})).unwrap_err();
        let text = "invalid start position type: *orderer.SeekPosition_Oldest";
        assert_eq!(error.message(), text);
    }
}
