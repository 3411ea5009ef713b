//! The checks of one transaction that need only its bytes and the channel's configuration
//! (Fabric: `msgvalidation.go` and the first half of the plugin dispatcher).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256_parts;
use selvage_identity::Identity;
use selvage_ledger::{NsRwSet, TxRwSet};
use selvage_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, ChaincodeHeaderExtension,
    ProposalResponsePayload, Transaction, TxValidationCode as Code,
};

use super::scope::Scope;

/// A transaction after every check that does not need the state.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The id in the channel header; empty where it is absent or unreadable.
    pub(crate) tx_id: String,
    /// What is left to judge.
    pub(crate) content: Content,
}

/// What a transaction asks of the state-dependent checks.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing: it is invalid whatever the state is.
    Rejected(Code),
    /// A new configuration of the channel: an encoded `ConfigEnvelope`.
    Config(Bytes),
    /// A chaincode's results. The code is the one it gets unless its id is already on the ledger,
    /// which counts first.
    Endorsed(Result<Box<Action>, Code>),
}

/// What an endorsed transaction did and who vouches for it.
#[derive(Debug)]
pub(crate) struct Action {
    /// The invoked chaincode.
    pub(crate) chaincode: String,
    /// What it read and wrote.
    pub(crate) rwset: Arc<TxRwSet>,
    /// Who endorsed it with a valid signature, each identity once.
    pub(crate) endorsers: Vec<Arc<Identity>>,
}

/// Opens one element of a block's data. Never fails: what cannot be read is a rejected
/// transaction with the code Fabric gives it.
pub(crate) fn open(data: &Bytes, scope: &Scope) -> Opened {
    let rejected = |tx_id: String, code| Opened {
        tx_id,
        content: Content::Rejected(code),
    };
    let Ok(envelope) = Envelope::decode(data.clone()) else {
        return rejected(String::new(), Code::InvalidOtherReason);
    };
    let Ok(payload) = Payload::decode(envelope.payload.clone()) else {
        return rejected(String::new(), Code::BadPayload);
    };
    let Some(header) = payload.header else {
        return rejected(String::new(), Code::BadCommonHeader);
    };
    let Ok(mut channel) = ChannelHeader::decode(header.channel_header.clone()) else {
        return rejected(String::new(), Code::BadCommonHeader);
    };
    let tx_id = std::mem::take(&mut channel.tx_id);
    let Some(signer) = common_header(&channel, &header) else {
        return rejected(tx_id, Code::BadCommonHeader);
    };
    let id = &channel.channel_id;
    let signature = &envelope.signature;
    if signature.is_empty() || !scope.signed(id, &signer.creator, &envelope.payload, signature) {
        return rejected(tx_id, Code::BadCreatorSignature);
    }
    let content = match HeaderType::try_from(channel.r#type) {
        Ok(HeaderType::EndorserTransaction) => {
            endorser(&tx_id, &channel, &header, &signer, payload.data, scope)
        }
        Ok(HeaderType::Config) => config(payload.data),
        _ => Content::Rejected(Code::UnsupportedTxPayload),
    };
    Opened { tx_id, content }
}

