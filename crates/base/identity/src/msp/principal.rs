use bytes::Bytes;
use prost::Message;
use selvage_proto::common::msp_identity_anonymity::MspIdentityAnonymityType as Anonymity;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{
    CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit,
};

use super::roles::Role;
use super::{MspVersion, Rules};
use crate::Identity;

/// How deep combined principals may nest; Fabric sets no limit but the stack.
const MAX_DEPTH: usize = 32;

/// Whom a policy asks for, decoded once.
#[derive(Clone, Debug)]
pub struct Principal(Vec<Simple>);

/// A principal that is not combined. One that cannot be decoded is kept: no identity satisfies it,
/// but its policy stands.
#[derive(Clone, Debug)]
enum Simple {
    Role(MspRole),
    Unit(OrganizationUnit),
    Identity(Bytes),
    Anonymity(i32),
    /// Part of a combined principal: refused by versions that do not know these.
    InCombination(Box<Simple>),
    Never(String),
}

impl Principal {
    /// Decodes a principal.
    pub fn new(principal: &MspPrincipal) -> Principal {
        let mut parts = Vec::new();
        collect(principal, 0, &mut parts);
        Principal(parts)
    }
}

fn collect(principal: &MspPrincipal, depth: usize, parts: &mut Vec<Simple>) {
    let kind = Classification::try_from(principal.principal_classification);
    if kind != Ok(Classification::Combined) {
        let simple = simple(principal);
        parts.push(match depth {
            0 => simple,
            _ => Simple::InCombination(Box::new(simple)),
        });
        return;
    }
    let never = |reason: &str| Simple::InCombination(Box::new(Simple::Never(reason.to_owned())));
    if depth == MAX_DEPTH {
        parts.push(never("combined principals nest too deep"));
        return;
    }
    match CombinedPrincipal::decode(principal.principal.clone()) {
        Err(_) => parts.push(never(
            "could not unmarshal CombinedPrincipal from principal",
        )),
        Ok(combined) if combined.principals.is_empty() => {
            parts.push(never("No principals in CombinedPrincipal"));
        }
        Ok(combined) => combined
            .principals
            .iter()
            .for_each(|p| collect(p, depth + 1, parts)),
    }
}

fn simple(principal: &MspPrincipal) -> Simple {
    let bytes = principal.principal.clone();
    let malformed =
        |what: &str| Simple::Never(format!("could not unmarshal {what} from principal"));
    match Classification::try_from(principal.principal_classification) {
        Ok(Classification::Role) => match MspRole::decode(bytes) {
            Ok(role) => Simple::Role(role),
            Err(_) => malformed("MSPRole"),
        },
        Ok(Classification::OrganizationUnit) => match OrganizationUnit::decode(bytes) {
            Ok(unit) => Simple::Unit(unit),
            Err(_) => malformed("OrganizationUnit"),
        },
        Ok(Classification::Identity) => Simple::Identity(bytes),
        Ok(Classification::Anonymity) => match MspIdentityAnonymity::decode(bytes) {
            Ok(anonymity) => Simple::Anonymity(anonymity.anonymity_type),
            Err(_) => malformed("MSPIdentityAnonymity"),
        },
        _ => Simple::Never(format!(
            "invalid principal type {}",
            principal.principal_classification
        )),
    }
}

impl Rules {
    /// Whether an identity of this organisation is whom a principal asks for.
    pub(crate) fn satisfies(
        &self,
        identity: &Identity,
        principal: &Principal,
    ) -> Result<(), String> {
        principal
            .0
            .iter()
            .try_for_each(|simple| self.satisfies_simple(identity, simple))
    }

