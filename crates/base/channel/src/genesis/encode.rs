//! From a profile to the configuration tree.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_identity::MspFiles;
use selvage_proto::common::implicit_meta_policy::Rule;
use selvage_proto::common::policy::PolicyType;
use selvage_proto::common::signature_policy::{NOutOf, Type};
use selvage_proto::common::{
    self, BlockDataHashingStructure, ConfigGroup, ConfigPolicy, ConfigValue, Consortium,
    HashingAlgorithm, ImplicitMetaPolicy, MspPrincipal, OrdererAddresses, Orderers,
    SignaturePolicy, SignaturePolicyEnvelope,
};
use selvage_proto::msp::{MspConfig, SerializedIdentity};
use selvage_proto::orderer::{
    self as orderer_proto, BatchTimeout, ChannelRestrictions, ConsensusType,
};
use selvage_proto::peer::{self, AnchorPeers, ApiResource};
use selvage_proto::{Message, etcdraft};

use super::model::{
    Application, Consenter, EtcdRaft, EtcdRaftOptions, Orderer, Organization, Policy, PolicyKind,
    Profile, SmartBft,
};
use super::{GenesisError, Material};
use crate::duration::{format_duration, parse_duration};
use crate::names::{
    ACLS, ADMINS, ANCHOR_PEERS, APPLICATION, BATCH_SIZE, BATCH_TIMEOUT,
    BLOCK_DATA_HASHING_STRUCTURE, BLOCK_VALIDATION, CAPABILITIES, CHANNEL_RESTRICTIONS,
    CONSENSUS_TYPE, CONSORTIUM, ENDPOINTS, HASHING_ALGORITHM, MSP, ORDERER, ORDERER_ADDRESSES,
    ORDERER_ADMINS, ORDERERS, READERS, WRITERS,
};
use crate::sections::{CONSENSUS_BFT, CONSENSUS_RAFT, CONSENSUS_SOLO};

const V3_0: &str = "V3_0";

fn wrong(part: &str, reason: impl Into<String>) -> GenesisError {
    GenesisError::Profile {
        part: part.to_owned(),
        reason: reason.into(),
    }
}

fn add<M: Message>(group: &mut ConfigGroup, key: &str, value: &M, mod_policy: &str) {
    add_bytes(group, key, value.encode_to_vec(), mod_policy);
}

fn add_bytes(group: &mut ConfigGroup, key: &str, value: Vec<u8>, mod_policy: &str) {
    let value = ConfigValue {
        version: 0,
        value: value.into(),
        mod_policy: mod_policy.to_owned(),
    };
    group.values.insert(key.to_owned(), value);
}

fn admin_group() -> ConfigGroup {
    ConfigGroup {
        mod_policy: ADMINS.to_owned(),
        ..Default::default()
    }
}

/// The root group of a channel that starts from this profile.
pub fn channel_group(
    profile: &Profile,
    material: &dyn Material,
) -> Result<ConfigGroup, GenesisError> {
    let mut group = admin_group();
    add_policies(&mut group, &profile.policies, "/Channel", &[])?;
    let hash = HashingAlgorithm {
        name: "SHA256".to_owned(),
    };
    add(&mut group, HASHING_ALGORITHM, &hash, ADMINS);
    let shape = BlockDataHashingStructure { width: u32::MAX };
    add(&mut group, BLOCK_DATA_HASHING_STRUCTURE, &shape, ADMINS);
    let addresses = profile.orderer.as_ref().map(|o| o.addresses.clone());
    let addresses = addresses.unwrap_or_default();
    if !addresses.is_empty() {
        let addresses = OrdererAddresses { addresses };
        add(&mut group, ORDERER_ADDRESSES, &addresses, ORDERER_ADMINS);
    }
    if let Some(name) = profile.consortium.as_ref().filter(|c| !c.is_empty()) {
        add(
            &mut group,
            CONSORTIUM,
            &Consortium { name: name.clone() },
            ADMINS,
        );
    }
    add_capabilities(&mut group, &profile.capabilities);
    let v3 = profile.capabilities.get(V3_0) == Some(&true);
    if let Some(orderer) = &profile.orderer {
        let orderer = orderer_group(orderer, v3, material)?;
        group.groups.insert(ORDERER.to_owned(), orderer);
    }
    if let Some(application) = &profile.application {
        let application = application_group(application, material)?;
        group.groups.insert(APPLICATION.to_owned(), application);
    }
    Ok(group)
}

