//! From decoded blocks to the shapes of the browser's API.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use selvage_client::explorer::{BlockView, IdentityView, TransactionView, ValueView};
use selvage_manager_api::agent::{
    BlockRow, EndorserItem, EventItem, ReadItem, ReadVersion, TransactionDetail, TransactionRow,
    ValueItem, WriteItem,
};
use selvage_proto::Message as _;
use selvage_proto::common::{Block, Envelope};
use selvage_proto::peer::{ChaincodeActionPayload, ProposalResponsePayload, Transaction};
use selvage_proto::tx::OpenEnvelope;

use crate::clock;
use crate::network::Network;
use crate::store::BlockEntry;

/// A block with what its view does not say.
pub(super) struct Decoded {
    pub(super) view: BlockView,
    /// Hash of each transaction's proposal, empty where there is none.
    pub(super) proposal_hashes: Vec<Vec<u8>>,
}

/// Decodes a block.
pub(super) fn decode(block: &Block) -> Decoded {
    let view = selvage_client::explorer::block(block);
    let hash = |raw: &bytes::Bytes| proposal_hash(raw).unwrap_or_default();
    Decoded {
        view,
        proposal_hashes: block.envelopes().iter().map(hash).collect(),
    }
}

fn proposal_hash(raw: &bytes::Bytes) -> Option<Vec<u8>> {
    let opened = OpenEnvelope::open(Envelope::decode(raw.clone()).ok()?).ok()?;
    let transaction = Transaction::decode(opened.data).ok()?;
    let action = transaction.actions.into_iter().next()?;
    let payload = ChaincodeActionPayload::decode(action.payload).ok()?;
    let response = payload.action?.proposal_response_payload;
    Some(
        ProposalResponsePayload::decode(response)
            .ok()?
            .proposal_hash
            .to_vec(),
    )
}

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text).unwrap_or_default()
}

fn seconds(time: Option<i64>) -> String {
    clock::rfc3339(time.unwrap_or_default().saturating_mul(1_000_000_000))
}

/// The index row of a block; `before` is the number of transactions in earlier blocks.
pub(super) fn entry(view: &BlockView, before: u64) -> BlockEntry {
    let mut creators: BTreeMap<String, u32> = BTreeMap::new();
    // Genesis blocks have no creator.
    let created = view
        .transactions
        .iter()
        .filter(|t| !t.creator.msp_id.is_empty());
    for transaction in created {
        *creators
            .entry(transaction.creator.msp_id.clone())
            .or_default() += 1;
    }
    BlockEntry {
        number: view.number,
        hash: bytes(&view.hash),
        data_hash: bytes(&view.data_hash),
        previous_hash: bytes(&view.previous_hash),
        time_ms: view.time.unwrap_or_default().saturating_mul(1000),
        tx_count: u32::try_from(view.transactions.len()).unwrap_or(u32::MAX),
        tx_total: before + view.transactions.len() as u64,
        creators,
    }
}

/// A block in lists.
pub(super) fn block_row(entry: &BlockEntry) -> BlockRow {
    BlockRow {
        block_number: entry.number,
        block_hash: STANDARD_NO_PAD.encode(&entry.hash),
        transaction_count: entry.tx_count,
        data_hash: STANDARD_NO_PAD.encode(&entry.data_hash),
        previous_hash: STANDARD_NO_PAD.encode(&entry.previous_hash),
        timestamp: clock::rfc3339(entry.time_ms.saturating_mul(1_000_000)),
        organization_maps: entry.creators.clone(),
        block_hash_hex: hex::encode(&entry.hash),
    }
}

/// Display name of the organisation behind an MSP id; the id itself for strangers.
pub(super) fn org_name(network: &Network, msp_id: &str) -> String {
    network
        .orgs()
        .find(|o| o.msp_id() == msp_id)
        .map_or_else(|| msp_id.to_owned(), |o| o.name.clone())
}

