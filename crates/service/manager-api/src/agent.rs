//! The read API of the block browser, under `/v2/agent/apis`, in the shapes BCS documents for its
//! agent. Hashes are base64 without padding, as in BCS's example; our own additions say so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /tokens`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentToken {
    /// User.
    pub user: String,
    /// Value for `X-Auth-Token`.
    pub token: String,
    /// Unix milliseconds.
    pub expire_time: i64,
}

/// A count at a time, for the curves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockCount {
    /// Blocks.
    pub block: u64,
    /// Start of the interval, RFC 3339.
    pub time: String,
}

/// A count at a time, for the curves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TxCount {
    /// Transactions.
    pub tx: u64,
    /// Start of the interval, RFC 3339.
    pub time: String,
}

/// Transactions of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrgTxCount {
    /// Organisation.
    pub org_name: String,
    /// Its transactions.
    pub tx_num: u64,
}

/// A peer in the browser's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SummaryPeer {
    /// Organisation.
    pub org_name: String,
    /// Its hash.
    pub org_id: String,
    /// Domain name.
    pub peer: String,
    /// Address to dial.
    pub url: String,
    /// `running` or `abnormal`.
    pub status: String,
}

/// Answer of `GET /channel/{channel}/summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelSummary {
    /// Peers in the channel.
    pub peer_num: u32,
    /// Committed chaincode definitions.
    pub chaincodes: u32,
    /// Blocks on the peer.
    pub block_num: u64,
    /// Transactions in the blocks that are indexed.
    pub transaction_num: u64,
    /// Blocks per hour, last 24.
    pub bph: Vec<BlockCount>,
    /// Blocks per minute, last 60.
    pub bpm: Vec<BlockCount>,
    /// Transactions per hour, last 24.
    pub tph: Vec<TxCount>,
    /// Transactions per minute, last 60.
    pub tpm: Vec<TxCount>,
    /// Transactions by organisation.
    pub orgs_map: Vec<OrgTxCount>,
    /// Peers.
    pub peers_list: Vec<SummaryPeer>,
    /// Our addition: blocks counted so far; less than `block_num` while the index catches up.
    pub indexed_num: u64,
}

/// A block in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockRow {
    /// Number.
    pub block_number: u64,
    /// Hash of the header, base64 without padding.
    pub block_hash: String,
    /// Transactions.
    pub transaction_count: u32,
    /// Hash of the data, base64 without padding.
    pub data_hash: String,
    /// Hash of the block before, base64 without padding.
    pub previous_hash: String,
    /// RFC 3339: time of the first transaction.
    pub timestamp: String,
    /// Creator's MSP id to transactions.
    pub organization_maps: BTreeMap<String, u32>,
    /// Our addition: the hash in hexadecimal, as Fabric's tools print it.
    pub block_hash_hex: String,
}

/// Answer of `GET /channel/{channel}/blocks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockList {
    /// Blocks in all.
    pub count: u64,
    /// The page, newest first.
    pub data: Vec<BlockRow>,
}

/// A transaction in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionRow {
    /// Creator's organisation.
    pub organization_name: String,
    /// `ENDORSER_TRANSACTION`, `CONFIG`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Transaction id, hexadecimal.
    pub transaction_id: String,
    /// Chaincode called, empty for configuration.
    pub chaincode_name: String,
    /// RFC 3339.
    pub timestamp: String,
    /// Channel.
    pub channel_name: String,
    /// Creator's MSP id.
    pub creator_msp: String,
    /// Version of the chaincode as the proposal names it; often empty.
    pub chaincode_version: String,
    /// Block.
    pub block_number: u64,
    /// Our addition: Fabric's word for the verdict, `VALID` or why not.
    pub validation_code: String,
}

/// Answer of `GET /channel/{channel}/transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionList {
    /// Transactions in all.
    pub count: u64,
    /// The page, newest first.
    pub data: Vec<TransactionRow>,
}

/// Answer of `GET /channel/{channel}/transactions/count`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionTotal {
    /// Channel.
    pub channel_id: String,
    /// Blocks.
    pub block_height: u64,
    /// Transactions.
    pub transaction_num: u64,
}