fn add_capabilities(group: &mut ConfigGroup, names: &BTreeMap<String, bool>) {
    if names.is_empty() {
        return;
    }
    let required = names.iter().filter(|(_, required)| **required);
    let value = encode_capabilities(required.map(|(name, _)| name.as_str()));
    add_bytes(group, CAPABILITIES, value, ADMINS);
}

/// Encodes a `Capabilities` message as Go does: a map entry always carries its value, here the
/// empty message. The encoder used elsewhere leaves empty ones out, which means the same and is
/// other bytes, so that a tool of Fabric would see a change where there is none.
fn encode_capabilities<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    use prost::encoding::{WireType, bytes, encode_key, encode_varint, string};
    let mut out = Vec::new();
    for name in names {
        let mut entry = Vec::new();
        string::encode(1, &name.to_owned(), &mut entry);
        encode_key(2, WireType::LengthDelimited, &mut entry);
        encode_varint(0, &mut entry);
        bytes::encode(1, &entry, &mut out);
    }
    out
}

fn add_policies(
    group: &mut ConfigGroup,
    policies: &BTreeMap<String, Policy>,
    part: &str,
    more: &[&str],
) -> Result<(), GenesisError> {
    if policies.is_empty() {
        return Err(wrong(part, "no policies defined"));
    }
    for needed in more.iter().chain(&[ADMINS, READERS, WRITERS]) {
        if !policies.contains_key(*needed) {
            return Err(wrong(part, format!("no {needed} policy defined")));
        }
    }
    for (name, policy) in policies {
        let compiled = compile_policy(policy)
            .map_err(|reason| wrong(&format!("{part}/Policies/{name}"), reason))?;
        let policy = ConfigPolicy {
            version: 0,
            policy: Some(compiled),
            mod_policy: ADMINS.to_owned(),
        };
        group.policies.insert(name.clone(), policy);
    }
    Ok(())
}

fn compile_policy(policy: &Policy) -> Result<common::Policy, String> {
    let (kind, value) = match policy.kind {
        PolicyKind::ImplicitMeta => {
            let meta = implicit_meta(&policy.rule)?;
            (PolicyType::ImplicitMeta, meta.encode_to_vec())
        }
        PolicyKind::Signature => {
            let rule = match &policy.signers {
                Some(made) => made.clone(),
                None => selvage_identity::policy::dsl::parse(&policy.rule)
                    .map_err(|e| format!("invalid signature policy rule '{}': {e}", policy.rule))?,
            };
            (PolicyType::Signature, rule.encode_to_vec())
        }
    };
    Ok(common::Policy {
        r#type: kind as i32,
        value: value.into(),
    })
}

fn implicit_meta(text: &str) -> Result<ImplicitMetaPolicy, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let invalid = |why| format!("invalid implicit meta policy rule '{text}': {why}");
    let [rule, sub_policy] = words.as_slice() else {
        return Err(invalid("expected two space separated tokens"));
    };
    let rule = match *rule {
        "ANY" => Rule::Any,
        "ALL" => Rule::All,
        "MAJORITY" => Rule::Majority,
        _ => return Err(invalid("expected ALL, ANY, or MAJORITY")),
    };
    Ok(ImplicitMetaPolicy {
        sub_policy: (*sub_policy).to_owned(),
        rule: rule as i32,
    })
}

