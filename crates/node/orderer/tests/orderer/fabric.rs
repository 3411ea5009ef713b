//! Fabric's own orderer as a process, for tests that put ours beside it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use selvage_orderer::config::Settings;

/// The folder of Fabric's programs, as `make conformance FABRIC_BIN=DIR` gives it.
pub(crate) fn orderer() -> PathBuf {
    let folder = std::env::var_os("FABRIC_BIN");
    let folder = folder.expect("FABRIC_BIN names the folder of Fabric's programs");
    Path::new(&folder).join("orderer")
}

/// A running orderer of Fabric's.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

impl Process {
    /// Starts it with the settings of one of ours, and waits until it answers.
    pub(crate) async fn start(program: &Path, settings: &Settings) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let admin = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = PathBuf::from(format!("{}-fabric", settings.file_ledger.location));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("orderer.yaml"), yaml(settings, admin)).unwrap();
        let log = std::fs::File::options();
        let log = log
            .clone()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let child = Command::new(program)
            .env_clear()
            .env("FABRIC_CFG_PATH", &folder)
            .env("FABRIC_LOGGING_SPEC", "info")
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let port = settings.general.listen_port;
        let process = Self { child, port, admin };
        let begun = Instant::now();
        for port in [port, admin] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                let waited = begun.elapsed();
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                assert!(
                    waited < Duration::from_secs(30),
                    "it does not start:\n{log}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        process
    }

    pub(crate) fn stop(self) {
        drop(self);
    }
}

/// As a crash does.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its `orderer.yaml`.
fn yaml(settings: &Settings, admin: u16) -> String {
    let (general, tls) = (&settings.general, &settings.general.tls);
    let roots = tls.root_cas.join(", ");
    format!(
        "General:
  ListenAddress: 127.0.0.1
  ListenPort: {port}
  TLS: {{Enabled: true, PrivateKey: {key}, Certificate: {certificate}, RootCAs: [{roots}]}}
  MaxRecvMsgSize: 104857600
  MaxSendMsgSize: 104857600
  Keepalive: {{ServerMinInterval: 60s, ServerInterval: 7200s, ServerTimeout: 20s}}
  Backoff: {{BaseDelay: 100ms, Multiplier: 1.6, MaxDelay: 1s}}
  Cluster: {{SendBufferSize: 100, DialTimeout: 2s, RPCTimeout: 5s}}
  LocalMSPDir: {msp}
  LocalMSPID: {msp_id}
  BCCSP: {{Default: SW, SW: {{Hash: SHA2, Security: 256}}}}
  Authentication: {{TimeWindow: 15m}}
FileLedger: {{Location: {ledger}}}
Operations: {{ListenAddress: '127.0.0.1:0'}}
Metrics: {{Provider: disabled}}
Admin: {{ListenAddress: '127.0.0.1:{admin}', TLS: {{Enabled: false}}}}
ChannelParticipation: {{Enabled: true, MaxRequestBodySize: 1 MB}}
Consensus: {{WALDir: {wal}/wal, SnapDir: {wal}/snap, EvictionSuspicion: 2s}}
",
        port = general.listen_port,
        key = tls.private_key,
        certificate = tls.certificate,
        msp = general.local_msp_dir,
        msp_id = general.local_msp_id,
        ledger = settings.file_ledger.location,
        wal = settings.consensus.wal_dir,
    )
}