    fn satisfies_simple(&self, identity: &Identity, simple: &Simple) -> Result<(), String> {
        match simple {
            Simple::Role(role) => self.satisfies_role(identity, role),
            Simple::Unit(unit) => self.satisfies_unit(identity, unit),
            Simple::Identity(serialized) => self.is_identity(identity, serialized),
            Simple::Anonymity(_) if self.version < MspVersion::V1_3 => Err(format!(
                "invalid principal type {}",
                Classification::Anonymity as i32
            )),
            Simple::Anonymity(kind) => match Anonymity::try_from(*kind) {
                Ok(Anonymity::Nominal) => Ok(()),
                Ok(Anonymity::Anonymous) => Err("Principal is anonymous, but X.509 MSP does not \
                                                 support anonymous identities"
                    .to_owned()),
                Err(_) => Err(format!("Unknown principal anonymity type: {kind}")),
            },
            Simple::InCombination(_) if self.version < MspVersion::V1_3 => Err(format!(
                "invalid principal type {}",
                Classification::Combined as i32
            )),
            Simple::InCombination(part) => self.satisfies_simple(identity, part),
            Simple::Never(reason) => Err(reason.clone()),
        }
    }

    fn check_organisation(&self, wanted: &str) -> Result<(), String> {
        if wanted == self.id {
            return Ok(());
        }
        let id = &self.id;
        Err(format!(
            "the identity is a member of a different MSP (expected {wanted}, got {id})"
        ))
    }

    fn satisfies_role(&self, identity: &Identity, role: &MspRole) -> Result<(), String> {
        self.check_organisation(&role.msp_identifier)?;
        let node_roles = self.version >= MspVersion::V1_4_3 && self.enforces_node_units();
        match MspRoleType::try_from(role.role) {
            Ok(MspRoleType::Member) => identity.validity().map_err(str::to_owned),
            Ok(MspRoleType::Admin) => {
                if self.is_admin(identity.certificate()) {
                    return Ok(());
                }
                if !node_roles {
                    return Err("This identity is not an admin".to_owned());
                }
                let not = |e| {
                    format!(
                        "The identity is not an admin under this MSP [{}]: {e}",
                        self.id
                    )
                };
                self.check_valid(identity)?;
                self.check_role(identity, Role::Admin).map_err(not)
            }
            Ok(MspRoleType::Client) => self.is_valid_with_role(identity, Role::Client),
            Ok(MspRoleType::Peer) => self.is_valid_with_role(identity, Role::Peer),
            Ok(MspRoleType::Orderer) if node_roles => {
                self.is_valid_with_role(identity, Role::Orderer)
            }
            _ => Err(format!("invalid MSP role type {}", role.role)),
        }
    }

    fn check_valid(&self, identity: &Identity) -> Result<(), String> {
        let invalid = |e| {
            format!(
                "The identity is not valid under this MSP [{}]: {e}",
                self.id
            )
        };
        identity.validity().map_err(invalid)
    }

    pub(super) fn is_valid_with_role(&self, identity: &Identity, role: Role) -> Result<(), String> {
        self.check_valid(identity)?;
        let (name, id) = (role.name(), &self.id);
        self.check_role(identity, role)
            .map_err(|e| format!("The identity is not a [{name}] under this MSP [{id}]: {e}"))
    }

    fn satisfies_unit(&self, identity: &Identity, unit: &OrganizationUnit) -> Result<(), String> {
        self.check_organisation(&unit.msp_identifier)?;
        identity.validity().map_err(str::to_owned)?;
        let same = identity.organizational_units().iter().any(|own| {
            own.name == unit.organizational_unit_identifier
                && own.certifiers[..] == unit.certifiers_identifier[..]
        });
        if same {
            Ok(())
        } else {
            Err("The identities do not match".to_owned())
        }
    }

    fn is_identity(&self, identity: &Identity, serialized: &Bytes) -> Result<(), String> {
        let other = identity.msp().deserialize(serialized).map_err(|e| {
            let reason = selvage_crypto::in_full(&e);
            format!("invalid identity principal, not a certificate: {reason}")
        })?;
        if other.certificate() != identity.certificate() {
            return Err("The identities do not match".to_owned());
        }
        identity.validity().map_err(str::to_owned)
    }
}
