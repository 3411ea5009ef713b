//! The checks that need the state before the block: duplicates, definitions, endorsement policies
//! (Fabric: the plugin dispatcher, the VSCC and `statebased`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rayon::prelude::*;
use selvage_ledger::NsRwSet;
use selvage_proto::common::SignaturePolicyEnvelope;
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{ApplicationPolicy, TxValidationCode as Code};

use super::message::{Action, Content, Opened, writes};
use super::scope::Scope;
use super::{StateView, ValidateError};
use crate::lifecycle::{
    self, ChaincodeDefinition, CollectionRule, DEFAULT_VALIDATION_PLUGIN, LifecycleError,
    ValidationRule,
};

/// How one namespace of a transaction came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Endorsed,
    Undefined,
    Refused,
}

/// What is known of a namespace before the block.
struct Rules {
    definition: Option<Arc<ChaincodeDefinition>>,
    /// `None` when no usable definition exists.
    rule: Option<ValidationRule>,
}

/// A key whose endorsement policy may change: namespace, collection (empty for public keys), key
/// or key hash.
type KeyId<'a> = (&'a str, &'a str, &'a [u8]);

/// What the parallel half found out about an endorsed transaction.
struct Findings<'a> {
    duplicate: bool,
    /// Invoked chaincode first, then the written namespaces in the order of the read/write set.
    namespaces: Vec<(&'a str, Outcome)>,
}

/// Gives every transaction its code, all but duplicates inside the block and MVCC.
pub(super) fn judge(
    transactions: &[Opened],
    scope: &Scope,
    view: &impl StateView,
) -> Result<Vec<Code>, ValidateError> {
    let rules = all_rules(transactions, scope, view)?;
    let findings: Vec<Option<Findings<'_>>> = transactions
        .par_iter()
        .map(|tx| match &tx.content {
            Content::Endorsed(Ok(action)) => find(tx, Some(action), &rules, scope, view).map(Some),
            Content::Endorsed(Err(_)) => find(tx, None, &rules, scope, view).map(Some),
            Content::Rejected(_) | Content::Config(_) => Ok(None),
        })
        .collect::<Result<_, ValidateError>>()?;
    Ok(decide(transactions, findings))
}

/// The sequential half: a transaction that changes the policy of a key and passes its own policy
/// invalidates every later one of the block that touches the key.
fn decide(transactions: &[Opened], findings: Vec<Option<Findings<'_>>>) -> Vec<Code> {
    let mut changed: HashSet<KeyId<'_>> = HashSet::new();
    let mut codes = Vec::with_capacity(transactions.len());
    for (tx, findings) in transactions.iter().zip(findings) {
        let action = match &tx.content {
            Content::Rejected(code) => {
                codes.push(*code);
                continue;
            }
            Content::Config(_) => {
                codes.push(Code::Valid);
                continue;
            }
            Content::Endorsed(action) => action,
        };
        let Some(findings) = findings.filter(|f| !f.duplicate) else {
            codes.push(Code::DuplicateTxid);
            continue;
        };
        let action = match action {
            Ok(action) => action,
            Err(code) => {
                codes.push(*code);
                continue;
            }
        };
        codes.push(settle(action, findings, &mut changed));
    }
    codes
}

fn settle<'a>(
    action: &'a Action,
    findings: Findings<'a>,
    changed: &mut HashSet<KeyId<'a>>,
) -> Code {
    let mut code = Code::Valid;
    let mut passed = Vec::new();
    for (name, outcome) in findings.namespaces {
        let namespace = action
            .rwset
            .namespaces
            .iter()
            .find(|ns| ns.namespace == name);
        let overtaken = !changed.is_empty()
            && namespace.is_some_and(|ns| written_keys(ns).any(|key| changed.contains(&key)));
        let found = match outcome {
            Outcome::Undefined => Code::InvalidChaincode,
            Outcome::Refused => Code::EndorsementPolicyFailure,
            Outcome::Endorsed if overtaken => Code::EndorsementPolicyFailure,
            Outcome::Endorsed => {
                passed.extend(namespace);
                Code::Valid
            }
        };
        if code == Code::Valid {
            code = found;
        }
    }
    for namespace in passed {
        changed.extend(policy_keys(namespace));
    }
    code
}

