//! The tree of policies, addressed by paths like `/Channel/Application/Writers`.
//!
//! Fabric's words: policy manager, signature policy, implicit meta policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvage_identity::policy::valid_identities;
use selvage_identity::{Identity, MspManager, Policy, PolicyError, SignedData};
use selvage_proto::Message as _;
use selvage_proto::common::implicit_meta_policy::Rule;
use selvage_proto::common::policy::PolicyType;
use selvage_proto::common::signature_policy::{NOutOf, Type};
use selvage_proto::common::{
    ConfigGroup, ImplicitMetaPolicy, SignaturePolicy, SignaturePolicyEnvelope,
};

use crate::error::ConfigError;
use crate::names::CHANNEL;

mod missing;

/// The policies of one group and, below it, of its groups.
#[derive(Clone)]
pub struct PolicyTree {
    /// Without a leading slash: `Channel/Application`.
    path: String,
    policies: BTreeMap<String, Arc<ChannelPolicy>>,
    children: BTreeMap<String, PolicyTree>,
    msps: Arc<MspManager>,
}

impl std::fmt::Debug for PolicyTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.policies.keys().collect();
        f.debug_struct("PolicyTree")
            .field("path", &self.path)
            .field("policies", &names)
            .finish_non_exhaustive()
    }
}

impl PolicyTree {
    /// Compiles every policy of a channel. Fails on the first that does not compile.
    pub(crate) fn new(root: &ConfigGroup, msps: &Arc<MspManager>) -> Result<Self, ConfigError> {
        Self::build(CHANNEL.to_owned(), root, msps)
    }

    fn build(
        path: String,
        group: &ConfigGroup,
        msps: &Arc<MspManager>,
    ) -> Result<Self, ConfigError> {
        let mut children = BTreeMap::new();
        for (name, child) in &group.groups {
            let child = Self::build(format!("{path}/{name}"), child, msps)?;
            children.insert(name.clone(), child);
        }
        let mut tree = Self {
            path,
            policies: BTreeMap::new(),
            children,
            msps: msps.clone(),
        };
        for (name, config) in &group.policies {
            let wrong = |reason: String| ConfigError::Policy {
                path: format!("/{}/{name}", tree.path),
                reason,
            };
            let policy = config.policy.as_ref();
            let policy = policy.ok_or_else(|| wrong("was nil".to_owned()))?;
            let compiled = tree.compile(policy).map_err(wrong)?;
            tree.policies.insert(name.clone(), Arc::new(compiled));
        }
        Ok(tree)
    }

