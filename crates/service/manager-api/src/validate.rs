//! What a creation request must look like, and what it means once the defaults are in.
//!
//! BCS's SDK marks fields as required but sends whatever was set, so every rule is checked here.

use serde::{Deserialize, Serialize};

use crate::consensus::Consensus;
use crate::error::{ApiError, ErrorCode};
use crate::instance::{BlockInfo, ChannelInfoV2, CreateRequestBody, OrgPeer};

/// Most peer organisations of an instance.
pub const MAX_ORGS: usize = 10;
/// Most peers of one organisation.
pub const MAX_PEERS_PER_ORG: i32 = 5;
/// Most channels of an instance.
pub const MAX_CHANNELS: usize = 10;

/// A creation request with everything decided. It is what is stored with the instance.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSpec {
    /// Name of the instance.
    pub name: String,
    /// Edition: 4, 2 or 3.
    pub version_type: i32,
    /// `private` or `union`.
    pub blockchain_type: String,
    /// How blocks are agreed on. Instances were made with one ordering node before there was a
    /// choice.
    #[serde(default)]
    pub consensus: Consensus,
    /// Ordering nodes.
    #[serde(default = "one")]
    pub orderers: u32,
    /// Peer organisations.
    pub orgs: Vec<OrgSpec>,
    /// Channels.
    pub channels: Vec<ChannelSpec>,
    /// Seconds until a block is cut.
    pub batch_timeout_s: u32,
    /// Transactions of a block.
    pub max_message_count: u32,
    /// Preferred size of a block in megabytes.
    pub preferred_max_mb: u32,
    /// GB asked for per organisation.
    pub org_disk_gb: i64,
    /// Host pool named in the request.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// Language of the sample chaincode to install, if any.
    pub sample_chaincode: Option<String>,
    /// Whether organisational units give roles. Instances were made with them before there was a
    /// choice.
    #[serde(default = "yes")]
    pub node_ous: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

impl std::fmt::Debug for CreateSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateSpec")
            .field("name", &self.name)
            .field("consensus", &self.consensus)
            .field("orderers", &self.orderers)
            .field("orgs", &self.orgs)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

/// One organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgSpec {
    /// Display name.
    pub name: String,
    /// Peers.
    pub peers: u32,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSpec {
    /// Name.
    pub name: String,
    /// Members, by display name.
    pub orgs: Vec<String>,
    /// Free text.
    pub description: String,
}

/// Checks a creation request and fills in the defaults. What BCS has and this build lacks (国密,
/// CouchDB, edge hosts, invitations) is refused by name.
pub fn create(body: &CreateRequestBody) -> Result<CreateSpec, ApiError> {
    let name = required(body.name.as_deref(), "name")?;
    display_name(name, "name")?;
    let version_type = body
        .version_type
        .ok_or_else(|| ApiError::missing("version_type"))?;
    if ![4, 2, 3].contains(&version_type) {
        return Err(ApiError::bad(format!(
            "version_type must be 4, 2 or 3, not {version_type}"
        )));
    }
    required(
        body.enterprise_project_id.as_deref(),
        "enterprise_project_id",
    )?;
    password(required(
        body.resource_password.as_deref(),
        "resource_password",
    )?)?;
    platform(body)?;
    let (consensus, orderers) = kernel(body)?;
    let (cluster_id, cluster_name) = cluster(body)?;
    let orgs = organisations(body.peer_orgs.as_deref())?;
    let channels = channels(body.channels.as_deref(), &orgs)?;
    let block = body.block_info.unwrap_or_default();
    let (batch_timeout_s, max_message_count, preferred_max_mb) = block_info(block)?;
    Ok(CreateSpec {
        name: name.to_owned(),
        version_type,
        blockchain_type: one_of(
            body.blockchain_type.as_deref().unwrap_or("private"),
            "blockchain_type",
            &["private", "union"],
        )?,
        consensus,
        orderers,
        orgs,
        channels,
        batch_timeout_s,
        max_message_count,
        preferred_max_mb,
        org_disk_gb: body.org_disk_size.unwrap_or(100),
        cluster_id,
        cluster_name,
        sample_chaincode: sample(body.sample_chaincode.as_deref())?,
        node_ous: body.node_ous.unwrap_or(false),
    })
}

