//! What a policy still lacks, for whoever has to collect the signatures.

use std::sync::Arc;

use selvage_crypto::Certificate;
use selvage_identity::{Identity, Policy as _};
use selvage_proto::Message as _;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::signature_policy::Type;
use selvage_proto::common::{
    MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope,
};
use selvage_proto::msp::SerializedIdentity;

use super::{ChannelPolicy, ImplicitMeta};

/// Groups or principals named of one policy at most: a refusal stays readable in a large channel.
const NAMED: usize = 10;

impl ChannelPolicy {
    /// Whose signatures would satisfy the policy, where these identities do not:
    /// `1 of Org2 (Org2MSP.admin), Org3 (Org3MSP.admin)`.
    pub(crate) fn missing(&self, identities: &[Arc<Identity>]) -> String {
        let missing = match self {
            Self::Signature { definition, .. } => of_signatures(definition, identities),
            Self::Implicit(meta) => meta.missing(identities),
        };
        // Each principal has a signer, but one signer counts once.
        missing.unwrap_or_else(|| "a further signature".to_owned())
    }
}

impl ImplicitMeta {
    fn missing(&self, identities: &[Arc<Identity>]) -> Option<String> {
        let part = |(group, policy): &(String, Option<Arc<ChannelPolicy>>)| match policy {
            None => Some(format!("{group} (which has no policy {})", self.sub_policy)),
            Some(policy) if policy.evaluate_identities(identities).is_ok() => None,
            Some(policy) => Some(format!("{group} ({})", policy.missing(identities))),
        };
        ask(self.required, self.sub_policies.iter().map(part).collect())
    }
}

fn of_signatures(
    definition: &SignaturePolicyEnvelope,
    identities: &[Arc<Identity>],
) -> Option<String> {
    of_rule(
        definition.rule.as_ref()?,
        &definition.identities,
        identities,
    )
}

fn of_rule(
    rule: &SignaturePolicy,
    principals: &[MspPrincipal],
    identities: &[Arc<Identity>],
) -> Option<String> {
    match rule.r#type.as_ref()? {
        Type::SignedBy(index) => {
            let principal = principals.get(usize::try_from(*index).ok()?)?;
            let mut signers = identities.iter();
            let signed = signers.any(|identity| identity.satisfies(principal).is_ok());
            (!signed).then(|| name(principal))
        }
        Type::NOutOf(of) => {
            let parts = of.rules.iter();
            let parts = parts.map(|rule| of_rule(rule, principals, identities));
            ask(usize::try_from(of.n).unwrap_or(0), parts.collect())
        }
    }
}

/// So many of the parts are required; those that are satisfied already are `None`.
fn ask(required: usize, parts: Vec<Option<String>>) -> Option<String> {
    let all = parts.len();
    let mut open: Vec<String> = parts.into_iter().flatten().collect();
    let lacking = required.saturating_sub(all - open.len());
    if lacking == 0 {
        return None;
    }
    let unnamed = open.len().saturating_sub(NAMED);
    let joint = if lacking == open.len() { " and " } else { ", " };
    let choice = match joint {
        ", " => format!("{lacking} of "),
        _ => String::new(),
    };
    open.truncate(NAMED);
    let rest = match unnamed {
        0 => String::new(),
        more => format!("{joint}{more} more"),
    };
    Some(format!("{choice}{}{rest}", open.join(joint)))
}

/// A principal as policies are written: `Org1MSP.admin`.
fn name(principal: &MspPrincipal) -> String {
    let bytes = principal.principal.clone();
    let named = match Classification::try_from(principal.principal_classification) {
        Ok(Classification::Role) => MspRole::decode(bytes).ok().map(|role| {
            let kind = MspRoleType::try_from(role.role).map_or("?", |kind| kind.as_str_name());
            format!("{}.{}", role.msp_identifier, kind.to_lowercase())
        }),
        Ok(Classification::OrganizationUnit) => OrganizationUnit::decode(bytes).ok().map(|unit| {
            let name = unit.organizational_unit_identifier;
            format!("somebody of the unit {name} of {}", unit.msp_identifier)
        }),
        Ok(Classification::Identity) => SerializedIdentity::decode(bytes).ok().and_then(|one| {
            let certificate = Certificate::from_pem(&one.id_bytes).ok()?;
            Some(format!("{} of {}", certificate.common_name(), one.mspid))
        }),
        _ => None,
    };
    named.unwrap_or_else(|| "somebody whom the policy describes in a form not known".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(required: usize, open: usize, satisfied: usize, expected: Option<&str>) {
        let open = (0..open).map(|n| Some(format!("o{n}")));
        let parts = open.chain((0..satisfied).map(|_| None)).collect();
        assert_eq!(ask(required, parts).as_deref(), expected);
    }

    #[test]
    fn what_is_lacking_is_counted_and_named() {
        check(1, 1, 0, Some("o0"));
        check(2, 2, 0, Some("o0 and o1"));
        check(2, 2, 1, Some("1 of o0, o1"));
        check(2, 1, 1, Some("o0"));
        check(1, 3, 1, None);
        check(0, 3, 0, None);
        let many = "1 of o0, o1, o2, o3, o4, o5, o6, o7, o8, o9, 2 more";
        check(1, 12, 0, Some(many));
    }
}
