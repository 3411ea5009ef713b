//! The settings of `orderer.yaml`: Fabric's keys, and one section of our own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvage_net::config::{
    ByteSize, ConfigError, GoDuration, Loaded, Variables, find, load, parse_duration,
};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// Listener, identity and limits.
    pub general: General,
    /// Where blocks are kept.
    pub file_ledger: FileLedger,
    /// Traces of what clients send.
    pub debug: Debug,
    /// The operations endpoint.
    pub operations: Endpoint,
    /// Whether metrics are shown.
    pub metrics: Metrics,
    /// The administration endpoint.
    pub admin: Endpoint,
    /// Limits of the channel participation API.
    pub channel_participation: ChannelParticipation,
    /// Settings of engines that order among several nodes.
    pub consensus: Consensus,
    /// What Fabric does not have.
    pub selvage: Selvage,
}

/// `General`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct General {
    /// The address to listen on.
    pub listen_address: String,
    /// The port to listen on; 0 lets the system choose.
    pub listen_port: u16,
    /// TLS of the listener.
    #[serde(rename = "TLS")]
    pub tls: Tls,
    /// Timers of HTTP/2 pings.
    pub keepalive: Keepalive,
    /// How long a handshake may take; zero means five seconds.
    pub connection_timeout: GoDuration,
    /// The largest message taken from a client, in bytes.
    pub max_recv_msg_size: ByteSize,
    /// The largest message sent to a client, in bytes.
    pub max_send_msg_size: ByteSize,
    /// Limits on the rate of transactions.
    pub throttling: Throttling,
    /// The folder of this node's identity.
    #[serde(rename = "LocalMSPDir")]
    pub local_msp_dir: String,
    /// The membership service that the identity belongs to.
    #[serde(rename = "LocalMSPID")]
    pub local_msp_id: String,
    /// How requests are authenticated.
    pub authentication: Authentication,
    /// Only `none`: channels come through the participation API.
    pub bootstrap_method: String,
    /// How this node and the other orderers of its channels speak with each other.
    pub cluster: Cluster,
    /// Settings of Fabric's gRPC client, of Go's profiler and of crypto providers: accepted,
    /// without effect here.
    pub backoff: BTreeMap<String, serde_norway::Value>,
    /// See `backoff`.
    pub profile: BTreeMap<String, serde_norway::Value>,
    /// See `backoff`.
    #[serde(rename = "BCCSP")]
    pub bccsp: BTreeMap<String, serde_norway::Value>,
    /// Left over from files of Fabric 1 and 2; without effect.
    pub bootstrap_file: String,
    /// Left over from files of Fabric 1 and 2; without effect.
    pub genesis_method: String,
    /// Left over from files of Fabric 1 and 2; without effect.
    pub genesis_file: String,
}

/// A `TLS` section.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Tls {
    /// Whether the endpoint speaks TLS.
    pub enabled: bool,
    /// File of the private key, PEM.
    pub private_key: String,
    /// File of the certificate chain, PEM.
    pub certificate: String,
    /// Files of the roots this node trusts as a client.
    #[serde(rename = "RootCAs")]
    pub root_cas: Vec<String>,
    /// Whether clients must present a certificate.
    pub client_auth_required: bool,
    /// Files of the roots that clients' certificates must chain to.
    #[serde(rename = "ClientRootCAs")]
    pub client_root_cas: Vec<String>,
    /// How far in the past certificates are judged.
    #[serde(rename = "TLSHandshakeTimeShift")]
    pub tls_handshake_time_shift: GoDuration,
}

/// `General.Keepalive`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Keepalive {
    /// In Fabric, the shortest pause between pings of a client. Clients may ping as they like here.
    pub server_min_interval: GoDuration,
    /// How often the server pings a silent client.
    pub server_interval: GoDuration,
    /// How long a pinged client may stay silent.
    pub server_timeout: GoDuration,
}

/// `General.Throttling`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Throttling {
    /// Transactions per second of all clients together, shared equally among those who send; 0 does
    /// not throttle.
    pub rate: u32,
    /// How long a silent client keeps its share.
    pub inactivity_timeout: GoDuration,
}

