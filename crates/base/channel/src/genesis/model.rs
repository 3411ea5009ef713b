//! The shape of a `configtx.yaml`.

use std::collections::BTreeMap;
use std::time::Duration;

use selvage_proto::common::SignaturePolicyEnvelope;
use serde::{Deserialize, Deserializer};
use serde_norway::Value;

use super::GenesisError;
use crate::duration::parse_duration;
use crate::sections::CONSENSUS_SOLO;

/// A whole `configtx.yaml`. Only `Profiles` matters; the other sections exist to be referred to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct ConfigTx {
    /// Organisations to refer to.
    pub organizations: Vec<Organization>,
    /// Capabilities to refer to, by section.
    pub capabilities: BTreeMap<String, BTreeMap<String, bool>>,
    /// Application settings to refer to.
    pub application: Option<Application>,
    /// Orderer settings to refer to.
    pub orderer: Option<Orderer>,
    /// Channel settings to refer to.
    pub channel: Option<Profile>,
    /// The profiles by name.
    pub profiles: BTreeMap<String, Profile>,
}

impl ConfigTx {
    /// Reads a `configtx.yaml`: anchors, merge keys (`<<`), sizes like `10 MB` and durations like
    /// `2s` included. Keys that mean nothing are errors, as in Fabric.
    pub fn from_yaml(text: &str) -> Result<Self, GenesisError> {
        let yaml = |e: serde_norway::Error| GenesisError::Yaml(e.to_string());
        let mut value: Value = serde_norway::from_str(text).map_err(yaml)?;
        value.apply_merge().map_err(yaml)?;
        drop_nulls(&mut value);
        if value.is_null() {
            return Ok(Self::default());
        }
        serde_norway::from_value(value).map_err(yaml)
    }

    /// A profile by name.
    pub fn profile(&self, name: &str) -> Result<&Profile, GenesisError> {
        let profile = self.profiles.get(name);
        profile.ok_or_else(|| GenesisError::NoProfile(name.to_owned()))
    }
}

/// A key without a value is as good as absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Mapping(map) => {
            map.retain(|_, v| !v.is_null());
            map.iter_mut().for_each(|(_, v)| drop_nulls(v));
        }
        Value::Sequence(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Everything a channel starts from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Profile {
    /// A leftover of system channels; written into the tree when set.
    pub consortium: Option<String>,
    /// The ordering service.
    pub orderer: Option<Orderer>,
    /// The organisations that run chaincode.
    pub application: Option<Application>,
    /// Channel capabilities.
    pub capabilities: BTreeMap<String, bool>,
    /// Policies of the root group.
    pub policies: BTreeMap<String, Policy>,
}

/// How a policy's rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PolicyKind {
    /// `ANY Readers`, `MAJORITY Admins`: counts the groups below.
    ImplicitMeta,
    /// `OR('Org1MSP.admin', 'Org2MSP.admin')`: counts signers.
    Signature,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    /// How the rule is written.
    #[serde(rename = "Type")]
    pub kind: PolicyKind,
    /// The rule.
    pub rule: String,
    /// The rule in Fabric's protobuf form, for what the text form has no words for; it counts
    /// instead of `rule`.
    #[serde(skip)]
    pub signers: Option<SignaturePolicyEnvelope>,
}

impl Policy {
    /// A policy that counts the groups below.
    pub fn implicit(rule: &str) -> Self {
        Self {
            kind: PolicyKind::ImplicitMeta,
            rule: rule.to_owned(),
            signers: None,
        }
    }

    /// A policy that counts signers.
    pub fn signature(rule: &str) -> Self {
        Self {
            kind: PolicyKind::Signature,
            rule: rule.to_owned(),
            signers: None,
        }
    }

    /// A policy that counts signers, made already. The text form knows roles only; this may ask
    /// for organisational units and single identities too.
    pub fn signers(signers: SignaturePolicyEnvelope) -> Self {
        Self {
            kind: PolicyKind::Signature,
            rule: String::new(),
            signers: Some(signers),
        }
    }
}