fn orderer_group(
    orderer: &Orderer,
    v3: bool,
    material: &dyn Material,
) -> Result<ConfigGroup, GenesisError> {
    const PART: &str = "Orderer";
    if orderer.orderer_type == CONSENSUS_BFT && !v3 {
        let reason = "orderer type BFT must be used with V3_0 channel capability";
        return Err(wrong(PART, reason));
    }
    if v3 && !orderer.addresses.is_empty() {
        let reason = "global orderer endpoints exist, but can not be used with V3_0 capability";
        return Err(wrong(PART, reason));
    }
    let mut group = admin_group();
    add_policies(&mut group, &orderer.policies, PART, &[BLOCK_VALIDATION])?;
    add_batching(&mut group, orderer)?;
    let restrictions = ChannelRestrictions {
        max_count: orderer.max_channels,
    };
    add(&mut group, CHANNEL_RESTRICTIONS, &restrictions, ADMINS);
    add_capabilities(&mut group, &orderer.capabilities);
    let metadata = match orderer.orderer_type.as_str() {
        CONSENSUS_SOLO => Bytes::new(),
        CONSENSUS_RAFT => {
            let raft = orderer.etcd_raft.as_ref();
            let raft = raft.ok_or_else(|| wrong(PART, "etcdraft configuration missing"))?;
            raft_metadata(raft, material)?.encode_to_vec().into()
        }
        CONSENSUS_BFT => {
            let consenters = bft_consenters(&orderer.consenter_mapping, material)?;
            let policy = bft_block_validation(&consenters);
            if let Some(entry) = group.policies.get_mut(BLOCK_VALIDATION) {
                entry.policy = Some(policy);
            }
            let value = Orderers {
                consenter_mapping: consenters,
            };
            add(&mut group, ORDERERS, &value, ADMINS);
            let defaults = SmartBft::fabric_defaults();
            let options = orderer.smart_bft.as_ref().unwrap_or(&defaults);
            bft_options(options).encode_to_vec().into()
        }
        other => return Err(wrong(PART, format!("unknown orderer type: {other}"))),
    };
    let consensus = ConsensusType {
        r#type: orderer.orderer_type.clone(),
        metadata,
        state: 0,
    };
    add(&mut group, CONSENSUS_TYPE, &consensus, ADMINS);
    for org in &orderer.organizations {
        let built = orderer_org_group(org, v3, material)?;
        group.groups.insert(org.name.clone(), built);
    }
    Ok(group)
}

fn add_batching(group: &mut ConfigGroup, orderer: &Orderer) -> Result<(), GenesisError> {
    let defaults = super::model::BatchSize::default();
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let size = orderer.batch_size;
    let size = orderer_proto::BatchSize {
        max_message_count: or(size.max_message_count, defaults.max_message_count),
        absolute_max_bytes: or(size.absolute_max_bytes, defaults.absolute_max_bytes),
        preferred_max_bytes: or(size.preferred_max_bytes, defaults.preferred_max_bytes),
    };
    if size.preferred_max_bytes > size.absolute_max_bytes {
        let reason = "PreferredMaxBytes is greater than AbsoluteMaxBytes";
        return Err(wrong("Orderer/BatchSize", reason));
    }
    add(group, BATCH_SIZE, &size, ADMINS);
    let timeout = if orderer.batch_timeout.is_zero() {
        Orderer::default().batch_timeout
    } else {
        orderer.batch_timeout
    };
    let timeout = BatchTimeout {
        timeout: format_duration(timeout),
    };
    add(group, BATCH_TIMEOUT, &timeout, ADMINS);
    Ok(())
}

fn raft_metadata(
    raft: &EtcdRaft,
    material: &dyn Material,
) -> Result<etcdraft::ConfigMetadata, GenesisError> {
    const PART: &str = "Orderer/EtcdRaft";
    if raft.consenters.is_empty() {
        let reason = "etcdraft configuration did not specify any consenter";
        return Err(wrong(PART, reason));
    }
    let mut consenters = Vec::with_capacity(raft.consenters.len());
    for consenter in &raft.consenters {
        check_address(PART, &consenter.host, consenter.port)?;
        consenters.push(etcdraft::Consenter {
            host: consenter.host.clone(),
            port: consenter.port,
            client_tls_cert: read(PART, &consenter.client_tls_cert, material)?,
            server_tls_cert: read(PART, &consenter.server_tls_cert, material)?,
        });
    }
    Ok(etcdraft::ConfigMetadata {
        consenters,
        options: Some(raft_options(&raft.options)?),
    })
}

