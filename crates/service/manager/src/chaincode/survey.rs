//! What the peers of an instance have, asked all at once.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use selvage_proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition as Committed;
use selvage_proto::lifecycle::query_installed_chaincodes_result::InstalledChaincode as Installed;

use crate::error::ManagerError;
use crate::fabric::{Answer, At, Fabric, Site};
use crate::network::ChannelPlan;
use crate::store::ChaincodeRow;

/// How long a peer may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer, and what it answered; none when it did not.
pub(super) struct PeerSeen<'a> {
    pub(super) at: At<'a>,
    pub(super) installed: Option<Vec<Installed>>,
    pub(super) channels: Vec<String>,
}

/// A channel, and what its first peer that answers says.
pub(super) struct ChannelSeen<'a> {
    pub(super) channel: &'a ChannelPlan,
    pub(super) definitions: Vec<Committed>,
}

/// Everything together.
pub(super) struct Survey<'a> {
    pub(super) peers: Vec<PeerSeen<'a>>,
    pub(super) channels: Vec<ChannelSeen<'a>>,
    /// What was said at installation.
    pub(super) kept: Vec<ChaincodeRow>,
}

async fn within<T>(answer: Answer<'_, T>) -> Result<T, ManagerError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(ManagerError::Driver(format!(
            "no answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

impl<'a> Survey<'a> {
    /// Asks every peer of the instance. A channel without a peer that answers has no definitions.
    pub(super) async fn take(fabric: &dyn Fabric, site: &'a Site, kept: Vec<ChaincodeRow>) -> Self {
        let peers = join_all(site.peers().map(|at| async move {
            let (installed, channels) = tokio::join!(
                within(fabric.installed(at)),
                within(fabric.peer_channels(site, at.org, at.node))
            );
            if let Err(error) = &installed {
                tracing::debug!(peer = at.node.name, %error, "no answer");
            }
            PeerSeen {
                at,
                installed: installed.ok(),
                channels: channels.unwrap_or_default(),
            }
        }))
        .await;
        let answers = |at: &At<'_>| {
            let mut seen = peers.iter();
            seen.any(|p| p.at.node.name == at.node.name && p.installed.is_some())
        };
        let channels = join_all(site.network.channels.iter().map(|channel| async move {
            let mut definitions = Vec::new();
            for at in site.peers_in(channel).filter(answers) {
                if let Ok(all) = within(fabric.definitions(at, channel)).await {
                    definitions = all;
                    break;
                }
            }
            ChannelSeen {
                channel,
                definitions,
            }
        }))
        .await;
        Self {
            peers,
            channels,
            kept,
        }
    }

    /// Whether any peer answered.
    pub(super) fn has_answers(&self) -> bool {
        self.peers.iter().any(|p| p.installed.is_some())
    }

    /// Names and versions that a package was installed or defined under: what was said when it was
    /// installed, what definitions call it, and failing those its label.
    pub(super) fn names_of(&self, package: &Installed) -> BTreeSet<(String, String)> {
        let kept = self
            .kept
            .iter()
            .filter(|k| k.package_id == package.package_id);
        let mut names: BTreeSet<_> = kept.map(|k| (k.name.clone(), k.version.clone())).collect();
        let used = package.references.values().flat_map(|r| &r.chaincodes);
        names.extend(used.map(|c| (c.name.clone(), c.version.clone())));
        if names.is_empty() {
            let label = package.label.as_str();
            let (name, version) = label.rsplit_once('_').unwrap_or((label, ""));
            names.insert((name.to_owned(), version.to_owned()));
        }
        names
    }

    /// Every package on a peer, with its names.
    fn named<'s>(
        &'s self,
        peer: &'s PeerSeen<'a>,
    ) -> impl Iterator<Item = (&'s Installed, BTreeSet<(String, String)>)> + 's {
        let packages = peer.installed.iter().flatten();
        packages.map(|p| (p, self.names_of(p)))
    }

    /// Names of all chaincodes: those on peers, and those defined in a channel.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let peers = self.peers.iter().flat_map(|p| self.named(p));
        let installed = peers.flat_map(|(_, names)| names).map(|(name, _)| name);
        let channels = self.channels.iter().flat_map(|c| &c.definitions);
        installed.chain(channels.map(|d| d.name.clone())).collect()
    }

    /// Versions of a chaincode on a peer, each with its package.
    pub(super) fn versions_on<'s>(
        &'s self,
        peer: &'s PeerSeen<'a>,
        name: &str,
    ) -> Vec<(String, &'s Installed)> {
        let mut versions: Vec<(String, &Installed)> = self
            .named(peer)
            .flat_map(|(package, names)| {
                let own = names.into_iter().filter(|(n, _)| n == name);
                own.map(move |(_, version)| (version, package))
                    .collect::<Vec<_>>()
            })
            .collect();
        versions.sort_by(|a, b| compare(&a.0, &b.0));
        versions
    }

    /// Versions of a chaincode on any peer.
    pub(super) fn versions(&self, name: &str) -> Vec<String> {
        let peers = self.peers.iter();
        let mut all: Vec<String> = peers
            .flat_map(|p| self.versions_on(p, name))
            .map(|(version, _)| version)
            .collect();
        all.sort_by(|a, b| compare(a, b));
        all.dedup();
        all
    }

    /// The package a peer has for a version.
    pub(super) fn package_on<'s>(
        &'s self,
        peer: &'s PeerSeen<'a>,
        name: &str,
        version: &str,
    ) -> Option<&'s Installed> {
        let versions = self.versions_on(peer, name);
        let found = versions.into_iter().find(|(v, _)| v == version);
        found.map(|(_, package)| package)
    }

    /// The definition of a chaincode in a channel.
    pub(super) fn definition(&self, channel: &str, name: &str) -> Option<&Committed> {
        let seen = self.channels.iter().find(|c| c.channel.name == channel)?;
        seen.definitions.iter().find(|d| d.name == name)
    }

    /// What was said when a version was installed.
    pub(super) fn row(&self, name: &str, version: &str) -> Option<&ChaincodeRow> {
        let mut rows = self.kept.iter();
        rows.find(|k| k.name == name && k.version == version)
    }
}

/// Compares versions by their numbers: 1.9 is older than 1.10.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(['.', '-'])
            .map(|p| (p.parse().unwrap_or(0), p.to_owned()))
            .collect()
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// The version after this one: its last number is counted up.
pub(super) fn next_version(version: &str) -> String {
    let kept = version.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = version.get(kept.len()..).unwrap_or_default();
    match number.parse::<u32>() {
        Ok(n) => format!("{kept}{}", u64::from(n) + 1),
        Err(_) => format!("{version}.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_and_compared_by_number() {
        for (version, next) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("2-3", "2-4"),
            ("v7", "v8"),
            ("beta", "beta.1"),
            ("", ".1"),
        ] {
            assert_eq!(next_version(version), next);
        }
        assert_eq!(compare("1.9", "1.10"), Ordering::Less);
        assert_eq!(compare("2", "1.10"), Ordering::Greater);
        assert_eq!(compare("1.0", "1.0"), Ordering::Equal);
    }
}
