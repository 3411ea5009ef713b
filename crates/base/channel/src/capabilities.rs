//! Capabilities: what a channel requires of its nodes.
//!
//! A node that meets a name it does not know must stop instead of guessing, because every other
//! node relies on it to judge blocks the same way.

use std::collections::BTreeSet;

use selvage_identity::MspVersion;
use selvage_proto::common::Capabilities as CapabilitiesValue;

/// The part of the configuration a capability belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `/Channel/Capabilities`
    Channel,
    /// `/Channel/Orderer/Capabilities`
    Orderer,
    /// `/Channel/Application/Capabilities`
    Application,
}

impl Section {
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Channel => &["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"],
            Self::Orderer => &["V1_1", "V1_4_2", "V2_0"],
            Self::Application => &[
                "V1_1",
                "V1_2",
                "V1_3",
                "V1_4_2",
                "V2_0",
                "V2_5",
                "V1_1_PVTDATA_EXPERIMENTAL",
                "V1_1_RESOURCETREE_EXPERIMENTAL",
            ],
        }
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Channel => "Channel",
            Self::Orderer => "Orderer",
            Self::Application => "Application",
        })
    }
}

/// A capability this program does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{section} capability {name} is required but not supported")]
pub struct Unsupported {
    /// Where it stands.
    pub section: Section,
    /// Its name.
    pub name: String,
}

/// The capabilities of one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    section: Section,
    names: BTreeSet<String>,
}

impl Capabilities {
    pub(crate) fn new(section: Section, value: &CapabilitiesValue) -> Self {
        Self {
            section,
            names: value.capabilities.keys().cloned().collect(),
        }
    }

    /// The names that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether this program knows all of them.
    pub fn check_supported(&self) -> Result<(), Unsupported> {
        match self.names().find(|n| !self.section.known().contains(n)) {
            None => Ok(()),
            Some(name) => Err(Unsupported {
                section: self.section,
                name: name.to_owned(),
            }),
        }
    }

    /// Whether one of these is set. A capability includes what earlier ones allowed.
    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.names.contains(*n))
    }
}

/// What `/Channel/Capabilities` decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelCapabilities(pub(crate) Capabilities);

impl ChannelCapabilities {
    /// The names that are set, and whether they are known.
    pub fn all(&self) -> &Capabilities {
        &self.0
    }

    /// The rules by which identities are judged.
    pub fn msp_version(&self) -> MspVersion {
        if self.0.any(&["V3_0"]) {
            MspVersion::V3_0
        } else if self.0.any(&["V1_4_3", "V2_0"]) {
            MspVersion::V1_4_3
        } else if self.0.any(&["V1_3", "V1_4_2"]) {
            MspVersion::V1_3
        } else if self.0.any(&["V1_1"]) {
            MspVersion::V1_1
        } else {
            MspVersion::V1_0
        }
    }

    /// Whether the consensus type may change (in maintenance mode).
    pub fn consensus_type_migration(&self) -> bool {
        self.org_endpoints()
    }

    /// Whether orderer organisations list their own endpoints.
    pub fn org_endpoints(&self) -> bool {
        self.0.any(&["V1_4_2", "V1_4_3", "V2_0", "V3_0"])
    }

    /// Whether BFT consensus and its block signatures may appear.
    pub fn bft(&self) -> bool {
        self.0.any(&["V3_0"])
    }
}

/// What `/Channel/Orderer/Capabilities` decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererCapabilities(pub(crate) Capabilities);

impl OrdererCapabilities {
    /// The names that are set, and whether they are known.
    pub fn all(&self) -> &Capabilities {
        &self.0
    }

    /// Whether messages of expired identities are refused.
    pub fn expiration_check(&self) -> bool {
        self.0.any(&["V1_1", "V1_4_2", "V2_0"])
    }

    /// Whether the consensus type may change (in maintenance mode).
    pub fn consensus_type_migration(&self) -> bool {
        self.0.any(&["V1_4_2", "V2_0"])
    }
}

/// What `/Channel/Application/Capabilities` decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationCapabilities(pub(crate) Capabilities);

impl ApplicationCapabilities {
    /// The names that are set, and whether they are known.
    pub fn all(&self) -> &Capabilities {
        &self.0
    }

    /// Whether the ACLs value may appear.
    pub fn acls(&self) -> bool {
        self.0.any(&["V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"])
    }

    /// Whether the second transaction with an id in one block is invalid.
    pub fn forbid_duplicate_tx_id_in_block(&self) -> bool {
        self.0
            .any(&["V1_1", "V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"])
    }

    /// Whether collections may be used.
    pub fn private_data(&self) -> bool {
        let names = [
            "V1_1_PVTDATA_EXPERIMENTAL",
            "V1_2",
            "V1_3",
            "V1_4_2",
            "V2_0",
            "V2_5",
        ];
        self.0.any(&names)
    }

    /// Whether keys may carry their own endorsement policy.
    pub fn key_level_endorsement(&self) -> bool {
        self.0.any(&["V1_3", "V1_4_2", "V2_0", "V2_5"])
    }

    /// Whether private data of invalid transactions is kept.
    pub fn store_private_data_of_invalid_tx(&self) -> bool {
        self.0.any(&["V1_4_2", "V2_0", "V2_5"])
    }

    /// Whether the validation rules and the chaincode lifecycle of Fabric 2 apply. Channels without
    /// it follow rules that this program does not have.
    pub fn v2_0(&self) -> bool {
        self.0.any(&["V2_0", "V2_5"])
    }

    /// Whether private data may be purged.
    pub fn purge_private_data(&self) -> bool {
        self.0.any(&["V2_5"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(section: Section, names: &[&str]) -> Capabilities {
        let names = names.iter().map(|n| ((*n).to_owned(), Default::default()));
        let value = CapabilitiesValue {
            capabilities: names.collect(),
        };
        Capabilities::new(section, &value)
    }

    fn check_msp(names: &[&str], version: MspVersion) {
        let capabilities = ChannelCapabilities(caps(Section::Channel, names));
        assert_eq!(capabilities.msp_version(), version, "{names:?}");
    }

    #[test]
    fn the_channel_decides_the_msp_version() {
        check_msp(&[], MspVersion::V1_0);
        check_msp(&["V1_1"], MspVersion::V1_1);
        check_msp(&["V1_3"], MspVersion::V1_3);
        check_msp(&["V1_4_2"], MspVersion::V1_3);
        check_msp(&["V1_4_3"], MspVersion::V1_4_3);
        check_msp(&["V2_0", "V1_1"], MspVersion::V1_4_3);
        check_msp(&["V3_0"], MspVersion::V3_0);
    }

    #[test]
    fn unknown_names_are_named() {
        let unknown = caps(Section::Orderer, &["V2_0", "V2_5"]).check_supported();
        assert_eq!(
            unknown
                .expect_err("V2_5 is no orderer capability")
                .to_string(),
            "Orderer capability V2_5 is required but not supported"
        );
        let all = caps(Section::Application, &["V2_0", "V2_5"]);
        assert_eq!(all.check_supported(), Ok(()));
    }
}
