//! TLS of a peer: its own certificate, whom it trusts as client, and how it reaches orderers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvage_channel::ChannelConfig;
use selvage_net::tls::{
    ClientAuth, ClientRoots, ClientTls, ServerTls, TlsIdentity, certificates_from_pem,
};
use selvage_net::{Endpoint, TlsError};

use super::NodeError;
use super::files::read;
use crate::channels::{Channels, PeerChannel};
use crate::config::{DeliveryClient, Settings};
use crate::deliver::Orderers;
use crate::gateway::PeerEndpoints;

/// The peer's TLS material. Without TLS everything is served and called in clear.
pub(crate) struct PeerTls {
    server: Option<ServerTls>,
    /// What the peer presents when it calls others; `None` unless it demands certificates itself.
    client: Option<TlsIdentity>,
    /// Roots for servers from `peer.tls.rootcert`, as PEM.
    extra_roots: Vec<u8>,
    client_roots: Option<Arc<ClientRoots>>,
    /// PEM of `peer.tls.clientRootCAs`.
    configured_client_roots: Vec<u8>,
    enabled: bool,
}

impl PeerTls {
    /// Reads what the configuration names.
    pub(crate) fn load(settings: &Settings) -> Result<Self, NodeError> {
        let tls = &settings.core.peer.tls;
        if !tls.enabled {
            return Ok(Self {
                server: None,
                client: None,
                extra_roots: Vec::new(),
                client_roots: None,
                configured_client_roots: Vec::new(),
                enabled: false,
            });
        }
        let pair = |cert: &str, key: &str| {
            let path = settings.path(cert);
            let (chain, key) = (read(&path)?, read(&settings.path(key))?);
            TlsIdentity::from_pem(&path.display().to_string(), &chain, &key).map_err(NodeError::Tls)
        };
        let server = pair(&tls.cert.file, &tls.key.file)?;
        let or = |own: &str, other: &str| {
            if own.is_empty() {
                other.to_owned()
            } else {
                own.to_owned()
            }
        };
        let mut client = None;
        let mut client_auth = ClientAuth::Request;
        let mut client_roots = None;
        let mut configured_client_roots = Vec::new();
        if tls.client_auth_required {
            client = Some(pair(
                &or(&tls.client_cert.file, &tls.cert.file),
                &or(&tls.client_key.file, &tls.key.file),
            )?);
            for file in &tls.client_root_cas.files {
                let path = settings.path(file);
                let pem = read(&path)?;
                certificates_from_pem(&path.display().to_string(), &pem).map_err(NodeError::Tls)?;
                configured_client_roots.extend_from_slice(&pem);
                configured_client_roots.push(b'\n');
            }
            let roots = ClientRoots::new(
                certificates_from_pem("peer.tls.clientRootCAs", &configured_client_roots)
                    .map_err(NodeError::Tls)?,
            );
            client_auth = ClientAuth::Require(roots.clone());
            client_roots = Some(roots);
        }
        let extra_roots = match tls.rootcert.file.as_str() {
            "" => Vec::new(),
            file => read(&settings.path(file))?,
        };
        Ok(Self {
            server: Some(ServerTls::new(server, client_auth)),
            client,
            extra_roots,
            client_roots,
            configured_client_roots,
            enabled: true,
        })
    }

    /// TLS of the peer's listeners; `None` serves in clear.
    pub(crate) fn server(&self) -> Option<ServerTls> {
        self.server.clone()
    }

    /// Whether clients must present a certificate.
    pub(crate) fn mutual(&self) -> bool {
        self.client_roots.is_some()
    }

    /// TLS for a call to a server that one of `roots` (PEM texts) or of the configured roots
    /// vouches for; `None` when TLS is off.
    pub(crate) fn client(
        &self,
        origin: &str,
        roots: &[impl AsRef<[u8]>],
    ) -> Result<Option<ClientTls>, TlsError> {
        if !self.enabled {
            return Ok(None);
        }
        let mut pem = self.extra_roots.clone();
        for root in roots {
            pem.push(b'\n');
            pem.extend_from_slice(root.as_ref());
        }
        ClientTls::from_pem(origin, &pem, self.client.clone()).map(Some)
    }

    /// Trusts as clients whoever the configured roots and the organisations of all joined channels
    /// vouch for. Called when a channel is joined or its configuration changes.
    pub(crate) fn refresh_client_roots(&self, channels: &Channels) {
        let Some(roots) = &self.client_roots else {
            return;
        };
        let mut pem = self.configured_client_roots.clone();
        for channel in channels.list() {
            for root in tls_roots(&channel.config(), None) {
                pem.push(b'\n');
                pem.extend_from_slice(&root);
            }
        }
        match certificates_from_pem("channel configurations", &pem) {
            Ok(certificates) => {
                roots.replace(certificates);
            }
            Err(error) => tracing::error!(%error, "client roots stay as they are"),
        }
    }
}