fn raft_options(given: &EtcdRaftOptions) -> Result<etcdraft::Options, GenesisError> {
    const PART: &str = "Orderer/EtcdRaft/Options";
    let defaults = EtcdRaftOptions::default();
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let options = etcdraft::Options {
        tick_interval: if given.tick_interval.is_empty() {
            defaults.tick_interval
        } else {
            given.tick_interval.clone()
        },
        election_tick: or(given.election_tick, defaults.election_tick),
        heartbeat_tick: or(given.heartbeat_tick, defaults.heartbeat_tick),
        max_inflight_blocks: or(given.max_inflight_blocks, defaults.max_inflight_blocks),
        snapshot_interval_size: or(
            given.snapshot_interval_size,
            defaults.snapshot_interval_size,
        ),
    };
    if parse_duration(&options.tick_interval).is_none() {
        let reason = format!(
            "Etcdraft TickInterval ({}) must be in time duration format",
            options.tick_interval
        );
        return Err(wrong(PART, reason));
    }
    if options.election_tick <= options.heartbeat_tick {
        let reason = "election tick must be greater than heartbeat tick";
        return Err(wrong(PART, reason));
    }
    Ok(options)
}

fn check_address(part: &str, host: &str, port: u32) -> Result<(), GenesisError> {
    if host.is_empty() {
        return Err(wrong(part, "a consenter has no host"));
    }
    if port == 0 || port > u32::from(u16::MAX) {
        return Err(wrong(part, format!("consenter {host} has no valid port")));
    }
    Ok(())
}

fn read(part: &str, path: &str, material: &dyn Material) -> Result<Bytes, GenesisError> {
    let failed = |reason: String| GenesisError::Material {
        part: part.to_owned(),
        path: path.to_owned(),
        reason,
    };
    if path.is_empty() {
        return Err(failed("no path given".to_owned()));
    }
    material.file(path).map_err(failed)
}

fn bft_consenters(
    mapping: &[Consenter],
    material: &dyn Material,
) -> Result<Vec<common::Consenter>, GenesisError> {
    const PART: &str = "Orderer/ConsenterMapping";
    if mapping.is_empty() {
        let reason = "BFT configuration did not specify any consenter";
        return Err(wrong(PART, reason));
    }
    let consenter = |c: &Consenter| {
        check_address(PART, &c.host, c.port)?;
        if c.msp_id.is_empty() {
            let reason = format!("consenter {}:{} has no MSP ID", c.host, c.port);
            return Err(wrong(PART, reason));
        }
        Ok(common::Consenter {
            id: c.id,
            host: c.host.clone(),
            port: c.port,
            msp_id: c.msp_id.clone(),
            identity: read(PART, &c.identity, material)?,
            client_tls_cert: read(PART, &c.client_tls_cert, material)?,
            server_tls_cert: read(PART, &c.server_tls_cert, material)?,
        })
    };
    mapping.iter().map(consenter).collect()
}

/// How many of `n` BFT consenters are a quorum, of which `f = (n - 1) / 3` may be faulty:
/// `ceil((n + f + 1) / 2)`.
pub(crate) fn bft_quorum(n: usize) -> usize {
    let faulty = n.saturating_sub(1) / 3;
    (n + faulty + 1).div_ceil(2)
}

/// The policy of block signatures on a BFT channel: a quorum of exactly these identities.
pub(crate) fn bft_block_validation(consenters: &[common::Consenter]) -> common::Policy {
    let n = consenters.len();
    let quorum = bft_quorum(n);
    let principal = |c: &common::Consenter| {
        let identity = SerializedIdentity {
            mspid: c.msp_id.clone(),
            id_bytes: c.identity.clone(),
        };
        MspPrincipal {
            principal_classification: common::msp_principal::Classification::Identity as i32,
            principal: identity.encode_to_vec().into(),
        }
    };
    let signed_by = |index: i32| SignaturePolicy {
        r#type: Some(Type::SignedBy(index)),
    };
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(Type::NOutOf(NOutOf {
                n: i32::try_from(quorum).unwrap_or(i32::MAX),
                rules: (0..).map(signed_by).take(n).collect(),
            })),
        }),
        identities: consenters.iter().map(principal).collect(),
    };
    common::Policy {
        r#type: PolicyType::Signature as i32,
        value: envelope.encode_to_vec().into(),
    }
}

