//! The sections of `core.yaml`, with Fabric's defaults.

use std::time::Duration;

use selvage_net::config::GoDuration;
use serde::{Deserialize, Serialize};

/// A path, alone in its section.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Relative paths start from the folder of `core.yaml`.
    pub file: String,
}

/// A list of paths.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// Relative paths start from the folder of `core.yaml`.
    pub files: Vec<String>,
}

/// Pings of one kind of connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timers {
    /// How often to ping.
    pub interval: GoDuration,
    /// How long to wait for the answer.
    pub timeout: GoDuration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            interval: GoDuration::seconds(60),
            timeout: GoDuration::seconds(20),
        }
    }
}

/// `peer.keepalive`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keepalive {
    /// Silence after which the server pings a client.
    pub interval: GoDuration,
    /// How long the server waits for the answer.
    pub timeout: GoDuration,
    /// Fabric's lower bound for client pings; this peer accepts any.
    pub min_interval: GoDuration,
    /// Connections to other peers.
    pub client: Timers,
    /// Connections to orderers.
    pub delivery_client: Timers,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: GoDuration::seconds(7200),
            timeout: GoDuration::seconds(20),
            min_interval: GoDuration::seconds(60),
            client: Timers::default(),
            delivery_client: Timers::default(),
        }
    }
}

/// `peer.gateway`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Whether the gateway service is offered.
    pub enabled: bool,
    /// How long to wait for another peer to endorse.
    pub endorsement_timeout: GoDuration,
    /// How long to wait for an orderer.
    pub broadcast_timeout: GoDuration,
    /// How long to wait for a connection.
    pub dial_timeout: GoDuration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            enabled: true,
            endorsement_timeout: GoDuration::seconds(30),
            broadcast_timeout: GoDuration::seconds(30),
            dial_timeout: GoDuration::seconds(120),
        }
    }
}

/// `peer.gossip`: how other nodes find this one, and who pulls blocks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gossip {
    /// Peers of the same organisation.
    pub bootstrap: Vec<String>,
    /// Endpoint told to peers of the same organisation.
    pub endpoint: String,
    /// Endpoint told to everyone else.
    pub external_endpoint: String,
    /// Whether this peer pulls blocks from the orderers.
    pub org_leader: bool,
    /// Whether the peers elect who pulls blocks.
    pub use_leader_election: bool,
    /// Private data between peers.
    pub pvt_data: PrivateData,
}

impl Default for Gossip {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:7051".to_owned()],
            endpoint: String::new(),
            external_endpoint: String::new(),
            org_leader: true,
            use_leader_election: false,
            pvt_data: PrivateData::default(),
        }
    }
}

/// `peer.gossip.pvtData`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateData {
    /// Blocks after which unused private data of endorsements is dropped.
    pub transientstore_max_block_retention: u64,
    /// How the organisation's own implicit collection is spread.
    pub implicit_collection_dissemination_policy: Dissemination,
}

impl Default for PrivateData {
    fn default() -> Self {
        Self {
            transientstore_max_block_retention: 20000,
            implicit_collection_dissemination_policy: Dissemination::default(),
        }
    }
}

/// `implicitCollectionDisseminationPolicy`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dissemination {
    /// Peers that must have received the data.
    pub required_peer_count: i32,
    /// Peers that are tried.
    pub max_peer_count: i32,
}

impl Default for Dissemination {
    fn default() -> Self {
        Self {
            required_peer_count: 0,
            max_peer_count: 1,
        }
    }
}

/// `peer.tls`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether the server speaks TLS.
    pub enabled: bool,
    /// Whether clients must present a certificate.
    pub client_auth_required: bool,
    /// Server certificate.
    pub cert: File,
    /// Its private key.
    pub key: File,
    /// Roots for servers this peer calls, besides those of its channels.
    pub rootcert: File,
    /// Roots for clients, besides those of the channels.
    #[serde(rename = "clientRootCAs")]
    pub client_root_cas: Files,
    /// Key for calls to others; empty means the server key.
    pub client_key: File,
    /// Certificate for calls to others; empty means that of the server.
    pub client_cert: File,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            enabled: false,
            client_auth_required: false,
            cert: File {
                file: "tls/server.crt".to_owned(),
            },
            key: File {
                file: "tls/server.key".to_owned(),
            },
            rootcert: File {
                file: "tls/ca.crt".to_owned(),
            },
            client_root_cas: Files {
                files: vec!["tls/ca.crt".to_owned()],
            },
            client_key: File::default(),
            client_cert: File::default(),
        }
    }
}