/// The checks common to all types; gives the signature header.
fn common_header(channel: &ChannelHeader, header: &Header) -> Option<SignatureHeader> {
    let signer = SignatureHeader::decode(header.signature_header.clone()).ok()?;
    let known = matches!(
        HeaderType::try_from(channel.r#type),
        Ok(HeaderType::EndorserTransaction | HeaderType::ConfigUpdate | HeaderType::Config)
    );
    (known && channel.epoch == 0 && complete(&signer)).then_some(signer)
}

fn complete(signer: &SignatureHeader) -> bool {
    !signer.nonce.is_empty() && !signer.creator.is_empty()
}

fn config(data: Bytes) -> Content {
    if data.is_empty() {
        return Content::Rejected(Code::InvalidConfigTransaction);
    }
    Content::Config(data)
}

fn endorser(
    tx_id: &str,
    channel: &ChannelHeader,
    header: &Header,
    signer: &SignatureHeader,
    data: Bytes,
    scope: &Scope,
) -> Content {
    let computed = sha256_parts([signer.nonce.as_ref(), signer.creator.as_ref()]);
    if tx_id != hex::encode(computed) {
        return Content::Rejected(Code::BadProposalTxid);
    }
    match proposal(header, data) {
        None => Content::Rejected(Code::InvalidEndorserTransaction),
        Some((payload, response)) => {
            Content::Endorsed(action(&channel.extension, payload, response, scope).map(Box::new))
        }
    }
}

/// Checks that the transaction belongs to the proposal its endorsers answered.
fn proposal(
    header: &Header,
    data: Bytes,
) -> Option<(ChaincodeActionPayload, ProposalResponsePayload)> {
    if data.is_empty() {
        return None;
    }
    let transaction = Transaction::decode(data).ok()?;
    let [action] = transaction.actions.as_slice() else {
        return None;
    };
    let signer = SignatureHeader::decode(action.header.clone()).ok()?;
    if !complete(&signer) {
        return None;
    }
    let payload = ChaincodeActionPayload::decode(action.payload.clone()).ok()?;
    let endorsed = payload.action.as_ref()?;
    let response =
        ProposalResponsePayload::decode(endorsed.proposal_response_payload.clone()).ok()?;
    if header.channel_header.is_empty() || payload.chaincode_proposal_payload.is_empty() {
        return None;
    }
    let hash = sha256_parts([
        header.channel_header.as_ref(),
        action.header.as_ref(),
        payload.chaincode_proposal_payload.as_ref(),
    ]);
    (response.proposal_hash[..] == hash[..]).then_some((payload, response))
}

/// The dispatcher's checks before any policy: extension, response, read/write set, names, event.
fn action(
    extension: &Bytes,
    payload: ChaincodeActionPayload,
    response: ProposalResponsePayload,
    scope: &Scope,
) -> Result<Action, Code> {
    let extension = ChaincodeHeaderExtension::decode(extension.clone())
        .map_err(|_| Code::BadHeaderExtension)?;
    let endorsed = payload.action.ok_or(Code::BadResponsePayload)?;
    if response.extension.is_empty() {
        return Err(Code::BadResponsePayload);
    }
    let action =
        ChaincodeAction::decode(response.extension).map_err(|_| Code::BadResponsePayload)?;
    let rwset = TxRwSet::decode(action.results).map_err(|_| Code::BadRwset)?;
    let asked = extension.chaincode_id.ok_or(Code::InvalidOtherReason)?;
    let ran = action.chaincode_id.ok_or(Code::InvalidOtherReason)?;
    if asked.name.is_empty() || asked.name != ran.name || ran.version.is_empty() {
        return Err(Code::InvalidChaincode);
    }
    if !action.events.is_empty() {
        let event = ChaincodeEvent::decode(action.events).map_err(|_| Code::InvalidOtherReason)?;
        if event.chaincode_id != asked.name {
            return Err(Code::InvalidOtherReason);
        }
    }
    if has_duplicates(&rwset) {
        return Err(Code::IllegalWriteset);
    }
    Ok(Action {
        chaincode: asked.name,
        rwset: Arc::new(rwset),
        endorsers: scope.endorsers(&endorsed.proposal_response_payload, &endorsed.endorsements),
    })
}

/// Whether a namespace appears twice.
fn has_duplicates(rwset: &TxRwSet) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(rwset.namespaces.len());
    !rwset
        .namespaces
        .iter()
        .all(|ns| seen.insert(ns.namespace.as_str()))
}

/// Whether anything in a namespace changes: values or metadata, public or private.
pub(crate) fn writes(ns: &NsRwSet) -> bool {
    !ns.public.writes.is_empty()
        || !ns.public.metadata_writes.is_empty()
        || ns
            .collections
            .iter()
            .any(|c| !c.hashed.hashed_writes.is_empty() || !c.hashed.metadata_writes.is_empty())
}