/// The application section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Application {
    /// Its organisations.
    pub organizations: Vec<Organization>,
    /// Its capabilities.
    pub capabilities: BTreeMap<String, bool>,
    /// Its policies.
    pub policies: BTreeMap<String, Policy>,
    /// Which policy guards which resource, where it differs from the default.
    #[serde(rename = "ACLs")]
    pub acls: BTreeMap<String, String>,
}

/// An organisation, as orderer or application member.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Organization {
    /// The group's name.
    pub name: String,
    /// The id of its membership service.
    #[serde(rename = "ID")]
    pub id: String,
    /// The folder with its certificates.
    #[serde(rename = "MSPDir")]
    pub msp_dir: String,
    /// `bccsp` or nothing; other kinds are not supported.
    #[serde(rename = "MSPType")]
    pub msp_type: String,
    /// Its policies.
    pub policies: BTreeMap<String, Policy>,
    /// Peers by which others find it.
    pub anchor_peers: Vec<AnchorPeer>,
    /// `host:port` of its orderers.
    pub orderer_endpoints: Vec<String>,
    /// Ignored; Fabric reads it for the sake of old files.
    pub admin_principal: String,
    /// Write only the group, without content.
    pub skip_as_foreign: bool,
}

/// A peer's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AnchorPeer {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The orderer section. Absent values have Fabric's defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Orderer {
    /// `solo`, `etcdraft` or `BFT`.
    pub orderer_type: String,
    /// Global addresses; not with capability V3_0.
    pub addresses: Vec<String>,
    /// How long a batch waits.
    #[serde(deserialize_with = "duration")]
    pub batch_timeout: Duration,
    /// Limits of one block.
    pub batch_size: BatchSize,
    /// The BFT consenters.
    pub consenter_mapping: Vec<Consenter>,
    /// Settings of etcdraft.
    pub etcd_raft: Option<EtcdRaft>,
    /// Settings of BFT.
    #[serde(rename = "SmartBFT")]
    pub smart_bft: Option<SmartBft>,
    /// Its organisations.
    pub organizations: Vec<Organization>,
    /// A leftover of system channels.
    pub max_channels: u64,
    /// Its capabilities.
    pub capabilities: BTreeMap<String, bool>,
    /// Its policies.
    pub policies: BTreeMap<String, Policy>,
}

impl Default for Orderer {
    fn default() -> Self {
        Self {
            orderer_type: CONSENSUS_SOLO.to_owned(),
            addresses: Vec::new(),
            batch_timeout: Duration::from_secs(2),
            batch_size: BatchSize::default(),
            consenter_mapping: Vec::new(),
            etcd_raft: None,
            smart_bft: None,
            organizations: Vec::new(),
            max_channels: 0,
            capabilities: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }
}

/// Limits of one block; zero stands for the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct BatchSize {
    /// Messages.
    pub max_message_count: u32,
    /// Bytes that no message may exceed.
    #[serde(deserialize_with = "byte_size")]
    pub absolute_max_bytes: u32,
    /// Bytes that a block keeps to unless one message is larger.
    #[serde(deserialize_with = "byte_size")]
    pub preferred_max_bytes: u32,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self {
            max_message_count: 500,
            absolute_max_bytes: 10 << 20,
            preferred_max_bytes: 2 << 20,
        }
    }
}

/// A BFT consenter. The last three are paths of PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Consenter {
    /// Its number, by which block signatures name it.
    #[serde(rename = "ID")]
    pub id: u32,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u32,
    /// The membership service of its identity.
    #[serde(rename = "MSPID")]
    pub msp_id: String,
    /// The certificate it signs blocks with.
    pub identity: String,
    /// The certificate it connects with.
    #[serde(rename = "ClientTLSCert", alias = "ClientTlsCert")]
    pub client_tls_cert: String,
    /// The certificate it listens with.
    #[serde(rename = "ServerTLSCert", alias = "ServerTlsCert")]
    pub server_tls_cert: String,
}

