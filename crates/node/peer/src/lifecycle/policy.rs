//! Which endorsement policy governs a namespace and a collection
//! (Fabric: `deployedcc_infoprovider.go`).

use bytes::Bytes;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::signature_policy::{NOutOf, Type as Rule};
use selvage_proto::common::{MspPrincipal, MspRole, SignaturePolicy, SignaturePolicyEnvelope};
use selvage_proto::peer::application_policy::Type as PolicyType;
use selvage_proto::peer::{
    ApplicationPolicy, CollectionPolicyConfig, StaticCollectionConfig, collection_policy_config,
};

use super::{
    ChaincodeDefinition, DEFAULT_VALIDATION_PLUGIN, LIFECYCLE_ENDORSEMENT_REF, LIFECYCLE_NAMESPACE,
};

/// Prefix of the names of implicit collections.
const IMPLICIT_PREFIX: &str = "_implicit_org_";

/// What these rules need to know of the channel configuration.
pub trait PolicyScope {
    /// Whether the configuration defines a policy under that absolute path.
    fn has_policy(&self, path: &str) -> bool;
    /// The application organisations: name of the configuration group, MSP id.
    fn application_orgs(&self) -> Vec<(String, String)>;
}

impl PolicyScope for ChannelConfig {
    fn has_policy(&self, path: &str) -> bool {
        self.policy(path).is_some()
    }

    fn application_orgs(&self) -> Vec<(String, String)> {
        let orgs = self
            .application()
            .into_iter()
            .flat_map(|a| a.orgs().values());
        orgs.map(|org| (org.name.clone(), org.msp_id.clone()))
            .collect()
    }
}

/// Plugin and encoded `ApplicationPolicy` that judge writes to a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationRule {
    /// Name of the validation plugin.
    pub plugin: String,
    /// Encoded `ApplicationPolicy`.
    pub policy: Bytes,
}

/// What judges writes to a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectionRule {
    /// This encoded `ApplicationPolicy`.
    Policy(Bytes),
    /// The collection does not exist in the definition, or names an unknown organisation.
    Undefined,
}

/// The rule of a committed definition. `_lifecycle` is governed by the channel itself.
pub fn validation_rule(
    name: &str,
    definition: &ChaincodeDefinition,
    scope: &impl PolicyScope,
) -> ValidationRule {
    if name == LIFECYCLE_NAMESPACE {
        return ValidationRule {
            plugin: DEFAULT_VALIDATION_PLUGIN.to_owned(),
            policy: lifecycle_policy(scope).encode_to_vec().into(),
        };
    }
    ValidationRule {
        plugin: definition.validation.validation_plugin.clone(),
        policy: definition.validation.validation_parameter.clone(),
    }
}

/// The rule of a collection: its own policy, or else the chaincode's; implicit collections follow
/// the organisation's `Endorsement` policy.
pub fn collection_rule(
    definition: &ChaincodeDefinition,
    collection: &str,
    scope: &impl PolicyScope,
) -> CollectionRule {
    if let Some(msp_id) = implicit_collection_org(collection) {
        return implicit_policy(msp_id, scope).map_or(CollectionRule::Undefined, |policy| {
            CollectionRule::Policy(policy.encode_to_vec().into())
        });
    }
    match definition.collection(collection) {
        None => CollectionRule::Undefined,
        Some(config) => CollectionRule::Policy(match &config.endorsement_policy {
            Some(policy) => policy.encode_to_vec().into(),
            None => definition.validation.validation_parameter.clone(),
        }),
    }
}

/// The policy for writes to `_lifecycle`: the channel's own, or a member of the majority of
/// organisations where the channel defines none.
pub fn lifecycle_policy(scope: &impl PolicyScope) -> ApplicationPolicy {
    if scope.has_policy(LIFECYCLE_ENDORSEMENT_REF) {
        return reference(LIFECYCLE_ENDORSEMENT_REF);
    }
    let orgs: Vec<String> = scope
        .application_orgs()
        .into_iter()
        .map(|(_, msp)| msp)
        .collect();
    let majority = orgs.len() / 2 + 1;
    signature(signed_by(majority, MspRoleType::Member, orgs))
}

/// The policy for writes to the implicit collection of `msp_id`; `None` when the channel has no
/// such organisation.
pub fn implicit_policy(msp_id: &str, scope: &impl PolicyScope) -> Option<ApplicationPolicy> {
    let group = scope
        .application_orgs()
        .into_iter()
        .find(|(_, msp)| msp == msp_id)?
        .0;
    let path = format!("/Channel/Application/{group}/Endorsement");
    if scope.has_policy(&path) {
        return Some(reference(&path));
    }
    Some(signature(signed_by(
        1,
        MspRoleType::Member,
        vec![msp_id.to_owned()],
    )))
}

/// The MSP id inside the name of an implicit collection.
pub fn implicit_collection_org(collection: &str) -> Option<&str> {
    collection.strip_prefix(IMPLICIT_PREFIX)
}

