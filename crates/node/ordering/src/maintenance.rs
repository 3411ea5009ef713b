//! Moving a channel from one consensus to another: which configurations may follow which.
//!
//! The way is: into maintenance, change the type, out of maintenance; each a configuration of its
//! own (Fabric's `maintenancefilter`).

use selvage_channel::names::{CONSENSUS_TYPE, ORDERER};
use selvage_channel::update::open_update;
use selvage_channel::{ChannelConfig, OrdererConfig};
use selvage_proto::Message as _;
use selvage_proto::common::{ConfigEnvelope, ConfigGroup, ConfigUpdate};
use selvage_proto::orderer::consensus_type::State;

/// Checks a proposed configuration against the rules. The error is Fabric's text.
pub(crate) fn inspect(
    current: &ChannelConfig,
    orderer: &OrdererConfig,
    proposed: &ConfigEnvelope,
    targets: &[String],
) -> Result<(), String> {
    let config = proposed.config.clone().unwrap_or_default();
    let next = ChannelConfig::new(current.channel_id(), config)
        .map_err(|e| format!("failed to parse config: {e}"))?;
    let next = next
        .orderer()
        .ok_or("next config is missing orderer group")?;
    let (old_type, new_type) = (orderer.consensus_type(), next.consensus_type());
    let (old_state, new_state) = (orderer.consensus_state(), next.consensus_state());
    let names = || (old_state.as_str_name(), new_state.as_str_name());
    if !orderer.capabilities().consensus_type_migration() {
        if new_state != State::Normal {
            return Err(format!(
                "next config attempted to change ConsensusType.State to {}, but capability is \
                 disabled",
                new_state.as_str_name()
            ));
        }
        if old_type != new_type {
            return Err(format!(
                "next config attempted to change ConsensusType.Type from {old_type} to {new_type}, \
                 but capability is disabled"
            ));
        }
        return Ok(());
    }
    if old_state != new_state {
        only_consensus_type_changes(proposed)?;
        let (from, to) = names();
        if old_type != new_type {
            return Err(format!(
                "attempted to change ConsensusType.Type from {old_type} to {new_type}, but \
                 ConsensusType.State is changing from {from} to {to}"
            ));
        }
        if orderer.consensus_metadata() != next.consensus_metadata() {
            return Err(format!(
                "attempted to change ConsensusType.Metadata, but ConsensusType.State is changing \
                 from {from} to {to}"
            ));
        }
    }
    if old_type == new_type {
        return Ok(());
    }
    let change = format!("attempted to change consensus type from {old_type} to {new_type}");
    if old_state == State::Normal {
        return Err(format!(
            "{change}, but current config ConsensusType.State is not in maintenance mode"
        ));
    }
    if new_state == State::Normal {
        return Err(format!(
            "{change}, but next config ConsensusType.State is not in maintenance mode"
        ));
    }
    if !targets.iter().any(|t| t == new_type) {
        return Err(format!("{change}, transition not supported"));
    }
    Ok(())
}

/// Entering and leaving maintenance may not come with any other change.
fn only_consensus_type_changes(proposed: &ConfigEnvelope) -> Result<(), String> {
    let envelope = proposed.last_update.as_ref();
    let envelope = envelope.ok_or("updated config does not include a config update")?;
    let update = open_update(envelope)
        .map_err(|e| format!("envelope to config update unmarshalling error: {e}"))?;
    let update = ConfigUpdate::decode(update.config_update)
        .map_err(|e| format!("config update unmarshalling error: {e}"))?;
    let writes: ConfigGroup = update.write_set.unwrap_or_default();
    if writes.groups.is_empty() {
        return Err("config update contains no changes".to_owned());
    }
    if !writes.values.is_empty() {
        return Err("config update contains changes to values in group Channel".to_owned());
    }
    if writes.groups.len() > 1 {
        return Err("config update contains changes to more than one group".to_owned());
    }
    let orderer = writes
        .groups
        .get(ORDERER)
        .ok_or("update does not contain the Orderer group")?;
    if !orderer.groups.is_empty() {
        return Err("config update contains changes to groups within the Orderer group".to_owned());
    }
    if !orderer.values.contains_key(CONSENSUS_TYPE) {
        return Err("config update does not contain the ConsensusType value".to_owned());
    }
    if orderer.values.len() > 1 {
        return Err(
            "config update contain more then just the ConsensusType value in the Orderer group"
                .to_owned(),
        );
    }
    Ok(())
}
