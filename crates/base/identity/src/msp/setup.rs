//! An organisation's definition, checked in Fabric's order.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use selvage_crypto::{Certificate, Crl, CryptoError, HashAlgorithm, pem};
use selvage_proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use super::roles::{NodeUnit, NodeUnits, Role};
use super::{Msp, MspVersion, Pool, Rules};
use crate::{Identity, MspError};

pub(super) fn set_up(definition: &FabricMspConfig, version: MspVersion) -> Result<Rules, MspError> {
    let mut rules = Rules {
        id: definition.name.clone(),
        version,
        pool: Pool::default(),
        inner: HashSet::new(),
        crls: Vec::new(),
        admins: Vec::new(),
        units: BTreeMap::new(),
        nodes: NodeUnits::default(),
        id_hash: id_hash(definition)?,
        tls: Pool::default(),
    };
    set_up_authorities(&mut rules, definition)?;
    if version < MspVersion::V1_4_3 {
        rules.admins = admins(&rules, definition)?;
    }
    rules.crls = crls(definition)?;
    check_authorities(&mut rules)?;
    set_up_tls(&mut rules, definition)?;
    set_up_units(&mut rules, definition)?;
    rules.nodes = match version {
        MspVersion::V1_0 => NodeUnits::default(),
        MspVersion::V1_1 | MspVersion::V1_3 => client_and_peer_units(&rules, definition)?,
        MspVersion::V1_4_3 | MspVersion::V3_0 => all_node_units(&rules, definition)?,
    };
    if version >= MspVersion::V1_4_3 {
        rules.admins = admins(&rules, definition)?;
        let declared = rules.nodes.enforced && rules.nodes.unit(Role::Admin).is_some();
        if rules.admins.is_empty() && !declared {
            return wrong("administrators must be declared when no admin ou classification is set");
        }
    }
    check_admins(rules)
}

fn wrong<T>(reason: impl Into<String>) -> Result<T, MspError> {
    Err(MspError::Definition(reason.into()))
}

fn id_hash(definition: &FabricMspConfig) -> Result<HashAlgorithm, MspError> {
    let Some(crypto) = &definition.crypto_config else {
        return Ok(HashAlgorithm::Sha256);
    };
    match crypto.signature_hash_family.as_str() {
        "" | "SHA2" => {}
        other => {
            let reason = format!("signatures over {other} hashes are not supported, only SHA2");
            return Err(MspError::Unsupported(reason));
        }
    }
    match crypto.identity_identifier_hash_function.as_str() {
        "" => Ok(HashAlgorithm::Sha256),
        name => HashAlgorithm::from_name(name).ok_or_else(|| {
            let reason = "failed getting hash function options: hash function not recognized";
            MspError::Definition(format!("{reason} [{name}]"))
        }),
    }
}

fn certificate(part: &'static str, index: usize, text: &[u8]) -> Result<Certificate, MspError> {
    let read = match pem::next(text) {
        Some((block, _)) => Certificate::from_der(&block.der),
        None => Err(CryptoError::Pem(
            "getCertFromPem error: could not decode pem bytes".into(),
        )),
    };
    read.map_err(|source| MspError::Certificate {
        part,
        index,
        source,
    })
}

fn certificates(part: &'static str, list: &[Bytes]) -> Result<Vec<Certificate>, MspError> {
    let mut found: Vec<Certificate> = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let read = certificate(part, index, text)?;
        // A pool of Go's holds each certificate once.
        if !found.contains(&read) {
            found.push(read);
        }
    }
    Ok(found)
}

fn set_up_authorities(rules: &mut Rules, definition: &FabricMspConfig) -> Result<(), MspError> {
    if definition.root_certs.is_empty() {
        return wrong("expected at least one CA certificate");
    }
    // First as they stand, so that low-S forms can be found; then those forms.
    rules.pool = Pool {
        roots: certificates("root CA", &definition.root_certs)?,
        intermediates: certificates("intermediate CA", &definition.intermediate_certs)?,
    };
    let clean = |list: &[Certificate]| {
        let one = |c: &Certificate| rules.sanitized(c.clone()).map(|(clean, _)| clean);
        list.iter()
            .map(one)
            .collect::<Result<Vec<_>, _>>()
            .map_err(MspError::Definition)
    };
    let roots = clean(&rules.pool.roots)?;
    let intermediates = clean(&rules.pool.intermediates)?;
    rules.pool = Pool {
        roots,
        intermediates,
    };
    Ok(())
}

