//! Setting up the membership services of a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_identity::{Msp, MspManager, MspVersion};
use selvage_proto::Message as _;
use selvage_proto::msp::{FabricMspConfig, MspConfig};

use crate::error::ConfigError;

const FABRIC: i32 = 0;
const IDEMIX: i32 = 1;

/// Collects the membership services that organisations define. The same one may appear twice (as
/// orderer and as application organisation), but only with the same definition.
pub(crate) struct MspSetup {
    version: MspVersion,
    msps: BTreeMap<String, (MspConfig, Arc<Msp>)>,
}

impl MspSetup {
    pub(crate) fn new(version: MspVersion) -> Self {
        Self {
            version,
            msps: BTreeMap::new(),
        }
    }

    /// Sets up the service an organisation defines and returns its id.
    pub(crate) fn add(&mut self, org: &str, config: MspConfig) -> Result<String, ConfigError> {
        let wrong = |reason: String| ConfigError::Value {
            path: format!("{org}/MSP"),
            reason,
        };
        match config.r#type {
            FABRIC => {}
            IDEMIX => {
                return Err(wrong(
                    "Idemix membership services are not supported".to_owned(),
                ));
            }
            other => return Err(wrong(format!("Setup error: unsupported msp type {other}"))),
        }
        let decoded = FabricMspConfig::decode(config.config.clone());
        let fabric = decoded.map_err(|source| ConfigError::Decode {
            what: format!("{org}/MSP"),
            source,
        })?;
        let id = fabric.name.clone();
        if id.is_empty() {
            return Err(wrong(format!("MSP for org {org} has empty MSP ID")));
        }
        if let Some((known, _)) = self.msps.get(&id) {
            if *known != config {
                return Err(ConfigError::MspConflict(id));
            }
            return Ok(id);
        }
        let msp = Msp::new(&fabric, self.version).map_err(|source| ConfigError::Msp {
            org: org.to_owned(),
            source,
        })?;
        self.msps.insert(id.clone(), (config, Arc::new(msp)));
        Ok(id)
    }

    pub(crate) fn finish(self) -> MspManager {
        MspManager::new(self.msps.into_values().map(|(_, msp)| msp))
    }
}
