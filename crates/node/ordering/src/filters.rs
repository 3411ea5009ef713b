//! The filters every message passes before it is ordered.
//!
//! Pure functions of message, configuration and time. Order, texts and status codes are those of
//! Fabric's `orderer/common/msgprocessor` and `broadcast`, because gateways and tools match on
//! them.

use bytes::Bytes;
use selvage_channel::names::{CHANNEL_WRITERS, ORDERER_WRITERS};
use selvage_channel::{ChannelConfig, OrdererConfig};
use selvage_crypto::{Certificate, in_full};
use selvage_identity::{PolicyError, SignedData, SignerFault, SigningIdentity};
use selvage_proto::common::{
    ChannelHeader, ConfigEnvelope, Envelope, Header, HeaderType, Payload, SignatureHeader, Status,
};
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::orderer::consensus_type::State;
use selvage_proto::{Message as _, Timestamp};

use crate::block::NONCE_BYTES;
use crate::cutter::message_size;
use crate::maintenance;

/// Why a message is refused. [`Refusal::status`], the text, which is Fabric's, and
/// [`Refusal::advice`] are what the client is told.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The message is so malformed that its channel is unknown.
    #[error("could not determine channel ID: {0}")]
    Malformed(String),
    /// This node does not have the channel.
    #[error("channel does not exist")]
    UnknownChannel,
    /// Finished configurations are made by orderers, not sent by clients.
    #[error("message is of type that cannot be processed directly")]
    NotDirect,
    /// Only system channels had these.
    #[error("message is of type that is no longer supported")]
    Unsupported,
    /// The channel is changing its consensus.
    #[error("normal transactions are rejected: maintenance mode")]
    Maintenance,
    /// No payload.
    #[error("Message was empty")]
    Empty,
    /// Above the channel's `AbsoluteMaxBytes`.
    #[error("message payload is {size} bytes and exceeds maximum allowed {max} bytes")]
    TooLarge {
        /// Payload and signature together.
        size: u32,
        /// The channel's limit.
        max: u32,
    },
    /// The signer's certificate is past its end.
    #[error("broadcast client identity expired")]
    Expired {
        /// How long ago it ended.
        seconds: i64,
    },
    /// The channel lacks the policy that should judge.
    #[error("could not find policy {0}")]
    NoPolicy(&'static str),
    /// The channel has no orderer section, so nothing can be judged.
    #[error("channel has no orderer configuration")]
    NoOrderer,
    /// The signer may not write.
    #[error("{error}: permission denied")]
    Denied {
        /// The policy's verdict.
        error: PolicyError,
        /// The policy.
        policy: &'static str,
        /// What is wrong with signature or certificate, if that is why.
        fault: Option<SignerFault>,
    },
    /// A configuration update that does not pass a stage of its checks.
    #[error("config update for existing channel did not pass {stage} checks: {inner}")]
    Update {
        /// `initial`, `final` or `maintenance`.
        stage: &'static str,
        /// What did not pass. Part of the text, because the text is all a client gets.
        inner: Box<Refusal>,
    },
    /// A configuration update that the current configuration does not allow.
    #[error("error applying config update to existing channel '{channel}': {reason}")]
    NotApplicable {
        /// The channel.
        channel: String,
        /// The element and what is wrong with it.
        reason: String,
    },
    /// A change that maintenance mode does not allow.
    #[error("config transaction inspection failed: {0}")]
    Transition(String),
}

impl Refusal {
    /// The status of the broadcast response.
    pub fn status(&self) -> Status {
        match self {
            Self::Denied { .. } => Status::Forbidden,
            Self::Maintenance => Status::ServiceUnavailable,
            Self::Update { inner, .. } => inner.status(),
            _ => Status::BadRequest,
        }
    }

    /// The cause in plain words, where the text does not say it, and what helps. It goes behind the
    /// text, with which programs compare the beginning of what they are told.
    pub fn advice(&self) -> Option<String> {
        let text = match self {
            Self::Update { inner, .. } => return inner.advice(),
            Self::Expired { seconds } => SignerFault::Expired { seconds: *seconds }.to_string(),
            Self::Denied {
                fault: Some(fault), ..
            } => fault.to_string(),
            Self::Denied { policy, .. } => format!(
                "signature and certificate are good, but the signer's organisation and role do not \
                 satisfy {policy}: use an identity that does, or change the policy by a \
                 configuration update"
            ),
            Self::TooLarge { .. } => "send less in one message, or raise AbsoluteMaxBytes of \
                                      Orderer/BatchSize by a configuration update"
                .to_owned(),
            Self::Malformed(_) | Self::Empty => "the message is not built as Fabric's protocol \
                                                 prescribes: make it with one of Fabric's SDKs, or \
                                                 compare it with Fabric's messages \
                                                 (fabric-protos, common/common.proto)"
                .to_owned(),
            Self::NotDirect => "send the update (CONFIG_UPDATE), of which the orderer makes the \
                                configuration"
                .to_owned(),
            Self::Unsupported => {
                "create and join channels through the orderers' participation API \
                                  instead"
                    .to_owned()
            }
            Self::Maintenance => "the channel is changing its consensus: send it again when its \
                                  administrators have set the state back to STATE_NORMAL"
                .to_owned(),
            // The whole text of the first is what programs compare; the others say what is wrong.
            Self::UnknownChannel
            | Self::NoPolicy(_)
            | Self::NoOrderer
            | Self::NotApplicable { .. }
            | Self::Transition(_) => return None,
        };
        Some(text)
    }
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be ordered as it is.
    Normal,
    /// To be turned into a new configuration first.
    ConfigUpdate,
}