/// Version of a key that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadVersion {
    /// Block that wrote it.
    pub block_num: u64,
    /// Position in that block.
    pub tx_num: u64,
}

/// A key that was read; the version is null when the key did not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadItem {
    /// Key; bytes that are no text appear as escapes.
    pub key: String,
    /// Version seen.
    pub version: Option<ReadVersion>,
}

/// Our addition: bytes that a transaction carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValueItem {
    /// As text, or base64 when `is_base64`; only the beginning of what is very long.
    pub value: String,
    /// Whether it is no text.
    pub is_base64: bool,
    /// Bytes of the whole.
    pub length: u64,
}

/// A key that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteItem {
    /// Key.
    pub key: String,
    /// Whether it was deleted.
    pub is_delete: bool,
    /// Value as text, or base64 when `is_base64`; only the beginning of what is very long.
    pub value: String,
    /// Our addition: the value is no text.
    pub is_base64: bool,
    /// Our addition: bytes of the whole value.
    pub length: u64,
}

/// An endorsement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndorserItem {
    /// Name of the organisation; the MSP id for strangers.
    pub organization_name: String,
    /// MSP id.
    pub msp_id: String,
    /// Common name of the endorser's certificate.
    pub name: String,
}

/// Answer of `GET /channel/{channel}/transactions/{txid}/detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionDetail {
    /// Reads by chaincode.
    pub read_set: BTreeMap<String, Vec<ReadItem>>,
    /// Writes by chaincode.
    pub write_set: BTreeMap<String, Vec<WriteItem>>,
    /// `VALID`, or Fabric's word for the reason.
    pub validation_code: String,
    /// MSP ids of the endorsers.
    pub endorser_organizations: Vec<String>,
    /// Hash of the proposal payload, base64 without padding.
    pub proposal_hash: String,
    /// What the lists show of it.
    pub transaction_summary: TransactionRow,
    /// Our addition: the number behind `validation_code`.
    pub validation_number: i32,
    /// Our addition: one sentence that says what the code means.
    pub validation_text: String,
    /// Our addition: endorsers with their names.
    pub endorsers: Vec<EndorserItem>,
    /// Our addition: who signed the transaction.
    pub creator: EndorserItem,
    /// Our addition: function that was called.
    pub function: String,
    /// Our addition: its arguments.
    pub arguments: Vec<ValueItem>,
    /// Our addition: status the chaincode answered.
    pub response_status: i32,
    /// Our addition: payload the chaincode answered.
    pub response_payload: ValueItem,
    /// Our addition: event the chaincode set.
    pub event: Option<EventItem>,
    /// Our addition: position in the block.
    pub transaction_index: u32,
}

/// A chaincode event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventItem {
    /// Name.
    pub name: String,
    /// Payload.
    pub payload: ValueItem,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum SearchResult {
    /// A block, by number or by hash.
    Block {
        /// The block.
        block: BlockRow,
    },
    /// A transaction, by id.
    Transaction {
        /// The transaction.
        transaction: Box<TransactionDetail>,
    },
}

/// One event of `GET /channel/{channel}/live` (server-sent events, event name `block`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveBlock {
    /// The block.
    pub block: BlockRow,
    /// Its first transactions; at most 100, `block.transaction_count` has the number of all.
    pub transactions: Vec<TransactionRow>,
}

/// A peer of `GET /peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentPeer {
    /// Organisation.
    pub org_name: String,
    /// Its hash.
    pub org_id: String,
    /// Name.
    pub peer_name: String,
    /// Name in the list.
    pub peer_id: String,
    /// `running` or `abnormal`.
    pub status: String,
    /// Channels joined.
    pub channels: Vec<String>,
    /// Address to dial.
    pub url: String,
    /// Domain name.
    pub peer: String,
}

/// Answer of `GET /peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentPeers {
    /// Peers by domain name.
    pub peers: BTreeMap<String, AgentPeer>,
}

impl std::fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentToken")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
