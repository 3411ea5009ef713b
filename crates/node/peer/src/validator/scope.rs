//! Everything of one channel configuration that validation uses, with what was computed from it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_identity::{Identity, Policy, policy};
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{ApplicationPolicy, Endorsement};

/// Policies kept compiled. Key-level policies come from chaincode, so the number is not ours.
const MAX_POLICIES: usize = 1024;

/// One configuration of a channel, and the identities and policies already derived from it. A new
/// configuration gets a new scope, so nothing here is ever stale.
pub struct Scope {
    config: Arc<ChannelConfig>,
    policies: RwLock<HashMap<Bytes, Option<Arc<dyn Policy>>>>,
}

impl Scope {
    /// The scope of a configuration.
    pub fn new(config: Arc<ChannelConfig>) -> Self {
        Self {
            config,
            policies: RwLock::default(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ChannelConfig> {
        &self.config
    }

    /// Whether `creator` is a valid identity of this channel that signed `message`.
    pub(crate) fn signed(
        &self,
        channel_id: &str,
        creator: &Bytes,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if channel_id != self.config.channel_id() {
            return false;
        }
        let Ok(identity) = self.config.msp_manager().deserialize(creator) else {
            return false;
        };
        identity.validate().is_ok() && identity.verify(message, signature).is_ok()
    }

    /// The identities that signed `response` followed by themselves. Those that cannot be read or
    /// whose signature fails are left out; a second signature of an identity counts only if the
    /// first one failed (Fabric: `SignatureSetToValidIdentities`).
    pub(crate) fn endorsers(
        &self,
        response: &Bytes,
        endorsements: &[Endorsement],
    ) -> Vec<Arc<Identity>> {
        let mut valid: Vec<Arc<Identity>> = Vec::with_capacity(endorsements.len());
        for endorsement in endorsements {
            let Ok(identity) = self.config.msp_manager().deserialize(&endorsement.endorser) else {
                continue;
            };
            if valid
                .iter()
                .any(|v| v.msp_id() == identity.msp_id() && v.id() == identity.id())
            {
                continue;
            }
            let message: [&[u8]; 2] = [response, &endorsement.endorser];
            if identity
                .verify_parts(&message, &endorsement.signature)
                .is_ok()
            {
                valid.push(identity);
            }
        }
        valid
    }

    /// Whether the identities satisfy an encoded `ApplicationPolicy`. One that makes no sense is
    /// satisfied by nobody.
    pub(crate) fn satisfied(&self, policy: &Bytes, identities: &[Arc<Identity>]) -> bool {
        let known = self.policies.read().get(policy).cloned();
        let compiled = known.unwrap_or_else(|| {
            let compiled = self.compile(policy);
            let mut policies = self.policies.write();
            if policies.len() >= MAX_POLICIES {
                policies.clear();
            }
            policies.insert(policy.clone(), compiled.clone());
            compiled
        });
        compiled.is_some_and(|policy| policy.evaluate_identities(identities).is_ok())
    }

    fn compile(&self, policy: &Bytes) -> Option<Arc<dyn Policy>> {
        match ApplicationPolicy::decode(policy.clone()).ok()?.r#type? {
            PolicyType::SignaturePolicy(envelope) => {
                policy::compile(&envelope, self.config.msp_manager().clone()).ok()
            }
            PolicyType::ChannelConfigPolicyReference(path) => self.config.policy(&path),
        }
    }
}
