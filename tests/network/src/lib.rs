//! Real processes for tests that read like scripts: a network that `selvage up` started, the nodes
//! in it, and the means to kill them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use selvage_channel::ChannelConfig;
use selvage_client::{Gateway, Invocation, Peer, PeerAdmin, User};
use selvage_env::Env;
use selvage_net::Endpoint;
use selvage_net::tls::ClientTls;
use serde::Deserialize;

mod api;
mod cases;
mod contract;
mod kept;
mod load;
mod nodes;
mod site;
mod volume;

pub use api::Api;
pub use cases::{Case, Told, any_in_log, in_log, run_cases, says, told};
pub use contract::{PACKAGE_JSON, index_js};
pub use load::{Load, same_chain_everywhere};
pub use nodes::{
    Node, all_of, chaincodes_of, confiners_of, freeze, is_alive, kill_9, leader_of, nodes_of,
    wait_for,
};
pub use site::{now, refused_start};
pub use volume::Volume;

/// Where the binaries of `make build` lie: `SELVAGE_BIN`, or `build/bin` in the checkout.
///
/// # Panics
/// When they have not been built.
pub fn binary(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("SELVAGE_BIN").map_or_else(|| root().join("build/bin"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make build`",
        path.display()
    );
    path
}

/// The top of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// What `selvage up --detach --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Up {
    /// Address of the console.
    pub console: String,
    /// Address of the management API.
    pub api: String,
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
    /// Project of the access key.
    pub project_id: String,
    /// The instance.
    pub blockchain_id: String,
    /// Its channel.
    pub channel: String,
    /// Its sample chaincode; none with `--chaincode NONE`.
    pub chaincode: Option<String>,
    /// How to reach a peer's gateway, and as whom.
    pub gateway: UpGateway,
}

/// The gateway's part of [`Up`].
#[derive(Debug, Clone, Deserialize)]
pub struct UpGateway {
    /// `host:port`.
    pub endpoint: String,
    /// PEM file.
    pub tls_ca: PathBuf,
    /// Name in the peer's certificate.
    pub hostname: String,
    /// The user's organisation.
    pub msp_id: String,
    /// PEM file.
    pub cert: PathBuf,
    /// PEM file.
    pub key: PathBuf,
}

/// A network that `selvage up` started in a folder of its own. Dropping it stops it.
pub struct Service {
    folder: tempfile::TempDir,
    environment: Vec<(OsString, OsString)>,
    up: Up,
    /// What was acknowledged, by key.
    acknowledged: Mutex<BTreeMap<String, String>>,
}

impl Service {
    /// Starts a network and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up; the message has all it printed.
    pub fn up(arguments: &[&str]) -> Self {
        Self::up_below(&std::env::temp_dir(), arguments)
    }

    /// Starts a network in a new folder below `parent`.
    ///
    /// # Panics
    /// When it does not come up; the message has all it printed.
    pub fn up_below(parent: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("selvage-")
            .tempdir_in(parent)
            .unwrap();
        Self::in_environment(folder, Vec::new(), arguments)
    }

    /// Goes on with what an earlier `selvage up` left in a folder.
    ///
    /// # Panics
    /// When it does not come up; the message has all it printed.
    pub fn resumed(folder: tempfile::TempDir) -> Self {
        Self::in_environment(folder, Vec::new(), &[])
    }

    /// Starts a network in a folder; the service and all that it starts have these variables too.
    ///
    /// # Panics
    /// When it does not come up; the message has all it printed.
    pub fn in_environment(
        folder: tempfile::TempDir,
        environment: Vec<(OsString, OsString)>,
        arguments: &[&str],
    ) -> Self {
        let output = up_with(folder.path(), &environment, arguments);
        if !output.status.success() {
            // Whatever an earlier start left must not outlive the test.
            down_in(folder.path());
        }
        let up = parse_up(&output);
        std::fs::write(folder.path().join("up.json"), &output.stdout).unwrap();
        Self {
            folder,
            environment,
            up,
            acknowledged: Mutex::default(),
        }
    }

    /// Runs `selvage up` once more on the same data.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up_again(&mut self) {
        self.up = parse_up(&up_with(self.folder.path(), &self.environment, &[]));
    }

    /// Stops the network; its data stays.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub fn down(&self) {
        let output = down_in(self.folder.path());
        assert!(
            output.status.success(),
            "down: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What `selvage up` said.
    pub fn said(&self) -> &Up {
        &self.up
    }

    /// The file with what it said.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("up.json")
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The user that the gateway's part names.
    ///
    /// # Panics
    /// When its certificate and key do not fit.
    pub fn user(&self) -> User {
        User::new(self.identity(), &Env::real())
    }

    /// A connection to the peer whose gateway was named.
    ///
    /// # Panics
    /// When the address or the certificate authority is unusable.
    pub fn peer(&self) -> Peer {
        let at = &self.up.gateway;
        let roots = std::fs::read(&at.tls_ca).unwrap();
        let tls = ClientTls::from_pem("tls_ca", &roots, None).unwrap();
        let tls = tls.with_server_name(&at.hostname);
        Peer::new(&Endpoint::new(&at.endpoint, Some(tls))).unwrap()
    }

    /// A client of the gateway.
    pub fn gateway(&self) -> Gateway {
        Gateway::new(self.peer(), self.user(), &self.up.channel)
    }

    /// A call of the sample chaincode.
    ///
    /// # Panics
    /// When the network was started without one.
    pub fn call(&self, function: &str, arguments: &[&str]) -> Invocation {
        let chaincode = self.up.chaincode.as_deref().unwrap();
        Invocation::new(chaincode, function).args(arguments)
    }

    /// Every organisation's peer, found by the anchor peers in the channel's configuration.
    ///
    /// # Panics
    /// When the peer that the gateway's part names does not answer.
    pub async fn peers(&self) -> Vec<PeerAdmin> {
        let peers = self.peers_by_org().await.into_iter();
        peers
            .map(|(_, peer)| PeerAdmin::new(peer, self.user()))
            .collect()
    }

    /// As [`Service::peers`], each as the administrator of its own organisation.
    ///
    /// # Panics
    /// As [`Service::peers`], and when an administrator's files are missing.
    pub async fn peer_admins(&self) -> Vec<PeerAdmin> {
        let peers = self.peers_by_org().await.into_iter();
        peers
            .map(|(msp_id, peer)| PeerAdmin::new(peer, self.admin_of(&msp_id)))
            .collect()
    }

    async fn peers_by_org(&self) -> Vec<(String, Peer)> {
        let own = PeerAdmin::new(self.peer(), self.user());
        let block = own.config_block(&self.up.channel).await.unwrap();
        let config = ChannelConfig::from_block(&block).unwrap();
        let mut peers = Vec::new();
        for org in config.application().unwrap().orgs().values() {
            let msp = config.msp_manager().msp(&org.msp_id).unwrap();
            let roots: Vec<_> = msp
                .tls_root_certificates()
                .iter()
                .map(|c| c.to_pem())
                .collect();
            for anchor in &org.anchor_peers {
                let tls = ClientTls::from_pem(&org.msp_id, roots.join("\n").as_bytes(), None);
                let address = format!("{}:{}", anchor.host, anchor.port);
                let peer = Peer::new(&Endpoint::new(address, Some(tls.unwrap()))).unwrap();
                peers.push((org.msp_id.clone(), peer));
            }
        }
        peers
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let output = down_in(self.folder.path());
        if !output.status.success() && !std::thread::panicking() {
            panic!("selvage down: {}", String::from_utf8_lossy(&output.stderr));
        }
        if std::thread::panicking() {
            // What the nodes wrote is the only witness of a failed test.
            let kept = self.folder.path().to_owned();
            self.folder.disable_cleanup(true);
            eprintln!("the network's data and logs are kept in {}", kept.display());
        }
    }
}

/// Runs `selvage up --detach --json` and returns what came of it.
///
/// # Panics
/// When the binary does not start.
pub fn up_in(folder: &Path, arguments: &[&str]) -> Output {
    up_with(folder, &[], arguments)
}

fn up_with(folder: &Path, environment: &[(OsString, OsString)], arguments: &[&str]) -> Output {
    up_command(folder, environment, arguments).output().unwrap()
}

/// `selvage up --detach --json`, with these variables too.
///
/// # Panics
/// When there is no binary.
pub fn up_command(
    folder: &Path,
    environment: &[(OsString, OsString)],
    arguments: &[&str],
) -> Command {
    let mut command = Command::new(binary("selvage"));
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("SELVAGE_BUILD_CACHE", folder.join("builds"))
        .args(["up", "--detach", "--json", "--data"])
        .arg(folder.join("data"))
        .args(arguments);
    command
}

/// Runs `selvage` with these arguments on the data of an earlier `selvage up`.
///
/// # Panics
/// When the binary does not start.
pub fn selvage_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary("selvage"))
        .env("SELVAGE_DATA", folder.join("data"))
        .args(arguments)
        .output()
        .unwrap()
}

fn down_in(folder: &Path) -> Output {
    let data = folder.join("data");
    Command::new(binary("selvage"))
        .arg("down")
        .arg("--data")
        .arg(data)
        .output()
        .unwrap()
}

fn parse_up(output: &Output) -> Up {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "selvage up failed:\n{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error} in {}\n{said}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}
