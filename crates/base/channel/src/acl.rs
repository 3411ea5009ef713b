//! Access control: which policy guards which resource of a peer.
//!
//! The channel's ACLs value wins; what it does not name has the default that every Fabric peer has
//! (`core/aclmgmt`). Some resources belong to the peer and not to a channel: those are always
//! judged by the peer's own organisation.

use std::collections::BTreeMap;

use selvage_proto::peer::AcLs;

use crate::names::{APPLICATION_READERS, APPLICATION_WRITERS};

/// Who may use a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclRule<'a> {
    /// Whoever satisfies this policy of the channel, given by its path.
    Channel(&'a str),
    /// Administrators of the peer's own organisation.
    PeerAdmins,
    /// Members of the peer's own organisation.
    PeerMembers,
}

/// The channel's ACLs value, with full paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AclTable(BTreeMap<String, String>);

impl AclTable {
    /// Entries with an empty reference are left out, so that the default applies.
    pub(crate) fn new(value: &AcLs) -> Self {
        let entry = |(name, resource): (&String, &selvage_proto::peer::ApiResource)| {
            let policy = match resource.policy_ref.as_str() {
                "" => return None,
                full if full.starts_with('/') => full.to_owned(),
                relative => format!("/Channel/Application/{relative}"),
            };
            Some((name.clone(), policy))
        };
        Self(value.acls.iter().filter_map(entry).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// A resource of the peer itself cannot be handed to a channel.
    pub(crate) fn rule(&self, resource: &str) -> Option<AclRule<'_>> {
        let default = default_rule(resource);
        if matches!(default, Some(AclRule::PeerAdmins | AclRule::PeerMembers)) {
            return default;
        }
        match self.0.get(resource) {
            Some(policy) => Some(AclRule::Channel(policy)),
            None => default,
        }
    }
}

/// The rule of a resource where the channel says nothing; `None` for names nobody knows.
pub fn default_rule(resource: &str) -> Option<AclRule<'static>> {
    let (area, name) = resource.split_once('/')?;
    let readers = Some(AclRule::Channel(APPLICATION_READERS));
    let writers = Some(AclRule::Channel(APPLICATION_WRITERS));
    let admins = Some(AclRule::PeerAdmins);
    match (area, name) {
        (
            "_lifecycle",
            "InstallChaincode"
            | "QueryInstalledChaincode"
            | "GetInstalledChaincodePackage"
            | "QueryInstalledChaincodes"
            | "ApproveChaincodeDefinitionForMyOrg"
            | "QueryApprovedChaincodeDefinition"
            | "QueryApprovedChaincodeDefinitions",
        ) => admins,
        (
            "_lifecycle",
            "CommitChaincodeDefinition"
            | "QueryChaincodeDefinition"
            | "QueryChaincodeDefinitions"
            | "CheckCommitReadiness",
        ) => writers,
        ("snapshot", "submitrequest" | "cancelrequest" | "listpending") => admins,
        ("lscc", "Install" | "GetInstalledChaincodes") => admins,
        (
            "lscc",
            "ChaincodeExists"
            | "GetDeploymentSpec"
            | "GetChaincodeData"
            | "GetInstantiatedChaincodes"
            | "GetCollectionsConfig",
        ) => readers,
        (
            "qscc",
            "GetChainInfo" | "GetBlockByNumber" | "GetBlockByHash" | "GetTransactionByID"
            | "GetBlockByTxID",
        ) => readers,
        ("cscc", "JoinChain" | "JoinChainBySnapshot" | "JoinBySnapshotStatus") => admins,
        ("cscc", "GetChannels") => Some(AclRule::PeerMembers),
        ("cscc", "GetConfigBlock" | "GetChannelConfig") => readers,
        ("peer", "Propose" | "ChaincodeToChaincode") => writers,
        ("event", "Block" | "FilteredBlock") => readers,
        ("gateway", "CommitStatus" | "ChaincodeEvents") => readers,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use selvage_proto::peer::ApiResource;

    use super::*;

    fn table(entries: &[(&str, &str)]) -> AclTable {
        let resource = |policy: &str| ApiResource {
            policy_ref: policy.to_owned(),
        };
        let acls = entries.iter().map(|(k, v)| ((*k).to_owned(), resource(v)));
        AclTable::new(&AcLs {
            acls: acls.collect(),
        })
    }

    #[test]
    fn the_channel_wins_over_the_default() {
        let acls = table(&[
            ("peer/Propose", "MyPolicy"),
            ("event/Block", "/Channel/Readers"),
            ("qscc/GetChainInfo", ""),
            ("my/Own", "Writers"),
            ("cscc/JoinChain", "Writers"),
        ]);
        let rule = |name| acls.rule(name);
        let channel = |policy| Some(AclRule::Channel(policy));
        assert_eq!(
            rule("peer/Propose"),
            channel("/Channel/Application/MyPolicy")
        );
        assert_eq!(rule("event/Block"), channel("/Channel/Readers"));
        assert_eq!(rule("qscc/GetChainInfo"), channel(APPLICATION_READERS));
        assert_eq!(rule("my/Own"), channel("/Channel/Application/Writers"));
        assert_eq!(rule("cscc/JoinChain"), Some(AclRule::PeerAdmins));
        assert_eq!(rule("cscc/GetChannels"), Some(AclRule::PeerMembers));
        assert_eq!(
            rule("_lifecycle/CommitChaincodeDefinition"),
            channel(APPLICATION_WRITERS)
        );
        assert_eq!(rule("lscc/Deploy"), None);
        assert_eq!(rule("nonsense"), None);
    }
}