fn bft_options(options: &SmartBft) -> orderer_proto::smartbft::Options {
    let o = options.clone();
    orderer_proto::smartbft::Options {
        request_batch_max_count: o.request_batch_max_count,
        request_batch_max_bytes: o.request_batch_max_bytes,
        request_batch_max_interval: o.request_batch_max_interval,
        incoming_message_buffer_size: o.incoming_message_buffer_size,
        request_pool_size: o.request_pool_size,
        request_forward_timeout: o.request_forward_timeout,
        request_complain_timeout: o.request_complain_timeout,
        request_auto_remove_timeout: o.request_auto_remove_timeout,
        request_max_bytes: o.request_max_bytes,
        view_change_resend_interval: o.view_change_resend_interval,
        view_change_timeout: o.view_change_timeout,
        leader_heartbeat_timeout: o.leader_heartbeat_timeout,
        leader_heartbeat_count: o.leader_heartbeat_count,
        collect_timeout: o.collect_timeout,
        sync_on_start: o.sync_on_start,
        speed_up_view_change: o.speed_up_view_change,
        leader_rotation: o.leader_rotation,
        decisions_per_leader: o.decisions_per_leader,
    }
}

/// The group of an organisation under `/Channel/Orderer`. `v3` tells whether the channel has
/// capability V3_0, under which its endpoints are mandatory.
pub fn orderer_org_group(
    org: &Organization,
    v3: bool,
    material: &dyn Material,
) -> Result<ConfigGroup, GenesisError> {
    let mut group = admin_group();
    if org.skip_as_foreign {
        return Ok(group);
    }
    let part = add_org_basics(&mut group, org, material)?;
    if !org.orderer_endpoints.is_empty() {
        let endpoints = OrdererAddresses {
            addresses: org.orderer_endpoints.clone(),
        };
        add(&mut group, ENDPOINTS, &endpoints, ADMINS);
    } else if v3 {
        let reason = "orderer endpoints are missing and must be configured when capability V3_0 \
                      is enabled";
        return Err(wrong(&part, reason));
    }
    Ok(group)
}

/// The group of an organisation under `/Channel/Application`, also for adding one later.
pub fn application_org_group(
    org: &Organization,
    material: &dyn Material,
) -> Result<ConfigGroup, GenesisError> {
    let mut group = admin_group();
    if org.skip_as_foreign {
        return Ok(group);
    }
    add_org_basics(&mut group, org, material)?;
    if !org.anchor_peers.is_empty() {
        let anchor = |peer: &super::model::AnchorPeer| peer::AnchorPeer {
            host: peer.host.clone(),
            port: i32::from(peer.port),
        };
        let anchors = AnchorPeers {
            anchor_peers: org.anchor_peers.iter().map(anchor).collect(),
        };
        add(&mut group, ANCHOR_PEERS, &anchors, ADMINS);
    }
    Ok(group)
}

fn add_org_basics(
    group: &mut ConfigGroup,
    org: &Organization,
    material: &dyn Material,
) -> Result<String, GenesisError> {
    let part = format!("Organization {}", org.name);
    if org.name.is_empty() || org.id.is_empty() {
        return Err(wrong(&part, "an organization needs a Name and an ID"));
    }
    if !org.msp_type.is_empty() && org.msp_type != "bccsp" {
        let reason = format!("MSP type {} is not supported", org.msp_type);
        return Err(wrong(&part, reason));
    }
    let failed = |reason: String| GenesisError::Material {
        part: part.clone(),
        path: org.msp_dir.clone(),
        reason,
    };
    let files = material.folder(&org.msp_dir).map_err(failed)?;
    let config = MspFiles::new(files)
        .verifying_config(&org.id)
        .map_err(|e| failed(e.to_string()))?;
    add_policies(group, &org.policies, &part, &[])?;
    let msp = MspConfig {
        r#type: 0,
        config: config.encode_to_vec().into(),
    };
    add(group, MSP, &msp, ADMINS);
    Ok(part)
}

fn application_group(
    application: &Application,
    material: &dyn Material,
) -> Result<ConfigGroup, GenesisError> {
    let mut group = admin_group();
    add_policies(&mut group, &application.policies, "Application", &[])?;
    if !application.acls.is_empty() {
        let resource = |policy: &String| ApiResource {
            policy_ref: policy.clone(),
        };
        let acls = application.acls.iter();
        let acls = peer::AcLs {
            acls: acls.map(|(name, p)| (name.clone(), resource(p))).collect(),
        };
        add(&mut group, ACLS, &acls, ADMINS);
    }
    add_capabilities(&mut group, &application.capabilities);
    for org in &application.organizations {
        let built = application_org_group(org, material)?;
        group.groups.insert(org.name.clone(), built);
    }
    Ok(group)
}
