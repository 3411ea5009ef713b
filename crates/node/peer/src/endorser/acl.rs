//! Access control: may this caller use this resource (Fabric: `core/aclmgmt`, `core/policy`).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_channel::{AclRule, ChannelConfig};
use selvage_identity::{Identity, MspManager, SignedData};
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
) -> Result<(), String> {
    let rule = match channel {
        Some(channel) => channel.acl_rule(resource),
        None => selvage_channel::default_rule(resource),
    };
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
        None => policy.evaluate(&[SignedData {
            data: caller.data.clone(),
            identity: caller.creator.clone(),
            signature: caller.signature.clone(),
        }]),
    };
    judged.map_err(|e| format!("{context}: [{}]", report(&e)))
}