/// A message taken apart once.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The message.
    pub envelope: Envelope,
    /// Its channel header.
    pub channel: ChannelHeader,
    /// What the creator signed.
    pub signed: SignedData,
}

impl Incoming {
    /// Takes a message apart.
    pub fn open(envelope: Envelope) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::Malformed(what.to_owned());
        let failed = |what: &str, error: prost::DecodeError| {
            Refusal::Malformed(format!("error unmarshalling {what}: {error}"))
        };
        let payload =
            Payload::decode(envelope.payload.clone()).map_err(|e| failed("Payload", e))?;
        let Header {
            channel_header,
            signature_header,
        } = payload.header.ok_or_else(|| malformed("header not set"))?;
        if channel_header.is_empty() {
            return Err(malformed("channel header not set"));
        }
        let channel =
            ChannelHeader::decode(channel_header).map_err(|e| failed("ChannelHeader", e))?;
        let signer =
            SignatureHeader::decode(signature_header).map_err(|e| failed("SignatureHeader", e))?;
        Ok(Self {
            signed: SignedData {
                data: envelope.payload.clone(),
                identity: signer.creator,
                signature: envelope.signature.clone(),
            },
            channel,
            envelope,
        })
    }

    /// What the message asks for, by its header type.
    pub fn kind(&self) -> Result<Kind, Refusal> {
        match HeaderType::try_from(self.channel.r#type) {
            Ok(HeaderType::ConfigUpdate) => Ok(Kind::ConfigUpdate),
            Ok(HeaderType::Config) => Err(Refusal::NotDirect),
            Ok(HeaderType::OrdererTransaction) => Err(Refusal::Unsupported),
            _ => Ok(Kind::Normal),
        }
    }
}

/// The filters of one orderer.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Whether expired identities are refused (where the channel's capabilities ask for it).
    /// Fabric's `General.Authentication.NoExpirationChecks` turns it off.
    pub check_expiry: bool,
    /// Consensus types that a channel may be moved to; those this orderer has an engine for.
    pub migration_targets: Vec<String>,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            check_expiry: true,
            migration_targets: Vec::new(),
        }
    }
}

/// A configuration message ready to be ordered.
#[derive(Debug, Clone)]
pub struct ConfigMessage {
    /// The envelope of type CONFIG, signed by this orderer.
    pub envelope: Envelope,
    /// The sequence of the configuration it was judged by.
    pub sequence: u64,
}

/// What the node that turns an update into a configuration contributes.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Signs the configuration message.
    pub signer: &'a SigningIdentity,
    /// Random bytes for its signature header.
    pub nonce: [u8; NONCE_BYTES],
    /// The time of day.
    pub unix_seconds: i64,
}

impl Filters {
    /// Checks a normal message and returns the sequence of the configuration that it passed.
    pub fn check_normal(
        &self,
        config: &ChannelConfig,
        message: &Incoming,
        unix_seconds: i64,
    ) -> Result<u64, Refusal> {
        let orderer = config.orderer().ok_or(Refusal::NoOrderer)?;
        let may_migrate = orderer.capabilities().consensus_type_migration();
        if may_migrate && orderer.consensus_state() != State::Normal {
            return Err(Refusal::Maintenance);
        }
        self.apply(config, orderer, message, unix_seconds)?;
        Ok(config.sequence())
    }

    /// Checks a configuration update and turns it into the configuration message to be ordered.
    pub fn process_update(
        &self,
        config: &ChannelConfig,
        message: &Incoming,
        author: Author<'_>,
    ) -> Result<ConfigMessage, Refusal> {
        let stage = |stage| {
            move |refusal| Refusal::Update {
                stage,
                inner: Box::new(refusal),
            }
        };
        let now = author.unix_seconds;
        let orderer = config.orderer().ok_or(Refusal::NoOrderer)?;
        self.apply(config, orderer, message, now)
            .map_err(stage("initial"))?;
        let proposed = config.propose_update(&message.envelope);
        let proposed = proposed.map_err(|error| Refusal::NotApplicable {
            channel: config.channel_id().to_owned(),
            reason: error.text(),
        })?;
        let envelope = config_message(config.channel_id(), &proposed, author);
        // Again, because the finished message may be too large although the update was not.
        let finished = Incoming::open(envelope)?;
        self.apply(config, orderer, &finished, now)
            .map_err(stage("final"))?;
        maintenance::inspect(config, orderer, &proposed, &self.migration_targets)
            .map_err(Refusal::Transition)
            .map_err(stage("maintenance"))?;
        Ok(ConfigMessage {
            envelope: finished.envelope,
            sequence: config.sequence(),
        })
    }