/// TLS roots (PEM) of a channel's organisations, or of one of them.
fn tls_roots(config: &ChannelConfig, only: Option<&str>) -> Vec<Vec<u8>> {
    let mut roots = Vec::new();
    for msp in config.msp_manager().msps().values() {
        if only.is_some_and(|id| id != msp.id()) {
            continue;
        }
        let authorities = msp
            .tls_root_certificates()
            .iter()
            .chain(msp.tls_intermediate_certificates());
        roots.extend(authorities.map(|authority| authority.to_pem().into_bytes()));
    }
    roots
}

/// Finds the orderers of a channel in its configuration.
pub(crate) struct ConfiguredOrderers {
    tls: Arc<PeerTls>,
    overrides: Vec<Override>,
    connect_timeout: Duration,
    keepalive: (Duration, Duration),
    /// Endpoints by channel, with the configuration's sequence: they are asked for with every
    /// attempt.
    known: Mutex<BTreeMap<String, (u64, Vec<Endpoint>)>>,
}

struct Override {
    from: String,
    to: String,
    roots: Option<Vec<u8>>,
}

impl ConfiguredOrderers {
    /// Orderers as channels name them, with the configured overrides.
    pub(crate) fn new(tls: Arc<PeerTls>, settings: &Settings) -> Result<Self, NodeError> {
        let client: &DeliveryClient = &settings.core.peer.deliveryclient;
        let mut overrides = Vec::new();
        for entry in &client.address_overrides {
            let roots = match entry.ca_certs_file.as_str() {
                "" => None,
                file => Some(read(&settings.path(file))?),
            };
            overrides.push(Override {
                from: entry.from.clone(),
                to: entry.to.clone(),
                roots,
            });
        }
        let pings = &settings.core.peer.keepalive.delivery_client;
        Ok(Self {
            tls,
            overrides,
            connect_timeout: client.conn_timeout.0,
            keepalive: (pings.interval.0, pings.timeout.0),
            known: Mutex::default(),
        })
    }

    /// The endpoints a configuration names. An address that cannot be used is left out with a
    /// warning.
    pub(crate) fn of(&self, config: &ChannelConfig) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let orgs = config.orderer().into_iter().flat_map(|o| o.orgs().values());
        for org in orgs {
            let roots = tls_roots(config, Some(&org.msp_id));
            for address in &org.endpoints {
                self.add(&mut endpoints, address, &roots);
            }
        }
        // The global list of older channels: any organisation may stand behind an address.
        for address in config.orderer_endpoints() {
            self.add(&mut endpoints, address, &tls_roots(config, None));
        }
        endpoints
    }

    fn add(&self, endpoints: &mut Vec<Endpoint>, address: &str, roots: &[Vec<u8>]) {
        let changed = self.overrides.iter().find(|o| o.from == address);
        let target = changed.map_or(address, |o| o.to.as_str());
        if endpoints.iter().any(|e| e.address == target) {
            return;
        }
        let tls = match changed.and_then(|o| o.roots.clone()) {
            Some(own) => self.tls.client(target, &[own]),
            None => self.tls.client(target, roots),
        };
        match tls {
            Ok(tls) => {
                let mut endpoint = Endpoint::new(target, tls);
                endpoint.connect_timeout = self.connect_timeout;
                (endpoint.keepalive_interval, endpoint.keepalive_timeout) = self.keepalive;
                endpoints.push(endpoint);
            }
            Err(error) => tracing::warn!(orderer = target, %error, "orderer cannot be used"),
        }
    }
}

impl Orderers for ConfiguredOrderers {
    fn endpoints(&self, channel: &PeerChannel) -> Vec<Endpoint> {
        let config = channel.config();
        let mut known = self.known.lock();
        if let Some((sequence, endpoints)) = known.get(channel.id())
            && *sequence == config.sequence()
        {
            return endpoints.clone();
        }
        let endpoints = self.of(&config);
        known.insert(
            channel.id().to_owned(),
            (config.sequence(), endpoints.clone()),
        );
        endpoints
    }
}

impl PeerEndpoints for PeerTls {
    fn endpoint(
        &self,
        config: &ChannelConfig,
        msp_id: &str,
        address: &str,
    ) -> Result<Endpoint, TlsError> {
        let tls = self.client(address, &tls_roots(config, Some(msp_id)))?;
        Ok(Endpoint::new(address, tls))
    }
}
