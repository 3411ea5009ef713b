//! Transactions.

use bytes::Bytes;
use selvage_crypto::Certificate;
use selvage_proto::Message as _;
use selvage_proto::common::{Envelope, HeaderType};
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, ProposalResponsePayload, Transaction,
};
use selvage_proto::tx::OpenEnvelope;
use serde::Serialize;

use super::codes::{CodeView, code};
use super::config::{self, ConfigView};
use super::rwset::{NamespaceView, namespaces};
use super::value::ValueView;

/// Somebody who signed something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IdentityView {
    /// The id of the organisation's membership service.
    pub msp_id: String,
    /// The name in the certificate.
    pub common_name: String,
    /// The organisational units in the certificate; among them the role.
    pub units: Vec<String>,
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
}

impl IdentityView {
    /// Reads a serialised identity as far as it goes.
    pub(super) fn decode(bytes: &Bytes) -> Self {
        let Ok(identity) = SerializedIdentity::decode(bytes.clone()) else {
            return Self::default();
        };
        let mut view = Self {
            msp_id: identity.mspid,
            ..Self::default()
        };
        if let Ok(certificate) = Certificate::from_pem(&identity.id_bytes) {
            certificate.common_name().clone_into(&mut view.common_name);
            let units = certificate.organizational_units().into_iter();
            view.units = units.map(ToOwned::to_owned).collect();
            view.serial = hex::encode(certificate.serial());
        }
        view
    }

    /// A BFT consenter that is named by its number.
    pub(super) fn consenter(number: u32) -> Self {
        Self {
            common_name: format!("consenter {number}"),
            ..Self::default()
        }
    }
}

/// What a chaincode answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResponseView {
    /// 200 for success.
    pub status: i32,
    /// A text.
    pub message: String,
    /// The value returned.
    pub payload: ValueView,
}

/// An event a chaincode set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// The chaincode.
    pub chaincode: String,
    /// The event's name.
    pub name: String,
    /// Its payload.
    pub payload: ValueView,
}

/// A transaction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TransactionView {
    /// Its place in the block.
    pub index: usize,
    /// Its id; empty for configurations.
    pub id: String,
    /// Fabric's name for its type: `ENDORSER_TRANSACTION`, `CONFIG`.
    pub r#type: String,
    /// The channel.
    pub channel: String,
    /// The time its sender wrote into it (seconds since 1970).
    pub time: Option<i64>,
    /// Its size in bytes.
    pub size: usize,
    /// Who sent it.
    pub creator: IdentityView,
    /// Whether it is valid, and why not; nothing when the block comes from an orderer.
    pub validation: Option<CodeView>,
    /// The chaincode it calls.
    pub chaincode: String,
    /// The chaincode's version when it was endorsed.
    pub chaincode_version: String,
    /// The function it calls.
    pub function: String,
    /// The function's arguments.
    pub args: Vec<ValueView>,
    /// Who endorsed it.
    pub endorsers: Vec<IdentityView>,
    /// What the chaincode answered.
    pub response: Option<ResponseView>,
    /// What it read and wrote.
    pub namespaces: Vec<NamespaceView>,
    /// The event it set.
    pub event: Option<EventView>,
    /// The configuration it brings, when it is one.
    pub config: Option<ConfigView>,
    /// What could not be decoded.
    pub problem: Option<String>,
}

/// Decodes a transaction. `validation` is its byte in the block's filter.
pub fn transaction(raw: &Bytes, index: usize, validation: Option<u8>) -> TransactionView {
    let mut view = TransactionView {
        index,
        size: raw.len(),
        validation: validation.map(code),
        ..TransactionView::default()
    };
    let opened = Envelope::decode(raw.clone()).and_then(OpenEnvelope::open);
    let envelope = match opened {
        Ok(envelope) => envelope,
        Err(error) => {
            view.problem = Some(format!("envelope: {error}"));
            return view;
        }
    };
    let channel = &envelope.header.channel;
    view.id.clone_from(&channel.tx_id);
    view.channel.clone_from(&channel.channel_id);
    view.time = channel.timestamp.as_ref().map(|t| t.seconds);
    view.creator = IdentityView::decode(&envelope.header.signature.creator);
    let kind = HeaderType::try_from(channel.r#type).ok();
    view.r#type = kind.map_or_else(
        || format!("TYPE_{}", channel.r#type),
        |t| t.as_str_name().to_owned(),
    );
    match kind {
        Some(HeaderType::EndorserTransaction) => {
            if let Err(problem) = fill_endorsed(&mut view, &envelope.data) {
                view.problem = Some(problem);
            }
        }
        Some(HeaderType::Config) => {
            let (config, problem) = config::view(&channel.channel_id, &envelope.data);
            view.config = Some(config);
            view.problem = problem;
        }
        _ => {}
    }
    view
}

fn fill_endorsed(view: &mut TransactionView, data: &Bytes) -> Result<(), String> {
    let failed = |what: &'static str| move |e: prost::DecodeError| format!("{what}: {e}");
    let transaction = Transaction::decode(data.clone()).map_err(failed("transaction"))?;
    let action = transaction.actions.into_iter().next();
    let action = action.ok_or("the transaction holds no action")?;
    let payload = ChaincodeActionPayload::decode(action.payload).map_err(failed("action"))?;
    fill_call(view, payload.chaincode_proposal_payload).map_err(failed("call"))?;
    let endorsed = payload.action.unwrap_or_default();
    let endorsers = endorsed.endorsements.iter();
    view.endorsers = endorsers
        .map(|e| IdentityView::decode(&e.endorser))
        .collect();
    let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload)
        .map_err(failed("response"))?;
    let action = ChaincodeAction::decode(response.extension).map_err(failed("result"))?;
    if let Some(id) = action.chaincode_id {
        view.chaincode = id.name;
        view.chaincode_version = id.version;
    }
    view.response = action.response.map(|r| ResponseView {
        status: r.status,
        message: r.message,
        payload: ValueView::new(&r.payload),
    });
    let (namespaces, problem) = namespaces(&action.results);
    view.namespaces = namespaces;
    if !action.events.is_empty() {
        let event = ChaincodeEvent::decode(action.events).map_err(failed("event"))?;
        view.event = Some(EventView {
            chaincode: event.chaincode_id,
            name: event.event_name,
            payload: ValueView::new(&event.payload),
        });
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn fill_call(view: &mut TransactionView, payload: Bytes) -> Result<(), prost::DecodeError> {
    let payload = ChaincodeProposalPayload::decode(payload)?;
    let spec = ChaincodeInvocationSpec::decode(payload.input)?;
    let spec = spec.chaincode_spec.unwrap_or_default();
    view.chaincode = spec.chaincode_id.unwrap_or_default().name;
    let args = spec.input.unwrap_or_default().args;
    let mut args = args.iter();
    if let Some(function) = args.next() {
        view.function = String::from_utf8_lossy(function).into_owned();
    }
    view.args = args.map(|a| ValueView::new(a)).collect();
    Ok(())
}
