//! Taking transactions of a block apart, as far as storing them needs.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256_parts;
use selvage_proto::common::{ChannelHeader, Envelope, Payload, SignatureHeader};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ProposalResponsePayload, Transaction,
};

use crate::rwset::TxRwSet;

/// An endorser transaction as its validator decoded it, for [`Ledger::commit_decoded`].
///
/// [`Ledger::commit_decoded`]: crate::Ledger::commit_decoded
#[derive(Debug, Clone)]
pub struct DecodedTx {
    /// The id in its channel header; not empty.
    pub id: String,
    /// What it read and wrote: [`TxRwSet::decode`] of its results.
    pub set: Arc<TxRwSet>,
}

/// The transaction id of an encoded envelope: the one in its channel header or, where that is
/// empty as in configuration transactions, the one computed from nonce and creator. Empty when the
/// envelope is malformed; Fabric indexes such transactions under the empty id.
pub fn tx_id_of(envelope: &Bytes) -> String {
    parse_id(envelope).unwrap_or_default()
}

fn parse_id(envelope: &Bytes) -> Option<String> {
    OpenTx::open(envelope)?.id()
}

/// An envelope opened down to its channel header.
pub(crate) struct OpenTx {
    pub(crate) channel: ChannelHeader,
    pub(crate) data: Bytes,
    signature_header: Bytes,
}

impl OpenTx {
    pub(crate) fn open(envelope: &Bytes) -> Option<Self> {
        let envelope = Envelope::decode(envelope.clone()).ok()?;
        let payload = Payload::decode(envelope.payload).ok()?;
        let header = payload.header?;
        Some(Self {
            channel: ChannelHeader::decode(header.channel_header).ok()?,
            data: payload.data,
            signature_header: header.signature_header,
        })
    }

    /// The id in the header, or the computed one; see [`tx_id_of`].
    pub(crate) fn id(&self) -> Option<String> {
        if !self.channel.tx_id.is_empty() {
            return Some(self.channel.tx_id.clone());
        }
        let signature = SignatureHeader::decode(self.signature_header.clone()).ok()?;
        let id = sha256_parts([&signature.nonce[..], &signature.creator[..]]);
        Some(hex::encode(id))
    }

    /// The chaincode action of an endorser transaction's first action.
    pub(crate) fn action(&self) -> Option<ChaincodeAction> {
        let tx = Transaction::decode(self.data.clone()).ok()?;
        let first = tx.actions.into_iter().next()?;
        let payload = ChaincodeActionPayload::decode(first.payload).ok()?;
        let response = payload.action?.proposal_response_payload;
        if response.is_empty() {
            return None;
        }
        let response = ProposalResponsePayload::decode(response).ok()?;
        if response.extension.is_empty() {
            return None;
        }
        ChaincodeAction::decode(response.extension).ok()
    }
}