/// `General.Authentication`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Authentication {
    /// How far a request's timestamp may be from now.
    pub time_window: GoDuration,
    /// Lets clients with expired certificates go on.
    pub no_expiration_checks: bool,
}

/// `General.Cluster`. A zero stands for the default, as in Fabric.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cluster {
    /// Messages of one kind that may wait for one node.
    pub send_buffer_size: usize,
    /// File of the certificate this node shows other orderers, PEM. Without it, that of
    /// `General.TLS`.
    pub client_certificate: String,
    /// File of its private key, PEM.
    pub client_private_key: String,
    /// Port of a listener of its own for other orderers; 0 uses the general listener. This key and
    /// the next three are set together or not at all.
    pub listen_port: u16,
    /// Address of that listener.
    pub listen_address: String,
    /// File of that listener's certificate, PEM.
    pub server_certificate: String,
    /// File of its private key, PEM.
    pub server_private_key: String,
    /// Files of roots by which other orderers are trusted, beside those of the channels' orderer
    /// organisations.
    #[serde(rename = "RootCAs")]
    pub root_cas: Vec<String>,
    /// How long opening a connection may take.
    pub dial_timeout: GoDuration,
    /// How long a message may wait for a node that does not read.
    #[serde(rename = "RPCTimeout")]
    pub rpc_timeout: GoDuration,
    /// In Fabric, bytes of blocks fetched ahead. Here one block is fetched ahead.
    pub replication_buffer_size: ByteSize,
    /// How long another orderer may take for one block.
    pub replication_pull_timeout: GoDuration,
    /// The longest pause between attempts to fetch blocks.
    pub replication_retry_timeout: GoDuration,
    /// Left over from files of Fabric 1 and 2; without effect.
    pub replication_background_refresh_interval: GoDuration,
    /// In Fabric, attempts to fetch a block before the next round of the same. Here attempts go on
    /// until the channel is stopped.
    pub replication_max_retries: u64,
    /// In Fabric, how blocks of BFT channels are fetched. Here every block is verified by the
    /// channel's policy, and another node is asked when one falls behind.
    pub replication_policy: String,
    /// How far in the past certificates are judged on a listener of its own.
    #[serde(rename = "TLSHandshakeTimeShift")]
    pub tls_handshake_time_shift: GoDuration,
    /// From when on an expiring certificate of another node is warned about.
    pub cert_expiration_warning_threshold: GoDuration,
}

/// `Consensus`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Consensus {
    /// The folder of the engines' journals, one folder below it for each channel; empty for
    /// `etcdraft/wal` in the ledger's folder.
    #[serde(rename = "WALDir")]
    pub wal_dir: String,
    /// In Fabric, the folder of snapshots. Here a snapshot is the newest block and needs no file.
    pub snap_dir: String,
    /// How long a channel may be without leader before this node asks others whether it was removed;
    /// empty for ten minutes.
    pub eviction_suspicion: String,
    /// The length of a tick, instead of the one in the channel's configuration; empty to follow
    /// that one.
    pub tick_interval_override: String,
}

/// `FileLedger`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileLedger {
    /// The folder of the blocks.
    pub location: String,
    /// Left over from files of Fabric 1; without effect.
    pub prefix: String,
}

/// `Debug`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Debug {
    /// Folder for copies of broadcast messages; tracing files is not supported and refused.
    pub broadcast_trace_dir: String,
    /// Folder for copies of deliver requests; tracing files is not supported and refused.
    pub deliver_trace_dir: String,
}

/// `Operations` and `Admin`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// `host:port`; port 0 lets the system choose.
    pub listen_address: String,
    /// TLS of the endpoint.
    #[serde(rename = "TLS")]
    pub tls: Tls,
}

/// `Metrics`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metrics {
    /// `prometheus` or `disabled`.
    pub provider: String,
    /// Settings of a provider that does not exist here.
    pub statsd: BTreeMap<String, serde_norway::Value>,
}

/// `ChannelParticipation`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChannelParticipation {
    /// Always on, as in Fabric 3, whatever the file says.
    pub enabled: bool,
    /// The largest request, in bytes.
    pub max_request_body_size: ByteSize,
}