    /// Makes a configuration message anew from the update inside it, after the configuration that
    /// it was judged by has been replaced.
    pub fn reprocess_config(
        &self,
        config: &ChannelConfig,
        message: &Envelope,
        author: Author<'_>,
    ) -> Result<ConfigMessage, Refusal> {
        let malformed = |error: &dyn std::error::Error| Refusal::Malformed(in_full(error));
        let opened = selvage_channel::open_config(message);
        let (_, envelope) = opened.map_err(|e| malformed(&e))?;
        let update = envelope.last_update.unwrap_or_default();
        self.process_update(config, &Incoming::open(update)?, author)
    }

    /// Checks a finished configuration message that another orderer made: it is exactly what its
    /// update makes of the configuration in force. `unix_seconds` matters only where expiry is
    /// checked.
    pub fn check_config(
        &self,
        config: &ChannelConfig,
        message: &Incoming,
        unix_seconds: i64,
    ) -> Result<(), Refusal> {
        let orderer = config.orderer().ok_or(Refusal::NoOrderer)?;
        self.apply(config, orderer, message, unix_seconds)?;
        let malformed = |error: &dyn std::error::Error| Refusal::Malformed(in_full(error));
        let opened = selvage_channel::open_config(&message.envelope);
        let (channel, finished) = opened.map_err(|e| malformed(&e))?;
        let not_applicable = |reason: String| Refusal::NotApplicable {
            channel: config.channel_id().to_owned(),
            reason,
        };
        if channel != config.channel_id() {
            return Err(not_applicable(format!("it is for channel '{channel}'")));
        }
        let update = finished.last_update.clone().unwrap_or_default();
        let proposed = config.propose_update(&update);
        let proposed = proposed.map_err(|error| not_applicable(error.text()))?;
        if proposed.config != finished.config {
            let reason = "the update does not make this configuration";
            return Err(not_applicable(reason.to_owned()));
        }
        maintenance::inspect(config, orderer, &proposed, &self.migration_targets)
            .map_err(Refusal::Transition)
    }

    /// The filters that normal messages and updates have in common. Expiry comes before signatures,
    /// which are expensive.
    fn apply(
        &self,
        config: &ChannelConfig,
        orderer: &OrdererConfig,
        message: &Incoming,
        unix_seconds: i64,
    ) -> Result<(), Refusal> {
        if message.envelope.payload.is_empty() {
            return Err(Refusal::Empty);
        }
        let size = message_size(&message.envelope);
        let max = orderer.batch_size().absolute_max_bytes;
        if size > max {
            return Err(Refusal::TooLarge { size, max });
        }
        if self.check_expiry && orderer.capabilities().expiration_check() {
            let expires = expires_at(config, &message.signed.identity);
            if let Some(end) = expires.filter(|end| unix_seconds >= *end) {
                let seconds = unix_seconds.saturating_sub(end);
                return Err(Refusal::Expired { seconds });
            }
        }
        // In maintenance only those who may write as orderers pass, which keeps out configuration
        // changes that have nothing to do with the change of consensus.
        let path = match orderer.consensus_state() {
            State::Normal => CHANNEL_WRITERS,
            State::Maintenance => ORDERER_WRITERS,
        };
        config
            .policy(path)
            .ok_or(Refusal::NoPolicy(path))?
            .evaluate(std::slice::from_ref(&message.signed))
            .map_err(|error| Refusal::Denied {
                error,
                policy: path,
                fault: SignerFault::find(config.msp_manager(), &message.signed),
            })
    }
}

/// When an identity's certificate ends. `None` when it cannot be told, which other filters judge.
fn expires_at(config: &ChannelConfig, identity: &Bytes) -> Option<i64> {
    if let Ok(known) = config.msp_manager().deserialize(identity) {
        return Some(known.expires_at());
    }
    let serialized = SerializedIdentity::decode(identity.clone()).ok()?;
    let certificate = Certificate::from_pem(&serialized.id_bytes).ok()?;
    Some(certificate.not_after())
}

fn config_message(channel: &str, config: &ConfigEnvelope, author: Author<'_>) -> Envelope {
    let channel_header = ChannelHeader {
        r#type: HeaderType::Config as i32,
        timestamp: Some(Timestamp {
            seconds: author.unix_seconds,
            nanos: 0,
        }),
        channel_id: channel.to_owned(),
        ..Default::default()
    };
    let signature_header = SignatureHeader {
        creator: author.signer.serialized(),
        nonce: author.nonce.to_vec().into(),
    };
    let payload: Bytes = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: config.encode_to_vec().into(),
    }
    .encode_to_vec()
    .into();
    Envelope {
        signature: author.signer.sign(&payload).into(),
        payload,
    }
}
