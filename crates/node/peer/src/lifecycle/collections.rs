//! Tells the ledger which private data collections a chaincode has.

use std::sync::Arc;

use parking_lot::RwLock;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_ledger::{CollectionInfo, CollectionSource, StateReader};
use selvage_proto::common::ConfigEnvelope;
use selvage_proto::peer::collection_config::Payload;

use super::{LIFECYCLE_NAMESPACE, PolicyScope, implicit_collection, read_definition};

/// Where the ledger keeps the newest configuration transaction.
const CONFIG_KEY: &str = "CHANNEL_CONFIG_ENV_BYTES";

/// The configuration of a channel as it changes. The ledger holds one end, so it exists before the
/// channel's first configuration is read.
#[derive(Clone, Default)]
pub struct ConfigHandle(Arc<RwLock<Option<Arc<ChannelConfig>>>>);

impl ConfigHandle {
    /// The configuration in force; `None` until the channel is open.
    pub fn get(&self) -> Option<Arc<ChannelConfig>> {
        self.0.read().clone()
    }

    /// Puts a configuration into force.
    pub fn set(&self, config: Arc<ChannelConfig>) {
        *self.0.write() = Some(config);
    }
}

/// Collections as committed definitions and the channel's organisations give them
/// (Fabric: `AllCollectionsConfigPkg`).
pub struct ChannelCollections {
    channel_id: String,
    config: ConfigHandle,
}

impl ChannelCollections {
    /// The collections of one channel.
    pub fn new(channel_id: &str, config: ConfigHandle) -> Self {
        Self {
            channel_id: channel_id.to_owned(),
            config,
        }
    }

    /// The MSP ids of the application organisations. While the ledger recovers the channel is not
    /// open yet, and the configuration is read from the state.
    fn organisations(&self, state: &mut dyn StateReader) -> Result<Vec<String>, String> {
        let config = match self.config.get() {
            Some(config) => config,
            None => {
                let stored = state.get_state("", CONFIG_KEY).map_err(|e| e.to_string())?;
                let Some(stored) = stored else {
                    return Ok(Vec::new());
                };
                let envelope = ConfigEnvelope::decode(stored).map_err(|e| e.to_string())?;
                let config =
                    ChannelConfig::new(&self.channel_id, envelope.config.unwrap_or_default());
                Arc::new(config.map_err(|e| e.to_string())?)
            }
        };
        Ok(config
            .application_orgs()
            .into_iter()
            .map(|(_, msp_id)| msp_id)
            .collect())
    }
}

impl CollectionSource for ChannelCollections {
    fn collections(
        &self,
        ns: &str,
        state: &mut dyn StateReader,
    ) -> Result<Option<Vec<CollectionInfo>>, String> {
        let definition = read_definition(ns, |key| {
            state
                .get_state(LIFECYCLE_NAMESPACE, key)
                .map_err(Into::into)
        })
        .map_err(|e| format!("could not get info about chaincode: {e}"))?;
        let Some(definition) = definition else {
            return Ok(None);
        };
        let explicit = definition.collections.config.iter();
        let explicit = explicit.filter_map(|c| c.payload.as_ref()).map(
            |Payload::StaticCollectionConfig(c)| CollectionInfo {
                name: c.name.clone(),
                block_to_live: c.block_to_live,
            },
        );
        let mut all: Vec<CollectionInfo> = explicit.collect();
        for msp_id in self.organisations(state)? {
            let implicit = implicit_collection(&msp_id);
            all.push(CollectionInfo {
                name: implicit.name,
                block_to_live: 0,
            });
        }
        Ok(Some(all))
    }
}