fn required<'a>(value: Option<&'a str>, field: &str) -> Result<&'a str, ApiError> {
    match value {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(ApiError::missing(field)),
    }
}

fn one_of(value: &str, field: &str, allowed: &[&str]) -> Result<String, ApiError> {
    allowed
        .iter()
        .find(|a| a.eq_ignore_ascii_case(value))
        .map(|a| (*a).to_owned())
        .ok_or_else(|| {
            ApiError::bad(format!(
                "{field} must be one of {}, not {value}",
                allowed.join(", ")
            ))
        })
}

/// Names of instances and organisations: 4–24 Chinese characters, letters, digits and hyphens, not
/// a hyphen first.
pub fn display_name(name: &str, field: &str) -> Result<(), ApiError> {
    let count = name.chars().count();
    let chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    let fits = (4..=24).contains(&count)
        && !name.starts_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || chinese(c));
    if fits {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "{field} must have 4 to 24 Chinese characters, letters, digits or hyphens \
         and not begin with a hyphen"
    )))
}

/// Channel names: 4–24 of `[a-z0-9]`, a letter first, not `testchainid`.
pub fn channel_name(name: &str) -> Result<(), ApiError> {
    let bytes = name.as_bytes();
    let fits = (4..=24).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name != "testchainid";
    if fits {
        Ok(())
    } else {
        Err(ApiError::new(
            ErrorCode::BadChannelName,
            "Invalid channel name.",
        ))
    }
}

/// Resource passwords: 8–12 characters of at least three of the four kinds.
fn password(text: &str) -> Result<(), ApiError> {
    const SPECIAL: &str = "!@$%^-_=+[{}]:,./?";
    let kinds = [
        text.chars().any(|c| c.is_ascii_lowercase()),
        text.chars().any(|c| c.is_ascii_uppercase()),
        text.chars().any(|c| c.is_ascii_digit()),
        text.chars().any(|c| SPECIAL.contains(c)),
    ];
    let allowed = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || SPECIAL.contains(c));
    let long = (8..=12).contains(&text.chars().count());
    if long && allowed && kinds.iter().filter(|k| **k).count() >= 3 {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "resource_password must have 8 to 12 characters of at least three of: lower case, \
         upper case, digits, {SPECIAL}"
    )))
}

/// Refuses the parts of BCS this build does not run on.
fn platform(body: &CreateRequestBody) -> Result<(), ApiError> {
    let cluster_type = required(body.cluster_type.as_deref(), "cluster_type")?;
    if cluster_type.eq_ignore_ascii_case("ief") {
        return Err(ApiError::not_built("cluster_type ief (edge hosts)"));
    }
    one_of(cluster_type, "cluster_type", &["CCE"])?;
    if body.is_invitee.unwrap_or(false) {
        return Err(ApiError::not_built(
            "is_invitee (joining another tenant's consortium)",
        ));
    }
    if body.tc3_need.unwrap_or(false) {
        return Err(ApiError::not_built("tc3_need (trusted computing platform)"));
    }
    if body.restful_api_support.unwrap_or(false) {
        return Err(ApiError::not_built("restful_api_support (REST plug-in)"));
    }
    let database = body.database_type.as_deref().unwrap_or("goleveldb");
    if one_of(database, "database_type", &["goleveldb", "couchdb"])? == "couchdb" {
        return Err(ApiError::not_built("database_type couchdb (rich queries)"));
    }
    let volume = body.volume_type.as_deref().unwrap_or("nfs");
    if one_of(volume, "volume_type", &["evs", "nfs", "efs"])? == "evs" {
        let disk = required(body.evs_disk_type.as_deref(), "evs_disk_type")?;
        one_of(disk, "evs_disk_type", &["SATA", "SAS", "SSD"])?;
    }
    if body
        .org_disk_size
        .is_some_and(|gb| !(1..=100_000).contains(&gb))
    {
        return Err(ApiError::bad(
            "org_disk_size must be between 1 and 100000 GB",
        ));
    }
    Ok(())
}