/// Every key that a namespace writes, values and metadata.
fn written_keys(ns: &NsRwSet) -> impl Iterator<Item = KeyId<'_>> {
    let public = ns
        .public
        .writes
        .iter()
        .map(|w| (ns.namespace.as_str(), "", w.key.as_bytes()));
    let private = ns.collections.iter().flat_map(move |c| {
        c.hashed.hashed_writes.iter().map(|w| {
            (
                ns.namespace.as_str(),
                c.collection.as_str(),
                &w.key_hash[..],
            )
        })
    });
    public.chain(private).chain(policy_keys(ns))
}

/// Every key whose metadata, and so its policy, a namespace writes.
fn policy_keys(ns: &NsRwSet) -> impl Iterator<Item = KeyId<'_>> {
    let public = ns
        .public
        .metadata_writes
        .iter()
        .map(|w| (ns.namespace.as_str(), "", w.key.as_bytes()));
    let private = ns.collections.iter().flat_map(move |c| {
        let hashed = c.hashed.metadata_writes.iter();
        hashed.map(|w| {
            (
                ns.namespace.as_str(),
                c.collection.as_str(),
                &w.key_hash[..],
            )
        })
    });
    public.chain(private)
}

/// Definitions of all namespaces that the block writes, read once.
fn all_rules<'a>(
    transactions: &'a [Opened],
    scope: &Scope,
    view: &impl StateView,
) -> Result<HashMap<&'a str, Rules>, ValidateError> {
    let mut rules = HashMap::new();
    for tx in transactions {
        let Content::Endorsed(Ok(action)) = &tx.content else {
            continue;
        };
        for name in namespaces(action) {
            if !rules.contains_key(name) {
                rules.insert(name, read_rules(name, scope, view)?);
            }
        }
    }
    Ok(rules)
}

/// The namespaces whose policies judge a transaction.
fn namespaces(action: &Action) -> impl Iterator<Item = &str> {
    let written = action
        .rwset
        .namespaces
        .iter()
        .filter(|ns| ns.namespace != action.chaincode && writes(ns))
        .map(|ns| ns.namespace.as_str());
    std::iter::once(action.chaincode.as_str()).chain(written)
}

fn read_rules(name: &str, scope: &Scope, view: &impl StateView) -> Result<Rules, ValidateError> {
    let definition = match view.definition(name) {
        Ok(definition) => definition,
        Err(e) if e.is_ledger_failure() => return Err(ValidateError::Definition(e)),
        // A committed definition that makes no sense is the same on every peer.
        Err(e) => {
            tracing::warn!(chaincode = name, error = %e, "unusable chaincode definition");
            return Ok(Rules {
                definition: None,
                rule: None,
            });
        }
    };
    let rule = match &definition {
        Some(definition) => Some(lifecycle::validation_rule(
            name,
            definition,
            scope.config().as_ref(),
        )),
        None => legacy_rule(name, view)?,
    };
    let rule = rule.filter(|r| !r.plugin.is_empty() && !r.policy.is_empty());
    if let Some(rule) = &rule
        && rule.plugin != DEFAULT_VALIDATION_PLUGIN
    {
        return Err(ValidateError::Plugin {
            chaincode: name.to_owned(),
            plugin: rule.plugin.clone(),
        });
    }
    Ok(Rules { definition, rule })
}

fn legacy_rule(name: &str, view: &impl StateView) -> Result<Option<ValidationRule>, ValidateError> {
    let found = lifecycle::legacy_validation(name, |key| view.state("lscc", key));
    let (plugin, policy) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(e) if e.is_ledger_failure() => return Err(ValidateError::Definition(e)),
        Err(_) => return Ok(None),
    };
    let policy = policy.map_or_else(Bytes::new, application_policy);
    Ok(Some(ValidationRule { plugin, policy }))
}

fn application_policy(policy: SignaturePolicyEnvelope) -> Bytes {
    let policy = ApplicationPolicy {
        r#type: Some(PolicyType::SignaturePolicy(policy)),
    };
    policy.encode_to_vec().into()
}

