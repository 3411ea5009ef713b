//! A channel's configuration, read, checked and ready to be asked.

use std::sync::Arc;

use selvage_identity::{MspManager, Policy};
use selvage_proto::Message;
use selvage_proto::common::{
    Block, BlockDataHashingStructure, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, Envelope,
    HashingAlgorithm, HeaderType, OrdererAddresses, Payload,
};

use crate::acl::{AclRule, default_rule};
use crate::capabilities::ChannelCapabilities;
use crate::error::ConfigError;
use crate::msps::MspSetup;
use crate::names::{
    APPLICATION, BLOCK_DATA_HASHING_STRUCTURE, CAPABILITIES, CONSORTIUM, CONSORTIUMS,
    HASHING_ALGORITHM, ORDERER, ORDERER_ADDRESSES, ORDERERS, check_channel_id,
};
use crate::policies::PolicyTree;
use crate::sections::{
    ApplicationConfig, CONSENSUS_BFT, OrdererConfig, Values, channel_capabilities,
};
use crate::tree::flatten;
use crate::update::{self, UpdateError};

/// A channel's configuration (Fabric: the channel's resources bundle). Immutable; share it in an
/// [`Arc`] and replace it when a configuration block arrives.
#[derive(Debug)]
pub struct ChannelConfig {
    channel_id: String,
    config: Config,
    capabilities: ChannelCapabilities,
    orderer_addresses: Vec<String>,
    orderer: Option<OrdererConfig>,
    application: Option<ApplicationConfig>,
    msps: Arc<MspManager>,
    policies: PolicyTree,
}

impl ChannelConfig {
    /// Reads and checks a configuration.
    ///
    /// Capabilities that this program does not know are *not* an error here, so that such a
    /// configuration can still be looked at. Nodes call [`Self::check_supported_by_peer`] or
    /// [`Self::check_supported_by_orderer`] and stop.
    pub fn new(channel_id: &str, config: Config) -> Result<Self, ConfigError> {
        let root = config.channel_group.as_ref();
        let root = root.ok_or(ConfigError::Missing("channel group"))?;
        check_capability_order(root)?;
        let values = Values::new("/Channel", root);
        values.only(&[
            HASHING_ALGORITHM,
            BLOCK_DATA_HASHING_STRUCTURE,
            ORDERER_ADDRESSES,
            ORDERERS,
            CONSORTIUM,
            CAPABILITIES,
        ])?;
        let capabilities = channel_capabilities(&values)?;
        let orderer_addresses = read_channel_values(&values, &capabilities)?;
        let mut msps = MspSetup::new(capabilities.msp_version());
        let (mut orderer, mut application) = (None, None);
        for (name, group) in &root.groups {
            match name.as_str() {
                ORDERER => {
                    orderer = Some(OrdererConfig::new(group, &capabilities, &mut msps)?);
                }
                APPLICATION => application = Some(ApplicationConfig::new(group, &mut msps)?),
                CONSORTIUMS => return Err(ConfigError::Capability(
                    "this is the configuration of a system channel, which Fabric 3 no longer has; \
                     create channels by joining orderers to their genesis block"
                        .to_owned(),
                )),
                _ => {
                    return Err(ConfigError::UnexpectedGroup {
                        group: "/Channel".to_owned(),
                        child: name.clone(),
                    });
                }
            }
        }
        let msps = Arc::new(msps.finish());
        let policies = PolicyTree::new(root, &msps)?;
        check_channel_id(channel_id).map_err(ConfigError::ChannelId)?;
        flatten(Some(root))?;
        Ok(Self {
            channel_id: channel_id.to_owned(),
            capabilities,
            orderer_addresses,
            orderer,
            application,
            msps,
            policies,
            config,
        })
    }

    /// Reads the configuration out of a configuration transaction.
    pub fn from_envelope(envelope: &Envelope) -> Result<Self, ConfigError> {
        let (channel_id, config) = open_config(envelope)?;
        let config = config.config.ok_or(ConfigError::Missing("config"))?;
        Self::new(&channel_id, config)
    }

    /// Reads the configuration out of a configuration block (a genesis block, for instance).
    pub fn from_block(block: &Block) -> Result<Self, ConfigError> {
        Self::from_envelope(&config_transaction(block)?)
    }

    /// The channel's id.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// The number of configurations before this one.
    pub fn sequence(&self) -> u64 {
        self.config.sequence
    }

    /// The configuration as received.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What `/Channel/Capabilities` decides.
    pub fn capabilities(&self) -> &ChannelCapabilities {
        &self.capabilities
    }

