//! Fabric's own programs, for tests that put ours beside them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use selvage_crypto::issue::NodeRole;
use selvage_proto::common::Block;

use crate::consortium::free_ports;
use crate::world::World;

/// The folder of Fabric's programs that `make conformance FABRIC_BIN=DIR` gives. Without it, a test
/// says that it did not run.
pub(crate) fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("FABRIC_BIN").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("did not run: FABRIC_BIN names no folder of Fabric's programs");
    }
    folder
}

/// What a program of Fabric's says of its version.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(str::trim);
    let told = lines.filter(|line| line.starts_with("Version:") || line.starts_with("Commit SHA:"));
    told.collect::<Vec<_>>().join(", ")
}

/// A running peer of Fabric's, of the first organisation.
pub(crate) struct Peer {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Peer {
    /// Starts it with keys of its own.
    pub(crate) async fn start(programs: &Path, world: &World) -> Self {
        let folder = PathBuf::from(world.path("fabric-peer"));
        world.write_msp("fabric-peer/msp", &world.org1, NodeRole::Peer);
        world.write_msp("fabric-peer/admin", &world.org1, NodeRole::Admin);
        let (certificate, key) = world.org1.tls_pem();
        for (name, text) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("ca.crt", world.org1.tls.certificate().to_pem()),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let [port, chaincode] = free_ports(2).try_into().unwrap();
        std::fs::write(
            folder.join("core.yaml"),
            core_yaml(&folder, port, chaincode),
        )
        .unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let program = programs.join("peer");
        let child = Command::new(&program)
            .args(["node", "start"])
            .env_clear()
            .env("FABRIC_CFG_PATH", &folder)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let peer = Self {
            child,
            program,
            folder,
            port,
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = peer.log();
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it does not start:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// `peer channel …`, as an administrator; what it prints.
    fn channel(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .arg("channel")
            .args(arguments)
            .env_clear()
            .env("FABRIC_CFG_PATH", &self.folder)
            .env("CORE_PEER_MSPCONFIGPATH", self.folder.join("admin"))
            .env("CORE_PEER_ADDRESS", format!("127.0.0.1:{}", self.port))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{}", self.log());
        text + &String::from_utf8_lossy(&output.stdout)
    }

    pub(crate) fn join(&self, genesis: &Block) {
        let path = self.folder.join("genesis.block");
        std::fs::write(&path, genesis.encode_to_vec()).unwrap();
        self.channel(&["join", "-b", path.to_str().unwrap()]);
    }

    /// Waits until it has so many blocks, and says what its newest block's hash is, in base64.
    pub(crate) async fn reaches(&self, channel: &str, height: usize) -> String {
        let begun = Instant::now();
        loop {
            let info = self.channel(&["getinfo", "-c", channel]);
            if let Some((_, rest)) = info.split_once(&format!("\"height\":{height},"))
                && let Some((_, hash)) = rest.split_once("\"currentBlockHash\":\"")
            {
                return hash.split('"').next().unwrap_or_default().to_owned();
            }
            let log = self.log();
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{info}, not {height}:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its `core.yaml`.
fn core_yaml(folder: &Path, port: u16, chaincode: u16) -> String {
    let folder = folder.display();
    format!(
        "peer:
  id: fabrics
  networkId: test
  listenAddress: 127.0.0.1:{port}
  address: 127.0.0.1:{port}
  chaincodeListenAddress: 127.0.0.1:{chaincode}
  localMspId: Org1MSP
  mspConfigPath: {folder}/msp
  fileSystemPath: {folder}/data
  tls:
    enabled: true
    cert: {{file: {folder}/server.crt}}
    key: {{file: {folder}/server.key}}
    rootcert: {{file: {folder}/ca.crt}}
  BCCSP: {{Default: SW, SW: {{Hash: SHA2, Security: 256}}}}
  authentication: {{timewindow: 15m}}
  client: {{connTimeout: 3s}}
  keepalive: {{interval: 7200s, timeout: 20s, minInterval: 60s, client: {{interval: 60s, timeout: 20s}}, deliveryClient: {{interval: 60s, timeout: 20s}}}}
  gossip: {{useLeaderElection: false, orgLeader: true, endpoint: '', bootstrap: '127.0.0.1:{port}', state: {{enabled: false}}, pvtData: {{transientstoreMaxBlockRetention: 1000, pushAckTimeout: 3s, btlPullMargin: 10, reconcileBatchSize: 10, reconcileSleepInterval: 1m, reconciliationEnabled: true, skipPullingInvalidTransactionsDuringCommit: false}}}}
  deliveryclient: {{blockGossipEnabled: true, reconnectTotalTimeThreshold: 3600s, connTimeout: 3s, reConnectBackoffThreshold: 2s}}
  discovery: {{enabled: true, authCacheEnabled: true, authCacheMaxSize: 1000, authCachePurgeRetentionRatio: 0.75}}
  limits: {{concurrency: {{endorserService: 2500, deliverService: 2500, gatewayService: 500}}}}
  handlers:
    authFilters: [{{name: DefaultAuth}}, {{name: ExpirationCheck}}]
    decorators: [{{name: DefaultDecorator}}]
    endorsers: {{escc: {{name: DefaultEndorsement}}}}
    validators: {{vscc: {{name: DefaultValidation}}}}
  gateway: {{enabled: true, endorsementTimeout: 30s, broadcastTimeout: 30s, dialTimeout: 2m}}
vm: {{endpoint: 'unix:///var/run/docker.sock'}}
chaincode:
  mode: net
  executetimeout: 30s
  startuptimeout: 300s
  installTimeout: 300s
  keepalive: 0
  system: {{_lifecycle: enable, cscc: enable, lscc: enable, qscc: enable}}
  logging: {{level: info, shim: warning}}
ledger:
  state: {{stateDatabase: goleveldb, totalQueryLimit: 100000}}
  history: {{enableHistoryDatabase: true}}
  pvtdataStore: {{collElgProcMaxDbBatchSize: 5000, collElgProcDbBatchesInterval: 1000, deprioritizedDataReconcilerInterval: 60m}}
  snapshots: {{rootDir: {folder}/snapshots}}
operations: {{listenAddress: '127.0.0.1:0'}}
metrics: {{provider: disabled}}
"
    )
}
