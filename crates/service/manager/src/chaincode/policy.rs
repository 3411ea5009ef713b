//! BCS's endorsement policies in Fabric's words, and back.

use prost::Message;
use selvage_client::EndorsementPolicy;
use selvage_identity::policy::build;
use selvage_manager_api::chaincode::Policy;
use selvage_manager_api::{ApiError, ErrorCode};
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::signature_policy::Type as Rule;
use selvage_proto::common::{MspPrincipal, MspRole, OrganizationUnit, SignaturePolicyEnvelope};
use selvage_proto::peer::{ApplicationPolicy, application_policy};

use crate::fabric::Site;
use crate::network::{ChannelPlan, Network, Org, endorser};

/// Most organisations in a policy.
const MOST: usize = 100;

/// A policy, and who may or must endorse.
pub(super) struct Endorsers<'a> {
    pub(super) policy: EndorsementPolicy,
    pub(super) orgs: Vec<&'a Org>,
    /// Every one of them, not any.
    pub(super) all: bool,
}

/// Makes the policy of a request. BCS says `member` and means those who endorse: peers.
pub(super) fn endorsers<'a>(
    policy: &Policy,
    site: &'a Site,
    channel: &'a ChannelPlan,
) -> Result<Endorsers<'a>, ApiError> {
    let network = &site.network;
    let all = match policy.operation.to_ascii_uppercase().as_str() {
        "AND" => true,
        "OR" => false,
        _ => {
            return Err(ApiError::bad(
                "endorsement_policy.operation must be OR (any of the organisations) or AND (all \
                 of them)",
            ));
        }
    };
    if policy.group.is_empty() || policy.group.len() > MOST {
        return Err(ApiError::bad(format!(
            "endorsement_policy.group must name 1 to {MOST} organisations"
        )));
    }
    let mut orgs: Vec<&Org> = Vec::new();
    for wanted in &policy.group {
        match wanted.category.as_deref().unwrap_or("member") {
            "member" => {}
            "admin" => {
                return Err(ApiError::bad(
                    "endorsement_policy with category admin could never be satisfied: peers \
                     endorse, and their certificates are no administrators'; use member",
                ));
            }
            _ => return Err(ApiError::bad("category must be member")),
        }
        let id = &wanted.org_id;
        let found = network
            .members(channel)
            .find(|o| o.hash == *id || o.name == *id);
        let org = found.ok_or_else(|| {
            let id: String = id.chars().take(64).collect();
            let members: Vec<&str> = network.members(channel).map(|o| o.name.as_str()).collect();
            ApiError::new(
                ErrorCode::NoSuchOrg,
                format!(
                    "Input org {id} is not exist: the channel {} has {}",
                    channel.name,
                    members.join(", ")
                ),
            )
        })?;
        if !orgs.iter().any(|o| o.hash == org.hash) {
            orgs.push(org);
        }
    }
    let principals = orgs
        .iter()
        .map(|org| endorser::principal(network, &site.folders, org))
        .collect::<Result<Vec<_>, _>>()?;
    let rules: Vec<_> = (0i32..).take(orgs.len()).map(build::signed_by).collect();
    let needed = if all { rules.len() as i32 } else { 1 };
    let signers = build::envelope(build::n_out_of(needed, rules), principals);
    Ok(Endorsers {
        policy: EndorsementPolicy::Signers(signers),
        orgs,
        all,
    })
}

/// A committed policy as BCS shows it: `OR,org1,org2`.
pub(super) fn in_words(validation_parameter: &[u8], network: &Network) -> String {
    use application_policy::Type;
    match ApplicationPolicy::decode(validation_parameter).map(|p| p.r#type) {
        Ok(Some(Type::ChannelConfigPolicyReference(path))) => path,
        Ok(Some(Type::SignaturePolicy(policy))) => {
            simple(&policy, network).unwrap_or_else(|| "SIGNATURE".to_owned())
        }
        Ok(None) | Err(_) => String::new(),
    }
}

/// None for a policy that is not all or any of some organisations.
fn simple(policy: &SignaturePolicyEnvelope, network: &Network) -> Option<String> {
    let Some(Rule::NOutOf(gate)) = policy.rule.as_ref()?.r#type.as_ref() else {
        return None;
    };
    let word = match usize::try_from(gate.n).ok()? {
        1 => "OR",
        n if n == gate.rules.len() => "AND",
        _ => return None,
    };
    let mut words = vec![word.to_owned()];
    for rule in &gate.rules {
        let Some(Rule::SignedBy(index)) = rule.r#type else {
            return None;
        };
        let principal = policy.identities.get(usize::try_from(index).ok()?)?;
        let msp_id = organisation(principal)?;
        let org = network.peers.iter().find(|o| o.msp_id() == msp_id);
        words.push(org.map_or(msp_id, |o| o.name.clone()));
    }
    Some(words.join(","))
}

