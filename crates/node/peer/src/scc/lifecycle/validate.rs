//! What a definition must look like before it is approved or committed (Fabric: `scc.go`).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::signature_policy::Type as Rule;
use selvage_proto::common::{
    MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope,
};
use selvage_proto::peer::{
    CollectionConfigPackage, StaticCollectionConfig, collection_config, collection_policy_config,
};

use super::record::text;
use crate::lifecycle::{LIFECYCLE_NAMESPACE, read_definition};
use crate::scc::stub::{ChannelView, Failure, State};

/// Names that user chaincode may not take.
const SYSTEM_NAMES: [&str; 5] = ["cscc", "escc", "lscc", "qscc", "vscc"];
/// Deepest nesting of a member policy that is followed.
const MAX_DEPTH: usize = 32;

/// Checks name, version and collections, the last also against the committed definition.
pub(super) fn definition(
    name: &str,
    version: &str,
    collections: Option<&CollectionConfigPackage>,
    view: &dyn ChannelView,
    state: &mut dyn State,
) -> Result<(), Failure> {
    if !is_chaincode_name(name) {
        return Err(Failure::new(format!(
            "invalid chaincode name '{name}'. Names can only consist of alphanumerics, '_', and \
             '-' and can only begin with alphanumerics"
        )));
    }
    if SYSTEM_NAMES.contains(&name) {
        return Err(Failure::new(format!(
            "chaincode name '{name}' is the name of a system chaincode"
        )));
    }
    if !is_version(version) {
        return Err(Failure::new(format!(
            "invalid chaincode version '{version}'. Versions can only consist of alphanumerics, \
             '_', '-', '+', and '.'"
        )));
    }
    let proposed = static_configs(collections)?;
    check_collections(&proposed, view)?;
    let committed = committed_collections(name, state)?;
    against_committed(&proposed, &committed)
}

/// `^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$`
fn is_chaincode_name(name: &str) -> bool {
    name.split(['-', '_'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// `^[A-Za-z0-9_.+-]+$`
fn is_version(version: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    !version.is_empty() && version.bytes().all(allowed)
}

/// `^[A-Za-z0-9-]+([A-Za-z0-9_-]+)*$`
fn is_collection_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    !name.is_empty() && !name.starts_with('_') && name.bytes().all(allowed)
}

fn static_configs(
    package: Option<&CollectionConfigPackage>,
) -> Result<Vec<&StaticCollectionConfig>, Failure> {
    let configs = package.map_or(&[][..], |p| p.config.as_slice());
    configs
        .iter()
        .map(|config| match &config.payload {
            Some(collection_config::Payload::StaticCollectionConfig(c)) => Ok(c),
            None => Err(Failure::new(
                "collection config contains unexpected payload type: <nil>",
            )),
        })
        .collect()
}

fn check_collections(
    configs: &[&StaticCollectionConfig],
    view: &dyn ChannelView,
) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for config in configs {
        let name = config.name.as_str();
        let fail = |what: String| Failure::new(format!("collection-name: {name} -- {what}"));
        if !is_collection_name(name) {
            return Err(Failure::new(format!(
                "invalid collection name '{name}'. Names can only consist of alphanumerics, '_', \
                 and '-' and cannot begin with '_'"
            )));
        }
        if !seen.insert(name) {
            return Err(fail(
                "found duplicate in collection configuration".to_owned(),
            ));
        }
        let (maximum, required) = (config.maximum_peer_count, config.required_peer_count);
        if maximum < required {
            return Err(fail(format!(
                "maximum peer count ({maximum}) cannot be less than the required peer count \
                 ({required})"
            )));
        }
        if required < 0 {
            return Err(fail(format!(
                "requiredPeerCount ({required}) cannot be less than zero"
            )));
        }
        check_members(config, view)?;
    }
    Ok(())
}

fn check_members(config: &StaticCollectionConfig, view: &dyn ChannelView) -> Result<(), Failure> {
    let name = config.name.as_str();
    let policy = member_policy(config)?;
    view.check_policy(policy).map_err(|e| {
        Failure::new(format!(
            "invalid member org policy for collection '{name}': {e}"
        ))
    })?;
    if let Some(n) = policy.rule.as_ref().and_then(|rule| not_an_or(rule, 0)) {
        return Err(Failure::new(format!(
            "collection-name: {name} -- error in member org policy: signature policy is not an OR \
             concatenation, NOutOf {n}"
        )));
    }
    for principal in &policy.identities {
        check_principal(principal, view)
            .map_err(|e| Failure::new(format!("collection-name: {name} -- {e}")))?;
    }
    Ok(())
}

fn member_policy(config: &StaticCollectionConfig) -> Result<&SignaturePolicyEnvelope, Failure> {
    let name = &config.name;
    let policy = config.member_orgs_policy.as_ref().ok_or_else(|| {
        Failure::new(format!(
            "collection member policy is not set for collection '{name}'"
        ))
    })?;
    match &policy.payload {
        Some(collection_policy_config::Payload::SignaturePolicy(policy)) => Ok(policy),
        None => Err(Failure::new(format!(
            "collection member org policy is empty for collection '{name}'"
        ))),
    }
}

/// The threshold of the first gate that is not an OR.
fn not_an_or(rule: &SignaturePolicy, depth: usize) -> Option<i32> {
    match rule.r#type.as_ref()? {
        Rule::SignedBy(_) => None,
        Rule::NOutOf(gate) if gate.n != 1 || depth > MAX_DEPTH => Some(gate.n),
        Rule::NOutOf(gate) => gate.rules.iter().find_map(|r| not_an_or(r, depth + 1)),
    }
}

