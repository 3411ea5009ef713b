//! Signature policies: whose signatures are enough.
//!
//! [`compile`] makes one from Fabric's protobuf form, [`dsl::parse`] reads the text form people
//! write (`AND('Org1.peer', 'Org2.peer')`), and [`build`] holds the usual ones.

pub mod build;
pub mod dsl;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use selvage_proto::common::signature_policy::Type;
use selvage_proto::common::{SignaturePolicy, SignaturePolicyEnvelope};

use crate::{Identity, MspManager, Principal};

/// How deep rules may nest; the decoder of protobuf messages stops earlier.
const MAX_DEPTH: usize = 100;

/// Why a policy is not satisfied or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The signatures do not suffice.
    #[error("signature set did not satisfy policy")]
    NotSatisfied,
    /// Too few of the policies that an implicit meta policy gathers are satisfied.
    #[error(
        "implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this \
         policy requires {required} of the '{sub_policy}' sub-policies to be satisfied"
    )]
    ImplicitMeta {
        /// How many were.
        satisfied: usize,
        /// How many must be.
        required: usize,
        /// Their name in each group below.
        sub_policy: String,
    },
    /// The policy itself makes no sense.
    #[error("{0}")]
    Malformed(String),
}

/// A message, who says to have signed it, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedData {
    /// What was signed.
    pub data: Bytes,
    /// Who, serialised.
    pub identity: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// Says whether signatures suffice.
pub trait Policy: Send + Sync {
    /// Judges signatures. Those that do not verify, and repeated ones, are as if absent.
    ///
    /// # Errors
    /// [`PolicyError`] when the rest does not suffice.
    fn evaluate(&self, signed: &[SignedData]) -> Result<(), PolicyError>;

    /// Judges signers whose signatures were verified; each must be there once.
    ///
    /// # Errors
    /// [`PolicyError`] when they do not suffice.
    fn evaluate_identities(&self, identities: &[Arc<Identity>]) -> Result<(), PolicyError>;
}

/// The signers whose signatures verify, each once, in the order given.
///
/// As in Fabric a signer that already counted is not verified again, and one whose signature
/// failed may still count by a later one. Nobody's validity is judged here: principals do that.
pub fn valid_identities(manager: &MspManager, signed: &[SignedData]) -> Vec<Arc<Identity>> {
    let mut seen = HashSet::new();
    let mut valid = Vec::with_capacity(signed.len());
    for one in signed {
        let Ok(identity) = manager.deserialize(&one.identity) else {
            continue;
        };
        let key = (identity.msp_id().to_owned(), identity.id().to_owned());
        if seen.contains(&key) || identity.verify(&one.data, &one.signature).is_err() {
            continue;
        }
        seen.insert(key);
        valid.push(identity);
    }
    valid
}

/// Makes a policy of Fabric's form.
///
/// # Errors
/// [`PolicyError::Malformed`] for a version other than 0, a missing rule, or a rule that names a
/// principal which is not there.
pub fn compile(
    envelope: &SignaturePolicyEnvelope,
    manager: Arc<MspManager>,
) -> Result<Arc<dyn Policy>, PolicyError> {
    if envelope.version != 0 {
        return malformed(format!(
            "This evaluator only understands messages of version 0, but version was {}",
            envelope.version
        ));
    }
    let principals: Vec<Principal> = envelope.identities.iter().map(Principal::new).collect();
    let rule = compile_rule(envelope.rule.as_ref(), principals.len(), 0)?;
    Ok(Arc::new(SignaturePolicies {
        rule,
        principals,
        manager,
    }))
}

fn malformed<T>(reason: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::Malformed(reason.into()))
}

fn compile_rule(
    rule: Option<&SignaturePolicy>,
    principals: usize,
    depth: usize,
) -> Result<Rule, PolicyError> {
    if depth > MAX_DEPTH {
        return malformed("the rules of the policy nest too deep");
    }
    let Some(rule) = rule else {
        return malformed("Empty policy element");
    };
    match &rule.r#type {
        None => malformed("Unknown type: <nil>:<nil>"),
        Some(Type::SignedBy(index)) => match usize::try_from(*index) {
            Ok(index) if index < principals => Ok(Rule::SignedBy(index)),
            _ => malformed(format!(
                "identity index out of range, requested {index}, but identities length is \
                 {principals}"
            )),
        },
        Some(Type::NOutOf(gate)) => {
            let rules = gate
                .rules
                .iter()
                .map(|r| compile_rule(Some(r), principals, depth + 1));
            Ok(Rule::OutOf(gate.n, rules.collect::<Result<_, _>>()?))
        }
    }
}

enum Rule {
    SignedBy(usize),
    OutOf(i32, Vec<Rule>),
}

struct SignaturePolicies {
    rule: Rule,
    principals: Vec<Principal>,
    manager: Arc<MspManager>,
}

impl SignaturePolicies {
    /// Takes signers greedily from left to right and never back, exactly as Fabric does: a policy
    /// that another assignment of signers would satisfy may fail.
    fn satisfied(&self, rule: &Rule, signers: &[Arc<Identity>], used: &mut Vec<bool>) -> bool {
        match rule {
            Rule::SignedBy(index) => {
                let principal = &self.principals[*index];
                let fits =
                    |i: &usize| !used[*i] && signers[*i].satisfies_decoded(principal).is_ok();
                let found = (0..signers.len()).find(fits);
                if let Some(i) = found {
                    used[i] = true;
                }
                found.is_some()
            }
            Rule::OutOf(needed, rules) => {
                let mut count = 0i32;
                for rule in rules {
                    let mut attempt = used.clone();
                    if self.satisfied(rule, signers, &mut attempt) {
                        count += 1;
                        *used = attempt;
                    }
                }
                count >= *needed
            }
        }
    }
}

impl Policy for SignaturePolicies {
    fn evaluate(&self, signed: &[SignedData]) -> Result<(), PolicyError> {
        self.evaluate_identities(&valid_identities(&self.manager, signed))
    }

    fn evaluate_identities(&self, identities: &[Arc<Identity>]) -> Result<(), PolicyError> {
        let mut used = vec![false; identities.len()];
        match self.satisfied(&self.rule, identities, &mut used) {
            true => Ok(()),
            false => Err(PolicyError::NotSatisfied),
        }
    }
}
