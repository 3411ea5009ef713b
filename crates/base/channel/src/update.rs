//! Configuration updates: who may change what, and what the configuration is afterwards.
//!
//! An update carries a read set (elements and the versions it builds on) and a write set. Elements
//! whose version differs between the two are the changes; each must raise the version by one and
//! satisfy the modification policy that stands in the *current* configuration. Orderers turn an
//! update into a configuration ([`propose`]); every other node repeats the computation and compares
//! ([`validate`]). [`compute`] makes an update from two configurations, as `configtxlator` does.

use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::in_full;
use selvage_identity::{Policy as _, SignedData};
use selvage_proto::Message;
use selvage_proto::common::{
    ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigUpdate, ConfigUpdateEnvelope,
    Envelope, HeaderType, Orderers, Payload, SignatureHeader,
};

use crate::config::ChannelConfig;
use crate::error::ConfigError;
use crate::genesis::{bft_block_validation, bft_quorum};
use crate::names::{
    BLOCK_VALIDATION, NameError, ORDERER, ORDERER_BLOCK_VALIDATION, ORDERERS, check_element_name,
};
use crate::policies::{ChannelPolicy, PolicyTree, describe_signers};
use crate::sections::CONSENSUS_BFT;
use crate::tree::{Element, FlatTree, Incomplete, TreeNameError, flatten, rebuild};

mod compute;

pub use compute::{NoDifference, compute};

/// Makes the policy of block signatures of an `Orderer` group a quorum of the BFT consenters that it
/// names, as a channel's genesis block has it. To be done with every change of the consenters
/// (Fabric's `EncodeBFTBlockVerificationPolicy`).
pub fn set_bft_block_validation(orderer: &mut ConfigGroup) -> Result<(), UpdateError> {
    let value = orderer.values.get(ORDERERS);
    let value = value.ok_or(UpdateError::Missing(ORDERERS))?;
    let orderers = Orderers::decode(value.value.clone()).map_err(|source| UpdateError::Decode {
        what: ORDERERS,
        source,
    })?;
    let policy = orderer.policies.get_mut(BLOCK_VALIDATION);
    let policy = policy.ok_or(UpdateError::Missing(BLOCK_VALIDATION))?;
    policy.policy = Some(bft_block_validation(&orderers.consenter_mapping));
    Ok(())
}

/// Whether the policy of block signatures of a BFT channel is what [`set_bft_block_validation`] makes
/// it. With a stale one blocks would need signatures of consenters that are gone, or too few of
/// those that are there.
pub(crate) fn check_bft_block_validation(config: &ChannelConfig) -> Result<(), ConfigError> {
    let Some(orderer) = config.orderer() else {
        return Ok(());
    };
    if orderer.consensus_type() != CONSENSUS_BFT {
        return Ok(());
    }
    let root = config.config().channel_group.as_ref();
    let group = root.and_then(|root| root.groups.get(ORDERER));
    let policy = group.and_then(|group| group.policies.get(BLOCK_VALIDATION));
    let consenters = orderer.consenters();
    let expected = bft_block_validation(consenters);
    if policy.and_then(|policy| policy.policy.as_ref()) == Some(&expected) {
        return Ok(());
    }
    Err(ConfigError::Policy {
        path: ORDERER_BLOCK_VALIDATION.to_owned(),
        reason: format!(
            "does not fit the consenters: block validation policy should be a signature policy: \
             {} of the {} identities in Orderers, in their order; an update that changes the \
             consenters has to change this policy with them",
            bft_quorum(consenters.len()),
            consenters.len()
        ),
    })
}

