//! Endorsement: a signed proposal is checked, run, and its outcome signed
//! (Fabric: `core/endorser`, `core/handlers/auth`).

mod acl;
mod interest;
mod private;
mod service;
mod unpack;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::Certificate;
use selvage_env::Clock;
use selvage_identity::{Identity, SignerFault, SigningIdentity};
use selvage_ledger::Simulation;
use selvage_net::Moment;
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeEvent, ChaincodeId, ChaincodeInterest, Endorsement, ProposalResponse,
    ProposalResponsePayload, Response, SignedProposal,
};

pub use acl::LocalMsp;
pub(crate) use acl::{Caller, Denied, check as acl_check, not_joined};
pub use service::EndorserService;
pub(crate) use unpack::decode;
#[cfg(test)]
pub(crate) use unpack::tx_id;

use self::unpack::Unpacked;
use crate::chaincode_glue::{Chaincodes, Proposed, SYSTEM_VERSION, Tx, is_system};
use crate::channels::PeerChannel;
use crate::lifecycle::DEFAULT_ENDORSEMENT_PLUGIN;
use crate::report;

/// From here on a response of chaincode is an error, and its event is dropped.
const ERROR_THRESHOLD: i32 = 400;
/// From here on it is a failure that is answered with its payload.
const ERROR: i32 = 500;

/// A proposal that is not run at all. The client gets a bare gRPC error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    /// Fabric's words, which programs match.
    pub(crate) text: String,
    /// The cause in plain words, and what helps; it goes beside Fabric's words, never into them.
    pub(crate) advice: Option<String>,
    /// Turned away before it was looked into, because the identity has expired or the clock is off:
    /// another peer's clock may say otherwise.
    pub(crate) at_the_door: bool,
}

impl Refusal {
    fn at_the_door(text: String, advice: String) -> Self {
        Self {
            text,
            advice: Some(advice),
            at_the_door: true,
        }
    }

    fn because(text: String, advice: impl Into<String>) -> Self {
        Self {
            text,
            advice: Some(advice.into()),
            at_the_door: false,
        }
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self {
            text,
            advice: None,
            at_the_door: false,
        }
    }
}

impl From<Denied> for Refusal {
    fn from(Denied { text, advice }: Denied) -> Self {
        Self {
            text,
            advice,
            at_the_door: false,
        }
    }
}

/// What helps whose proposal cannot be read.
const ILL_FORMED: &str = "the proposal is not built as Fabric's protocol prescribes: make it with \
                          one of Fabric's SDKs, or compare it with Fabric's messages \
                          (fabric-protos, peer/proposal.proto)";
/// What helps whose proposal comes a second time.
const REPEATED: &str = "the ledger has a transaction of this id: make a new proposal, with a nonce \
                        of its own, for each transaction";

/// What an [`Endorser`] is made of.
pub struct EndorserParts {
    /// Runs chaincode.
    pub chaincodes: Arc<Chaincodes>,
    /// Signs endorsements.
    pub signer: Arc<SigningIdentity>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How far a client's clock may be off (`peer.authentication.timewindow`).
    pub time_window: Duration,
}

/// Endorses proposals. Clones share everything.
#[derive(Clone)]
pub struct Endorser {
    parts: Arc<EndorserParts>,
}

/// What a simulation came to.
struct Outcome {
    response: Response,
    event: Option<ChaincodeEvent>,
    results: Bytes,
    interest: Option<ChaincodeInterest>,
    version: String,
    plugin: String,
}

