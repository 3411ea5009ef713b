//! The parts of a channel configuration, read and checked: orderer, application, organisations.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::common::{
    Capabilities as CapabilitiesValue, ConfigGroup, Consenter, OrdererAddresses, Orderers,
};
use selvage_proto::msp::MspConfig;
use selvage_proto::orderer::consensus_type::State;
use selvage_proto::orderer::{BatchSize, BatchTimeout, ConsensusType};
use selvage_proto::peer::{AcLs, AnchorPeer, AnchorPeers};

use crate::acl::AclTable;
use crate::capabilities::{
    ApplicationCapabilities, Capabilities, ChannelCapabilities, OrdererCapabilities, Section,
};
use crate::duration::parse_duration;
use crate::error::ConfigError;
use crate::msps::MspSetup;
use crate::names::{
    ACLS, ANCHOR_PEERS, BATCH_SIZE, BATCH_TIMEOUT, CAPABILITIES, CHANNEL_RESTRICTIONS,
    CONSENSUS_TYPE, ENDPOINTS, MSP, ORDERERS,
};

/// The one consensus type whose blocks carry signatures of several orderers.
pub const CONSENSUS_BFT: &str = "BFT";
/// Fabric's crash-tolerant consensus.
pub const CONSENSUS_RAFT: &str = "etcdraft";
/// A single node.
pub const CONSENSUS_SOLO: &str = "solo";

/// An organisation whose nodes order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererOrg {
    /// The group's name.
    pub name: String,
    /// The id of its membership service.
    pub msp_id: String,
    /// `host:port` of its orderers; may be empty below channel capability V3_0.
    pub endpoints: Vec<String>,
}

/// An organisation whose peers run chaincode.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationOrg {
    /// The group's name.
    pub name: String,
    /// The id of its membership service.
    pub msp_id: String,
    /// Peers by which other organisations find this one.
    pub anchor_peers: Vec<AnchorPeer>,
}

/// `/Channel/Orderer`
#[derive(Debug, Clone)]
pub struct OrdererConfig {
    pub(crate) consensus: ConsensusType,
    pub(crate) state: State,
    pub(crate) batch_size: BatchSize,
    pub(crate) batch_timeout: Duration,
    pub(crate) consenters: Vec<Consenter>,
    pub(crate) orgs: BTreeMap<String, OrdererOrg>,
    pub(crate) capabilities: OrdererCapabilities,
}

impl OrdererConfig {
    /// [`CONSENSUS_SOLO`], [`CONSENSUS_RAFT`], [`CONSENSUS_BFT`], or a name this program does not
    /// know.
    pub fn consensus_type(&self) -> &str {
        &self.consensus.r#type
    }

    /// The engine's own settings: `etcdraft.ConfigMetadata` or `smartbft.Options`, encoded.
    pub fn consensus_metadata(&self) -> &Bytes {
        &self.consensus.metadata
    }

    /// Whether the channel is in normal operation or in maintenance for a change of engine.
    pub fn consensus_state(&self) -> State {
        self.state
    }

    /// Limits of one block.
    pub fn batch_size(&self) -> &BatchSize {
        &self.batch_size
    }

    /// How long a batch may wait.
    pub fn batch_timeout(&self) -> Duration {
        self.batch_timeout
    }

    /// The BFT consenters, in the order of the `Orderers` value; empty for other engines.
    pub fn consenters(&self) -> &[Consenter] {
        &self.consenters
    }

    /// The organisations by group name.
    pub fn orgs(&self) -> &BTreeMap<String, OrdererOrg> {
        &self.orgs
    }

    /// What nodes must be able to do.
    pub fn capabilities(&self) -> &OrdererCapabilities {
        &self.capabilities
    }