    fn compile(&self, policy: &selvage_proto::common::Policy) -> Result<ChannelPolicy, String> {
        let value: Bytes = policy.value.clone();
        match PolicyType::try_from(policy.r#type) {
            Ok(PolicyType::ImplicitMeta) => {
                let definition = ImplicitMetaPolicy::decode(value).map_err(|e| e.to_string())?;
                Ok(ChannelPolicy::Implicit(self.implicit(&definition)?))
            }
            Ok(PolicyType::Signature) => {
                let definition =
                    SignaturePolicyEnvelope::decode(value).map_err(|e| e.to_string())?;
                let policy = selvage_identity::policy::compile(&definition, self.msps.clone())
                    .map_err(|e| e.to_string())?;
                Ok(ChannelPolicy::Signature { definition, policy })
            }
            _ => Err(format!("has unknown policy type: {}", policy.r#type)),
        }
    }

    fn implicit(&self, definition: &ImplicitMetaPolicy) -> Result<ImplicitMeta, String> {
        let name = &definition.sub_policy;
        let children = self.children.iter();
        let sub_policies: Vec<(String, Option<Arc<ChannelPolicy>>)> = children
            .map(|(group, tree)| (group.clone(), tree.lookup(name)))
            .collect();
        let count = sub_policies.len();
        let required = match Rule::try_from(definition.rule) {
            _ if count == 0 => 0,
            Ok(Rule::Any) => 1,
            Ok(Rule::All) => count,
            Ok(Rule::Majority) => count / 2 + 1,
            // Fabric leaves the threshold of a rule it does not know at zero, which accepts anyone.
            Err(_) => return Err(format!("unknown rule {}", definition.rule)),
        };
        Ok(ImplicitMeta {
            sub_policy: name.clone(),
            sub_policies,
            required,
            msps: self.msps.clone(),
        })
    }

    /// The tree of a group below this one.
    pub fn child(&self, groups: &[&str]) -> Option<&Self> {
        match groups {
            [] => Some(self),
            [first, rest @ ..] => self.children.get(*first)?.child(rest),
        }
    }

    /// A policy by name. A name that starts with a slash is a full path and has to lie in this
    /// group; others are relative to it and may lead through groups (`Orderer/Writers`).
    pub fn get(&self, name: &str) -> Option<Arc<dyn Policy>> {
        self.lookup(name).map(|p| p as Arc<dyn Policy>)
    }

    /// The same policy as a single signature policy, for those who plan endorsements.
    /// `None` when there is no such policy or one below it is missing.
    pub fn as_signature_policy(&self, name: &str) -> Option<SignaturePolicyEnvelope> {
        self.lookup(name)?.convert()
    }

    /// As [`Self::get`], for those who ask more of it than a judgement.
    pub(crate) fn lookup(&self, name: &str) -> Option<Arc<ChannelPolicy>> {
        let relative = match name.strip_prefix('/') {
            Some(absolute) => absolute.strip_prefix(&self.path)?.strip_prefix('/')?,
            None => name,
        };
        if let Some(policy) = self.policies.get(relative) {
            return Some(policy.clone());
        }
        let (group, rest) = relative.split_once('/')?;
        // A second slash would make the rest look absolute.
        if rest.starts_with('/') {
            return None;
        }
        self.children.get(group)?.lookup(rest)
    }

    /// The identities behind the valid signatures, each once, in the order given. Every policy of
    /// the tree may be asked about the result, so that a signature is verified once and not per
    /// policy.
    pub fn valid_identities(&self, signed: &[SignedData]) -> Vec<Arc<Identity>> {
        valid_identities(&self.msps, signed)
    }
}

/// Says whose signatures came with a message, for an error text: the organisations and names of
/// the valid ones, and how many were not.
pub(crate) fn describe_signers(
    msps: &MspManager,
    signed: &[SignedData],
    valid: &[Arc<Identity>],
) -> String {
    if signed.is_empty() {
        return "nobody".to_owned();
    }
    let name = |identity: &Arc<Identity>| {
        let subject = identity.certificate().common_name();
        format!("{} of {}", subject, identity.msp_id())
    };
    let mut parts: Vec<String> = valid.iter().map(name).collect();
    let unknown = signed
        .iter()
        .filter(|s| msps.deserialize(&s.identity).is_err())
        .count();
    let invalid = signed.len().saturating_sub(unknown + valid.len());
    if unknown > 0 {
        parts.push(format!("{unknown} identity not known to the channel"));
    }
    if invalid > 0 {
        parts.push(format!("{invalid} signature that is invalid or repeated"));
    }
    parts.join(", ")
}

/// A policy of the tree.
pub(crate) enum ChannelPolicy {
    Signature {
        definition: SignaturePolicyEnvelope,
        policy: Arc<dyn Policy>,
    },
    Implicit(ImplicitMeta),
}

/// So many of the child groups' policies of one name. A child without that policy counts as
/// refusing.
pub(crate) struct ImplicitMeta {
    sub_policy: String,
    /// By the child group's name.
    sub_policies: Vec<(String, Option<Arc<ChannelPolicy>>)>,
    required: usize,
    msps: Arc<MspManager>,
}

impl Policy for ChannelPolicy {
    fn evaluate(&self, signed: &[SignedData]) -> Result<(), PolicyError> {
        match self {
            Self::Signature { policy, .. } => policy.evaluate(signed),
            // All policies below judge by the same identities: verify each signature once.
            Self::Implicit(meta) => self.evaluate_identities(&valid_identities(&meta.msps, signed)),
        }
    }

    fn evaluate_identities(&self, identities: &[Arc<Identity>]) -> Result<(), PolicyError> {
        let meta = match self {
            Self::Signature { policy, .. } => return policy.evaluate_identities(identities),
            Self::Implicit(meta) => meta,
        };
        let mut satisfied = 0;
        for policy in meta.sub_policies.iter().filter_map(|(_, p)| p.as_ref()) {
            if satisfied == meta.required {
                break;
            }
            if policy.evaluate_identities(identities).is_ok() {
                satisfied += 1;
            }
        }
        if satisfied == meta.required {
            return Ok(());
        }
        Err(PolicyError::ImplicitMeta {
            satisfied,
            required: meta.required,
            sub_policy: meta.sub_policy.clone(),
        })
    }
}

impl ChannelPolicy {
    /// Flattens implicit meta policies into one signature policy with deduplicated principals.
    fn convert(&self) -> Option<SignaturePolicyEnvelope> {
        let meta = match self {
            Self::Signature { definition, .. } => return Some(definition.clone()),
            Self::Implicit(meta) => meta,
        };
        let mut identities = Vec::new();
        let mut rules = Vec::new();
        for (_, policy) in &meta.sub_policies {
            let part = policy.as_ref()?.convert()?;
            let mut places = Vec::with_capacity(part.identities.len());
            for principal in part.identities {
                let known = identities.iter().position(|p| *p == principal);
                places.push(known.unwrap_or(identities.len()));
                if known.is_none() {
                    identities.push(principal);
                }
            }
            rules.push(renumber(part.rule?, &places)?);
        }
        let n = i32::try_from(meta.required).ok()?;
        Some(SignaturePolicyEnvelope {
            version: 0,
            rule: Some(SignaturePolicy {
                r#type: Some(Type::NOutOf(NOutOf { n, rules })),
            }),
            identities,
        })
    }
}

fn renumber(rule: SignaturePolicy, places: &[usize]) -> Option<SignaturePolicy> {
    let renumbered = match rule.r#type? {
        Type::SignedBy(index) => {
            let place = *places.get(usize::try_from(index).ok()?)?;
            Type::SignedBy(i32::try_from(place).ok()?)
        }
        Type::NOutOf(NOutOf { n, rules }) => Type::NOutOf(NOutOf {
            n,
            rules: rules
                .into_iter()
                .map(|r| renumber(r, places))
                .collect::<Option<_>>()?,
        }),
    };
    Some(SignaturePolicy {
        r#type: Some(renumbered),
    })
}