    /// The membership services of all organisations.
    pub fn msp_manager(&self) -> &Arc<MspManager> {
        &self.msps
    }

    /// The tree of policies.
    pub fn policies(&self) -> &PolicyTree {
        &self.policies
    }

    /// A policy by its path, like `/Channel/Application/Writers`.
    pub fn policy(&self, path: &str) -> Option<Arc<dyn Policy>> {
        self.policies.get(path)
    }

    /// `/Channel/Orderer`, if there is one.
    pub fn orderer(&self) -> Option<&OrdererConfig> {
        self.orderer.as_ref()
    }

    /// `/Channel/Application`, if there is one.
    pub fn application(&self) -> Option<&ApplicationConfig> {
        self.application.as_ref()
    }

    /// The orderers' addresses: those of the organisations, and the global list that channels below
    /// capability V3_0 may still have. Each once.
    pub fn orderer_endpoints(&self) -> Vec<&str> {
        let orgs = self.orderer.iter().flat_map(|o| o.orgs.values());
        let own = orgs.flat_map(|o| &o.endpoints);
        let mut endpoints: Vec<&str> = Vec::new();
        for endpoint in own.chain(&self.orderer_addresses) {
            if !endpoints.contains(&endpoint.as_str()) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    /// Who may use a resource of a peer, by the channel's ACLs or else by Fabric's defaults.
    pub fn acl_rule(&self, resource: &str) -> Option<AclRule<'_>> {
        match &self.application {
            Some(application) => application.acls.rule(resource),
            None => default_rule(resource),
        }
    }

    /// The policy path that guards a channel resource. `None` for unknown resources and for those
    /// that the peer's own organisation guards ([`Self::acl_rule`] tells them apart).
    pub fn acl_policy(&self, resource: &str) -> Option<&str> {
        match self.acl_rule(resource)? {
            AclRule::Channel(path) => Some(path),
            AclRule::PeerAdmins | AclRule::PeerMembers => None,
        }
    }

    /// Whether a peer running this program may take part.
    pub fn check_supported_by_peer(&self) -> Result<(), ConfigError> {
        self.capabilities.all().check_supported()?;
        if let Some(application) = &self.application {
            application.capabilities.all().check_supported()?;
        }
        Ok(())
    }

    /// Whether an orderer running this program may take part.
    ///
    /// Fabric's lets BFT pass without the channel capability. But then nobody looks for signatures by
    /// consenters' numbers, so that none of a block's counts.
    pub fn check_supported_by_orderer(&self) -> Result<(), ConfigError> {
        self.capabilities.all().check_supported()?;
        let orderer = self.orderer.as_ref();
        let orderer = orderer.ok_or(ConfigError::Missing("orderer group"))?;
        orderer.capabilities.all().check_supported()?;
        if orderer.consensus_type() == CONSENSUS_BFT && !self.capabilities.bft() {
            return Err(ConfigError::Value {
                path: "/Channel/Capabilities".to_owned(),
                reason: "consensus type BFT must be used with V3_0 channel capability, without \
                         which no signature of its blocks counts: set it with the consensus type or \
                         before"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Judges a new configuration against this one, as a peer does when a configuration block
    /// commits, and returns it ready for use: the update inside has to be allowed and has to lead
    /// to exactly this configuration.
    pub fn apply(&self, next: &ConfigEnvelope) -> Result<Self, UpdateError> {
        update::validate(self, next)?;
        let config = next.config.clone();
        let config = config.ok_or(UpdateError::Missing("config"))?;
        let next = Self::new(&self.channel_id, config)?;
        self.check_transition(&next)
            .map_err(UpdateError::Transition)?;
        Ok(next)
    }

    /// Turns an update (envelope of type CONFIG_UPDATE) into the configuration it leads to, as an
    /// orderer does. The result has been checked to be usable.
    pub fn propose_update(&self, envelope: &Envelope) -> Result<ConfigEnvelope, UpdateError> {
        let proposed = update::propose(self, envelope)?;
        let config = proposed.config.clone();
        let config = config.ok_or(UpdateError::Missing("config"))?;
        let next = Self::new(&self.channel_id, config)?;
        next.check_supported_by_orderer()
            .map_err(UpdateError::Incompatible)?;
        update::check_bft_block_validation(&next)?;
        self.check_transition(&next)
            .map_err(UpdateError::Transition)?;
        Ok(proposed)
    }

    /// Changes that no signature can allow.
    fn check_transition(&self, next: &Self) -> Result<(), String> {
        if let Some(old) = &self.orderer {
            let new = next
                .orderer
                .as_ref()
                .ok_or("current config has orderer section, but new config does not")?;
            if !self.capabilities.consensus_type_migration()
                && old.consensus_type() != new.consensus_type()
            {
                return Err(format!(
                    "attempted to change consensus type from {} to {}",
                    old.consensus_type(),
                    new.consensus_type()
                ));
            }
            for (name, org) in &old.orgs {
                let new = new.orgs.get(name).map(|o| &o.msp_id);
                same_msp("orderer", name, &org.msp_id, new)?;
            }
        }
        if let Some(old) = &self.application {
            let new = next
                .application
                .as_ref()
                .ok_or("current config has application section, but new config does not")?;
            for (name, org) in &old.orgs {
                let new = new.orgs.get(name).map(|o| &o.msp_id);
                same_msp("application", name, &org.msp_id, new)?;
            }
        }
        Ok(())
    }
}

fn same_msp(kind: &str, org: &str, old: &str, new: Option<&String>) -> Result<(), String> {
    match new {
        Some(new) if new != old => Err(format!(
            "{kind} org {org} attempted to change MSP ID from {old} to {new}"
        )),
        _ => Ok(()),
    }
}

/// Channel and application may not require more than orderers were told to support.
fn check_capability_order(root: &ConfigGroup) -> Result<(), ConfigError> {
    let Some(orderer) = root.groups.get(ORDERER) else {
        return Ok(());
    };
    if orderer.values.contains_key(CAPABILITIES) {
        return Ok(());
    }
    let too_early = |what: &str| {
        let text = format!("cannot enable {what} capabilities without orderer support first");
        Err(ConfigError::Capability(text))
    };
    if root.values.contains_key(CAPABILITIES) {
        return too_early("channel");
    }
    match root.groups.get(APPLICATION) {
        Some(app) if app.values.contains_key(CAPABILITIES) => too_early("application"),
        _ => Ok(()),
    }
}

fn read_channel_values(
    values: &Values<'_>,
    capabilities: &ChannelCapabilities,
) -> Result<Vec<String>, ConfigError> {
    let hash = values.read::<HashingAlgorithm>(HASHING_ALGORITHM)?.name;
    if hash != "SHA256" && hash != "SHA3_256" {
        let reason = format!("Unknown hashing algorithm type: {hash}");
        return Err(values.wrong(HASHING_ALGORITHM, reason));
    }
    let shape: BlockDataHashingStructure = values.read(BLOCK_DATA_HASHING_STRUCTURE)?;
    if shape.width != u32::MAX {
        return Err(values.wrong(
            BLOCK_DATA_HASHING_STRUCTURE,
            "BlockDataHashStructure width only supported at MaxUint32 in this version".to_owned(),
        ));
    }
    let addresses = values
        .read::<OrdererAddresses>(ORDERER_ADDRESSES)?
        .addresses;
    if !capabilities.org_endpoints() && addresses.is_empty() {
        let reason = "Must set some OrdererAddresses".to_owned();
        return Err(values.wrong(ORDERER_ADDRESSES, reason));
    }
    if capabilities.bft() && !addresses.is_empty() {
        return Err(values.wrong(
            ORDERER_ADDRESSES,
            "global OrdererAddresses are not allowed with V3_0 capability, use org specific \
             addresses only"
                .to_owned(),
        ));
    }
    Ok(addresses)
}

fn decode<M: Message + Default>(bytes: &bytes::Bytes, what: &str) -> Result<M, ConfigError> {
    M::decode(bytes.clone()).map_err(|source| ConfigError::Decode {
        what: what.to_owned(),
        source,
    })
}

/// The channel id and the configuration envelope inside a configuration transaction.
pub fn open_config(envelope: &Envelope) -> Result<(String, ConfigEnvelope), ConfigError> {
    let payload: Payload = decode(&envelope.payload, "payload")?;
    let header = payload.header;
    let header = header.ok_or(ConfigError::Missing("payload header"))?;
    let channel: ChannelHeader = decode(&header.channel_header, "channel header")?;
    if channel.r#type != HeaderType::Config as i32 {
        return Err(ConfigError::NotConfig(channel.r#type));
    }
    let config = decode(&payload.data, "config envelope")?;
    Ok((channel.channel_id, config))
}

/// The single configuration transaction of a configuration block.
pub fn config_transaction(block: &Block) -> Result<Envelope, ConfigError> {
    let [only] = block.envelopes() else {
        let number = block.number();
        return Err(ConfigError::NotConfigBlock { number });
    };
    decode(only, "envelope")
}
