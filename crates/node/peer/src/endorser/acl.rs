//! Access control: may this caller use this resource (Fabric: `core/aclmgmt`, `core/policy`).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_channel::{AclRule, ChannelConfig};
use selvage_identity::{Identity, MspManager, SignedData, SignerFault};
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{MspPrincipal, MspRole};

use crate::report;

/// Who asks, and the signature that proves it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// What was signed.
    pub(crate) data: Bytes,
    /// The serialized identity.
    pub(crate) creator: Bytes,
    pub(crate) signature: Bytes,
    /// Set when the signature has been verified against this channel's identity of the caller.
    pub(crate) verified: Option<Arc<Identity>>,
}

impl Caller {
    fn signed(&self) -> SignedData {
        SignedData {
            data: self.data.clone(),
            identity: self.creator.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// A caller who may not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Denied {
    /// Fabric's words.
    pub(crate) text: String,
    /// The cause in plain words, and what helps.
    pub(crate) advice: Option<String>,
}

impl Denied {
    /// For answers that have room for Fabric's words only: the log gets the advice.
    pub(crate) fn logged(self) -> String {
        let Self { text, advice } = self;
        tracing::warn!(error = text, advice, "access denied");
        text
    }
}

/// The peer's own organisation, which guards what belongs to no channel.
#[derive(Clone)]
pub struct LocalMsp {
    msp_id: String,
    msps: Arc<MspManager>,
}

impl LocalMsp {
    /// `msps` knows the own organisation and nobody else.
    pub fn new(msp_id: &str, msps: Arc<MspManager>) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            msps,
        }
    }

    /// The own organisation's MSP id.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    pub(crate) fn msps(&self) -> &Arc<MspManager> {
        &self.msps
    }

    fn check(&self, policy: &str, role: MspRoleType, caller: &Caller) -> Result<(), String> {
        let context = format!("during channelless check policy with policy [{policy}]");
        let identity = self.msps.deserialize(&caller.creator).map_err(|e| {
            format!(
                "Failed deserializing proposal creator {context}: [{}]",
                report(&e)
            )
        })?;
        let role = MspRole {
            msp_identifier: self.msp_id.clone(),
            role: role as i32,
        };
        let principal = MspPrincipal {
            principal_classification: Classification::Role as i32,
            principal: role.encode_to_vec().into(),
        };
        identity.satisfies(&principal).map_err(|e| {
            format!(
                "Failed verifying that proposal's creator satisfies local MSP principal \
                 {context}: [{}]",
                report(&e)
            )
        })?;
        identity
            .verify(&caller.data, &caller.signature)
            .map_err(|e| report(&e))
    }
}

/// Checks one resource. `channel` is the configuration of the named channel, if the peer has it.
pub(crate) fn check(
    local: &LocalMsp,
    channel_id: &str,
    channel: Option<&ChannelConfig>,
    resource: &str,
    caller: &Caller,
) -> Result<(), Denied> {
    let rule = match channel {
        Some(channel) => channel.acl_rule(resource),
        None => selvage_channel::default_rule(resource),
    };
    judge(local, channel_id, channel, resource, rule.as_ref(), caller).map_err(|text| Denied {
        text,
        advice: rule.and_then(|rule| advice(local, channel_id, channel, resource, &rule, caller)),
    })
}

/// What a caller whom a rule keeps out can do.
fn advice(
    local: &LocalMsp,
    channel_id: &str,
    channel: Option<&ChannelConfig>,
    resource: &str,
    rule: &AclRule,
    caller: &Caller,
) -> Option<String> {
    let msps = match (rule, channel) {
        (AclRule::Channel(_), Some(channel)) => channel.msp_manager(),
        (AclRule::Channel(_), None) => return not_joined(channel_id),
        _ => local.msps(),
    };
    if let Some(fault) = SignerFault::find(msps, &caller.signed()) {
        return Some(fault.to_string());
    }
    let own = &local.msp_id;
    Some(match rule {
        AclRule::PeerAdmins => format!(
            "{resource} is for administrators of the peer's organisation: use an identity of {own} \
             that has OU=admin in its subject, or that its MSP lists under admincerts"
        ),
        AclRule::PeerMembers => {
            format!("{resource} is for the peer's own organisation: use an identity of {own}")
        }
        AclRule::Channel(path) => format!(
            "policy {path} guards {resource}, and this identity's organisation and role do not \
             satisfy it: use one that does, or change the policy by a configuration update"
        ),
    })
}

/// Channels have no longer names.
const LONGEST_CHANNEL_ID: usize = 249;

/// What helps who names a channel that this peer does not have.
pub(crate) fn not_joined(channel_id: &str) -> Option<String> {
    (!channel_id.is_empty()).then(|| {
        let channel_id: String = channel_id.chars().take(LONGEST_CHANNEL_ID).collect();
        format!(
            "this peer has not joined a channel '{channel_id}': correct the channel's name, ask a \
             peer that has it, or join this one to it"
        )
    })
}

fn judge(
    local: &LocalMsp,
    channel_id: &str,
    channel: Option<&ChannelConfig>,
    resource: &str,
    rule: Option<&AclRule>,
    caller: &Caller,
) -> Result<(), String> {
    match rule {
        None => Err(format!("Unmapped policy for {resource}")),
        Some(AclRule::PeerAdmins) => local.check("Admins", MspRoleType::Admin, caller),
        Some(AclRule::PeerMembers) => local.check("Members", MspRoleType::Member, caller),
        Some(AclRule::Channel(path)) => {
            if channel_id.is_empty() {
                let context = format!("during channelless check policy with policy [{path}]");
                return Err(format!(
                    "Failed getting local MSP principal {context}: [MSP Principal role [{path}] \
                     not recognized]"
                ));
            }
            let channel = channel.ok_or_else(|| {
                format!("Failed to get policy manager for channel [{channel_id}]")
            })?;
            on_channel(channel_id, channel, resource, path, caller)
        }
    }
}

fn on_channel(
    channel_id: &str,
    channel: &ChannelConfig,
    resource: &str,
    path: &str,
    caller: &Caller,
) -> Result<(), String> {
    let application = channel.application();
    let configured = application.is_some_and(|a| a.acls().any(|(name, _)| name == resource));
    let context = if configured {
        format!("failed evaluating policy on signed data during check policy [{path}]")
    } else {
        format!(
            "Failed evaluating policy on signed data during check policy on channel [{channel_id}] \
             with policy [{path}]"
        )
    };
    let Some(policy) = channel.policy(path) else {
        return Err(format!("{context}: [policy {path} not found]"));
    };
    let judged = match &caller.verified {
        Some(identity) => policy.evaluate_identities(std::slice::from_ref(identity)),
        None => policy.evaluate(&[caller.signed()]),
    };
    judged.map_err(|e| format!("{context}: [{}]", report(&e)))
}
