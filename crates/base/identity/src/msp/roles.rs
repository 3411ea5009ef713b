//! Organisational units: those an organisation admits, and those that give node roles (NodeOUs).

use super::{MspVersion, Rules};
use crate::{Identity, OrganizationalUnit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Peer,
    Admin,
    Orderer,
}

impl Role {
    /// Fabric's name in error texts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Client => "CLIENT",
            Role::Peer => "PEER",
            Role::Admin => "ADMIN",
            Role::Orderer => "ORDERER",
        }
    }
}

/// The unit that gives a role. With certifiers, only identities of that chain may bear it.
#[derive(Clone, Debug)]
pub(crate) struct NodeUnit {
    pub(crate) name: String,
    pub(crate) certifiers: Option<[u8; 32]>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeUnits {
    pub(crate) enforced: bool,
    pub(crate) units: [Option<NodeUnit>; 4],
}

impl NodeUnits {
    pub(crate) fn set(&mut self, role: Role, unit: NodeUnit) {
        self.units[role as usize] = Some(unit);
    }

    pub(crate) fn unit(&self, role: Role) -> Option<&NodeUnit> {
        self.units[role as usize].as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.units.iter().all(Option::is_none)
    }

    /// When two roles share a name, Fabric's lookup table keeps the later role.
    fn named(&self, name: &str) -> Option<&NodeUnit> {
        self.units
            .iter()
            .rev()
            .flatten()
            .find(|unit| unit.name == name)
    }
}

impl Rules {
    /// Checks an identity's organisational units by the rules of the version.
    pub(crate) fn validate_units(&self, identity: &Identity) -> Result<(), String> {
        let units = identity.organizational_units();
        if !self.units.is_empty() {
            let admitted = |unit: &OrganizationalUnit| {
                let by = self.units.get(&unit.name);
                by.is_some_and(|by| by.contains(&unit.certifiers))
            };
            if !units.iter().any(admitted) {
                return Err(match units {
                    [] => "the identity certificate does not contain an Organizational Unit (OU)"
                        .to_owned(),
                    _ => format!(
                        "none of the identity's organizational units {} are in MSP {}",
                        describe(units),
                        self.id
                    ),
                });
            }
        }
        if self.version == MspVersion::V1_0 || !self.nodes.enforced {
            return Ok(());
        }
        self.validate_node_unit(units)
    }

    /// Exactly one of an identity's units must give a role.
    fn validate_node_unit(&self, units: &[OrganizationalUnit]) -> Result<(), String> {
        let mut roles = 0;
        for unit in units {
            let Some(node) = self.nodes.named(&unit.name) else {
                continue;
            };
            if node
                .certifiers
                .is_some_and(|certifiers| certifiers != unit.certifiers)
            {
                return Err(format!(
                    "certifiersIdentifier does not match: {}, MSP: [{}]",
                    describe(units),
                    self.id
                ));
            }
            roles += 1;
        }
        let (all, combined) = if self.version < MspVersion::V1_4_3 {
            ("client or peer", "must be a client or a peer identity")
        } else {
            (
                "client, peer, orderer, or admin role",
                "must have a client, a peer, an orderer, or an admin OU role",
            )
        };
        let (units, id) = (describe(units), &self.id);
        match roles {
            1 => Ok(()),
            0 => Err(format!(
                "the identity does not have an OU that resolves to {all}. \
                 OUs: {units}, MSP: [{id}]"
            )),
            _ => Err(format!(
                "the identity {combined} to be valid, not a combination of them. \
                 OUs: {units}, MSP: [{id}]"
            )),
        }
    }

    /// Whether an identity bears the unit of a role. Says nothing about certifiers: that is part
    /// of being valid.
    pub(crate) fn check_role(&self, identity: &Identity, role: Role) -> Result<(), String> {
        if !self.nodes.enforced {
            return Err("NodeOUs not activated. Cannot tell apart identities.".to_owned());
        }
        let (name, id) = (role.name(), &self.id);
        let Some(node) = self.nodes.unit(role) else {
            return Err(format!(
                "cannot test for classification, node ou for type [{name}], not defined, \
                 msp: [{id}]"
            ));
        };
        if identity
            .organizational_units()
            .iter()
            .any(|unit| unit.name == node.name)
        {
            return Ok(());
        }
        Err(format!(
            "The identity does not contain OU [{name}], MSP: [{id}]"
        ))
    }

    /// Whether none of an identity's units gives a role.
    pub(crate) fn bears_no_role(&self, identity: &Identity) -> bool {
        let units = identity.organizational_units();
        units.iter().all(|u| self.nodes.named(&u.name).is_none())
    }

    pub(crate) fn enforces_node_units(&self) -> bool {
        self.nodes.enforced
    }
}

/// Fabric's form: each unit with the first eight bytes of what names its certifiers.
fn describe(units: &[OrganizationalUnit]) -> String {
    let one = |unit: &OrganizationalUnit| {
        format!(
            "{}({})",
            unit.name,
            hex::encode_upper(&unit.certifiers[..8])
        )
    };
    format!("[{}]", units.iter().map(one).collect::<Vec<_>>().join(" "))
}