/// `peer.authentication`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// How far a client's clock may be off.
    pub timewindow: GoDuration,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            timewindow: GoDuration::seconds(900),
        }
    }
}

/// `peer.BCCSP`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bccsp {
    /// Only `SW` is supported.
    #[serde(rename = "Default")]
    pub default: String,
    /// Software provider.
    #[serde(rename = "SW")]
    pub sw: Software,
}

impl Default for Bccsp {
    fn default() -> Self {
        Self {
            default: "SW".to_owned(),
            sw: Software::default(),
        }
    }
}

/// `peer.BCCSP.SW`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Software {
    /// Hash family.
    #[serde(rename = "Hash")]
    pub hash: String,
    /// Security level in bits.
    #[serde(rename = "Security")]
    pub security: u32,
}

impl Default for Software {
    fn default() -> Self {
        Self {
            hash: "SHA2".to_owned(),
            security: 256,
        }
    }
}

/// One entry of `peer.deliveryclient.addressOverrides`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressOverride {
    /// The address in the channel configuration.
    pub from: String,
    /// The address to call instead.
    pub to: String,
    /// Roots for it; empty keeps those of the channel.
    pub ca_certs_file: String,
}

/// `peer.deliveryclient`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryClient {
    /// Whether pulled blocks go on to other peers; this peer never does.
    pub block_gossip_enabled: bool,
    /// How long to try before giving up, for peers that need not pull.
    pub reconnect_total_time_threshold: GoDuration,
    /// How long opening a connection may take.
    pub conn_timeout: GoDuration,
    /// The longest pause between attempts.
    pub re_connect_backoff_threshold: GoDuration,
    /// How long headers may run ahead of blocks with BFT orderers.
    pub block_censorship_timeout_key: GoDuration,
    /// The first pause between attempts.
    pub minimal_reconnect_interval: GoDuration,
    /// Orderers reached under another address than the channel says.
    pub address_overrides: Vec<AddressOverride>,
    /// How BFT orderers are followed: `simple` or `cluster`.
    pub policy: String,
}

impl Default for DeliveryClient {
    fn default() -> Self {
        Self {
            block_gossip_enabled: false,
            reconnect_total_time_threshold: GoDuration::seconds(3600),
            conn_timeout: GoDuration::seconds(3),
            re_connect_backoff_threshold: GoDuration::seconds(3600),
            block_censorship_timeout_key: GoDuration::seconds(30),
            minimal_reconnect_interval: GoDuration(Duration::from_millis(100)),
            address_overrides: Vec::new(),
            policy: "cluster".to_owned(),
        }
    }
}

/// One handler.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// A Go plugin; not supported.
    pub library: String,
}

/// `peer.handlers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handlers {
    /// Checks of proposals before endorsement, in order.
    pub auth_filters: Vec<Handler>,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            auth_filters: ["DefaultAuth", "ExpirationCheck", "TimeWindowCheck"]
                .map(|name| Handler {
                    name: name.to_owned(),
                    ..Handler::default()
                })
                .to_vec(),
        }
    }
}

/// `peer.discovery`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Whether the service is offered.
    pub enabled: bool,
    /// Whether decisions are cached.
    pub auth_cache_enabled: bool,
    /// Decisions kept.
    pub auth_cache_max_size: usize,
    /// Share of the decisions that survives a purge.
    pub auth_cache_purge_retention_ratio: f64,
    /// Whether members other than administrators may ask about the peer itself.
    pub org_members_allowed_access: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            enabled: true,
            auth_cache_enabled: true,
            auth_cache_max_size: 1000,
            auth_cache_purge_retention_ratio: 0.75,
            org_members_allowed_access: false,
        }
    }
}

/// `peer.limits.concurrency`: calls served at once, 0 for no limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Proposals.
    pub endorser_service: usize,
    /// Block streams.
    pub deliver_service: usize,
    /// Gateway calls.
    pub gateway_service: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            endorser_service: 2500,
            deliver_service: 2500,
            gateway_service: 500,
        }
    }
}

