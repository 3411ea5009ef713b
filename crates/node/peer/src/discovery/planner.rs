//! Endorsement plans: which peers together satisfy the policies a transaction touches
//! (Fabric: `discovery/endorsement`, `lifecycle/metadata_provider.go`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_proto::common::SignaturePolicyEnvelope;
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{
    ApplicationPolicy, ChaincodeCall, ChaincodeInterest, StaticCollectionConfig,
    collection_policy_config,
};

use super::layouts::{Descriptor, describe};
use super::membership::{Member, Membership};
use super::principals::{Principal, PrincipalSet, merge_all, satisfied_by};
use crate::channels::PeerChannel;
use crate::lifecycle::{
    ChaincodeDefinition, LIFECYCLE_NAMESPACE, implicit_collection, implicit_collection_org,
    lifecycle_policy,
};
use crate::report;

/// Plans kept. Clients choose the interests, so the number is bounded.
const MAX_PLANS: usize = 512;

/// A plan with the members it speaks of by index.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) descriptor: Descriptor,
    pub(crate) members: Vec<Member>,
}

/// Everything a plan depends on.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    channel: String,
    config: u64,
    definitions: u64,
    membership: u64,
    interest: Vec<u8>,
}

/// Makes plans and remembers them.
pub struct Planner {
    membership: Arc<Membership>,
    plans: RwLock<HashMap<Key, Arc<Planned>>>,
}

impl Planner {
    /// Plans over the given peers.
    pub fn new(membership: Arc<Membership>) -> Self {
        Self {
            membership,
            plans: RwLock::default(),
        }
    }

    pub(crate) fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// The plan for an interest; the error says in Fabric's words why there is none.
    pub(crate) fn plan(
        &self,
        channel: &PeerChannel,
        interest: &ChaincodeInterest,
    ) -> Result<Arc<Planned>, String> {
        let config = channel.config();
        let key = Key {
            channel: channel.id().to_owned(),
            config: config.sequence(),
            definitions: channel.lifecycle_generation(),
            membership: self.membership.version(),
            interest: interest.encode_to_vec(),
        };
        if let Some(plan) = self.plans.read().get(&key) {
            return Ok(plan.clone());
        }
        let planned = Arc::new(self.make(channel, &config, interest)?);
        let mut plans = self.plans.write();
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(key, planned.clone());
        Ok(planned)
    }

    fn make(
        &self,
        channel: &PeerChannel,
        config: &ChannelConfig,
        interest: &ChaincodeInterest,
    ) -> Result<Planned, String> {
        let members = self.authorised(channel, config, interest)?;
        let sets = principal_sets(channel, config, interest)?;
        let msps = config.msp_manager();
        let names: Vec<&str> = interest
            .chaincodes
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        let able: Vec<bool> = members
            .iter()
            .map(|m| {
                names
                    .iter()
                    .all(|name| self.membership.can_run(m, channel, name))
            })
            .collect();
        let satisfies = |i: usize, p: &Principal| members[i].satisfies(p, msps);
        let described = describe(&sets, members.len(), satisfies, |i| able[i]);
        let descriptor = described.map_err(|e| {
            warn_of_hidden_orgs(channel, config, &members);
            warn_of_roles_nobody_has(channel, config, &sets);
            e.to_string()
        })?;
        Ok(Planned {
            descriptor,
            members,
        })
    }

    /// The peers that may see the private data an interest reads.
    pub(crate) fn authorised(
        &self,
        channel: &PeerChannel,
        config: &ChannelConfig,
        interest: &ChaincodeInterest,
    ) -> Result<Vec<Member>, String> {
        let mut members = self.membership.of_channel(channel);
        for call in &interest.chaincodes {
            let definition = definition(channel, config, &call.name)?;
            if call.collection_names.is_empty() || call.no_private_reads {
                continue;
            }
            for name in &call.collection_names {
                let collection = collection(&definition, name).ok_or_else(|| {
                    format!(
                        "collection {name} doesn't exist in collection config for chaincode {}",
                        call.name
                    )
                })?;
                let principals = member_principals(&collection)?;
                let msps = config.msp_manager();
                members.retain(|m| principals.iter().any(|p| m.satisfies(p, msps)));
            }
        }
        Ok(members)
    }
}

/// The usual reason for too few peers: an organisation whose peers nobody named.
fn warn_of_hidden_orgs(channel: &PeerChannel, config: &ChannelConfig, members: &[Member]) {
    let orgs = config
        .application()
        .into_iter()
        .flat_map(|a| a.orgs().values());
    for org in orgs.filter(|org| !members.iter().any(|m| m.msp_id == org.msp_id)) {
        tracing::warn!(
            channel = channel.id(),
            msp_id = org.msp_id,
            "no peer of this organisation can be found: set its anchor peers in the channel \
             configuration"
        );
    }
}

