//! Chaincode management under `/v2/agent/apis`: install, instantiate and four questions, in the
//! shapes of BCS's agent. What BCS does not document is ours and says so.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::AgentPeer;
use crate::error::ApiError;

/// Longest description.
pub const MAX_DESCRIPTION: usize = 500;
/// Longest `private_data`.
pub const MAX_PRIVATE_DATA: usize = 5000;

/// The form of `POST /chaincode`, sent as `multipart/form-data`. BCS's own pages give the path as
/// `/chaincode/install`; both are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeUpload {
    /// 6 to 25 lower-case letters and digits, the first one a letter.
    pub chaincode_name: String,
    /// Up to 14 digits, points and hyphens; a digit first and last, and no two of the others side
    /// by side.
    pub chaincode_version: String,
    /// JSON text: `[{"org_id":"…","org_name":"…","peer_id":"…","peer_name":"…"}]`, where `peer_id`
    /// is a peer's name or its domain name. Our choice: without the field the chaincode is
    /// installed on every peer of the instance.
    pub target_peers: Option<String>,
    /// Up to 500 characters.
    pub description: Option<String>,
    /// `golang`, `node` or `java`. Our choice: without the field it is found out from the file.
    pub chaincode_language: Option<String>,
    /// `goleveldb`; `couchdb` is refused, as this build has no rich queries.
    pub db_type: Option<String>,
    /// `false`; `true` is refused, as this build has no security check.
    pub security_check: Option<String>,
    /// A zip of the chaincode's source, or (ours) a package made by Fabric's `peer lifecycle
    /// chaincode package`. At most 64 MiB.
    #[schema(value_type = String, format = Binary)]
    pub file: String,
}

/// A peer of `target_peers`. At least one of `peer_id` and `peer_name` is needed; what else is
/// given has to agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TargetPeer {
    /// The organisation's hash.
    pub org_id: Option<String>,
    /// The organisation's name.
    pub org_name: Option<String>,
    /// The peer's domain name, or its name.
    pub peer_id: Option<String>,
    /// The peer's name; `peer-0` for the first of the organisation is understood too.
    pub peer_name: Option<String>,
}

/// Answer of `POST /chaincode`, sent when building has ended. When no peer could install the
/// chaincode the answer is an error instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstallChaincodeResponse {
    /// Peers it should be installed on.
    pub total_peer_num: u32,
    /// Peers it is installed on, those where it was before included.
    pub success_peer_num: u32,
    /// The others.
    pub fail_peer_num: u32,
    /// One text per failure: the peer's name and the reason.
    pub fail_peers: Vec<String>,
    /// Our addition: Fabric's package id.
    pub package_id: String,
}

/// Who has to endorse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// `OR`: any of the organisations. `AND`: all of them.
    pub operation: String,
    /// The organisations.
    pub group: Vec<OrgPolicy>,
}

/// An organisation that endorses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrgPolicy {
    /// The organisation's hash; its name is understood too.
    pub org_id: String,
    /// `member`, also when left out. `admin` is refused: peers endorse, and the certificate of a
    /// peer is not an administrator's.
    pub category: Option<String>,
}

/// A call that initialises the chaincode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct InitArgs {
    /// Function.
    pub func_name: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Body of `POST /chaincode/instantiate`. Behind it is Fabric's lifecycle: every organisation that
/// this instance has in the channel approves, the definition is committed with the next sequence,
/// and the chaincode is called once on each peer that runs it. When an upgrade does not start, or its
/// initialisation refuses, the definition before it comes into force again and the answer is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiateChaincodeRequest {
    /// Name it was installed under.
    pub chaincode_name: String,
    /// Version it was installed under.
    pub chaincode_version: String,
    /// Channel.
    pub channel_name: String,
    /// Our choice: without it, an upgrade keeps the policy there is, and a first definition takes
    /// the channel's (most of the organisations).
    pub endorsement_policy: Option<Policy>,
    /// Our choice: without it, or without a function in it, the chaincode needs no initialisation.
    /// With it, nothing but this call is accepted by the chaincode before it has succeeded.
    pub init_variable: Option<InitArgs>,
    /// JSON text of at most 5000 characters: `[{"name":"…","policy":"OR('…MSP.member')",
    /// "requiredPeerCount":0,"maxPeerCount":3,"blockToLive":0,"memberOnlyRead":true}]`. Our choice:
    /// without it, an upgrade keeps the collections there are.
    pub private_data: Option<String>,
}

/// Answer of `POST /chaincode/instantiate` (ours: BCS documents none), sent when the chaincode
/// answers on the peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiateChaincodeResponse {
    /// Name.
    pub chaincode_name: String,
    /// Version.
    pub chaincode_version: String,
    /// Channel.
    pub channel_name: String,
    /// Fabric's sequence: 1 for the first definition, one more for each upgrade.
    pub sequence: i64,
    /// Fabric's package id.
    pub package_id: String,
    /// `success`.
    pub result: String,
}

/// A channel where instantiating failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelError {
    /// Channel.
    pub channel_name: String,
    /// Reason.
    pub error_detail: String,
}

/// Channels by what became of instantiating there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiatedChannel {
    /// The last attempt failed.
    pub error: Vec<ChannelError>,
    /// A definition is committed.
    pub success: Vec<String>,
    /// Under way.
    pub inprogress: Vec<String>,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrgInfo {
    /// Display name.
    pub org_name: String,
    /// Its hash.
    pub org_id: String,
}