/// The administrators' certificates, in low-S form.
fn admins(rules: &Rules, definition: &FabricMspConfig) -> Result<Vec<Certificate>, MspError> {
    let mut admins = Vec::with_capacity(definition.admins.len());
    for (index, text) in definition.admins.iter().enumerate() {
        let read = certificate("admin", index, text)?;
        admins.push(rules.sanitized(read).map_err(MspError::Definition)?.0);
    }
    Ok(admins)
}

fn crls(definition: &FabricMspConfig) -> Result<Vec<Crl>, MspError> {
    let read = |bytes: &Bytes| Crl::from_pem_or_der(bytes).map_err(MspError::Crl);
    definition.revocation_list.iter().map(read).collect()
}

fn check_authority(certificate: &Certificate) -> Result<(), MspError> {
    let serial = hex::encode(certificate.serial());
    if !certificate.is_ca() {
        return wrong(format!(
            "CA Certificate did not have the CA attribute, (SN: {serial})"
        ));
    }
    if certificate.ski().is_none() {
        return wrong(format!(
            "CA Certificate problem with Subject Key Identifier extension, (SN: {serial}): \
             subjectKeyIdentifier not found in certificate"
        ));
    }
    Ok(())
}

fn check_authorities(rules: &mut Rules) -> Result<(), MspError> {
    let pool = &rules.pool;
    for authority in pool.roots.iter().chain(&pool.intermediates) {
        check_authority(authority)?;
        check_chain(rules, &rules.pool, authority)?;
    }
    let mut inner = HashSet::new();
    for authority in &pool.intermediates {
        let chain = pool.unique_chain(authority).map_err(MspError::Definition)?;
        inner.extend(chain[1..].iter().map(|parent| *parent.fingerprint()));
    }
    rules.inner = inner;
    Ok(())
}

fn check_chain(rules: &Rules, pool: &Pool, authority: &Certificate) -> Result<(), MspError> {
    let invalid = |reason: String| {
        let serial = hex::encode(authority.serial());
        MspError::Definition(format!(
            "CA Certificate is not valid, (SN: {serial}): {reason}"
        ))
    };
    let chain = pool
        .unique_chain(authority)
        .map_err(|e| invalid(format!("could not obtain certification chain: {e}")))?;
    match chain.get(1) {
        None => Ok(()),
        Some(issuer) => rules.check_not_revoked(authority, issuer).map_err(invalid),
    }
}

fn set_up_tls(rules: &mut Rules, definition: &FabricMspConfig) -> Result<(), MspError> {
    let pool = Pool {
        roots: certificates("TLS root CA", &definition.tls_root_certs)?,
        intermediates: certificates("TLS intermediate CA", &definition.tls_intermediate_certs)?,
    };
    for authority in pool.roots.iter().chain(&pool.intermediates) {
        check_authority(authority)?;
        check_chain(rules, &pool, authority)?;
    }
    rules.tls = pool;
    Ok(())
}

/// What names the authorities above a certificate of this organisation, for telling units apart.
fn certifiers(rules: &Rules, text: &[u8]) -> Result<[u8; 32], MspError> {
    let read = certificate("organizational unit", 0, text)?;
    let clean = rules.sanitized(read);
    let (clean, _) = clean.map_err(|e| MspError::Definition(format!("sanitizeCert failed {e}")))?;
    if rules.pool.roots.contains(&clean) {
        return Ok(rules.certifiers_id(&[clean]));
    }
    if !rules.pool.intermediates.contains(&clean) {
        let subject = clean.subject();
        return wrong(format!(
            "Failed adding OU. Certificate [{subject}] not in root or intermediate certs."
        ));
    }
    let chain = rules.validation_chain(&clean, None, true).map_err(|e| {
        let subject = clean.subject();
        MspError::Definition(format!(
            "Failed computing validation chain for [{subject}]. [{e}]"
        ))
    })?;
    Ok(rules.certifiers_id(&chain))
}

