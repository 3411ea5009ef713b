//! What BCS's agent shows of chaincodes, made from a [`Survey`].

use selvage_manager_api::agent::AgentPeer;
use selvage_manager_api::chaincode::{
    ChaincodeInfo, ChaincodeInstalls, ChaincodeInstantiations, ChaincodeVersion, ChaincodeVersions,
    ChannelError, ChannelInstantiateInfo, InstantiateInfo, InstantiatedChannel, InstantiatedIn,
    InstantiatedInfo, OrgInfo, PeerInstallInfo,
};

use super::survey::{ChannelSeen, PeerSeen, Survey};
use super::{Running, policy};
use crate::clock;
use crate::network::Network;
use crate::store::FailedRow;

/// BCS's code for success.
const SUCCESS: &str = "1000";

/// A survey together with what was tried.
pub(super) struct View<'a> {
    pub(super) network: &'a Network,
    pub(super) survey: Survey<'a>,
    pub(super) failed: Vec<FailedRow>,
    pub(super) running: Option<Running>,
}

impl View<'_> {
    /// One line of `GET /chaincodes`. `language` is asked for when nothing was kept about it.
    pub(super) fn info(&self, name: &str, language: String) -> ChaincodeInfo {
        let survey = &self.survey;
        let has = |p: &&PeerSeen<'_>| !survey.versions_on(p, name).is_empty();
        let rows = survey.kept.iter().filter(|k| k.name == name);
        let updated = rows.map(|k| k.update_ns).max().unwrap_or_default();
        ChaincodeInfo {
            chaincode_name: name.to_owned(),
            chaincode_language: language,
            update_time: clock::rfc3339(updated),
            chaincode_version: survey.versions(name).join(","),
            install_org_infos: survey.peers.iter().filter(has).map(peer).collect(),
            instantiated_channel: self.by_outcome(name),
            instantiated_info: InstantiatedInfo {
                channels: survey
                    .channels
                    .iter()
                    .filter_map(|c| self.instantiated_in(c, name))
                    .collect(),
            },
        }
    }

    fn by_outcome(&self, name: &str) -> InstantiatedChannel {
        let mut channels = InstantiatedChannel::default();
        for seen in &self.survey.channels {
            let channel = seen.channel.name.clone();
            if self.is_running(&channel, name).is_some() {
                channels.inprogress.push(channel);
            } else if let Some(failed) = self.failure(&channel, name) {
                channels.error.push(ChannelError {
                    error_detail: failed.detail.clone(),
                    channel_name: channel,
                });
            } else if self.survey.definition(&channel, name).is_some() {
                channels.success.push(channel);
            }
        }
        channels
    }

    fn instantiated_in(&self, seen: &ChannelSeen<'_>, name: &str) -> Option<InstantiatedIn> {
        let definition = self.survey.definition(&seen.channel.name, name)?;
        Some(InstantiatedIn {
            channel_id: seen.channel.name.clone(),
            orgs: self.orgs(seen),
            versions: vec![definition.version.clone()],
        })
    }

    fn orgs(&self, seen: &ChannelSeen<'_>) -> Vec<OrgInfo> {
        let members = self.network.members(seen.channel);
        members
            .map(|o| OrgInfo {
                org_name: o.name.clone(),
                org_id: o.hash.clone(),
            })
            .collect()
    }

    fn failure(&self, channel: &str, name: &str) -> Option<&FailedRow> {
        let mut failed = self.failed.iter();
        failed.find(|f| f.channel == channel && f.name == name)
    }

    fn is_running(&self, channel: &str, name: &str) -> Option<&Running> {
        let running = self.running.as_ref();
        running.filter(|r| r.channel == channel && r.name == name)
    }

    /// `GET /chaincode/versions`.
    pub(super) fn versions(&self, name: &str) -> ChaincodeVersions {
        let survey = &self.survey;
        let one = |version: String| {
            let row = survey.row(name, &version);
            let found = survey
                .peers
                .iter()
                .find_map(|p| survey.package_on(p, name, &version));
            let hash = found.map_or("", |p| p.package_id.rsplit(':').next().unwrap_or_default());
            let time = |ns: Option<i64>| clock::rfc3339(ns.unwrap_or_default());
            ChaincodeVersion {
                hash_code: hash.to_owned(),
                description: row.map(|r| r.description.clone()).unwrap_or_default(),
                install_time: time(row.map(|r| r.install_ns)),
                update_time: time(row.map(|r| r.update_ns)),
                instantiate_status: survey.channels.iter().any(|c| {
                    let definition = survey.definition(&c.channel.name, name);
                    definition.is_some_and(|d| d.version == version)
                }),
                security_check_status: 0,
                uninstantiated_peer_infos: survey
                    .peers
                    .iter()
                    .filter(|p| !self.runs(p, name, &version))
                    .map(peer)
                    .collect(),
                version,
            }
        };
        ChaincodeVersions {
            versions: survey.versions(name).into_iter().map(one).collect(),
        }
    }

    /// Whether a peer has a version, and a channel of its has defined it.
    fn runs(&self, seen: &PeerSeen<'_>, name: &str, version: &str) -> bool {
        let defined = seen.channels.iter().any(|channel| {
            let definition = self.survey.definition(channel, name);
            definition.is_some_and(|d| d.version == version)
        });
        defined && self.survey.package_on(seen, name, version).is_some()
    }

    /// `GET /chaincode/install`.
    pub(super) fn installs(&self, name: &str) -> ChaincodeInstalls {
        let mut result = Vec::new();
        for seen in &self.survey.peers {
            let mut add = |status: &str, version: String| {
                result.push(PeerInstallInfo {
                    org_name: seen.at.org.name.clone(),
                    org_id: seen.at.org.hash.clone(),
                    peer_name: seen.at.node.name.clone(),
                    peer_id: seen.at.node.name.clone(),
                    install_status: status.to_owned(),
                    version,
                });
            };
            let versions = self.survey.versions_on(seen, name);
            match (&seen.installed, versions.is_empty()) {
                (None, _) => add("unknown", String::new()),
                (Some(_), true) => add("uninstalled", String::new()),
                (Some(_), false) => {
                    for (version, _) in versions {
                        add("installed", version);
                    }
                }
            }
        }
        ChaincodeInstalls { result }
    }

    /// `GET /chaincode/instantiate`.
    pub(super) fn instantiations(&self, name: &str) -> ChaincodeInstantiations {
        let channels = self.survey.channels.iter();
        ChaincodeInstantiations {
            result: channels
                .filter_map(|c| self.instantiation(c, name))
                .collect(),
        }
    }

    fn instantiation(&self, seen: &ChannelSeen<'_>, name: &str) -> Option<ChannelInstantiateInfo> {
        let channel = &seen.channel.name;
        let definition = self.survey.definition(channel, name);
        let info = |status: &str, code: &str, reason: &str, detail: &str| InstantiateInfo {
            status: status.to_owned(),
            code: code.to_owned(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
        };
        let (instantiate_info, version) = if let Some(running) = self.is_running(channel, name) {
            let status = "CHAINCODE_INSTANTIATION_INPROGRESS";
            (info(status, "", "", ""), running.version.clone())
        } else if let Some(failed) = self.failure(channel, name) {
            let status = "CHAINCODE_INSTANTIATION_FAILED";
            let what = info(status, &failed.code, &failed.reason, &failed.detail);
            (what, failed.version.clone())
        } else {
            let version = definition?.version.clone();
            (
                info("CHAINCODE_INSTANTIATED", SUCCESS, SUCCESS, ""),
                version,
            )
        };
        let collections = definition.and_then(|d| d.collections.as_ref());
        let has_private_data = collections.is_some_and(|c| !c.config.is_empty());
        Some(ChannelInstantiateInfo {
            channel_name: channel.clone(),
            instantiate_info,
            endorsement_policy: definition.map_or_else(String::new, |d| {
                policy::in_words(&d.validation_parameter, self.network)
            }),
            version,
            orgs_info: self.orgs(seen),
            has_private_data: i32::from(has_private_data),
            sequence: definition.map_or(0, |d| d.sequence),
        })
    }
}

fn peer(seen: &PeerSeen<'_>) -> AgentPeer {
    let (org, node) = (seen.at.org, seen.at.node);
    let running = seen.installed.is_some();
    AgentPeer {
        org_name: org.name.clone(),
        org_id: org.hash.clone(),
        peer_name: node.name.clone(),
        peer_id: node.name.clone(),
        status: if running { "running" } else { "abnormal" }.to_owned(),
        channels: seen.channels.clone(),
        url: seen.at.site.network.address(node),
        peer: node.domain.clone(),
    }
}