/// The consensus and its ordering nodes. Refuses cryptography this build does not have.
fn kernel(body: &CreateRequestBody) -> Result<(Consensus, u32), ApiError> {
    let version = body.fabric_version.as_deref().unwrap_or("2.2");
    if !["2.2", "2.0"].contains(&version) {
        return Err(ApiError::bad(format!(
            "fabric_version must be 2.2, not {version}"
        )));
    }
    let sign = body.sign_algorithm.as_deref().unwrap_or("ECDSA");
    if one_of(sign, "sign_algorithm", &["ECDSA", "sm2"])? == "sm2" {
        return Err(ApiError::not_built("sign_algorithm sm2 (国密)"));
    }
    let consensus = one_of(
        body.consensus.as_deref().unwrap_or("solo"),
        "consensus",
        &["solo", "etcdraft", "SFLIC", "kafka"],
    )?;
    let consensus = match consensus.as_str() {
        "solo" => Consensus::Solo,
        "etcdraft" => Consensus::Raft,
        "kafka" => {
            return Err(ApiError::bad(
                "consensus kafka needs Fabric 1.4; use etcdraft",
            ));
        }
        _ => Consensus::Bft,
    };
    Ok((consensus, consensus.count(body.orderer_node_number)?))
}

fn cluster(body: &CreateRequestBody) -> Result<(String, String), ApiError> {
    let make = body
        .create_new_cluster
        .ok_or_else(|| ApiError::missing("create_new_cluster"))?;
    if make {
        return Err(ApiError::not_built(
            "create_new_cluster true (buying hosts); send false with cce_cluster_info",
        ));
    }
    let info = body
        .cce_cluster_info
        .as_ref()
        .ok_or_else(|| ApiError::missing("cce_cluster_info"))?;
    Ok((
        required(Some(&info.cluster_id), "cce_cluster_info.cluster_id")?.to_owned(),
        required(Some(&info.cluster_name), "cce_cluster_info.cluster_name")?.to_owned(),
    ))
}

fn organisations(orgs: Option<&[OrgPeer]>) -> Result<Vec<OrgSpec>, ApiError> {
    let orgs = match orgs {
        None | Some([]) => {
            return Ok(vec![OrgSpec {
                name: "organization".into(),
                peers: 2,
            }]);
        }
        Some(orgs) => orgs,
    };
    if orgs.len() > MAX_ORGS {
        return Err(ApiError::bad(format!(
            "peer_orgs: at most {MAX_ORGS} organisations"
        )));
    }
    let mut seen: Vec<OrgSpec> = Vec::with_capacity(orgs.len());
    for org in orgs {
        display_name(&org.name, "peer_orgs.name")?;
        if org.name == ORDERER_ORG {
            return Err(ApiError::bad(format!(
                "peer_orgs: the name {ORDERER_ORG} is taken"
            )));
        }
        if seen.iter().any(|o| o.name == org.name) {
            return Err(ApiError::bad(format!(
                "peer_orgs: {} is named twice",
                org.name
            )));
        }
        if !(1..=MAX_PEERS_PER_ORG).contains(&org.node_count) {
            return Err(ApiError::bad(format!(
                "peer_orgs: node_count of {} must be 1 to {MAX_PEERS_PER_ORG}",
                org.name
            )));
        }
        seen.push(OrgSpec {
            name: org.name.clone(),
            peers: org.node_count.unsigned_abs(),
        });
    }
    Ok(seen)
}

/// Display name of the ordering organisation, as BCS's SDK configuration writes it.
pub const ORDERER_ORG: &str = "ordererorg";

fn channels(
    channels: Option<&[ChannelInfoV2]>,
    orgs: &[OrgSpec],
) -> Result<Vec<ChannelSpec>, ApiError> {
    let everyone: Vec<String> = orgs.iter().map(|o| o.name.clone()).collect();
    let channels = match channels {
        None | Some([]) => {
            return Ok(vec![ChannelSpec {
                name: "channel".into(),
                orgs: everyone,
                description: String::new(),
            }]);
        }
        Some(channels) => channels,
    };
    if channels.len() > MAX_CHANNELS {
        return Err(ApiError::bad(format!("channels: at most {MAX_CHANNELS}")));
    }
    let mut seen: Vec<ChannelSpec> = Vec::with_capacity(channels.len());
    for channel in channels {
        channel_name(&channel.name)?;
        if seen.iter().any(|c| c.name == channel.name) {
            return Err(ApiError::bad(format!(
                "channels: {} is named twice",
                channel.name
            )));
        }
        if let Some(stranger) = channel.org_names.iter().find(|o| !everyone.contains(o)) {
            return Err(ApiError::new(
                ErrorCode::NoSuchOrg,
                format!("Input org {stranger} is not exist"),
            ));
        }
        let members = channel.org_names.clone();
        if (1..members.len()).any(|i| members[..i].contains(&members[i])) {
            return Err(ApiError::bad(format!(
                "channels: {} names an organisation twice",
                channel.name
            )));
        }
        let description = channel.description.clone().unwrap_or_default();
        if description.chars().count() > 500 {
            return Err(ApiError::bad(
                "channels: a description has at most 500 characters",
            ));
        }
        seen.push(ChannelSpec {
            name: channel.name.clone(),
            orgs: if members.is_empty() {
                everyone.clone()
            } else {
                members
            },
            description,
        });
    }
    Ok(seen)
}