    pub(crate) fn new(
        group: &ConfigGroup,
        channel: &ChannelCapabilities,
        msps: &mut MspSetup,
    ) -> Result<Self, ConfigError> {
        const PATH: &str = "/Channel/Orderer";
        let values = Values::new(PATH, group);
        // The last two are remains of Fabric 1: read by nobody, but present in old channels.
        values.only(&[
            CONSENSUS_TYPE,
            BATCH_SIZE,
            BATCH_TIMEOUT,
            ORDERERS,
            CAPABILITIES,
            CHANNEL_RESTRICTIONS,
            "KafkaBrokers",
        ])?;
        let consensus: ConsensusType = values.read(CONSENSUS_TYPE)?;
        let state = State::try_from(consensus.state).map_err(|_| {
            values.wrong(CONSENSUS_TYPE, format!("unknown state {}", consensus.state))
        })?;
        let mut orgs = BTreeMap::new();
        let batch_size = read_batch_size(&values)?;
        let batch_timeout = read_batch_timeout(&values)?;
        for (name, org) in &group.groups {
            orgs.insert(name.clone(), read_orderer_org(name, org, channel, msps)?);
        }
        if channel.bft() {
            let missing = orgs.values().filter(|o| o.endpoints.is_empty());
            let missing: Vec<&str> = missing.map(|o| o.name.as_str()).collect();
            if !missing.is_empty() {
                return Err(ConfigError::Value {
                    path: PATH.to_owned(),
                    reason: format!(
                        "some orderer organizations endpoints are empty: {}",
                        missing.join(", ")
                    ),
                });
            }
        }
        let capabilities = Capabilities::new(Section::Orderer, &values.read(CAPABILITIES)?);
        Ok(Self {
            consensus,
            state,
            batch_size,
            batch_timeout,
            consenters: values.read::<Orderers>(ORDERERS)?.consenter_mapping,
            orgs,
            capabilities: OrdererCapabilities(capabilities),
        })
    }
}

fn read_batch_size(values: &Values<'_>) -> Result<BatchSize, ConfigError> {
    let size: BatchSize = values.read(BATCH_SIZE)?;
    let zero = |what: &str| {
        let reason = format!("Attempted to set the batch size {what} to an invalid value: 0");
        values.wrong(BATCH_SIZE, reason)
    };
    if size.max_message_count == 0 {
        return Err(zero("max message count"));
    }
    if size.absolute_max_bytes == 0 {
        return Err(zero("absolute max bytes"));
    }
    if size.preferred_max_bytes == 0 {
        return Err(zero("preferred max bytes"));
    }
    if size.preferred_max_bytes > size.absolute_max_bytes {
        let reason = format!(
            "Attempted to set the batch size preferred max bytes ({}) greater than the absolute \
             max bytes ({}).",
            size.preferred_max_bytes, size.absolute_max_bytes
        );
        return Err(values.wrong(BATCH_SIZE, reason));
    }
    Ok(size)
}

fn read_batch_timeout(values: &Values<'_>) -> Result<Duration, ConfigError> {
    let text = values.read::<BatchTimeout>(BATCH_TIMEOUT)?.timeout;
    let invalid = |what| {
        let reason = format!("Attempted to set the batch timeout to a {what} value: {text}");
        values.wrong(BATCH_TIMEOUT, reason)
    };
    let positive = text.strip_prefix('-').unwrap_or(&text);
    let timeout = parse_duration(positive).ok_or_else(|| invalid("invalid"))?;
    if timeout.is_zero() || positive.len() != text.len() {
        return Err(invalid("non-positive"));
    }
    Ok(timeout)
}

fn read_orderer_org(
    name: &str,
    group: &ConfigGroup,
    channel: &ChannelCapabilities,
    msps: &mut MspSetup,
) -> Result<OrdererOrg, ConfigError> {
    let path = format!("/Channel/Orderer/{name}");
    let values = Values::new(&path, group);
    values.no_groups()?;
    values.only(&[MSP, ENDPOINTS])?;
    if !channel.org_endpoints() && group.values.contains_key(ENDPOINTS) {
        return Err(ConfigError::Capability(format!(
            "Orderer Org {name} cannot contain endpoints value until V1_4_2+ capabilities have \
             been enabled"
        )));
    }
    Ok(OrdererOrg {
        name: name.to_owned(),
        msp_id: msps.add(&path, values.read::<MspConfig>(MSP)?)?,
        endpoints: values.read::<OrdererAddresses>(ENDPOINTS)?.addresses,
    })
}