/// `peer.limits`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Calls served at once.
    pub concurrency: Concurrency,
}

/// `peer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// A name for logs.
    pub id: String,
    /// A name for the network.
    pub network_id: String,
    /// Where clients and peers connect.
    pub listen_address: String,
    /// Where chaincode connects; empty means port 7052 of `address`.
    pub chaincode_listen_address: String,
    /// What chaincode is told to connect to; empty means the listen address.
    pub chaincode_address: String,
    /// The endpoint told to peers of the same organisation.
    pub address: String,
    /// Whether the address is taken from the machine.
    pub address_auto_detect: bool,
    /// The gateway service.
    pub gateway: Gateway,
    /// Pings.
    pub keepalive: Keepalive,
    /// Other peers.
    pub gossip: Gossip,
    /// TLS of the main listener and of outgoing calls.
    pub tls: Tls,
    /// Checks on client messages.
    pub authentication: Authentication,
    /// Where the peer keeps its data.
    pub file_system_path: String,
    /// Cryptography.
    #[serde(rename = "BCCSP")]
    pub bccsp: Bccsp,
    /// The peer's own MSP folder.
    pub msp_config_path: String,
    /// The peer's organisation.
    pub local_msp_id: String,
    /// Kind of the local MSP.
    pub local_msp_type: String,
    /// How blocks are pulled.
    pub deliveryclient: DeliveryClient,
    /// Filters of proposals.
    pub handlers: Handlers,
    /// Validation threads; 0 means one for each core.
    pub validator_pool_size: usize,
    /// The discovery service.
    pub discovery: Discovery,
    /// Bounds on load.
    pub limits: Limits,
    /// Largest message received, in bytes.
    pub max_recv_msg_size: usize,
    /// Largest message sent, in bytes.
    pub max_send_msg_size: usize,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            id: "jdoe".to_owned(),
            network_id: "dev".to_owned(),
            listen_address: "0.0.0.0:7051".to_owned(),
            chaincode_listen_address: String::new(),
            chaincode_address: String::new(),
            address: "0.0.0.0:7051".to_owned(),
            address_auto_detect: false,
            gateway: Gateway::default(),
            keepalive: Keepalive::default(),
            gossip: Gossip::default(),
            tls: Tls::default(),
            authentication: Authentication::default(),
            file_system_path: "/var/hyperledger/production".to_owned(),
            bccsp: Bccsp::default(),
            msp_config_path: "msp".to_owned(),
            local_msp_id: "SampleOrg".to_owned(),
            local_msp_type: "bccsp".to_owned(),
            deliveryclient: DeliveryClient::default(),
            handlers: Handlers::default(),
            validator_pool_size: 0,
            discovery: Discovery::default(),
            limits: Limits::default(),
            max_recv_msg_size: 100 * 1024 * 1024,
            max_send_msg_size: 100 * 1024 * 1024,
        }
    }
}

/// One entry of `chaincode.externalBuilders`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalBuilder {
    /// Its name in messages.
    pub name: String,
    /// The folder with `bin/detect`, `bin/build` and the others.
    pub path: String,
    /// Variables passed on to it.
    pub propagate_environment: Vec<String>,
}

/// `chaincode.system`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemChaincodes {
    /// `_lifecycle`.
    #[serde(rename = "_lifecycle")]
    pub lifecycle: String,
    /// Configuration queries and joining.
    pub cscc: String,
    /// Old lifecycle queries.
    pub lscc: String,
    /// Ledger queries.
    pub qscc: String,
}

impl Default for SystemChaincodes {
    fn default() -> Self {
        Self {
            lifecycle: "enable".to_owned(),
            cscc: "enable".to_owned(),
            lscc: "enable".to_owned(),
            qscc: "enable".to_owned(),
        }
    }
}

/// `chaincode.logging`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeLogging {
    /// Level of the chaincode.
    pub level: String,
    /// Level of the shim inside it.
    pub shim: String,
    /// Format of the shim's lines.
    pub format: String,
}

impl Default for ChaincodeLogging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            shim: "warning".to_owned(),
            format: "%{color}%{time:2006-01-02 15:04:05.000 MST} [%{module}] %{shortfunc} -> \
                     %{level:.4s} %{id:03x}%{color:reset} %{message}"
                .to_owned(),
        }
    }
}