fn block_info(info: BlockInfo) -> Result<(u32, u32, u32), ApiError> {
    let within = |value: Option<i32>, default: i32, most: i32, field: &str| {
        let value = value.unwrap_or(default);
        if (1..=most).contains(&value) {
            Ok(value.unsigned_abs())
        } else {
            Err(ApiError::bad(format!(
                "block_info.{field} must be between 1 and {most}"
            )))
        }
    };
    Ok((
        within(info.batch_timeout, 2, 3600, "batch_timeout")?,
        within(info.max_message_count, 500, 100_000, "max_message_count")?,
        within(info.preferred_maxbytes, 2, 96, "preferred_maxbytes")?,
    ))
}

fn sample(language: Option<&str>) -> Result<Option<String>, ApiError> {
    match language {
        None | Some("") => Ok(None),
        Some(l) => one_of(l, "sample_chaincode", &["node", "go"]).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::CceClusterInfo;

    fn minimal() -> CreateRequestBody {
        CreateRequestBody {
            name: Some("bcs-test".into()),
            version_type: Some(4),
            fabric_version: Some("2.2".into()),
            enterprise_project_id: Some("0".into()),
            resource_password: Some("Passw0rd!".into()),
            cluster_type: Some("CCE".into()),
            create_new_cluster: Some(false),
            cce_cluster_info: Some(CceClusterInfo {
                cluster_id: "local".into(),
                cluster_name: "local".into(),
                cluster_platform_type: None,
            }),
            ..CreateRequestBody::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_bcs() {
        let spec = create(&minimal()).expect("acceptable");
        assert_eq!(
            (
                spec.batch_timeout_s,
                spec.max_message_count,
                spec.preferred_max_mb
            ),
            (2, 500, 2)
        );
        assert_eq!(
            spec.orgs,
            [OrgSpec {
                name: "organization".into(),
                peers: 2
            }]
        );
        assert_eq!(spec.channels[0].name, "channel");
        assert_eq!(spec.channels[0].orgs, ["organization"]);
        assert_eq!(spec.blockchain_type, "private");
        assert!(!spec.node_ous);
        assert_eq!((spec.consensus, spec.orderers), (Consensus::Solo, 1));
    }

    #[test]
    fn requests_kept_before_there_was_a_choice_mean_what_they_meant() {
        let spec = create(&minimal()).expect("acceptable");
        let mut kept = serde_json::to_value(&spec).expect("JSON");
        for choice in ["node_ous", "consensus", "orderers"] {
            kept.as_object_mut().expect("an object").remove(choice);
        }
        let kept: CreateSpec = serde_json::from_value(kept).expect("a request");
        assert!(kept.node_ous);
        assert_eq!((kept.consensus, kept.orderers), (Consensus::Solo, 1));
    }

    #[test]
    fn a_cluster_has_as_many_orderers_as_asked_for() {
        let made = |consensus: &str, asked| {
            let body = CreateRequestBody {
                consensus: Some(consensus.into()),
                orderer_node_number: asked,
                ..minimal()
            };
            let spec = create(&body).expect("acceptable");
            (spec.consensus, spec.orderers)
        };
        assert_eq!(made("etcdRaft", None), (Consensus::Raft, 3));
        assert_eq!(made("etcdraft", Some(5)), (Consensus::Raft, 5));
        assert_eq!(made("SFLIC", None), (Consensus::Bft, 4));
        assert_eq!(made("sflic", Some(7)), (Consensus::Bft, 7));
    }

    fn check(change: impl FnOnce(&mut CreateRequestBody), code: ErrorCode, part: &str) {
        let mut body = minimal();
        change(&mut body);
        let error = create(&body).expect_err(part);
        assert_eq!(error.code, code, "{}", error.message);
        assert!(
            error.message.contains(part),
            "{} lacks {part}",
            error.message
        );
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_named() {
        use ErrorCode::{BadChannelName, BadParameter, MissingParameter, NoSuchOrg};
        check(|b| b.name = None, MissingParameter, "name");
        check(|b| b.name = Some("-abcd".into()), BadParameter, "name");
        check(|b| b.name = Some("abc".into()), BadParameter, "4 to 24");
        check(|b| b.version_type = None, MissingParameter, "version_type");
        check(|b| b.version_type = Some(1), BadParameter, "version_type");
        check(
            |b| b.enterprise_project_id = None,
            MissingParameter,
            "enterprise_project_id",
        );
        check(
            |b| b.resource_password = None,
            MissingParameter,
            "resource_password",
        );
        check(
            |b| b.resource_password = Some("password".into()),
            BadParameter,
            "three of",
        );
        check(|b| b.cluster_type = None, MissingParameter, "cluster_type");
        check(
            |b| b.create_new_cluster = None,
            MissingParameter,
            "create_new_cluster",
        );
        check(
            |b| b.cce_cluster_info = None,
            MissingParameter,
            "cce_cluster_info",
        );
        check(
            |b| b.fabric_version = Some("1.4".into()),
            BadParameter,
            "fabric_version",
        );
        check(
            |b| b.orderer_node_number = Some(3),
            BadParameter,
            "orderer_node_number",
        );
        check(
            |b| {
                b.consensus = Some("etcdraft".into());
                b.orderer_node_number = Some(4);
            },
            BadParameter,
            "1, 3, 5, 7 with consensus etcdraft, not 4",
        );
        check(
            |b| b.volume_type = Some("evs".into()),
            MissingParameter,
            "evs_disk_type",
        );
        check(
            |b| b.sample_chaincode = Some("cobol".into()),
            BadParameter,
            "sample_chaincode",
        );
        let org = |name: &str, n| OrgPeer {
            name: name.into(),
            node_count: n,
        };
        check(
            |b| b.peer_orgs = Some(vec![org("org1", 0)]),
            BadParameter,
            "node_count",
        );
        check(
            |b| b.peer_orgs = Some(vec![org("org1", 1), org("org1", 1)]),
            BadParameter,
            "twice",
        );
        let channel = |name: &str, o: &str| ChannelInfoV2 {
            name: name.into(),
            org_names: vec![o.into()],
            description: None,
        };
        check(
            |b| b.channels = Some(vec![channel("Bad", "organization")]),
            BadChannelName,
            "Invalid channel name.",
        );
        check(
            |b| b.channels = Some(vec![channel("good", "org1")]),
            NoSuchOrg,
            "Input org org1 is not exist",
        );
        let blocks = BlockInfo {
            batch_timeout: Some(0),
            ..BlockInfo::default()
        };
        check(
            |b| b.block_info = Some(blocks),
            BadParameter,
            "batch_timeout",
        );
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let refuse = |change: fn(&mut CreateRequestBody), part: &str| {
            check(change, ErrorCode::NotBuilt, part);
        };
        refuse(|b| b.sign_algorithm = Some("SM2".into()), "sm2");
        refuse(|b| b.database_type = Some("couchdb".into()), "couchdb");
        refuse(|b| b.cluster_type = Some("ief".into()), "ief");
        refuse(|b| b.is_invitee = Some(true), "is_invitee");
        refuse(|b| b.tc3_need = Some(true), "tc3_need");
        refuse(|b| b.restful_api_support = Some(true), "restful");
        refuse(|b| b.create_new_cluster = Some(true), "create_new_cluster");
    }

    #[test]
    fn chinese_names_are_accepted() {
        let mut body = minimal();
        body.name = Some("区块链-测试".into());
        body.peer_orgs = Some(vec![OrgPeer {
            name: "组织机构".into(),
            node_count: 1,
        }]);
        create(&body).expect("Chinese names");
    }
}