/// A role such as peer can be asked for only where organisational units give roles.
fn warn_of_roles_nobody_has(channel: &PeerChannel, config: &ChannelConfig, sets: &[PrincipalSet]) {
    let asked: BTreeSet<&str> = sets
        .iter()
        .flatten()
        .filter_map(Principal::role_in)
        .collect();
    let msps = config.msp_manager();
    for msp_id in asked {
        if msps.msp(msp_id).is_some_and(|msp| !msp.has_node_roles()) {
            tracing::warn!(
                channel = channel.id(),
                msp_id,
                "the endorsement policy asks for a role, and this organisation gives none (no \
                 NodeOUs): ask for a member, for the organisational unit peer, or for the \
                 channel's own Endorsement policy"
            );
        }
    }
}

fn definition(
    channel: &PeerChannel,
    config: &ChannelConfig,
    name: &str,
) -> Result<Arc<ChaincodeDefinition>, String> {
    if name == LIFECYCLE_NAMESPACE {
        let mut definition = ChaincodeDefinition::default();
        let policy = lifecycle_policy(config).encode_to_vec();
        definition.validation.validation_parameter = policy.into();
        return Ok(Arc::new(definition));
    }
    let found = channel.definition(name).map_err(|e| report(&e))?;
    found.ok_or_else(|| {
        format!(
            "No metadata was found for chaincode {name} in channel {}",
            channel.id()
        )
    })
}

fn collection(definition: &ChaincodeDefinition, name: &str) -> Option<StaticCollectionConfig> {
    match implicit_collection_org(name) {
        Some(msp_id) => {
            let mut collection = implicit_collection(msp_id);
            let members = collection
                .member_orgs_policy
                .as_ref()
                .and_then(|p| p.payload.clone());
            let policy = members.map(|m| {
                let collection_policy_config::Payload::SignaturePolicy(policy) = m;
                ApplicationPolicy {
                    r#type: Some(PolicyType::SignaturePolicy(policy)),
                }
            });
            collection.endorsement_policy = policy;
            Some(collection)
        }
        None => definition.collection(name).cloned(),
    }
}

fn member_principals(collection: &StaticCollectionConfig) -> Result<Vec<Principal>, String> {
    let name = &collection.name;
    let policy = collection
        .member_orgs_policy
        .as_ref()
        .ok_or_else(|| format!("MemberOrgsPolicy of {name} is nil"))?;
    let Some(collection_policy_config::Payload::SignaturePolicy(policy)) = &policy.payload else {
        return Err(format!("policy of {name} is nil"));
    };
    Ok(policy
        .identities
        .iter()
        .filter_map(Principal::new)
        .collect())
}

fn principal_sets(
    channel: &PeerChannel,
    config: &ChannelConfig,
    interest: &ChaincodeInterest,
) -> Result<Vec<PrincipalSet>, String> {
    let mut sets = Vec::new();
    for call in &interest.chaincodes {
        let definition = definition(channel, config, &call.name)?;
        let mut policies = policies_of(&definition, config, call)?;
        if call.disregard_namespace_policy {
            if call.key_policies.is_empty() && policies.len() == 1 {
                let name = &call.name;
                return Err(format!(
                    "requested to disregard chaincode {name}'s policy but key and collection \
                     policies are missing, either disable DisregardNamespacePolicy or specify at \
                     least one key policy or at least one collection policy"
                ));
            }
            policies.remove(0);
        }
        for policy in &policies {
            let satisfying = satisfied_by(policy);
            if satisfying.is_empty() {
                return Err("endorsement policy cannot be satisfied".to_owned());
            }
            sets.push(satisfying);
        }
    }
    let key_policies = interest.chaincodes.iter().flat_map(|c| &c.key_policies);
    for policy in key_policies {
        let satisfying = satisfied_by(policy);
        if satisfying.is_empty() {
            return Err("state based endorsement policy cannot be satisfied".to_owned());
        }
        sets.push(satisfying);
    }
    if sets.is_empty() {
        return Err("no principal sets remained after filtering".to_owned());
    }
    Ok(merge_all(sets))
}

/// The policies of one call, each once: those of its collections, or else the chaincode's.
fn policies_of(
    definition: &ChaincodeDefinition,
    config: &ChannelConfig,
    call: &ChaincodeCall,
) -> Result<Vec<SignaturePolicyEnvelope>, String> {
    let own = || signature_policy(&definition.validation.validation_parameter, config);
    if call.collection_names.is_empty() {
        return Ok(vec![own()?]);
    }
    let mut policies: Vec<SignaturePolicyEnvelope> = Vec::new();
    for name in &call.collection_names {
        let explicit = collection(definition, name).and_then(|c| c.endorsement_policy);
        let policy = match explicit {
            Some(policy) => signature_policy(&policy.encode_to_vec().into(), config)?,
            None => own()?,
        };
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    Ok(policies)
}

fn signature_policy(
    policy: &Bytes,
    config: &ChannelConfig,
) -> Result<SignaturePolicyEnvelope, String> {
    let missing = || "policy not found".to_owned();
    let policy = ApplicationPolicy::decode(policy.clone()).map_err(|_| missing())?;
    match policy.r#type.ok_or_else(missing)? {
        PolicyType::SignaturePolicy(policy) => Ok(policy),
        PolicyType::ChannelConfigPolicyReference(path) => config
            .policies()
            .as_signature_policy(&path)
            .ok_or_else(missing),
    }
}