/// The implicit collection of an organisation, with no peers to disseminate to.
pub fn implicit_collection(msp_id: &str) -> StaticCollectionConfig {
    let members = signed_by(1, MspRoleType::Member, vec![msp_id.to_owned()]);
    StaticCollectionConfig {
        name: format!("{IMPLICIT_PREFIX}{msp_id}"),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(members)),
        }),
        ..Default::default()
    }
}

fn reference(path: &str) -> ApplicationPolicy {
    ApplicationPolicy {
        r#type: Some(PolicyType::ChannelConfigPolicyReference(path.to_owned())),
    }
}

fn signature(policy: SignaturePolicyEnvelope) -> ApplicationPolicy {
    ApplicationPolicy {
        r#type: Some(PolicyType::SignaturePolicy(policy)),
    }
}

/// `n` of the given organisations, each through anyone in `role`.
fn signed_by(n: usize, role: MspRoleType, mut msp_ids: Vec<String>) -> SignaturePolicyEnvelope {
    msp_ids.sort();
    let rules = (0..msp_ids.len())
        .map(|i| SignaturePolicy {
            r#type: Some(Rule::SignedBy(i as i32)),
        })
        .collect();
    let identities = msp_ids
        .into_iter()
        .map(|msp_identifier| MspPrincipal {
            principal_classification: Classification::Role as i32,
            principal: MspRole {
                msp_identifier,
                role: role as i32,
            }
            .encode_to_vec()
            .into(),
        })
        .collect();
    let rule = SignaturePolicy {
        r#type: Some(Rule::NOutOf(NOutOf { n: n as i32, rules })),
    };
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    }
}

#[cfg(test)]
mod tests {
    use selvage_proto::peer::{CollectionConfig, CollectionConfigPackage, collection_config};

    use super::*;

    struct Scope(&'static [&'static str]);

    impl PolicyScope for Scope {
        fn has_policy(&self, path: &str) -> bool {
            self.0.contains(&path)
        }
        fn application_orgs(&self) -> Vec<(String, String)> {
            vec![
                ("Two".into(), "TwoMSP".into()),
                ("One".into(), "OneMSP".into()),
            ]
        }
    }

    fn definition() -> ChaincodeDefinition {
        let own = |name: &str, endorsement_policy| CollectionConfig {
            payload: Some(collection_config::Payload::StaticCollectionConfig(
                StaticCollectionConfig {
                    name: name.into(),
                    endorsement_policy,
                    ..Default::default()
                },
            )),
        };
        let mut definition = ChaincodeDefinition::default();
        definition.validation.validation_parameter = Bytes::from_static(b"cc");
        definition.collections = CollectionConfigPackage {
            config: vec![own("plain", None), own("strict", Some(reference("/p")))],
        };
        definition
    }

    fn check(collection: &str, scope: &Scope, expected: CollectionRule) {
        assert_eq!(
            collection_rule(&definition(), collection, scope),
            expected,
            "{collection}"
        );
    }

    #[test]
    fn collections_follow_their_own_policy_or_the_chaincode() {
        let none = Scope(&[]);
        check(
            "plain",
            &none,
            CollectionRule::Policy(Bytes::from_static(b"cc")),
        );
        let strict = reference("/p").encode_to_vec();
        check("strict", &none, CollectionRule::Policy(strict.into()));
        check("other", &none, CollectionRule::Undefined);
        check("_implicit_org_ThreeMSP", &none, CollectionRule::Undefined);
        let member = signature(signed_by(1, MspRoleType::Member, vec!["OneMSP".into()]));
        check(
            "_implicit_org_OneMSP",
            &none,
            CollectionRule::Policy(member.encode_to_vec().into()),
        );
        const PATH: &str = "/Channel/Application/One/Endorsement";
        let by_name = reference(PATH).encode_to_vec();
        check(
            "_implicit_org_OneMSP",
            &Scope(&[PATH]),
            CollectionRule::Policy(by_name.into()),
        );
    }

    #[test]
    fn lifecycle_falls_back_to_a_majority_of_members() {
        let PolicyType::SignaturePolicy(policy) = lifecycle_policy(&Scope(&[])).r#type.unwrap()
        else {
            panic!("not a signature policy");
        };
        let Some(Rule::NOutOf(rule)) = policy.rule.unwrap().r#type else {
            panic!("not a threshold");
        };
        assert_eq!((rule.n, rule.rules.len()), (2, 2));
        let first = MspRole::decode(policy.identities[0].principal.clone()).unwrap();
        assert_eq!(first.msp_identifier, "OneMSP");
        let scope = Scope(&[LIFECYCLE_ENDORSEMENT_REF]);
        assert_eq!(
            lifecycle_policy(&scope),
            reference(LIFECYCLE_ENDORSEMENT_REF)
        );
    }
}
