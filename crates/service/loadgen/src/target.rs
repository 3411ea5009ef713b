//! Who the clients are and where the network is, from the output of `selvage up --json` or from a
//! connection profile as Fabric's SDKs read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_client::User;
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use serde::Deserialize;

use crate::BenchError;

/// What a run needs to know before it can ask the network for the rest.
pub(crate) struct Target {
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) user: User,
    /// The peer to ask first: gateway, discovery and block events.
    pub(crate) peer: Node,
    /// Orderers named by the file; empty leaves it to discovery.
    pub(crate) orderers: Vec<Node>,
}

/// A node to dial over TLS, or in clear without roots.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) tls_roots: Option<Vec<u8>>,
    pub(crate) server_name: Option<String>,
}

/// What the command line may say instead of the file.
#[derive(Default)]
pub(crate) struct Overrides {
    pub(crate) channel: Option<String>,
    pub(crate) chaincode: Option<String>,
    pub(crate) msp_id: Option<String>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

#[derive(Deserialize)]
struct UpFile {
    channel: String,
    chaincode: Option<String>,
    gateway: UpGateway,
}

#[derive(Deserialize)]
struct UpGateway {
    endpoint: String,
    tls_ca: PathBuf,
    hostname: String,
    msp_id: String,
    cert: PathBuf,
    key: PathBuf,
}

impl Target {
    /// Reads the JSON object that `selvage up --detach --json` printed.
    pub(crate) fn from_up(path: &Path, overrides: Overrides) -> Result<Self, BenchError> {
        let text = read(path)?;
        let up: UpFile =
            serde_json::from_slice(&text).map_err(|error| BenchError::Description {
                path: path.into(),
                reason: format!("not the output of `selvage up --detach --json`: {error}"),
            })?;
        let chaincode = overrides.chaincode.or(up.chaincode).ok_or_else(|| {
            let reason = "it names no chaincode: give --chaincode".into();
            BenchError::Description {
                path: path.into(),
                reason,
            }
        })?;
        let cert = overrides.cert.unwrap_or(up.gateway.cert);
        let key = overrides.key.unwrap_or(up.gateway.key);
        let msp_id = overrides.msp_id.unwrap_or(up.gateway.msp_id);
        Ok(Self {
            channel: overrides.channel.unwrap_or(up.channel),
            chaincode,
            user: user(&msp_id, &cert, &key)?,
            peer: Node {
                address: up.gateway.endpoint,
                tls_roots: Some(read(&up.gateway.tls_ca)?),
                server_name: Some(up.gateway.hostname),
            },
            orderers: Vec::new(),
        })
    }

    /// Reads a common connection profile. Channel, chaincode, certificate and key come from the
    /// command line, because profiles rarely name them; the MSP id is the client organisation's.
    pub(crate) fn from_profile(path: &Path, overrides: Overrides) -> Result<Self, BenchError> {
        let wrong = |reason: String| BenchError::Description {
            path: path.into(),
            reason,
        };
        let profile: Profile = serde_norway::from_slice(&read(path)?)
            .map_err(|error| wrong(format!("not a connection profile: {error}")))?;
        let needed = |value: Option<String>, flag: &str| {
            value.ok_or_else(|| wrong(format!("a profile does not say this: give {flag}")))
        };
        let organisation = profile
            .organizations
            .get(&profile.client.organization)
            .ok_or_else(|| wrong("client.organization names no organisation".into()))?;
        let peer = organisation
            .peers
            .iter()
            .find_map(|name| profile.peers.get(name))
            .ok_or_else(|| wrong("the client's organisation has no peer".into()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let cert = needed(overrides.cert.map(|p| p.display().to_string()), "--cert")?;
        let key = needed(overrides.key.map(|p| p.display().to_string()), "--key")?;
        let msp_id = overrides
            .msp_id
            .unwrap_or_else(|| organisation.mspid.clone());
        Ok(Self {
            channel: needed(overrides.channel, "--channel")?,
            chaincode: needed(overrides.chaincode, "--chaincode")?,
            user: user(&msp_id, Path::new(&cert), Path::new(&key))?,
            peer: peer.node(folder)?,
            orderers: profile
                .orderers
                .values()
                .map(|o| o.node(folder))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Deserialize)]
struct Profile {
    client: ProfileClient,
    organizations: BTreeMap<String, ProfileOrganisation>,
    #[serde(default)]
    peers: BTreeMap<String, ProfileNode>,
    #[serde(default)]
    orderers: BTreeMap<String, ProfileNode>,
}

#[derive(Deserialize)]
struct ProfileClient {
    organization: String,
}

#[derive(Deserialize)]
struct ProfileOrganisation {
    mspid: String,
    #[serde(default)]
    peers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileNode {
    url: String,
    #[serde(default)]
    grpc_options: BTreeMap<String, serde_norway::Value>,
    #[serde(rename = "tlsCACerts")]
    tls_ca_certs: Option<ProfileCerts>,
}

#[derive(Deserialize)]
struct ProfileCerts {
    path: Option<PathBuf>,
    pem: Option<String>,
}

impl ProfileNode {
    fn node(&self, folder: &Path) -> Result<Node, BenchError> {
        let secure = self.url.starts_with("grpcs://");
        let bare = self
            .url
            .trim_start_matches("grpcs://")
            .trim_start_matches("grpc://");
        let roots = match &self.tls_ca_certs {
            Some(ProfileCerts { pem: Some(pem), .. }) => Some(pem.clone().into_bytes()),
            Some(ProfileCerts {
                path: Some(path), ..
            }) => Some(read(&folder.join(path))?),
            _ => None,
        };
        let name = ["ssl-target-name-override", "hostnameOverride"]
            .iter()
            .find_map(|key| self.grpc_options.get(*key)?.as_str().map(String::from));
        Ok(Node {
            address: bare.to_owned(),
            tls_roots: if secure { roots } else { None },
            server_name: name,
        })
    }
}

fn user(msp_id: &str, cert: &Path, key: &Path) -> Result<User, BenchError> {
    let unusable = |e: &dyn std::fmt::Display| BenchError::Identity(e.to_string());
    let key = PrivateKey::from_pem(&read(key)?).map_err(|e| unusable(&e))?;
    let identity = SigningIdentity::new(msp_id, &read(cert)?, key).map_err(|e| unusable(&e))?;
    Ok(User::new(Arc::new(identity), &Env::real()))
}

fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    fs::read(path).map_err(|source| BenchError::Read {
        path: path.into(),
        source,
    })
}
