//! `selvage invoke` and `selvage query`: one call of a chaincode through the gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvage_client::{Gateway, Invocation, Peer, Pem, Profile, User};
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::Endpoint;
use selvage_net::tls::ClientTls;

use crate::advice::{self, Failed, Origin};
use crate::error::ManagerError;
use crate::files::read_limited;
use crate::up::UpReport;

/// Largest certificate or key file.
const MOST: u64 = 64 * 1024;
/// Largest connection profile.
const MOST_PROFILE: u64 = 4 * 1024 * 1024;

/// A function to call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Channel; that of the target when absent.
    pub channel: Option<String>,
    /// Chaincode; that of the target when absent.
    pub chaincode: Option<String>,
    /// Function.
    pub function: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// What the chaincode answered.
    pub payload: Vec<u8>,
    /// Transaction id and block, for a submitted transaction.
    pub committed: Option<(String, u64)>,
}

/// A peer's gateway, and as whom to use it.
#[derive(Debug)]
pub struct Target {
    address: String,
    /// Where the TLS roots come from, and the roots; without them the gateway is dialled in clear.
    tls: Option<(String, Vec<u8>)>,
    server_name: Option<String>,
    msp_id: String,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    channel: Option<String>,
    chaincode: Option<String>,
    origin: Origin,
}

impl Target {
    /// The network that `selvage up` made in a data folder, as its first user.
    pub fn of_data(data: &Path) -> Result<Self, ManagerError> {
        let report = UpReport::load(data)?;
        let at = &report.gateway;
        let roots = read_limited(&at.tls_ca, MOST)?;
        Ok(Self {
            address: at.endpoint.clone(),
            tls: Some((at.tls_ca.display().to_string(), roots)),
            server_name: Some(at.hostname.clone()),
            msp_id: at.msp_id.clone(),
            cert: Some(at.cert.clone()),
            key: Some(at.key.clone()),
            channel: Some(report.channel.clone()),
            chaincode: report.chaincode.clone(),
            origin: Origin::Data(data.to_owned()),
        })
    }

    /// The first peer of the client's organisation in a connection profile, such as the SDK
    /// configuration of an instance, as the user the profile names.
    pub fn of_profile(path: &Path) -> Result<Self, ManagerError> {
        let wrong = |reason: String| ManagerError::Option(format!("{}: {reason}", path.display()));
        let profile =
            Profile::parse(&read_limited(path, MOST_PROFILE)?).map_err(|e| wrong(e.text()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = |pem: Option<Pem>| match pem {
            Some(Pem::File(path)) => Some(folder.join(path)),
            _ => None,
        };
        let peer = profile.peers.into_iter().next();
        let peer = peer
            .ok_or_else(|| wrong("it describes no peer of the client's organisation".to_owned()))?;
        let tls = match peer.tls_roots {
            None => None,
            Some(Pem::Text(text)) => Some((path.display().to_string(), text.into_bytes())),
            Some(Pem::File(roots)) => {
                let roots = folder.join(roots);
                let read = read_limited(&roots, MOST)?;
                Some((roots.display().to_string(), read))
            }
        };
        let first = profile.channels.into_iter().next();
        let (channel, chaincodes) = first.map_or((None, Vec::new()), |(c, ccs)| (Some(c), ccs));
        Ok(Self {
            address: peer.address,
            tls,
            server_name: peer.server_name,
            msp_id: profile.msp_id,
            cert: file(profile.cert),
            key: file(profile.key),
            channel,
            chaincode: chaincodes.into_iter().next(),
            origin: Origin::Profile(path.to_owned()),
        })
    }

    /// As somebody else of the same organisation.
    #[must_use]
    pub fn with_user(mut self, cert: PathBuf, key: PathBuf) -> Self {
        (self.cert, self.key) = (Some(cert), Some(key));
        self
    }

    fn user(&self) -> Result<User, ManagerError> {
        let named = |path: &Option<PathBuf>| {
            path.clone().ok_or_else(|| {
                ManagerError::Option(
                    "the connection profile names no files of a user; give --user-cert and \
                     --user-key"
                        .to_owned(),
                )
            })
        };
        let (cert, key) = (named(&self.cert)?, named(&self.key)?);
        let unusable = |path: &Path, source| ManagerError::Identity {
            path: path.to_owned(),
            source,
        };
        let key = PrivateKey::from_pem(&read_limited(&key, MOST)?)
            .map_err(|source| unusable(&key, source))?;
        let identity = SigningIdentity::new(&self.msp_id, &read_limited(&cert, MOST)?, key)
            .map_err(|source| unusable(&cert, source))?;
        Ok(User::new(Arc::new(identity), &Env::real()))
    }

    fn peer(&self) -> Result<Peer, ManagerError> {
        let tls = match &self.tls {
            None => None,
            Some((origin, roots)) => {
                let tls = ClientTls::from_pem(origin, roots, None)
                    .map_err(|e| ManagerError::Driver(format!("cannot use {origin}: {e}")))?;
                Some(match &self.server_name {
                    Some(name) => tls.with_server_name(name),
                    None => tls,
                })
            }
        };
        Peer::new(&Endpoint::new(&self.address, tls)).map_err(|e| ManagerError::Driver(e.text()))
    }
}

/// Calls a function: `submit` orders and commits its transaction, otherwise it only reads.
pub async fn call(target: &Target, call: &Call, submit: bool) -> Result<CallAnswer, ManagerError> {
    let chaincode = call.chaincode.as_deref().or(target.chaincode.as_deref());
    let chaincode = chaincode.ok_or_else(|| {
        ManagerError::Option(
            "the network was made without a chaincode; name one with --chaincode".to_owned(),
        )
    })?;
    let channel = call.channel.as_deref().or(target.channel.as_deref());
    let channel = channel.ok_or_else(|| {
        ManagerError::Option("nothing names a channel; give --channel".to_owned())
    })?;
    let (peer, user) = (target.peer()?, target.user()?);
    let gateway = Gateway::new(peer.clone(), user.clone(), channel);
    let invocation = Invocation::new(chaincode, &call.function).args(&call.args);
    let outcome = match submit {
        false => gateway.evaluate(&invocation, &[]).await.map(|p| (p, None)),
        true => {
            let done = gateway.submit_transaction(&invocation).await;
            done.map(|d| (d.result, Some((d.tx_id, d.block))))
        }
    };
    match outcome {
        Ok((payload, committed)) => Ok(CallAnswer {
            payload: payload.to_vec(),
            committed,
        }),
        Err(error) => {
            let failed = Failed {
                channel,
                chaincode,
                function: &call.function,
                error: &error,
            };
            let text = advice::explain(&failed, &target.origin, &gateway, peer, user).await;
            Err(ManagerError::Driver(text))
        }
    }
}
