//! Orderers as processes of their own: Fabric's, and ours where a test needs to kill one or give it a
//! network of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use selvage_orderer::config::Settings;

/// A running orderer.
pub(crate) struct Process {
    child: Child,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

impl Process {
    /// Starts a program with the settings of one of ours, and waits until it answers.
    pub(crate) async fn start(mut command: Command, settings: &Settings) -> Self {
        let host = settings.general.listen_address.clone();
        // Taken here it is free there too, where that is another network.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let admin = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = PathBuf::from(format!("{}-process", settings.file_ledger.location));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("orderer.yaml"), yaml(settings, admin)).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_of(&folder));
        let child = command
            .env("FABRIC_CFG_PATH", &folder)
            .env("FABRIC_LOGGING_SPEC", "info")
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let port = settings.general.listen_port;
        let process = Self {
            child,
            host,
            port,
            admin,
        };
        let begun = Instant::now();
        for port in [port, admin] {
            while std::net::TcpStream::connect((process.host.as_str(), port)).is_err() {
                let waited = begun.elapsed();
                let log = std::fs::read_to_string(log_of(&folder)).unwrap_or_default();
                assert!(
                    waited < Duration::from_secs(30),
                    "it does not start:\n{log}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        process
    }

    /// The command for one of ours: this very program, with the test that is an orderer. `before` is
    /// what runs it, if anything does.
    pub(crate) fn of_ours(before: &[&str]) -> Command {
        let own = std::env::current_exe().unwrap();
        let mut command = match before {
            [] => Command::new(&own),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&own);
                command
            }
        };
        command
            .args(["restart::orderer_process", "--exact", "--nocapture"])
            .env("SELVAGE_TEST_ORDERER", "1");
        command
    }

    pub(crate) fn stop(self) {
        drop(self);
    }
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
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
  ListenAddress: {host}
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
Admin: {{ListenAddress: '{host}:{admin}', TLS: {{Enabled: false}}}}
ChannelParticipation: {{Enabled: true, MaxRequestBodySize: 1 MB}}
Consensus: {{WALDir: {wal}/wal, SnapDir: {wal}/snap, EvictionSuspicion: 2s}}
",
        host = general.listen_address,
        port = general.listen_port,
        key = tls.private_key,
        certificate = tls.certificate,
        msp = general.local_msp_dir,
        msp_id = general.local_msp_id,
        ledger = settings.file_ledger.location,
        wal = settings.consensus.wal_dir,
    )
}
