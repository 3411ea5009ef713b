//! Who the clients are and where the network is, from the output of `selvage up --json` or from a
//! connection profile as Fabric's SDKs read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_client::{Pem, Profile, ProfileNode, User};
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use serde::Deserialize;

use crate::BenchError;

/// What a run needs to know before it can ask the network for the rest.
pub(crate) struct Target {
    pub(crate) channel: String,
    /// Of the file or the command line; ordering alone needs none.
    pub(crate) chaincode: Option<String>,
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
        let cert = overrides.cert.unwrap_or(up.gateway.cert);
        let key = overrides.key.unwrap_or(up.gateway.key);
        let msp_id = overrides.msp_id.unwrap_or(up.gateway.msp_id);
        Ok(Self {
            channel: overrides.channel.unwrap_or(up.channel),
            chaincode: overrides.chaincode.or(up.chaincode),
            user: user(&msp_id, &cert, &key)?,
            peer: Node {
                address: up.gateway.endpoint,
                tls_roots: Some(read(&up.gateway.tls_ca)?),
                server_name: Some(up.gateway.hostname),
            },
            orderers: Vec::new(),
        })
    }

    /// Reads a connection profile. What the command line does not say is the profile's first
    /// channel, that channel's first chaincode and the user whose files it names.
    pub(crate) fn from_profile(path: &Path, overrides: Overrides) -> Result<Self, BenchError> {
        let wrong = |reason: String| BenchError::Description {
            path: path.into(),
            reason,
        };
        let profile = Profile::parse(&read(path)?).map_err(|error| wrong(error.text()))?;
        let missing = |flag: &str| wrong(format!("the profile does not say this: give {flag}"));
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = |pem: Option<Pem>| match pem {
            Some(Pem::File(path)) => Some(folder.join(path)),
            _ => None,
        };
        let peer = profile.peers.first();
        let peer = peer.ok_or_else(|| wrong("the client's organisation has no peer".into()))?;
        let first = profile.channels.iter().next();
        let channel = overrides.channel.or(first.map(|(name, _)| name.clone()));
        let channel = channel.ok_or_else(|| missing("--channel"))?;
        let chaincodes = profile.channels.get(&channel);
        let chaincode = overrides
            .chaincode
            .or(chaincodes.and_then(|c| c.first().cloned()));
        let cert = overrides.cert.or(file(profile.cert));
        let key = overrides.key.or(file(profile.key));
        Ok(Self {
            channel,
            chaincode,
            user: user(
                &overrides.msp_id.unwrap_or(profile.msp_id),
                &cert.ok_or_else(|| missing("--cert"))?,
                &key.ok_or_else(|| missing("--key"))?,
            )?,
            peer: node(peer, folder)?,
            orderers: profile
                .orderers
                .iter()
                .map(|orderer| node(orderer, folder))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn node(of: &ProfileNode, folder: &Path) -> Result<Node, BenchError> {
    let tls_roots = match &of.tls_roots {
        None => None,
        Some(Pem::Text(text)) => Some(text.clone().into_bytes()),
        Some(Pem::File(path)) => Some(read(&folder.join(path))?),
    };
    Ok(Node {
        address: of.address.clone(),
        tls_roots,
        server_name: of.server_name.clone(),
    })
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