/// Settings of etcdraft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct EtcdRaft {
    /// The nodes.
    pub consenters: Vec<EtcdRaftConsenter>,
    /// Timing and sizes.
    pub options: EtcdRaftOptions,
}

/// A Raft node. The last two are paths of PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct EtcdRaftConsenter {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u32,
    /// The certificate it connects with.
    #[serde(rename = "ClientTLSCert", alias = "ClientTlsCert")]
    pub client_tls_cert: String,
    /// The certificate it listens with.
    #[serde(rename = "ServerTLSCert", alias = "ServerTlsCert")]
    pub server_tls_cert: String,
}

/// Timing and sizes of etcdraft.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct EtcdRaftOptions {
    /// The length of a tick.
    pub tick_interval: String,
    /// Ticks without a leader before an election.
    pub election_tick: u32,
    /// Ticks between heartbeats.
    pub heartbeat_tick: u32,
    /// Blocks proposed and not yet decided.
    pub max_inflight_blocks: u32,
    /// Bytes of blocks between snapshots.
    #[serde(deserialize_with = "byte_size")]
    pub snapshot_interval_size: u32,
}

impl Default for EtcdRaftOptions {
    fn default() -> Self {
        Self {
            tick_interval: "500ms".to_owned(),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: 16 << 20,
        }
    }
}

/// Settings of BFT. Durations are Go's text. The defaults stand for an absent section; inside a
/// given one, absent values stay empty, as in Fabric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct SmartBft {
    pub request_batch_max_count: u64,
    #[serde(deserialize_with = "byte_size_u64")]
    pub request_batch_max_bytes: u64,
    pub request_batch_max_interval: String,
    pub incoming_message_buffer_size: u64,
    pub request_pool_size: u64,
    pub request_forward_timeout: String,
    pub request_complain_timeout: String,
    pub request_auto_remove_timeout: String,
    #[serde(deserialize_with = "byte_size_u64")]
    pub request_max_bytes: u64,
    pub view_change_resend_interval: String,
    pub view_change_timeout: String,
    pub leader_heartbeat_timeout: String,
    pub leader_heartbeat_count: u64,
    pub collect_timeout: String,
    pub sync_on_start: bool,
    pub speed_up_view_change: bool,
    /// 0 unspecified, 1 off, 2 on.
    pub leader_rotation: i32,
    pub decisions_per_leader: u64,
}

impl SmartBft {
    /// What an absent section stands for.
    pub fn fabric_defaults() -> Self {
        let text = str::to_owned;
        Self {
            request_batch_max_count: 100,
            request_batch_max_bytes: 10 << 20,
            request_batch_max_interval: text("50ms"),
            incoming_message_buffer_size: 200,
            request_pool_size: 400,
            request_forward_timeout: text("2s"),
            request_complain_timeout: text("20s"),
            request_auto_remove_timeout: text("3m0s"),
            request_max_bytes: 0,
            view_change_resend_interval: text("5s"),
            view_change_timeout: text("20s"),
            leader_heartbeat_timeout: text("1m0s"),
            leader_heartbeat_count: 10,
            collect_timeout: text("1s"),
            sync_on_start: false,
            speed_up_view_change: false,
            leader_rotation: 0,
            decisions_per_leader: 0,
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("{text} is not a duration like 2s")))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

fn byte_size_u64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = match Size::deserialize(deserializer)? {
        Size::Number(number) => return Ok(number),
        Size::Text(text) => text,
    };
    let wrong = || serde::de::Error::custom(format!("{text} is not a size like 10 MB"));
    let lower = text.to_ascii_lowercase();
    let digits_end = lower
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(digits_end);
    let shift = match unit.trim_start() {
        "" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn byte_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = byte_size_u64(deserializer)?;
    u32::try_from(size)
        .map_err(|_| serde::de::Error::custom(format!("value '{size}' overflows uint32")))
}
