//! The peer's configuration: the keys of Fabric's `core.yaml` that this peer honours.
//!
//! Names, nesting and defaults are Fabric's. Environment variables override them as
//! `CORE_PEER_LISTENADDRESS` does `peer.listenAddress`. Keys that are not here have no effect.

mod sections;

use std::path::{Path, PathBuf};

use selvage_net::config::{ConfigError, Loaded, Variables, find, load, path_in};
use serde::{Deserialize, Serialize};

pub use sections::*;

/// All of `core.yaml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CoreConfig {
    /// The node itself and its services.
    pub peer: Peer,
    /// Building and running chaincode.
    pub chaincode: Chaincode,
    /// Storage.
    pub ledger: LedgerSection,
    /// The operations endpoint.
    pub operations: Operations,
    /// Where metrics go.
    pub metrics: Metrics,
}

/// A setting this peer cannot work with.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The file or a variable could not be used.
    #[error("cannot load core.yaml")]
    Load(#[source] ConfigError),
    /// A value is not one this peer supports.
    #[error("{key}: {detail}")]
    Unsupported {
        /// The key's path.
        key: &'static str,
        /// What would be accepted.
        detail: String,
    },
}

/// A loaded configuration with the folder its relative paths start from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The values.
    pub core: CoreConfig,
    /// The folder of `core.yaml`.
    pub folder: PathBuf,
}

impl Settings {
    /// Finds and loads `core.yaml` the way Fabric does: in `FABRIC_CFG_PATH`, or else in the
    /// working directory and in Fabric's official folder.
    pub fn load(variables: &Variables) -> Result<Self, SettingError> {
        let file = find("core.yaml", variables).map_err(SettingError::Load)?;
        Self::load_file(&file, variables)
    }

    /// Loads one file.
    pub fn load_file(file: &Path, variables: &Variables) -> Result<Self, SettingError> {
        let loaded: Loaded<CoreConfig> =
            load(file, "CORE", variables).map_err(SettingError::Load)?;
        for key in &loaded.unknown {
            tracing::debug!(key, "this configuration key has no effect");
        }
        let folder = loaded.folder().to_owned();
        let settings = Self {
            core: loaded.settings,
            folder,
        };
        settings.check()?;
        Ok(settings)
    }