/// `chaincode.runtimeParams`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeParams {
    /// Whether chaincode may send writes in batches.
    pub use_write_batch: bool,
    /// Writes in a batch.
    pub max_size_write_batch: u32,
    /// Whether chaincode may read many keys at once.
    pub use_get_multiple_keys: bool,
    /// Keys in one read.
    pub max_size_get_multiple_keys: u32,
}

impl Default for RuntimeParams {
    fn default() -> Self {
        Self {
            use_write_batch: true,
            max_size_write_batch: 1000,
            use_get_multiple_keys: true,
            max_size_get_multiple_keys: 1000,
        }
    }
}

/// `chaincode`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chaincode {
    /// Builders outside the peer.
    pub external_builders: Vec<ExternalBuilder>,
    /// How long a build may take.
    pub install_timeout: GoDuration,
    /// How long chaincode may take to register.
    pub startuptimeout: GoDuration,
    /// How long an invocation may take.
    pub executetimeout: GoDuration,
    /// `net`, or `dev` for chaincode the developer starts.
    pub mode: String,
    /// Seconds between pings to chaincode; 0 for none.
    pub keepalive: i64,
    /// System chaincode.
    pub system: SystemChaincodes,
    /// Logs of chaincode.
    pub logging: ChaincodeLogging,
    /// Batches between peer and chaincode.
    pub runtime_params: RuntimeParams,
    /// How chaincode processes are confined: `auto`, `bubblewrap`, `landlock` or `off`. Not one of
    /// Fabric's keys.
    pub sandbox: String,
    /// Most memory of one chaincode, in bytes. Not one of Fabric's keys.
    pub memory: u64,
    /// Where builds are kept; peers of one host may share it. Empty means below the peer's data.
    /// Not one of Fabric's keys.
    pub build_cache: String,
}

impl Default for Chaincode {
    fn default() -> Self {
        Self {
            external_builders: Vec::new(),
            install_timeout: GoDuration::seconds(300),
            startuptimeout: GoDuration::seconds(300),
            executetimeout: GoDuration::seconds(30),
            mode: "net".to_owned(),
            keepalive: 0,
            system: SystemChaincodes::default(),
            logging: ChaincodeLogging::default(),
            runtime_params: RuntimeParams::default(),
            sandbox: "auto".to_owned(),
            memory: 2 << 30,
            build_cache: String::new(),
        }
    }
}

/// `ledger.state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// `goleveldb` selects the embedded database.
    pub state_database: String,
    /// Most records one query may return.
    pub total_query_limit: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            state_database: "goleveldb".to_owned(),
            total_query_limit: 100000,
        }
    }
}

/// `ledger.history`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Whether the history of keys is kept.
    pub enable_history_database: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            enable_history_database: true,
        }
    }
}

/// `ledger.pvtdataStore`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateStore {
    /// Blocks between purges of expired private data.
    pub purge_interval: u64,
}

impl Default for PrivateStore {
    fn default() -> Self {
        Self {
            purge_interval: 100,
        }
    }
}

/// `ledger.snapshots`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshots {
    /// Where snapshots are put.
    pub root_dir: String,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            root_dir: "/var/hyperledger/production/snapshots".to_owned(),
        }
    }
}

/// `ledger`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerSection {
    /// World state.
    pub state: State,
    /// History of keys.
    pub history: History,
    /// Private data.
    pub pvtdata_store: PrivateStore,
    /// Snapshots.
    pub snapshots: Snapshots,
}

/// `operations.tls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationsTls {
    /// Whether the endpoint speaks TLS.
    pub enabled: bool,
    /// Server certificate.
    pub cert: File,
    /// Its private key.
    pub key: File,
    /// Whether every client needs a certificate.
    pub client_auth_required: bool,
    /// Roots for clients.
    #[serde(rename = "clientRootCAs")]
    pub client_root_cas: Files,
}

/// `operations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operations {
    /// Where operators connect; empty for no endpoint.
    pub listen_address: String,
    /// TLS of the endpoint.
    pub tls: OperationsTls,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            listen_address: "127.0.0.1:9443".to_owned(),
            tls: OperationsTls::default(),
        }
    }
}

/// `metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// `prometheus` or `disabled`.
    pub provider: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            provider: "disabled".to_owned(),
        }
    }
}