/// The MSP id of those whom a role or an organisational unit asks for.
fn organisation(principal: &MspPrincipal) -> Option<String> {
    let bytes = principal.principal.clone();
    match Classification::try_from(principal.principal_classification).ok()? {
        Classification::Role => Some(MspRole::decode(bytes).ok()?.msp_identifier),
        Classification::OrganizationUnit => {
            Some(OrganizationUnit::decode(bytes).ok()?.msp_identifier)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Folders, keys, testing};
    use selvage_identity::policy::dsl;
    use selvage_manager_api::chaincode::OrgPolicy;
    use selvage_manager_api::validate::CreateSpec;
    use std::path::Path;
    use std::sync::Arc;

    fn policy(operation: &str, orgs: &[&str], category: Option<&str>) -> Policy {
        Policy {
            operation: operation.into(),
            group: orgs
                .iter()
                .map(|o| OrgPolicy {
                    org_id: (*o).to_owned(),
                    category: category.map(str::to_owned),
                })
                .collect(),
        }
    }

    fn site(dir: &Path, node_ous: bool) -> Site {
        let spec = CreateSpec {
            node_ous,
            ..testing::spec()
        };
        Site {
            network: Arc::new(testing::named(&spec)),
            folders: Folders::new(dir.to_owned()),
        }
    }

    fn committed(text: &str) -> Vec<u8> {
        encoded(dsl::parse(text).expect("a policy"))
    }

    fn encoded(policy: SignaturePolicyEnvelope) -> Vec<u8> {
        ApplicationPolicy {
            r#type: Some(application_policy::Type::SignaturePolicy(policy)),
        }
        .encode_to_vec()
    }

    #[test]
    fn policies_are_made_and_read_back() {
        for node_ous in [true, false] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let site = site(dir.path(), node_ous);
            keys::make(&site.network, &site.folders).expect("keys");
            let channel = &site.network.channels[0];
            let hash = site.network.peers[0].hash.clone();
            for (operation, orgs, words, count) in [
                ("OR", vec![hash.as_str(), "组织机构"], "OR,org1,组织机构", 2),
                ("and", vec!["组织机构", &hash], "AND,组织机构,org1", 2),
                ("OR", vec!["org1", &hash], "OR,org1", 1),
            ] {
                let wanted = policy(operation, &orgs, Some("member"));
                let made = endorsers(&wanted, &site, channel).expect("made");
                assert_eq!((made.orgs.len(), made.all), (count, operation == "and"));
                let EndorsementPolicy::Signers(signers) = made.policy else {
                    panic!("another kind of policy");
                };
                // Peers are asked for, by the one means or the other.
                let kind = match node_ous {
                    true => Classification::Role,
                    false => Classification::OrganizationUnit,
                };
                for principal in &signers.identities {
                    assert_eq!(principal.principal_classification, kind as i32);
                }
                if node_ous && operation == "OR" && count == 1 {
                    let text = format!("OR('{hash}MSP.peer')");
                    assert_eq!(signers, dsl::parse(&text).expect("a policy"));
                }
                assert_eq!(in_words(&encoded(signers), &site.network), words);
            }
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let site = site(Path::new("nowhere"), true);
        let channel = &site.network.channels[0];
        for (wanted, part) in [
            (policy("XOR", &["org1"], None), "operation"),
            (policy("OR", &[], None), "group"),
            (policy("OR", &["org1"], Some("admin")), "never be satisfied"),
            (policy("OR", &["org1"], Some("boss")), "category"),
            (policy("OR", &["org9"], None), "Input org org9 is not exist"),
        ] {
            let error = endorsers(&wanted, &site, channel).err().expect(part);
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn other_policies_are_shown_as_what_they_are() {
        let network = testing::network();
        let reference = ApplicationPolicy {
            r#type: Some(application_policy::Type::ChannelConfigPolicyReference(
                "/Channel/Application/Endorsement".into(),
            )),
        };
        let words = in_words(&reference.encode_to_vec(), &network);
        assert_eq!(words, "/Channel/Application/Endorsement");
        let two_of_three = committed("OutOf(2,'A.member','B.member','C.member')");
        assert_eq!(in_words(&two_of_three, &network), "SIGNATURE");
        let stranger = committed("AND('A.member','B.peer')");
        assert_eq!(in_words(&stranger, &network), "AND,A,B");
        assert_eq!(in_words(b"", &network), "");
        assert_eq!(in_words(b"\xff\xff", &network), "");
    }
}