/// `Selvage`: what Fabric does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Selvage {
    /// Cuts a block as soon as none is being written, instead of waiting for the batch timeout.
    pub eager_cutting: bool,
    /// How long a batch stays open under load while cutting eagerly.
    pub eager_linger: GoDuration,
    /// Messages of one channel that may wait to be written.
    pub max_waiting_messages: usize,
    /// Bytes of messages of one channel that may wait to be written.
    pub max_waiting_bytes: ByteSize,
    /// Broadcast and deliver calls served at once.
    pub max_streams: usize,
}

impl Default for General {
    fn default() -> Self {
        Self {
            listen_address: "127.0.0.1".to_owned(),
            listen_port: 7050,
            tls: Tls::default(),
            keepalive: Keepalive::default(),
            connection_timeout: GoDuration::seconds(0),
            max_recv_msg_size: ByteSize(100 << 20),
            max_send_msg_size: ByteSize(100 << 20),
            throttling: Throttling::default(),
            local_msp_dir: "msp".to_owned(),
            local_msp_id: "SampleOrg".to_owned(),
            authentication: Authentication::default(),
            bootstrap_method: "none".to_owned(),
            cluster: Cluster::default(),
            backoff: BTreeMap::new(),
            profile: BTreeMap::new(),
            bccsp: BTreeMap::new(),
            bootstrap_file: String::new(),
            genesis_method: String::new(),
            genesis_file: String::new(),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            server_min_interval: GoDuration::seconds(60),
            server_interval: GoDuration::seconds(7200),
            server_timeout: GoDuration::seconds(20),
        }
    }
}

impl Default for Throttling {
    fn default() -> Self {
        Self {
            rate: 0,
            inactivity_timeout: GoDuration::seconds(5),
        }
    }
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            time_window: GoDuration::seconds(15 * 60),
            no_expiration_checks: false,
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            send_buffer_size: 100,
            client_certificate: String::new(),
            client_private_key: String::new(),
            listen_port: 0,
            listen_address: String::new(),
            server_certificate: String::new(),
            server_private_key: String::new(),
            root_cas: Vec::new(),
            dial_timeout: GoDuration::seconds(5),
            rpc_timeout: GoDuration::seconds(7),
            replication_buffer_size: ByteSize(20 << 20),
            replication_pull_timeout: GoDuration::seconds(5),
            replication_retry_timeout: GoDuration::seconds(5),
            replication_background_refresh_interval: GoDuration::seconds(5 * 60),
            replication_max_retries: 12,
            replication_policy: String::new(),
            tls_handshake_time_shift: GoDuration::seconds(0),
            cert_expiration_warning_threshold: GoDuration::seconds(7 * 24 * 3600),
        }
    }
}

impl Cluster {
    /// Whether other orderers have a listener of their own.
    pub fn own_listener(&self) -> bool {
        self.listen_port != 0
    }

    fn fill_in(&mut self) {
        let default = Self::default();
        if self.send_buffer_size == 0 {
            self.send_buffer_size = default.send_buffer_size;
        }
        let times = [
            (&mut self.dial_timeout, default.dial_timeout),
            (&mut self.rpc_timeout, default.rpc_timeout),
            (
                &mut self.replication_pull_timeout,
                default.replication_pull_timeout,
            ),
            (
                &mut self.replication_retry_timeout,
                default.replication_retry_timeout,
            ),
            (
                &mut self.cert_expiration_warning_threshold,
                default.cert_expiration_warning_threshold,
            ),
        ];
        for (time, default) in times {
            if time.0.is_zero() {
                *time = default;
            }
        }
    }

