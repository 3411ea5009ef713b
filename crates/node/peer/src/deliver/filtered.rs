//! Filtered blocks: ids, codes and events, without payloads (Fabric: `deliverevents.go`).

use bytes::Bytes;
use prost::{DecodeError, Message};
use selvage_proto::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, HeaderType, Payload,
};
use selvage_proto::peer::filtered_transaction::Data;
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, FilteredBlock,
    FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
    ProposalResponsePayload, Transaction, TransactionAction, TxValidationCode,
};

/// Takes from a committed block what a client without access to the data may see.
///
/// A transaction that has no readable envelope or no header is left out; one that is unreadable
/// further down makes the block unfilterable.
pub fn filtered_block(block: &Block) -> Result<FilteredBlock, DecodeError> {
    let codes = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
    let mut filtered = FilteredBlock {
        number: block.number(),
        ..Default::default()
    };
    for (index, data) in block.envelopes().iter().enumerate() {
        let Ok(envelope) = Envelope::decode(data.clone()) else {
            continue;
        };
        let payload = Payload::decode(envelope.payload)?;
        let Some(header) = payload.header else {
            continue;
        };
        let channel = ChannelHeader::decode(header.channel_header)?;
        let data = match HeaderType::try_from(channel.r#type) {
            Ok(HeaderType::EndorserTransaction) => Some(actions(payload.data)?),
            _ => None,
        };
        filtered.channel_id = channel.channel_id;
        filtered.filtered_transactions.push(FilteredTransaction {
            txid: channel.tx_id,
            r#type: channel.r#type,
            tx_validation_code: codes
                .get(index)
                .map_or(TxValidationCode::NotValidated as i32, |code| {
                    i32::from(*code)
                }),
            data,
        });
    }
    Ok(filtered)
}

fn actions(data: Bytes) -> Result<Data, DecodeError> {
    let mut chaincode_actions = Vec::new();
    for action in Transaction::decode(data)?.actions {
        let Some(event) = event(action)? else {
            continue;
        };
        if event.chaincode_id.is_empty() {
            continue;
        }
        // Payloads stay with those who may read the whole block.
        let chaincode_event = Some(ChaincodeEvent {
            payload: Bytes::new(),
            ..event
        });
        chaincode_actions.push(FilteredChaincodeAction { chaincode_event });
    }
    Ok(Data::TransactionActions(FilteredTransactionActions {
        chaincode_actions,
    }))
}

fn event(action: TransactionAction) -> Result<Option<ChaincodeEvent>, DecodeError> {
    let payload = ChaincodeActionPayload::decode(action.payload)?;
    let Some(endorsed) = payload.action else {
        return Ok(None);
    };
    let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload)?;
    let action = ChaincodeAction::decode(response.extension)?;
    ChaincodeEvent::decode(action.events).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fabric's filtered blocks come out byte for byte.
    #[test]
    fn golden_filtered_blocks() {
        let Some(golden) = selvage_testing::golden_dir("golden_filtered_blocks") else {
            return;
        };
        let corpus = golden.join("corpus");
        let mut checked = 0;
        for number in 0..208 {
            let read = |path: String| std::fs::read(corpus.join(path)).unwrap();
            let block = Block::decode(&read(format!("blocks/{number:03}.block"))[..]).unwrap();
            let expected = read(format!("filtered-blocks/{number:03}.bin"));
            match filtered_block(&block) {
                Ok(filtered) => {
                    assert_eq!(
                        filtered,
                        FilteredBlock::decode(&expected[..]).unwrap(),
                        "block {number}"
                    );
                    assert_eq!(filtered.encode_to_vec(), expected, "block {number}");
                }
                Err(_) => assert!(expected.is_empty(), "block {number}"),
            }
            checked += 1;
        }
        assert_eq!(checked, 208);
    }
}