fn set_up_units(rules: &mut Rules, definition: &FabricMspConfig) -> Result<(), MspError> {
    let mut units: BTreeMap<String, Vec<[u8; 32]>> = BTreeMap::new();
    for unit in &definition.organizational_unit_identifiers {
        let by = certifiers(rules, &unit.certificate)?;
        let known = units
            .entry(unit.organizational_unit_identifier.clone())
            .or_default();
        if !known.contains(&by) {
            known.push(by);
        }
    }
    rules.units = units;
    Ok(())
}

fn node_unit(rules: &Rules, unit: &FabricOuIdentifier) -> Result<NodeUnit, MspError> {
    let certifiers = match unit.certificate.is_empty() {
        true => None,
        false => Some(certifiers(rules, &unit.certificate)?),
    };
    Ok(NodeUnit {
        name: unit.organizational_unit_identifier.clone(),
        certifiers,
    })
}

/// Until version 1.4.3 there were two node roles, and both had to be there.
fn client_and_peer_units(
    rules: &Rules,
    definition: &FabricMspConfig,
) -> Result<NodeUnits, MspError> {
    let Some(nodes) = &definition.fabric_node_ous else {
        return Ok(NodeUnits::default());
    };
    let mut found = NodeUnits {
        enforced: nodes.enable,
        ..NodeUnits::default()
    };
    let listed = [
        (Role::Client, "ClientOU", &nodes.client_ou_identifier),
        (Role::Peer, "PeerOU", &nodes.peer_ou_identifier),
    ];
    for (role, name, unit) in listed {
        match unit {
            Some(unit) if !unit.organizational_unit_identifier.is_empty() => {
                found.set(role, node_unit(rules, unit)?);
            }
            _ => {
                let reason = "must be different from nil.";
                return wrong(format!("Failed setting up NodeOUs. {name} {reason}"));
            }
        }
    }
    Ok(found)
}

fn all_node_units(rules: &Rules, definition: &FabricMspConfig) -> Result<NodeUnits, MspError> {
    let Some(nodes) = &definition.fabric_node_ous else {
        return Ok(NodeUnits::default());
    };
    let FabricNodeOUs {
        enable,
        client_ou_identifier: client,
        peer_ou_identifier: peer,
        admin_ou_identifier: admin,
        orderer_ou_identifier: orderer,
    } = nodes;
    let mut found = NodeUnits::default();
    for (role, unit) in [
        (Role::Client, client),
        (Role::Peer, peer),
        (Role::Admin, admin),
        (Role::Orderer, orderer),
    ] {
        if let Some(unit) = unit {
            found.set(role, node_unit(rules, unit)?);
        }
    }
    found.enforced = *enable && !found.is_empty();
    Ok(found)
}

/// Listed administrators must be valid members, or with node roles clients or administrators.
fn check_admins(rules: Rules) -> Result<Rules, MspError> {
    let msp = Msp(std::sync::Arc::new(rules));
    for (index, admin) in msp.0.admins.iter().enumerate() {
        let invalid = |e: String| MspError::Definition(format!("admin {index} is invalid: {e}"));
        let identity = Identity::new(msp.clone(), admin.clone()).map_err(invalid)?;
        if !msp.0.nodes.enforced {
            identity.validity().map_err(|e| invalid(e.to_owned()))?;
            continue;
        }
        if msp.0.version < MspVersion::V1_4_3 {
            msp.0
                .is_valid_with_role(&identity, Role::Client)
                .map_err(invalid)?;
        } else if let (Err(one), Err(other)) = (
            msp.0.check_role(&identity, Role::Client),
            msp.0.check_role(&identity, Role::Admin),
        ) {
            return wrong(format!("admin {index} is invalid [{one},{other}]"));
        }
    }
    match std::sync::Arc::try_unwrap(msp.0) {
        Ok(rules) => Ok(rules),
        Err(_) => wrong("an administrator outlived the check of administrators"),
    }
}