    /// Settings that belong together and are given apart.
    fn check(&self) -> Result<(), ConfigError> {
        let listener = [
            self.listen_port == 0,
            self.listen_address.is_empty(),
            self.server_certificate.is_empty(),
            self.server_private_key.is_empty(),
        ];
        if listener.contains(&true) && listener.contains(&false) {
            return Err(ConfigError::Value {
                key: "General.Cluster".to_owned(),
                reason:
                    "ListenPort, ListenAddress, ServerCertificate and ServerPrivateKey must be \
                         set together, for a listener of its own for other orderers, or not at all"
                        .to_owned(),
            });
        }
        if self.client_certificate.is_empty() != self.client_private_key.is_empty() {
            return Err(ConfigError::Value {
                key: "General.Cluster".to_owned(),
                reason: "ClientCertificate and ClientPrivateKey must be set together or not at all"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

impl Consensus {
    /// How long a channel may be without leader before this node suspects that it was removed.
    pub fn eviction_suspicion(&self) -> Result<Duration, ConfigError> {
        const KEY: &str = "Consensus.EvictionSuspicion";
        Ok(duration(KEY, &self.eviction_suspicion)?.unwrap_or(Duration::from_secs(600)))
    }

    /// The length of a tick, where it is not the channel's.
    pub fn tick_interval_override(&self) -> Result<Option<Duration>, ConfigError> {
        duration(
            "Consensus.TickIntervalOverride",
            &self.tick_interval_override,
        )
    }
}

fn duration(key: &str, text: &str) -> Result<Option<Duration>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_duration(text).filter(|duration| !duration.is_zero()) {
        Some(duration) => Ok(Some(duration)),
        None => Err(ConfigError::Value {
            key: key.to_owned(),
            reason: format!("{text:?} is no duration above zero, such as 500ms or 10m"),
        }),
    }
}

impl Default for FileLedger {
    fn default() -> Self {
        Self {
            location: "/var/hyperledger/production/orderer".to_owned(),
            prefix: String::new(),
        }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            listen_address: "127.0.0.1:0".to_owned(),
            tls: Tls::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            provider: "disabled".to_owned(),
            statsd: BTreeMap::new(),
        }
    }
}

impl Default for ChannelParticipation {
    fn default() -> Self {
        Self {
            enabled: true,
            max_request_body_size: ByteSize(1 << 20),
        }
    }
}

impl Default for Selvage {
    fn default() -> Self {
        Self {
            eager_cutting: true,
            eager_linger: GoDuration(Duration::from_millis(5)),
            max_waiting_messages: 20_000,
            max_waiting_bytes: ByteSize(64 << 20),
            max_streams: 5_000,
        }
    }
}

impl Settings {
    /// Finds and reads `orderer.yaml`, with the variables that begin with `ORDERER_` above it.
    /// Relative paths become relative to the file's folder.
    pub fn load(variables: &Variables) -> Result<Loaded<Self>, ConfigError> {
        Self::load_file(&find("orderer.yaml", variables)?, variables)
    }

    /// [`Settings::load`] from a given file.
    pub fn load_file(file: &Path, variables: &Variables) -> Result<Loaded<Self>, ConfigError> {
        let mut loaded: Loaded<Self> = load(file, "ORDERER", variables)?;
        let folder = loaded.folder().to_owned();
        loaded.settings.resolve_paths(&folder);
        loaded.settings.general.cluster.fill_in();
        loaded.settings.check()?;
        Ok(loaded)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut String| {
            if !path.is_empty() {
                *path = folder.join(&*path).to_string_lossy().into_owned();
            }
        };
        let Self {
            general,
            file_ledger,
            operations,
            admin,
            consensus,
            ..
        } = self;
        for tls in [&mut general.tls, &mut operations.tls, &mut admin.tls] {
            resolve(&mut tls.private_key);
            resolve(&mut tls.certificate);
            tls.root_cas.iter_mut().for_each(resolve);
            tls.client_root_cas.iter_mut().for_each(resolve);
        }
        let cluster = &mut general.cluster;
        resolve(&mut cluster.client_certificate);
        resolve(&mut cluster.client_private_key);
        resolve(&mut cluster.server_certificate);
        resolve(&mut cluster.server_private_key);
        cluster.root_cas.iter_mut().for_each(resolve);
        resolve(&mut general.local_msp_dir);
        resolve(&mut file_ledger.location);
        resolve(&mut consensus.wal_dir);
        resolve(&mut consensus.snap_dir);
    }

    /// The folder of the engines' journals.
    pub fn wal_dir(&self) -> PathBuf {
        match self.consensus.wal_dir.as_str() {
            "" => Path::new(&self.file_ledger.location).join("etcdraft/wal"),
            folder => PathBuf::from(folder),
        }
    }

    /// Settings that Fabric's orderer stops at, and those that would silently do nothing.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, reason: &str| {
            Err(ConfigError::Value {
                key: key.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.admin.tls.enabled && !self.admin.tls.client_auth_required {
            return refuse(
                "Admin.TLS.ClientAuthRequired",
                "must be true when Admin.TLS.Enabled is true: the participation API has no other \
                 protection",
            );
        }
        if !matches!(self.general.bootstrap_method.as_str(), "none" | "") {
            return refuse(
                "General.BootstrapMethod",
                "only \"none\" exists: the system channel is no longer supported; join channels \
                 through the participation API",
            );
        }
        if !matches!(
            self.metrics.provider.as_str(),
            "prometheus" | "disabled" | ""
        ) {
            return refuse(
                "Metrics.Provider",
                "only \"prometheus\" and \"disabled\" exist here: set \"prometheus\", and have /metrics \
                 of the operations endpoint read",
            );
        }
        let Debug {
            broadcast_trace_dir,
            deliver_trace_dir,
        } = &self.debug;
        if !broadcast_trace_dir.is_empty() || !deliver_trace_dir.is_empty() {
            return refuse(
                "Debug",
                "trace folders are not supported; set FABRIC_LOGGING_SPEC=orderer=debug instead",
            );
        }
        if self.general.throttling.rate > 0
            && self.general.throttling.inactivity_timeout.0.is_zero()
        {
            return refuse("General.Throttling.InactivityTimeout", "must be above zero");
        }
        self.general.cluster.check()?;
        self.consensus.eviction_suspicion()?;
        self.consensus.tick_interval_override()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orderer.yaml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn our_own() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/orderer.yaml")
    }

    #[test]
    fn our_own_file_is_whole() {
        let loaded = Settings::load_file(&our_own(), &Variables::new()).unwrap();
        assert_eq!(loaded.unknown, Vec::<String>::new());
        assert!(loaded.settings.selvage.eager_cutting);
        assert_eq!(loaded.settings.general.listen_port, 7050);
        assert_eq!(loaded.settings.general.cluster.send_buffer_size, 100);
        assert!(!loaded.settings.general.cluster.own_listener());
        let wal = "/var/hyperledger/production/orderer/etcdraft/wal";
        assert_eq!(loaded.settings.wal_dir(), Path::new(wal));
    }

    /// Every key but those named here: what the file shows is what an orderer without it does.
    #[test]
    fn our_own_file_holds_the_defaults() {
        let raw = |file: &Path| {
            let loaded: Loaded<Settings> = load(file, "ORDERER", &Variables::new()).unwrap();
            loaded.settings
        };
        let shipped = raw(&our_own());
        let (_folder, empty) = written("");
        let mut expected = raw(&empty);
        let own = |text: &str| text.to_owned();
        // Where TLS files lie, for whoever switches TLS on.
        let tls = &mut expected.general.tls;
        (tls.private_key, tls.certificate) = (own("tls/server.key"), own("tls/server.crt"));
        tls.root_cas = vec![own("tls/ca.crt")];
        // Without a file these endpoints take any port; with TLS the second one wants certificates.
        expected.operations.listen_address = own("127.0.0.1:8443");
        expected.admin.listen_address = own("127.0.0.1:9443");
        expected.admin.tls.client_auth_required = true;
        // Said in words what an empty value means.
        let default = expected.clone();
        let ledger = &default.file_ledger.location;
        let consensus = &mut expected.consensus;
        consensus.wal_dir = format!("{ledger}/etcdraft/wal");
        consensus.snap_dir = format!("{ledger}/etcdraft/snapshot");
        consensus.eviction_suspicion = own("10m");
        assert_eq!(shipped.wal_dir(), default.wal_dir());
        let suspicion = |settings: &Settings| settings.consensus.eviction_suspicion().unwrap();
        assert_eq!(suspicion(&shipped), suspicion(&default));

        let text = |settings: &Settings| serde_norway::to_string(settings).unwrap();
        assert_eq!(text(&shipped), text(&expected));
    }

    #[test]
    fn clusters_are_configured_as_in_fabric() {
        let (folder, file) = written(
            "General:\n  Cluster: {ClientCertificate: tls/client.crt, ClientPrivateKey: k, \
             SendBufferSize: 0, RPCTimeout: 0s, DialTimeout: 3s}\nFileLedger: {Location: /l}\n\
             Consensus: {EvictionSuspicion: 30s, TickIntervalOverride: 250ms}\n",
        );
        let variables = [
            ("ORDERER_GENERAL_CLUSTER_ROOTCAS", "[ca.crt]"),
            ("ORDERER_GENERAL_CLUSTER_LISTENPORT", ""),
        ];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let settings = Settings::load_file(&file, &variables).unwrap().settings;
        let cluster = &settings.general.cluster;
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(cluster.client_certificate, path("tls/client.crt"));
        assert_eq!(cluster.root_cas, [path("ca.crt")]);
        assert_eq!(cluster.send_buffer_size, 100);
        assert_eq!(cluster.rpc_timeout, GoDuration::seconds(7));
        assert_eq!(cluster.dial_timeout, GoDuration::seconds(3));
        let consensus = &settings.consensus;
        let suspicion = consensus.eviction_suspicion().unwrap();
        assert_eq!(suspicion, Duration::from_secs(30));
        let tick = consensus.tick_interval_override().unwrap();
        assert_eq!(tick, Some(Duration::from_millis(250)));
        assert_eq!(settings.wal_dir(), Path::new("/l/etcdraft/wal"));
        let defaults = Consensus::default();
        let suspicion = defaults.eviction_suspicion().unwrap();
        assert_eq!(suspicion, Duration::from_secs(600));
        assert_eq!(defaults.tick_interval_override().unwrap(), None);
    }

    #[test]
    fn scripts_of_fabric_samples_configure_by_variables() {
        let (folder, file) = written("General:\n  ListenPort: 7050\n");
        let variables = [
            ("ORDERER_GENERAL_LISTENADDRESS", "0.0.0.0"),
            ("ORDERER_GENERAL_LISTENPORT", "6050"),
            ("ORDERER_GENERAL_TLS_ENABLED", "true"),
            ("ORDERER_GENERAL_TLS_ROOTCAS", "[/x/ca.crt]"),
            ("ORDERER_GENERAL_TLS_PRIVATEKEY", "tls/server.key"),
            ("ORDERER_GENERAL_LOCALMSPID", "OrdererMSP"),
            (
                "ORDERER_ADMIN_TLS_CLIENTROOTCAS",
                "[/x/admin-ca.crt, more.crt]",
            ),
            ("ORDERER_CONSENSUS_WALDIR", "/wal"),
            ("ORDERER_FILELEDGER_LOCATION", ""),
        ];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let settings = Settings::load_file(&file, &variables).unwrap().settings;
        assert_eq!(settings.general.listen_address, "0.0.0.0");
        assert_eq!(settings.general.listen_port, 6050);
        assert!(settings.general.tls.enabled);
        assert_eq!(settings.general.tls.root_cas, ["/x/ca.crt"]);
        let key = folder.path().join("tls/server.key");
        assert_eq!(settings.general.tls.private_key, key.to_str().unwrap());
        assert_eq!(settings.general.local_msp_id, "OrdererMSP");
        assert_eq!(settings.admin.tls.client_root_cas.len(), 2);
        assert_eq!(
            settings.file_ledger.location,
            "/var/hyperledger/production/orderer"
        );
    }

    #[test]
    fn settings_that_cannot_be_followed_are_named() {
        let check = |text: &str, key: &str| {
            let (_folder, file) = written(text);
            let error = Settings::load_file(&file, &Variables::new()).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        };
        check(
            "Admin: {TLS: {Enabled: true}}",
            "Admin.TLS.ClientAuthRequired",
        );
        check(
            "General: {BootstrapMethod: file}",
            "General.BootstrapMethod",
        );
        check("Metrics: {Provider: statsd}", "Metrics.Provider");
        check("Debug: {BroadcastTraceDir: /tmp}", "Debug");
        check("General: {ListenPort: abc}", "General.ListenPort");
        check("General: {Cluster: {ListenPort: 7}}", "ListenAddress");
        check(
            "General: {Cluster: {ClientCertificate: x}}",
            "ClientPrivateKey",
        );
        check(
            "Consensus: {EvictionSuspicion: soon}",
            "Consensus.EvictionSuspicion",
        );
        check(
            "Consensus: {TickIntervalOverride: 0s}",
            "Consensus.TickIntervalOverride",
        );
    }
}