/// `/Channel/Application`
#[derive(Debug, Clone)]
pub struct ApplicationConfig {
    pub(crate) orgs: BTreeMap<String, ApplicationOrg>,
    pub(crate) acls: AclTable,
    pub(crate) capabilities: ApplicationCapabilities,
}

impl ApplicationConfig {
    /// The organisations by group name.
    pub fn orgs(&self) -> &BTreeMap<String, ApplicationOrg> {
        &self.orgs
    }

    /// The channel's own ACL entries: resource and full policy path.
    pub fn acls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.acls.iter()
    }

    /// What nodes must be able to do.
    pub fn capabilities(&self) -> &ApplicationCapabilities {
        &self.capabilities
    }

    pub(crate) fn new(group: &ConfigGroup, msps: &mut MspSetup) -> Result<Self, ConfigError> {
        let values = Values::new("/Channel/Application", group);
        values.only(&[ACLS, CAPABILITIES])?;
        let capabilities = Capabilities::new(Section::Application, &values.read(CAPABILITIES)?);
        let capabilities = ApplicationCapabilities(capabilities);
        if !capabilities.acls() && group.values.contains_key(ACLS) {
            return Err(ConfigError::Capability(
                "ACLs may not be specified without the required capability".to_owned(),
            ));
        }
        let mut orgs = BTreeMap::new();
        for (name, org) in &group.groups {
            orgs.insert(name.clone(), read_application_org(name, org, msps)?);
        }
        Ok(Self {
            orgs,
            acls: AclTable::new(&values.read::<AcLs>(ACLS)?),
            capabilities,
        })
    }
}

fn read_application_org(
    name: &str,
    group: &ConfigGroup,
    msps: &mut MspSetup,
) -> Result<ApplicationOrg, ConfigError> {
    let path = format!("/Channel/Application/{name}");
    let values = Values::new(&path, group);
    values.no_groups()?;
    values.only(&[MSP, ANCHOR_PEERS])?;
    Ok(ApplicationOrg {
        name: name.to_owned(),
        msp_id: msps.add(&path, values.read::<MspConfig>(MSP)?)?,
        anchor_peers: values.read::<AnchorPeers>(ANCHOR_PEERS)?.anchor_peers,
    })
}

/// The values of one group, for reading.
pub(crate) struct Values<'a> {
    path: &'a str,
    group: &'a ConfigGroup,
}

impl<'a> Values<'a> {
    pub(crate) fn new(path: &'a str, group: &'a ConfigGroup) -> Self {
        Self { path, group }
    }

    /// Refuses values that the group does not know.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        let unknown = |key: &&String| !known.contains(&key.as_str());
        match self.group.values.keys().find(unknown) {
            None => Ok(()),
            Some(key) => Err(ConfigError::UnexpectedValue {
                group: self.path.to_owned(),
                key: key.clone(),
            }),
        }
    }

    fn no_groups(&self) -> Result<(), ConfigError> {
        match self.group.groups.keys().next() {
            None => Ok(()),
            Some(child) => Err(ConfigError::UnexpectedGroup {
                group: self.path.to_owned(),
                child: child.clone(),
            }),
        }
    }

    /// Decodes a value; a missing one reads as the message's default, as in Fabric.
    pub(crate) fn read<M: Message + Default>(&self, key: &str) -> Result<M, ConfigError> {
        let Some(value) = self.group.values.get(key) else {
            return Ok(M::default());
        };
        M::decode(value.value.clone()).map_err(|source| ConfigError::Decode {
            what: format!("{}/{key}", self.path),
            source,
        })
    }

    pub(crate) fn wrong(&self, key: &str, reason: String) -> ConfigError {
        ConfigError::Value {
            path: format!("{}/{key}", self.path),
            reason,
        }
    }
}

pub(crate) fn channel_capabilities(
    values: &Values<'_>,
) -> Result<ChannelCapabilities, ConfigError> {
    let value: CapabilitiesValue = values.read(CAPABILITIES)?;
    Ok(ChannelCapabilities(Capabilities::new(
        Section::Channel,
        &value,
    )))
}