fn check_principal(principal: &MspPrincipal, view: &dyn ChannelView) -> Result<(), String> {
    let bytes = principal.principal.clone();
    let member = |msp_id: String| match view.has_msp(&msp_id) {
        true => Ok(()),
        false => Err(format!(
            "collection member '{msp_id}' is not part of the channel"
        )),
    };
    match Classification::try_from(principal.principal_classification) {
        Ok(Classification::Role) => match MspRole::decode(bytes) {
            Ok(role) => member(role.msp_identifier),
            Err(e) => Err(format!("cannot unmarshal identity bytes into MSPRole: {e}")),
        },
        Ok(Classification::OrganizationUnit) => match OrganizationUnit::decode(bytes) {
            Ok(unit) => member(unit.msp_identifier),
            Err(e) => Err(format!(
                "cannot unmarshal identity bytes into OrganizationUnit: {e}"
            )),
        },
        Ok(Classification::Identity) if view.knows_identity(&bytes) => Ok(()),
        Ok(Classification::Identity) => {
            Err("contains an identity that is not part of the channel".to_owned())
        }
        Ok(Classification::Anonymity) => {
            Err("principal type ANONYMITY is not supported".to_owned())
        }
        Ok(Classification::Combined) => Err("principal type COMBINED is not supported".to_owned()),
        Err(_) => {
            let number = principal.principal_classification;
            Err(format!("principal type {number} is not supported"))
        }
    }
}

/// The explicit collections of the committed definition. Looking them up leaves the same reads in
/// the read set as it does in Fabric, the one of the old namespace `lscc` included.
fn committed_collections(
    name: &str,
    state: &mut dyn State,
) -> Result<CollectionConfigPackage, Failure> {
    let fail = |e: String| {
        Failure::new(format!(
            "could not retrieve committed definition for chaincode '{name}': {e}"
        ))
    };
    let definition = read_definition(name, |key| {
        let value = state.get(LIFECYCLE_NAMESPACE, key)?;
        Ok(value.filter(|v| !v.is_empty()))
    });
    let info = |e: String| fail(format!("could not get info about chaincode: {e}"));
    match definition.map_err(|e| info(text(&e)))? {
        Some(definition) => Ok(definition.collections),
        None => legacy_collections(name, state).map_err(fail),
    }
}

fn legacy_collections(
    name: &str,
    state: &mut dyn State,
) -> Result<CollectionConfigPackage, String> {
    if state.get("lscc", name)?.is_none() {
        return Ok(CollectionConfigPackage::default());
    }
    let bytes = state
        .get("lscc", &format!("{name}~collection"))?
        .unwrap_or_default();
    CollectionConfigPackage::decode(bytes).map_err(|e| e.to_string())
}

fn against_committed(
    proposed: &[&StaticCollectionConfig],
    committed: &CollectionConfigPackage,
) -> Result<(), Failure> {
    if committed.config.is_empty() {
        return Ok(());
    }
    if proposed.is_empty() {
        return Err(Failure::new(
            "the proposed collection config does not contain previously defined collections",
        ));
    }
    let proposed: BTreeMap<&str, &StaticCollectionConfig> =
        proposed.iter().map(|c| (c.name.as_str(), *c)).collect();
    for config in &committed.config {
        let Some(collection_config::Payload::StaticCollectionConfig(old)) = &config.payload else {
            return Err(Failure::new("unknown collection configuration type"));
        };
        let name = &old.name;
        let new = proposed.get(name.as_str()).ok_or_else(|| {
            Failure::new(format!(
                "existing collection [{name}] missing in the proposed collection configuration"
            ))
        })?;
        if new.block_to_live != old.block_to_live {
            return Err(Failure::new(format!(
                "the BlockToLive in an existing collection [{name}] modified. Existing value [{}]",
                old.block_to_live
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_fabrics_patterns() {
        for (name, good) in [
            ("basic", true),
            ("a-b_c9", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a--b", false),
            ("a.b", false),
            ("é", false),
        ] {
            assert_eq!(is_chaincode_name(name), good, "{name}");
        }
        for (version, good) in [
            ("1.0", true),
            ("v1-a+b_c", true),
            ("", false),
            ("1 0", false),
        ] {
            assert_eq!(is_version(version), good, "{version}");
        }
        for (name, good) in [
            ("a", true),
            ("-a_", true),
            ("_a", false),
            ("", false),
            ("a.b", false),
        ] {
            assert_eq!(is_collection_name(name), good, "{name}");
        }
    }
}