fn find<'a>(
    tx: &Opened,
    action: Option<&'a Action>,
    rules: &HashMap<&str, Rules>,
    scope: &Scope,
    view: &impl StateView,
) -> Result<Findings<'a>, ValidateError> {
    let duplicate = view
        .has_transaction(&tx.tx_id)
        .map_err(ValidateError::State)?;
    let mut found = Findings {
        duplicate,
        namespaces: Vec::new(),
    };
    let Some(action) = action.filter(|_| !duplicate) else {
        return Ok(found);
    };
    for name in namespaces(action) {
        let Some(known) = rules.get(name) else {
            continue;
        };
        let outcome = match &known.rule {
            None => Outcome::Undefined,
            Some(rule) => {
                let mut check = Check {
                    action,
                    known,
                    rule,
                    scope,
                    view,
                    passed: Vec::new(),
                };
                match check.namespace(name)? {
                    true => Outcome::Endorsed,
                    false => Outcome::Refused,
                }
            }
        };
        found.namespaces.push((name, outcome));
    }
    Ok(found)
}

/// The endorsement check of one namespace of one transaction.
struct Check<'a, V> {
    action: &'a Action,
    known: &'a Rules,
    rule: &'a ValidationRule,
    scope: &'a Scope,
    view: &'a V,
    /// Collections whose policy held; the empty name stands for the chaincode's own policy.
    passed: Vec<&'a str>,
}

impl<'a, V: StateView> Check<'a, V> {
    /// Whether the endorsers may write everything the namespace writes. At least one policy is
    /// evaluated, whatever is written.
    fn namespace(&mut self, name: &str) -> Result<bool, ValidateError> {
        let written = self
            .action
            .rwset
            .namespaces
            .iter()
            .find(|ns| ns.namespace == name);
        let mut judged = false;
        for (ns, collection, key) in written.into_iter().flat_map(written_keys) {
            let parameter = self.parameter(ns, collection, key)?;
            let holds = match parameter {
                Some(policy) => self.scope.satisfied(&policy, &self.action.endorsers),
                None => self.collection(collection),
            };
            if !holds {
                return Ok(false);
            }
            judged = true;
        }
        Ok(judged
            || self
                .scope
                .satisfied(&self.rule.policy, &self.action.endorsers))
    }

    /// The policy that the key's metadata names, in the form of an application policy.
    fn parameter(
        &self,
        ns: &str,
        collection: &str,
        key: &[u8],
    ) -> Result<Option<Bytes>, ValidateError> {
        let parameter = self
            .view
            .validation_parameter(ns, collection, key)
            .map_err(ValidateError::State)?;
        // A parameter that cannot be read stops the channel in Fabric. Every peer holds the same
        // bytes, so here it is a policy that nobody satisfies.
        Ok(parameter.filter(|p| !p.is_empty()).map(|parameter| {
            SignaturePolicyEnvelope::decode(parameter)
                .map_or_else(|_| Bytes::new(), application_policy)
        }))
    }

    /// The policy of a collection, or of the chaincode where there is none; evaluated once.
    fn collection(&mut self, collection: &'a str) -> bool {
        if self.passed.contains(&collection) {
            return true;
        }
        let mut policy = self.rule.policy.clone();
        let mut name = "";
        if !collection.is_empty()
            && let Some(definition) = &self.known.definition
        {
            match lifecycle::collection_rule(definition, collection, self.scope.config().as_ref()) {
                CollectionRule::Undefined => return false,
                CollectionRule::Policy(own) if !own.is_empty() => {
                    policy = own;
                    name = collection;
                }
                CollectionRule::Policy(_) => {}
            }
        }
        if self.passed.contains(&name) {
            return true;
        }
        let holds = self.scope.satisfied(&policy, &self.action.endorsers);
        if holds {
            self.passed.push(name);
        }
        holds
    }
}

/// Marks later copies of a transaction id among the transactions that are still valid. Only
/// endorsed transactions take part.
pub(super) fn mark_duplicates(transactions: &[Opened], codes: &mut [Code]) {
    let mut seen = HashSet::new();
    for (tx, code) in transactions.iter().zip(codes) {
        let endorsed = matches!(tx.content, Content::Endorsed(_));
        if endorsed && *code == Code::Valid && !seen.insert(tx.tx_id.as_str()) {
            *code = Code::DuplicateTxid;
        }
    }
}

/// What a reader of the state says when it fails, as the lifecycle readers want it.
impl From<LifecycleError> for ValidateError {
    fn from(e: LifecycleError) -> Self {
        Self::Definition(e)
    }
}