impl Endorser {
    /// An endorser.
    pub fn new(parts: EndorserParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// Checks and runs a proposal. What goes wrong while it runs is in the response.
    pub(crate) async fn process(
        &self,
        signed: SignedProposal,
    ) -> Result<ProposalResponse, Refusal> {
        let unpacked = Unpacked::open(signed).map_err(|text| Refusal::because(text, ILL_FORMED))?;
        let id = unpacked.channel_id();
        let channel = match id {
            "" => None,
            id => self.parts.chaincodes.channel(id),
        };
        self.check_at_the_door(&unpacked, channel.as_deref())?;
        if channel.is_none() && !id.is_empty() {
            return Ok(failed(format!("channel '{id}' not found"), not_joined(id)));
        }
        let caller = self.check(&unpacked, channel.as_deref())?;
        Ok(self
            .run(unpacked, channel, caller)
            .await
            .unwrap_or_else(|message| failed(message, None)))
    }

    /// Fabric's authentication filters: they know nothing of channels and come first.
    fn check_at_the_door(
        &self,
        unpacked: &Unpacked,
        channel: Option<&PeerChannel>,
    ) -> Result<(), Refusal> {
        let now = self.parts.clock.unix_nanos();
        let creator = &unpacked.signature_header.creator;
        let expires = self.expires_at(creator, channel);
        if let Some(end) = expires.filter(|end| now > end.saturating_mul(1_000_000_000)) {
            let seconds = (now / 1_000_000_000).saturating_sub(end);
            return Err(Refusal::at_the_door(
                "proposal client identity expired".to_owned(),
                SignerFault::Expired { seconds }.to_string(),
            ));
        }
        let timestamp = unpacked.channel_header.timestamp.unwrap_or_default();
        let claimed = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
        let window = self.parts.time_window;
        if (claimed - i128::from(now)).unsigned_abs() <= window.as_nanos() {
            return Ok(());
        }
        let behind = claimed < i128::from(now);
        let claimed = timestamp.seconds.clamp(-62_135_596_800, 9_000_000_000);
        Err(Refusal::at_the_door(
            format!(
                "request unauthorized due to incorrect timestamp {}, peer time {}, \
                 peer.authentication.timewindow {}",
                rfc3339(claimed.saturating_mul(1_000_000_000)),
                rfc3339(now),
                selvage_channel::format_duration(window)
            ),
            format!(
                "the client's clock is {} s {} this peer's: set the client's clock, or the peer's \
                 if that is the wrong one (NTP keeps both right)",
                (now / 1_000_000_000).abs_diff(claimed),
                if behind { "behind" } else { "ahead of" }
            ),
        ))
    }

    /// When an identity expires, in seconds; `None` when it is no certificate. Identities of
    /// strangers are looked at too.
    fn expires_at(&self, creator: &Bytes, channel: Option<&PeerChannel>) -> Option<i64> {
        let known = match channel {
            Some(channel) => channel.config().msp_manager().deserialize(creator),
            None => self
                .parts
                .chaincodes
                .local_msp()
                .msps()
                .deserialize(creator),
        };
        if let Ok(identity) = known {
            return Some(identity.expires_at());
        }
        let identity = SerializedIdentity::decode(creator.clone()).ok()?;
        let certificate = Certificate::from_pem(&identity.id_bytes).ok()?;
        Some(certificate.not_after())
    }

    /// Headers, identity, signature, uniqueness and access, in Fabric's order.
    fn check(&self, unpacked: &Unpacked, channel: Option<&PeerChannel>) -> Result<Caller, Refusal> {
        let caller = self.check_creator(unpacked, channel)?;
        let Some(channel) = channel else {
            return Ok(caller);
        };
        let tx_id = unpacked.tx_id();
        if channel.ledger().tx_exists(tx_id).map_err(|e| report(&e))? {
            let creator = hex::encode(&caller.creator);
            let text = format!("duplicate transaction found [{tx_id}]. Creator [{creator}]");
            return Err(Refusal::because(text, REPEATED));
        }
        if !is_system(&unpacked.chaincode) {
            let config = channel.config();
            let local = self.parts.chaincodes.local_msp();
            acl_check(local, channel.id(), Some(&config), "peer/Propose", &caller)?;
        }
        Ok(caller)
    }

    fn check_creator(
        &self,
        unpacked: &Unpacked,
        channel: Option<&PeerChannel>,
    ) -> Result<Caller, Refusal> {
        let refused = |reason: String| format!("error validating proposal: {reason}");
        unpacked
            .check_headers()
            .map_err(|reason| Refusal::because(refused(reason), ILL_FORMED))?;
        let id = unpacked.channel_id();
        let creator = unpacked.signature_header.creator.clone();
        let deserialized = match channel {
            Some(channel) => channel.config().msp_manager().deserialize(&creator),
            None => self
                .parts
                .chaincodes
                .local_msp()
                .msps()
                .deserialize(&creator),
        };
        let identity: Arc<Identity> = deserialized.map_err(|error| {
            let error_text = report(&error);
            let advice = SignerFault::unusable(error).to_string();
            tracing::warn!(channel = id, error = %error_text, %advice, "access denied");
            let reason =
                format!("access denied: channel [{id}] creator org unknown, creator is malformed");
            Refusal::because(refused(reason), advice)
        })?;
        let SignedProposal {
            proposal_bytes: data,
            signature,
        } = unpacked.signed.clone();
        let proved = identity
            .validate()
            .and_then(|()| identity.verify(&data, &signature));
        if let Err(error) = proved {
            let msp_id = identity.msp_id();
            let advice = SignerFault::of(&identity, &data, &signature).map(|f| f.to_string());
            tracing::warn!(channel = id, msp_id, error = %report(&error), advice, "access denied");
            return Err(Refusal {
                text: refused(format!(
                    "access denied: channel [{id}] creator org [{msp_id}]"
                )),
                advice,
                at_the_door: false,
            });
        }
        Ok(Caller {
            data,
            creator,
            signature,
            // Channel policies judge identities of the channel, not of the peer.
            verified: channel.is_some().then_some(identity),
        })
    }

    async fn run(
        &self,
        unpacked: Unpacked,
        channel: Option<Arc<PeerChannel>>,
        caller: Caller,
    ) -> Result<ProposalResponse, String> {
        let on_channel = channel.is_some();
        let hash = unpacked.hash();
        let name = unpacked.chaincode.clone();
        let outcome = self.simulate(unpacked, channel, caller).await?;
        let payload = payload(&hash, &name, &outcome);
        let Outcome {
            response,
            interest,
            plugin,
            ..
        } = outcome;
        let unendorsed = ProposalResponse {
            response: Some(response.clone()),
            ..Default::default()
        };
        if response.status >= ERROR {
            return Ok(ProposalResponse {
                payload,
                interest,
                ..unendorsed
            });
        }
        if !on_channel || response.status >= ERROR_THRESHOLD {
            return Ok(unendorsed);
        }
        if plugin != DEFAULT_ENDORSEMENT_PLUGIN {
            return Err(format!(
                "endorsing with plugin failed: plugin with name {plugin} could not be used: plugin \
                 with name {plugin} wasn't found"
            ));
        }
        let endorser = self.parts.signer.serialized();
        let signature = self.parts.signer.sign_parts(&[&payload, &endorser]).into();
        Ok(ProposalResponse {
            version: 1,
            payload,
            interest,
            endorsement: Some(Endorsement {
                endorser,
                signature,
            }),
            ..unendorsed
        })
    }

    async fn simulate(
        &self,
        unpacked: Unpacked,
        channel: Option<Arc<PeerChannel>>,
        caller: Caller,
    ) -> Result<Outcome, String> {
        let chaincodes = &self.parts.chaincodes;
        let (name, channel_id) = (unpacked.chaincode.clone(), unpacked.channel_id().to_owned());
        let proposed = Arc::new(Proposed {
            tx_id: unpacked.tx_id().to_owned(),
            chaincode: name.clone(),
            signed: unpacked.signed,
            caller,
        });
        let mut tx = match channel.clone() {
            // The other two look at the ledger themselves.
            Some(channel) => {
                let simulate = !matches!(name.as_str(), "qscc" | "cscc");
                Tx::on_channel(chaincodes.clone(), proposed, channel, simulate)
                    .map_err(|e| report(&e))?
            }
            None => Tx::without_channel(chaincodes.clone(), proposed),
        };
        let (version, plugin) = if is_system(&name) {
            (
                SYSTEM_VERSION.to_owned(),
                DEFAULT_ENDORSEMENT_PLUGIN.to_owned(),
            )
        } else {
            let found = chaincodes.runnable(&mut tx, &name).map_err(|e| {
                format!(
                    "make sure the chaincode {name} has been successfully defined on channel \
                     {channel_id} and try again: {e}"
                )
            })?;
            let endorsement = &found.definition.endorsement;
            (
                endorsement.version.clone(),
                endorsement.endorsement_plugin.clone(),
            )
        };
        let within = |e: String| format!("error in simulation: {e}");
        let (response, event) = chaincodes
            .execute(&mut tx, &name, unpacked.input)
            .await
            .map_err(within)?;
        let event = event.filter(|_| response.status < ERROR_THRESHOLD);
        let tx_id = tx.proposed.tx_id.clone();
        let (results, interest) = match (tx.finish(), channel) {
            (Some(simulation), Some(channel)) => {
                let simulation = simulation.map_err(|e| within(report(&e)))?;
                self.keep_private(&simulation, &channel, tx_id)
                    .await
                    .map_err(within)?;
                let interest = interest::of(&simulation).map_err(within)?;
                (simulation.results, Some(interest))
            }
            _ => (Bytes::new(), None),
        };
        Ok(Outcome {
            response,
            event,
            results,
            interest,
            version,
            plugin,
        })
    }

    async fn keep_private(
        &self,
        simulation: &Simulation,
        channel: &Arc<PeerChannel>,
        tx_id: String,
    ) -> Result<(), String> {
        match &simulation.private {
            Some(sets) => private::keep(channel, tx_id, sets.clone()).await,
            None => Ok(()),
        }
    }
}

/// The bytes that endorsers sign and that must be the same on every peer.
fn payload(hash: &[u8; 32], name: &str, outcome: &Outcome) -> Bytes {
    let action = ChaincodeAction {
        results: outcome.results.clone(),
        events: outcome
            .event
            .as_ref()
            .map(|e| e.encode_to_vec().into())
            .unwrap_or_default(),
        response: Some(outcome.response.clone()),
        chaincode_id: Some(ChaincodeId {
            path: String::new(),
            name: name.to_owned(),
            version: outcome.version.clone(),
        }),
    };
    let payload = ProposalResponsePayload {
        proposal_hash: Bytes::copy_from_slice(hash),
        extension: action.encode_to_vec().into(),
    };
    payload.encode_to_vec().into()
}

/// The peer's own answer when a proposal could not be run. It has room for Fabric's words only, so
/// advice is for the log.
fn failed(message: String, advice: Option<String>) -> ProposalResponse {
    tracing::warn!(error = message, advice, "Failed to invoke chaincode");
    ProposalResponse {
        response: Some(Response {
            status: ERROR,
            message,
            payload: Bytes::new(),
        }),
        ..Default::default()
    }
}

/// `2026-11-22T19:45:00Z`, without fractions as Go's RFC 3339 prints them.
fn rfc3339(nanos: i64) -> String {
    let full = Moment(nanos).rfc3339().to_string();
    match full.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => full,
    }
}