/// A channel that has a definition of the chaincode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiatedIn {
    /// Channel.
    pub channel_id: String,
    /// Organisations in the channel.
    pub orgs: Vec<OrgInfo>,
    /// The version that is committed.
    pub versions: Vec<String>,
}

/// Where a chaincode is instantiated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiatedInfo {
    /// Channels.
    pub channels: Vec<InstantiatedIn>,
}

/// A chaincode of `GET /chaincodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeInfo {
    /// Name.
    pub chaincode_name: String,
    /// `golang`, `node`, `java`, or `ccaas` for a chaincode that runs as a service.
    pub chaincode_language: String,
    /// RFC 3339; empty for what was not installed through this API.
    pub update_time: String,
    /// Versions on the peers, oldest first, separated by commas.
    pub chaincode_version: String,
    /// Peers that have a version of it.
    pub install_org_infos: Vec<AgentPeer>,
    /// Channels, by what became of instantiating there.
    pub instantiated_channel: InstantiatedChannel,
    /// Channels that have a definition.
    pub instantiated_info: InstantiatedInfo,
}

/// Answer of `GET /chaincodes`, put together from what the peers answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeList {
    /// Chaincodes in all.
    pub count: u32,
    /// The page, by name.
    pub chaincodes: Vec<ChaincodeInfo>,
}

/// A version of `GET /chaincode/versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeVersion {
    /// Version.
    pub version: String,
    /// SHA-256 of the package.
    pub hash_code: String,
    /// Description given with it.
    pub description: String,
    /// RFC 3339; empty for what was not installed through this API.
    pub install_time: String,
    /// RFC 3339; empty as above.
    pub update_time: String,
    /// Whether a channel has this version.
    pub instantiate_status: bool,
    /// 0: there was no security check.
    pub security_check_status: i32,
    /// Peers that do not run this version: it is not installed there, or no channel of theirs has
    /// it.
    pub uninstantiated_peer_infos: Vec<AgentPeer>,
}

/// Answer of `GET /chaincode/versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeVersions {
    /// Versions, oldest first.
    pub versions: Vec<ChaincodeVersion>,
}

/// A peer of `GET /chaincode/install`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerInstallInfo {
    /// Organisation.
    pub org_name: String,
    /// Its hash.
    pub org_id: String,
    /// Peer.
    pub peer_name: String,
    /// Its name in requests.
    pub peer_id: String,
    /// `installed`, `uninstalled`, or (ours) `unknown` when the peer does not answer.
    pub install_status: String,
    /// Version; empty unless installed.
    pub version: String,
}

/// Answer of `GET /chaincode/install`: one entry per peer and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeInstalls {
    /// Peers.
    pub result: Vec<PeerInstallInfo>,
}

/// What became of instantiating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstantiateInfo {
    /// `CHAINCODE_INSTANTIATED`, `CHAINCODE_INSTANTIATION_INPROGRESS` or
    /// `CHAINCODE_INSTANTIATION_FAILED`.
    pub status: String,
    /// `1000` for success, BCS's codes (6705 it does not build, 6716 its init refused the
    /// arguments, …) for failures.
    pub code: String,
    /// `1000`, or the meaning of the code.
    pub reason: String,
    /// The literal error.
    pub detail: String,
}

/// A channel of `GET /chaincode/instantiate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelInstantiateInfo {
    /// Channel.
    pub channel_name: String,
    /// What became of the last attempt.
    pub instantiate_info: InstantiateInfo,
    /// `OR,org1,org2` or `AND,org1,org2`. Ours: the path of a channel policy, such as
    /// `/Channel/Application/Endorsement`, and `SIGNATURE` for policies of another form.
    pub endorsement_policy: String,
    /// The version that is committed, or was to be.
    pub version: String,
    /// Organisations in the channel.
    pub orgs_info: Vec<OrgInfo>,
    /// 1 when it has private data collections.
    pub has_private_data: i32,
    /// Our addition: Fabric's sequence, 0 before the first definition.
    pub sequence: i64,
}

/// Answer of `GET /chaincode/instantiate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChaincodeInstantiations {
    /// Channels.
    pub result: Vec<ChannelInstantiateInfo>,
}

/// BCS's rule for chaincode names.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && rest && (6..=25).contains(&name.len()) {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "chaincode_name '{}' is invalid: it has 6 to 25 lower-case letters and digits and begins \
         with a letter",
        start_of(name)
    )))
}

/// BCS's rule for chaincode versions.
pub fn check_version(version: &str) -> Result<(), ApiError> {
    let parts = version.split(['.', '-']);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if version.len() <= 14 && parts.into_iter().all(digits) {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "chaincode_version '{}' is invalid: it has at most 14 digits, points and hyphens, begins \
         and ends with a digit, and has no two points or hyphens side by side, such as 1.0",
        start_of(version)
    )))
}

/// Enough of a bad value to recognise it.
fn start_of(value: &str) -> String {
    value.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_follow_bcs() {
        for name in ["assets", "a23456", "abcdefghijklmnopqrstuvwxy"] {
            check_name(name).expect(name);
        }
        let long = "abcdefghijklmnopqrstuvwxyz";
        for name in [
            "",
            "short",
            "Assets",
            "6assets",
            "my-assets",
            "资产资产资产",
            long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for version in ["1", "1.0", "1.0-2", "12345678901234"] {
            check_version(version).expect(version);
        }
        for version in [
            "",
            "v1",
            "1.",
            ".1",
            "1..0",
            "1.-0",
            "1,0",
            "1 0",
            "123456789012345",
        ] {
            let error = check_version(version).expect_err(version);
            assert!(error.message.contains("such as 1.0"), "{error}");
        }
    }
}