/// Why an update is refused. Texts follow Fabric's, with the element they speak of.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A part does not decode.
    #[error("{what} does not decode")]
    Decode {
        /// Which part.
        what: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
    /// A part is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The envelope is not a configuration update.
    #[error("envelope is of type {0}, not CONFIG_UPDATE")]
    NotUpdate(i32),
    /// The update names another channel.
    #[error("ConfigUpdate for channel '{update}' but envelope for channel '{channel}'")]
    OtherChannel {
        /// The channel in the update.
        update: String,
        /// This channel.
        channel: String,
    },
    /// The configuration does not follow the current one.
    #[error(
        "config currently at sequence {current}, cannot validate config at sequence {proposed}"
    )]
    Sequence {
        /// The current sequence.
        current: u64,
        /// The one in the envelope.
        proposed: u64,
    },
    /// A name in the read or write set is not allowed.
    #[error("error mapping {set}")]
    Name {
        /// `ReadSet` or `WriteSet`.
        set: &'static str,
        /// Which name and why.
        source: TreeNameError,
    },
    /// The update builds on an element that is not there.
    #[error("existing config does not contain element for {0} but was in the read set")]
    UnknownRead(String),
    /// The update builds on another version of an element: somebody else changed it first.
    #[error(
        "proposed update requires that key {key} be at version {read}, \
         but it is currently at version {current}"
    )]
    StaleRead {
        /// The element.
        key: String,
        /// The version in the read set.
        read: u64,
        /// The current version.
        current: u64,
    },
    /// Nothing changes.
    #[error("delta set was empty -- update would have no effect")]
    NoEffect,
    /// An element would have no usable modification policy.
    #[error("invalid mod_policy for element {key}: {reason}")]
    ModPolicy {
        /// The element.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A new element does not start at version 0.
    #[error("attempted to set key {key} to version {version}, but key does not exist")]
    NewVersion {
        /// The element.
        key: String,
        /// The version in the write set.
        version: u64,
    },
    /// A changed element does not raise its version by one.
    #[error("attempt to set key {key} to version {version}, but key is at version {current}")]
    WrongVersion {
        /// The element.
        key: String,
        /// The version in the write set.
        version: u64,
        /// The current version.
        current: u64,
    },
    /// The current modification policy of an element does not exist.
    #[error("unexpected missing policy {policy} for item {key}")]
    NoPolicy {
        /// The element.
        key: String,
        /// The policy it names.
        policy: String,
    },
    /// Signatures are missing. [`UpdateError::text`] adds which policy, who signed and who has yet
    /// to.
    #[error("policy for {key} not satisfied")]
    NotAuthorized {
        /// The element.
        key: String,
        /// Its modification policy's full path.
        policy: String,
        /// Whose signatures the update carries.
        signers: String,
        /// Whose signatures would satisfy the policy.
        missing: String,
        /// What the policy said.
        source: Box<selvage_identity::PolicyError>,
    },
    /// The write set lists an element that its group does not contain.
    #[error("writeset contained key {0} which did not appear in proposed config")]
    LostWrite(String),
    /// A group in the result lists an element that is nowhere.
    #[error("could not turn the changes back into a configuration")]
    Incomplete(#[from] Incomplete),
    /// The configuration in the envelope is not what the update in it leads to.
    #[error("ConfigEnvelope LastUpdate did not produce the supplied config result")]
    Mismatch,
    /// The resulting configuration is not usable.
    #[error("the updated configuration is invalid")]
    Config(#[from] ConfigError),
    /// The resulting configuration asks for something that orderers running this program do not do.
    #[error("config update is not compatible")]
    Incompatible(#[source] ConfigError),
    /// The resulting configuration may not follow the current one.
    #[error("{0}")]
    Transition(String),
}

impl UpdateError {
    /// The whole story in one line, as Fabric's orderers tell it to clients, and behind it in
    /// parentheses, for missing signatures, which policy asks for them, who did sign and who has yet
    /// to.
    pub fn text(&self) -> String {
        let stage = match self {
            Self::Decode { .. } | Self::Missing(_) | Self::NotUpdate(_) => {
                "error converting envelope to config update: "
            }
            Self::OtherChannel { .. } | Self::Name { .. } => "error authorizing update: ",
            Self::UnknownRead(_) | Self::StaleRead { .. } => {
                "error authorizing update: error validating ReadSet: "
            }
            Self::NoEffect
            | Self::ModPolicy { .. }
            | Self::NewVersion { .. }
            | Self::WrongVersion { .. }
            | Self::NoPolicy { .. }
            | Self::NotAuthorized { .. } => "error authorizing update: error validating DeltaSet: ",
            Self::LostWrite(_) => "error authorizing update: full config did not verify: ",
            Self::Incomplete(_)
            | Self::Sequence { .. }
            | Self::Mismatch
            | Self::Config(_)
            | Self::Incompatible(_)
            | Self::Transition(_) => "",
        };
        let mut text = format!("{stage}{}", in_full(self));
        if let Self::NotAuthorized {
            policy,
            signers,
            missing,
            ..
        } = self
        {
            let more = format!(" (it takes {policy}; signed by {signers}; missing: {missing})");
            text.push_str(&more);
        }
        text
    }
}

/// Applies an update envelope (type CONFIG_UPDATE) to the current configuration. The result is what
/// an orderer wraps into a CONFIG transaction. Nothing in it has been checked beyond the rules of
/// updates; [`ChannelConfig::propose_update`] also checks that the result is usable.
pub fn propose(current: &ChannelConfig, update: &Envelope) -> Result<ConfigEnvelope, UpdateError> {
    let group = apply(current, update)?;
    Ok(ConfigEnvelope {
        config: Some(Config {
            sequence: current.sequence() + 1,
            channel_group: Some(group),
        }),
        last_update: Some(update.clone()),
    })
}

/// Whether a configuration follows from the current one and the update inside it.
pub fn validate(current: &ChannelConfig, next: &ConfigEnvelope) -> Result<(), UpdateError> {
    let config = next.config.as_ref().ok_or(UpdateError::Missing("config"))?;
    if config.sequence != current.sequence() + 1 {
        return Err(UpdateError::Sequence {
            current: current.sequence(),
            proposed: config.sequence,
        });
    }
    let update = next.last_update.as_ref();
    let group = apply(current, update.ok_or(UpdateError::Missing("last update"))?)?;
    if config.channel_group.as_ref() != Some(&group) {
        return Err(UpdateError::Mismatch);
    }
    Ok(())
}

fn apply(
    current: &ChannelConfig,
    envelope: &Envelope,
) -> Result<selvage_proto::common::ConfigGroup, UpdateError> {
    let envelope = open_update(envelope)?;
    let update: ConfigUpdate = decode(&envelope.config_update, "config update")?;
    if update.channel_id != current.channel_id() {
        return Err(UpdateError::OtherChannel {
            update: update.channel_id,
            channel: current.channel_id().to_owned(),
        });
    }
    let name = |set| move |source| UpdateError::Name { set, source };
    let existing = flatten(current.config().channel_group.as_ref()).map_err(name("config"))?;
    let reads = flatten(update.read_set.as_ref()).map_err(name("ReadSet"))?;
    check_reads(&reads, &existing)?;
    let writes = flatten(update.write_set.as_ref()).map_err(name("WriteSet"))?;
    let delta = delta_of(&reads, &writes);
    let signatures = update_signatures(&envelope)?;
    check_delta(current, &delta, &existing, &signatures)?;
    let mut result = existing;
    result.extend(delta);
    if let Some(lost) = writes.keys().find(|key| !result.contains_key(*key)) {
        return Err(UpdateError::LostWrite(lost.clone()));
    }
    Ok(rebuild(&result)?)
}

/// The elements an update changes or adds, as flat keys (`[Value]  /Channel/Orderer/BatchSize`).
pub fn changed_elements(update: &ConfigUpdate) -> Result<Vec<String>, UpdateError> {
    let name = |set| move |source| UpdateError::Name { set, source };
    let reads = flatten(update.read_set.as_ref()).map_err(name("ReadSet"))?;
    let writes = flatten(update.write_set.as_ref()).map_err(name("WriteSet"))?;
    Ok(delta_of(&reads, &writes).into_keys().collect())
}

fn delta_of<'a>(reads: &FlatTree<'_>, writes: &FlatTree<'a>) -> FlatTree<'a> {
    let is_change = |(key, element): &(&String, &Element<'a>)| {
        let read = reads.get(*key).map(|e| e.item.version());
        read != Some(element.item.version())
    };
    let changes = writes.iter().filter(is_change);
    changes.map(|(k, e)| (k.clone(), e.clone())).collect()
}

/// Takes an update envelope apart down to the signed update.
pub fn open_update(envelope: &Envelope) -> Result<ConfigUpdateEnvelope, UpdateError> {
    let payload: Payload = decode(&envelope.payload, "payload")?;
    let header = payload
        .header
        .ok_or(UpdateError::Missing("payload header"))?;
    let channel: ChannelHeader = decode(&header.channel_header, "channel header")?;
    if channel.r#type != HeaderType::ConfigUpdate as i32 {
        return Err(UpdateError::NotUpdate(channel.r#type));
    }
    decode(&payload.data, "config update envelope")
}

fn decode<M: Message + Default>(bytes: &Bytes, what: &'static str) -> Result<M, UpdateError> {
    M::decode(bytes.clone()).map_err(|source| UpdateError::Decode { what, source })
}

/// The signatures over an update: each covers its signature header followed by the update.
pub fn update_signatures(envelope: &ConfigUpdateEnvelope) -> Result<Vec<SignedData>, UpdateError> {
    let signed = |s: &selvage_proto::common::ConfigSignature| {
        let header: SignatureHeader = decode(&s.signature_header, "signature header")?;
        let data = [s.signature_header.as_ref(), envelope.config_update.as_ref()].concat();
        Ok(SignedData {
            data: data.into(),
            identity: header.creator,
            signature: s.signature.clone(),
        })
    };
    envelope.signatures.iter().map(signed).collect()
}

fn check_reads(reads: &FlatTree<'_>, existing: &FlatTree<'_>) -> Result<(), UpdateError> {
    for (key, element) in reads {
        let Some(now) = existing.get(key) else {
            return Err(UpdateError::UnknownRead(key.clone()));
        };
        let (read, current) = (element.item.version(), now.item.version());
        if read != current {
            let key = key.clone();
            return Err(UpdateError::StaleRead { key, read, current });
        }
    }
    Ok(())
}

fn check_delta(
    current: &ChannelConfig,
    delta: &FlatTree<'_>,
    existing: &FlatTree<'_>,
    signatures: &[SignedData],
) -> Result<(), UpdateError> {
    if delta.is_empty() {
        return Err(UpdateError::NoEffect);
    }
    // Every policy of the channel judges by the same identities: verify each signature once.
    let signers = current.policies().valid_identities(signatures);
    for (key, element) in delta {
        let version = element.item.version();
        check_mod_policy(element.item.mod_policy()).map_err(|reason| UpdateError::ModPolicy {
            key: key.clone(),
            reason,
        })?;
        let Some(now) = existing.get(key) else {
            if version == 0 {
                continue;
            }
            let key = key.clone();
            return Err(UpdateError::NewVersion { key, version });
        };
        if now.item.version().checked_add(1) != Some(version) {
            return Err(UpdateError::WrongVersion {
                key: key.clone(),
                version,
                current: now.item.version(),
            });
        }
        let judged = judging_policy(current.policies(), now);
        let (path, policy) = judged.ok_or_else(|| UpdateError::NoPolicy {
            key: key.clone(),
            policy: now.item.mod_policy().to_owned(),
        })?;
        policy
            .evaluate_identities(&signers)
            .map_err(|source| UpdateError::NotAuthorized {
                key: key.clone(),
                policy: path,
                signers: describe_signers(current.msp_manager(), signatures, &signers),
                missing: policy.missing(&signers),
                source: Box::new(source),
            })?;
    }
    Ok(())
}

/// The policy that judges changes of an existing element, with its full path. A relative name is
/// looked up in the element's group, which for a group is the group itself.
fn judging_policy(
    policies: &PolicyTree,
    element: &Element<'_>,
) -> Option<(String, Arc<ChannelPolicy>)> {
    let name = element.item.mod_policy();
    let groups = if name.starts_with('/') {
        &[][..]
    } else {
        &element.groups[1..]
    };
    let node = policies.child(groups)?;
    let policy = node.lookup(name)?;
    let path = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("/{}/{name}", element.groups.join("/"))
    };
    Some((path, policy))
}

fn check_mod_policy(mod_policy: &str) -> Result<(), String> {
    if mod_policy.is_empty() {
        return Err("mod_policy not set".to_owned());
    }
    let relative = mod_policy.strip_prefix('/').unwrap_or(mod_policy);
    let wrong = |(i, part): (usize, &str)| {
        let error: NameError = check_element_name(part).err()?;
        Some(format!("path element at {i} is invalid: {error}"))
    };
    match relative.split('/').enumerate().find_map(wrong) {
        Some(reason) => Err(reason),
        None => Ok(()),
    }
}