/// A transaction in lists.
pub(super) fn transaction_row(
    network: &Network,
    block: u64,
    view: &TransactionView,
) -> TransactionRow {
    TransactionRow {
        organization_name: org_name(network, &view.creator.msp_id),
        kind: view.r#type.clone(),
        transaction_id: view.id.clone(),
        chaincode_name: view.chaincode.clone(),
        timestamp: seconds(view.time),
        channel_name: view.channel.clone(),
        creator_msp: view.creator.msp_id.clone(),
        chaincode_version: view.chaincode_version.clone(),
        block_number: block,
        validation_code: view
            .validation
            .as_ref()
            .map_or_else(String::new, |v| v.name.clone()),
    }
}

/// A value as text where it is text, else base64.
fn value(view: &ValueView) -> ValueItem {
    let (value, is_base64) = match (&view.text, &view.hex) {
        (Some(text), _) => (text.clone(), false),
        (None, Some(hex)) => (STANDARD_NO_PAD.encode(bytes(hex)), true),
        (None, None) => (String::new(), false),
    };
    ValueItem {
        value,
        is_base64,
        length: view.length as u64,
    }
}

fn person(network: &Network, view: &IdentityView) -> EndorserItem {
    EndorserItem {
        organization_name: org_name(network, &view.msp_id),
        msp_id: view.msp_id.clone(),
        name: view.common_name.clone(),
    }
}

/// A transaction in full.
pub(super) fn detail(
    network: &Network,
    block: &Decoded,
    index: usize,
) -> Option<TransactionDetail> {
    let view = block.view.transactions.get(index)?;
    let mut read_set = BTreeMap::new();
    let mut write_set = BTreeMap::new();
    for part in &view.namespaces {
        let ranged = part.ranges.iter().flat_map(|r| &r.reads);
        let reads: Vec<ReadItem> = part
            .reads
            .iter()
            .chain(ranged)
            .map(|r| ReadItem {
                key: r.key.clone(),
                version: r.version.map(|v| ReadVersion {
                    block_num: v.block,
                    tx_num: v.tx,
                }),
            })
            .collect();
        let writes: Vec<WriteItem> = part
            .writes
            .iter()
            .map(|w| {
                let written = value(&w.value);
                WriteItem {
                    key: w.key.clone(),
                    is_delete: w.is_delete,
                    value: written.value,
                    is_base64: written.is_base64,
                    length: written.length,
                }
            })
            .collect();
        if !reads.is_empty() {
            read_set.insert(part.name.clone(), reads);
        }
        if !writes.is_empty() {
            write_set.insert(part.name.clone(), writes);
        }
    }
    let code = view.validation.as_ref();
    let response = view.response.as_ref();
    let mut organizations: Vec<String> = view.endorsers.iter().map(|e| e.msp_id.clone()).collect();
    organizations.dedup();
    let hash = block
        .proposal_hashes
        .get(index)
        .map_or(&[][..], Vec::as_slice);
    Some(TransactionDetail {
        read_set,
        write_set,
        validation_code: code.map_or_else(String::new, |c| c.name.clone()),
        endorser_organizations: organizations,
        proposal_hash: STANDARD_NO_PAD.encode(hash),
        transaction_summary: transaction_row(network, block.view.number, view),
        validation_number: code.map_or(-1, |c| c.code),
        validation_text: match (&view.problem, code) {
            (Some(problem), Some(code)) => format!("{} ({problem})", code.meaning),
            (Some(problem), None) => problem.clone(),
            (None, code) => code.map_or_else(String::new, |c| c.meaning.clone()),
        },
        endorsers: view.endorsers.iter().map(|e| person(network, e)).collect(),
        creator: person(network, &view.creator),
        function: view.function.clone(),
        arguments: view.args.iter().map(value).collect(),
        response_status: response.map_or(0, |r| r.status),
        response_payload: response.map_or_else(ValueItem::default, |r| value(&r.payload)),
        event: view.event.as_ref().map(|e| EventItem {
            name: e.name.clone(),
            payload: value(&e.payload),
        }),
        transaction_index: u32::try_from(index).unwrap_or(u32::MAX),
    })
}
