//! The inside of a running network: its folders, its certificate authorities, its administrators,
//! its orderer. Fabric's words: what `cryptogen` leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_channel::ChannelConfig;
use selvage_client::{Orderer, PeerAdmin, User};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Validity};
use selvage_crypto::{Certificate, PrivateKey};
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::Endpoint;
use selvage_net::tls::ClientTls;

use crate::{Service, binary};

/// A node that has not ended by then has started; generous, because the machine may be loaded.
const START: Duration = Duration::from_secs(30);

impl Service {
    /// The folder of the instance: `orgs`, `nodes`, `channels`.
    pub fn instance(&self) -> PathBuf {
        let instances = self.folder().join("data/instances");
        instances.join(&self.said().blockchain_id)
    }

    /// The folder of a node's configuration, identity and data; `kind` is `peer` or `orderer`. The
    /// first in order of their names, which hold a hash.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_folder(&self, kind: &str) -> PathBuf {
        let mut folders: Vec<_> = std::fs::read_dir(self.instance().join("nodes"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| name_of(path).starts_with(kind))
            .collect();
        folders.sort();
        folders.into_iter().next().unwrap()
    }

    fn org_folder(&self, msp_id: &str) -> PathBuf {
        let hash = msp_id.trim_end_matches("MSP");
        self.instance().join("orgs").join(format!("{hash}.peer"))
    }

    /// The administrator of the organisation whose gateway was named.
    ///
    /// # Panics
    /// When its files are missing.
    pub fn admin(&self) -> User {
        self.admin_of(&self.said().gateway.msp_id)
    }

    pub(crate) fn admin_of(&self, msp_id: &str) -> User {
        let msp = self.org_folder(msp_id).join("users/Admin/msp");
        let cert = std::fs::read(only_file(&msp.join("signcerts"))).unwrap();
        let key = std::fs::read(only_file(&msp.join("keystore"))).unwrap();
        let key = PrivateKey::from_pem(&key).unwrap();
        let identity = SigningIdentity::new(msp_id, &cert, key).unwrap();
        User::new(Arc::new(identity), &Env::real())
    }

    /// The identity of the user that the gateway's part names, to be put under another clock.
    ///
    /// # Panics
    /// When its certificate and key do not fit.
    pub fn identity(&self) -> Arc<SigningIdentity> {
        let at = &self.said().gateway;
        let key = PrivateKey::from_pem(&std::fs::read(&at.key).unwrap()).unwrap();
        let identity = SigningIdentity::new(&at.msp_id, &std::fs::read(&at.cert).unwrap(), key);
        Arc::new(identity.unwrap())
    }

    /// The peer whose gateway was named, as its administrator.
    pub fn peer_admin(&self) -> PeerAdmin {
        PeerAdmin::new(self.peer(), self.admin())
    }

    /// The certificate authority of that organisation.
    ///
    /// # Panics
    /// When its files are missing.
    pub fn authority(&self) -> Authority {
        let folder = self.org_folder(&self.said().gateway.msp_id).join("ca");
        let find = |end: &str| {
            let mut files = std::fs::read_dir(&folder)
                .unwrap()
                .map(|e| e.unwrap().path());
            std::fs::read(files.find(|path| name_of(path).ends_with(end)).unwrap()).unwrap()
        };
        let certificate = Certificate::from_pem(&find("-cert.pem")).unwrap();
        let key = PrivateKey::from_pem(&find("_sk")).unwrap();
        Authority::from_parts(certificate, key).unwrap()
    }

    /// A user certified by `authority` under the organisation's name, valid as given.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    pub fn certified_by(&self, authority: &Authority, validity: Validity) -> User {
        let profile = LeafProfile::identity("Mallory", NodeRole::Client, validity);
        let (certificate, key) = authority.issue_new(&profile).unwrap();
        let pem = certificate.to_pem();
        let identity = SigningIdentity::new(&self.said().gateway.msp_id, pem.as_bytes(), key);
        User::new(Arc::new(identity.unwrap()), &Env::real())
    }

    /// The channel's first orderer, found by the channel's configuration.
    ///
    /// # Panics
    /// When no peer gives the configuration.
    pub async fn orderer(&self) -> Orderer {
        self.orderers().await.swap_remove(0)
    }

    /// The channel's orderers, in the order of their names, found by the channel's configuration.
    ///
    /// # Panics
    /// When no peer gives the configuration.
    pub async fn orderers(&self) -> Vec<Orderer> {
        let own = PeerAdmin::new(self.peer(), self.user());
        let block = own.config_block(&self.said().channel).await.unwrap();
        let config = ChannelConfig::from_block(&block).unwrap();
        let org = config.orderer().unwrap().orgs().values().next().unwrap();
        let msp = config.msp_manager().msp(&org.msp_id).unwrap();
        let roots: Vec<_> = msp
            .tls_root_certificates()
            .iter()
            .map(|c| c.to_pem())
            .collect();
        let tls = ClientTls::from_pem(&org.msp_id, roots.join("\n").as_bytes(), None).unwrap();
        let addresses = config.orderer_endpoints().into_iter();
        addresses
            .map(|address| Orderer::new(&Endpoint::new(address, Some(tls.clone()))).unwrap())
            .collect()
    }

    /// The endpoint of the peer whose gateway was named, trusting `roots`.
    ///
    /// # Panics
    /// When the roots are no certificates.
    pub fn endpoint(&self, roots: &[u8]) -> Endpoint {
        let at = &self.said().gateway;
        let tls = ClientTls::from_pem("roots", roots, None).unwrap();
        Endpoint::new(&at.endpoint, Some(tls.with_server_name(&at.hostname)))
    }

    /// Process id of the manager.
    ///
    /// # Panics
    /// When the data folder does not say it.
    pub fn manager(&self) -> i32 {
        let text = std::fs::read_to_string(self.folder().join("data/lock")).unwrap();
        text.trim().parse().unwrap()
    }

    /// The log of every node, for messages.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for node in std::fs::read_dir(self.instance().join("nodes"))
            .into_iter()
            .flatten()
        {
            let folder = node.map(|n| n.path().join("log")).unwrap_or_default();
            for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                logs += &std::fs::read_to_string(file.path()).unwrap_or_default();
            }
        }
        logs
    }
}

/// Runs `peer` or `orderer` with the settings in `config` and these variables, expects it to refuse
/// to start, and returns what it said.
///
/// # Panics
/// When it starts.
pub fn refused_start(program: &str, config: &Path, variables: &[(&str, &str)]) -> String {
    let arguments: &[&str] = match program {
        "peer" => &["node", "start"],
        _ => &["start"],
    };
    let mut child = Command::new(binary(program))
        .args(arguments)
        .env("FABRIC_CFG_PATH", config)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > START {
            child.kill().unwrap();
            panic!("{program} started with {variables:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    Env::real().clock.unix_seconds()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap();
    files.next().unwrap().unwrap().path()
}