    /// A path of the configuration; relative ones start from the configuration's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        path_in(&self.folder, path)
    }

    /// Where the peer keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.path(&self.core.peer.file_system_path)
    }

    /// The address chaincode dials in to: its own, or port 7052 of the peer's host.
    pub fn chaincode_listen_address(&self) -> String {
        let own = &self.core.peer.chaincode_listen_address;
        if !own.is_empty() {
            return own.clone();
        }
        let host = self
            .core
            .peer
            .address
            .rsplit_once(':')
            .map_or("0.0.0.0", |(host, _)| host);
        format!("{host}:7052")
    }

    /// The endpoint other nodes and clients know this peer by.
    pub fn external_endpoint(&self) -> String {
        let external = &self.core.peer.gossip.external_endpoint;
        if external.is_empty() {
            self.core.peer.address.clone()
        } else {
            external.clone()
        }
    }

    fn check(&self) -> Result<(), SettingError> {
        let unsupported = |key, detail: String| Err(SettingError::Unsupported { key, detail });
        let database = &self.core.ledger.state.state_database;
        if !database.eq_ignore_ascii_case("goleveldb") {
            return unsupported(
                "ledger.state.stateDatabase",
                format!(
                    "{database:?} is not supported; goleveldb selects the embedded database \
                     (rich queries are not built in yet)"
                ),
            );
        }
        let provider = &self.core.metrics.provider;
        if !matches!(provider.as_str(), "prometheus" | "disabled") {
            return unsupported(
                "metrics.provider",
                format!(
                    "{provider:?} is not supported; use prometheus, and have /metrics of the \
                     operations endpoint read, or disabled"
                ),
            );
        }
        if !self.core.peer.bccsp.default.eq_ignore_ascii_case("SW") {
            return unsupported(
                "peer.BCCSP.Default",
                format!(
                    "{:?} is not supported; use SW",
                    self.core.peer.bccsp.default
                ),
            );
        }
        let leader = &self.core.peer.gossip;
        if leader.use_leader_election && leader.org_leader {
            return unsupported(
                "peer.gossip.orgLeader",
                "orgLeader and useLeaderElection cannot both be true".to_owned(),
            );
        }
        if self.core.peer.local_msp_id.is_empty() {
            return unsupported("peer.localMspId", "an MSP id is needed".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/core.yaml")
    }

    fn load_with(pairs: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let variables: Variables = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Settings::load_file(&shipped(), &variables)
    }

    /// Every key, without exception: what the file shows is what a peer without it does.
    #[test]
    fn the_shipped_file_holds_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("core.yaml");
        std::fs::write(&empty, "").unwrap();
        let text = |file: &Path| {
            let settings = Settings::load_file(file, &Variables::new()).unwrap();
            serde_norway::to_string(&settings.core).unwrap()
        };
        assert_eq!(text(&shipped()), text(&empty));
        let settings = load_with(&[]).unwrap();
        assert_eq!(settings.chaincode_listen_address(), "0.0.0.0:7052");
    }

    #[test]
    fn the_shipped_file_has_no_key_without_effect() {
        let loaded: Loaded<CoreConfig> = load(&shipped(), "CORE", &Variables::new()).unwrap();
        assert_eq!(loaded.unknown, Vec::<String>::new());
    }

    #[test]
    fn variables_override_the_file() {
        let settings = load_with(&[
            ("CORE_PEER_LISTENADDRESS", "127.0.0.1:9051"),
            ("CORE_PEER_TLS_ENABLED", "true"),
            ("CORE_PEER_TLS_CERT_FILE", "/x/server.crt"),
            ("CORE_PEER_LOCALMSPID", "Org1MSP"),
            ("CORE_PEER_GOSSIP_EXTERNALENDPOINT", "peer:9051"),
        ])
        .unwrap();
        assert_eq!(settings.core.peer.listen_address, "127.0.0.1:9051");
        assert!(settings.core.peer.tls.enabled);
        assert_eq!(
            settings.path(&settings.core.peer.tls.cert.file),
            Path::new("/x/server.crt")
        );
        assert_eq!(settings.core.peer.local_msp_id, "Org1MSP");
        assert_eq!(settings.external_endpoint(), "peer:9051");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (variable, value, key) in [
            (
                "CORE_LEDGER_STATE_STATEDATABASE",
                "CouchDB",
                "ledger.state.stateDatabase",
            ),
            ("CORE_METRICS_PROVIDER", "statsd", "metrics.provider"),
            ("CORE_PEER_BCCSP_DEFAULT", "PKCS11", "peer.BCCSP.Default"),
            (
                "CORE_PEER_GOSSIP_USELEADERELECTION",
                "true",
                "peer.gossip.orgLeader",
            ),
        ] {
            let error = load_with(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }

    /// Scripts of the samples insert list entries seven spaces deep below `externalBuilders`.
    #[test]
    fn external_builders_can_be_inserted() {
        let text = std::fs::read_to_string(shipped()).unwrap();
        assert_eq!(text.matches("externalBuilders:").count(), 1);
        let inserted = text.replace(
            "externalBuilders:\n",
            "externalBuilders:\n       - name: golang\n         path: /builders/golang\n         \
             propagateEnvironment:\n           - HOME   \n",
        );
        assert_ne!(text, inserted);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("core.yaml");
        std::fs::write(&file, inserted).unwrap();
        let settings = Settings::load_file(&file, &Variables::new()).unwrap();
        let builders = &settings.core.chaincode.external_builders;
        assert_eq!(builders.len(), 1);
        assert_eq!(builders[0].name, "golang");
        assert_eq!(builders[0].propagate_environment, ["HOME"]);
    }
}
