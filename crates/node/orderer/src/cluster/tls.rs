//! The certificates this node shows other orderers, and the roots it trusts them by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use selvage_channel::ChannelConfig;
use selvage_net::TlsError;
use selvage_net::tls::{
    CertificateDer, ClientTls, ServerRoots, TlsIdentity, certificates_from_pem, public_key,
};

use crate::config::{Settings, Tls};
use crate::error::OrdererError;
use crate::tls::{EndpointTls, read};

const SECTION: &str = "General.Cluster";

/// TLS between orderers.
pub struct ClusterTls {
    identity: ArcSwap<TlsIdentity>,
    roots: Arc<ServerRoots>,
    /// The roots that the settings name.
    configured: Vec<CertificateDer<'static>>,
    time_shift: Duration,
    /// The public keys that this node has shown at its cluster listener since it started: while its
    /// certificate is exchanged, a channel may name the old one or the new one.
    server_keys: RwLock<Vec<Vec<u8>>>,
    /// The files of the certificate that this node shows as a client, and of its key.
    client_files: (String, String),
}

impl fmt::Debug for ClusterTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterTls")
    }
}

impl ClusterTls {
    /// Reads the files that `General.Cluster` and `General.TLS` name. `None` where the node has no
    /// TLS at all: it can then not order together with others.
    pub fn load(settings: &Settings) -> Result<Option<Arc<Self>>, OrdererError> {
        let (cluster, general) = (&settings.general.cluster, &settings.general.tls);
        if !general.enabled && !cluster.own_listener() {
            return Ok(None);
        }
        let (server, server_key, shift) = if cluster.own_listener() {
            let shift = cluster.tls_handshake_time_shift;
            (
                &cluster.server_certificate,
                &cluster.server_private_key,
                shift,
            )
        } else {
            let shift = general.tls_handshake_time_shift;
            (&general.certificate, &general.private_key, shift)
        };
        let (client, client_key) = if !cluster.client_certificate.is_empty() {
            (&cluster.client_certificate, &cluster.client_private_key)
        } else if general.enabled {
            (&general.certificate, &general.private_key)
        } else {
            (server, server_key)
        };
        let mut root_files: Vec<&String> = cluster.root_cas.iter().collect();
        if general.enabled {
            root_files.extend(&general.root_cas);
        }
        let failed = |source| OrdererError::Tls {
            section: SECTION,
            source,
        };
        let mut configured = Vec::new();
        for path in root_files {
            let pem = read("a TLS root for other orderers", path)?;
            configured.extend(certificates_from_pem(path, &pem).map_err(failed)?);
        }
        let chain = read("the TLS certificate of the cluster's listener", server)?;
        let server_certificate = certificates_from_pem(server, &chain)
            .map_err(failed)?
            .remove(0);
        let chain = read("the TLS client certificate of the cluster", client)?;
        let key = read("the TLS client key of the cluster", client_key)?;
        let identity = TlsIdentity::from_pem(client, &chain, &key).map_err(failed)?;
        Ok(Some(Arc::new(Self {
            identity: ArcSwap::from_pointee(identity),
            roots: ServerRoots::new(configured.clone()),
            configured,
            time_shift: shift.0,
            server_keys: RwLock::new(public_key(&server_certificate).into_iter().collect()),
            client_files: (client.clone(), client_key.clone()),
        })))
    }

    /// TLS of the listener that other orderers have to themselves; `None` where they use the general
    /// one.
    pub(crate) fn listener(settings: &Settings) -> Result<Option<EndpointTls>, OrdererError> {
        let cluster = &settings.general.cluster;
        if !cluster.own_listener() {
            return Ok(None);
        }
        let tls = Tls {
            enabled: true,
            private_key: cluster.server_private_key.clone(),
            certificate: cluster.server_certificate.clone(),
            client_auth_required: true,
            client_root_cas: cluster.root_cas.clone(),
            tls_handshake_time_shift: cluster.tls_handshake_time_shift,
            root_cas: Vec::new(),
        };
        EndpointTls::load(SECTION, &tls, false)
    }

    /// Takes over the TLS authorities of the orderer organisations of these channels, beside the
    /// roots that the settings name.
    pub fn follow(&self, configs: &[Arc<ChannelConfig>]) {
        let mut roots = self.configured.clone();
        for config in configs {
            let orgs = config.orderer().into_iter().flat_map(|o| o.orgs().values());
            for org in orgs {
                roots.extend(organisation_roots(config, &org.msp_id));
            }
        }
        roots.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        self.roots.replace(roots);
    }

    /// Shows another client certificate from the next connection on.
    pub fn set_identity(&self, identity: TlsIdentity) {
        self.identity.store(Arc::new(identity));
    }

    /// The listener for other orderers shows this certificate from now on.
    pub(crate) fn shows(&self, identity: &TlsIdentity) {
        if let Some(key) = public_key(identity.leaf()) {
            let mut keys = self.server_keys.write();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    /// The files of the certificate that this node shows as a client, and of its key.
    pub(crate) fn client_files(&self) -> (&str, &str) {
        (&self.client_files.0, &self.client_files.1)
    }

    /// Whether a PEM text begins with a certificate with a public key that this node shows at its
    /// cluster listener. A channel's consenter with that certificate is this node.
    pub fn is_own(&self, certificate_pem: &[u8]) -> bool {
        let certificates = certificates_from_pem("", certificate_pem).unwrap_or_default();
        let key = certificates.first().and_then(|first| public_key(first));
        key.is_some_and(|key| self.server_keys.read().contains(&key))
    }

    /// For connections to a consenter, which must show this public key.
    pub(crate) fn to_consenter(&self, server_key: &[u8]) -> Result<ClientTls, TlsError> {
        let identity = TlsIdentity::clone(&self.identity.load());
        let pinned = Some(server_key.to_vec());
        ClientTls::between_nodes(&self.roots, Some(identity), pinned, self.time_shift)
    }

    /// For connections to the consenter that shows this certificate (PEM) as a server.
    pub(crate) fn to_certificate(&self, certificate_pem: &[u8]) -> Result<ClientTls, TlsError> {
        let certificates = certificates_from_pem("a consenter's certificate", certificate_pem)?;
        let key = certificates.first().and_then(|first| public_key(first));
        self.to_consenter(&key.unwrap_or_default())
    }

    /// As [`Self::to_organisations`] for one.
    pub(crate) fn to_organisation(
        &self,
        config: &ChannelConfig,
        msp_id: &str,
    ) -> Result<ClientTls, TlsError> {
        self.to_organisations(config, &[msp_id])
    }

    /// For connections to an address that organisations of a channel give for their orderers: their
    /// own authorities vouch for it, or those that the settings name.
    pub(crate) fn to_organisations(
        &self,
        config: &ChannelConfig,
        msp_ids: &[&str],
    ) -> Result<ClientTls, TlsError> {
        let theirs = msp_ids.iter().flat_map(|id| organisation_roots(config, id));
        let roots = ServerRoots::new(self.configured.iter().cloned().chain(theirs));
        let identity = TlsIdentity::clone(&self.identity.load());
        ClientTls::between_nodes(&roots, Some(identity), None, self.time_shift)
    }
}

fn organisation_roots(
    config: &ChannelConfig,
    msp_id: &str,
) -> impl Iterator<Item = CertificateDer<'static>> {
    let msp = config.msp_manager().msp(msp_id).cloned();
    msp.into_iter().flat_map(|msp| {
        let authorities = msp
            .tls_root_certificates()
            .iter()
            .chain(msp.tls_intermediate_certificates());
        let authorities = authorities.map(|c| CertificateDer::from(c.der().to_vec()));
        authorities.collect::<Vec<_>>()
    })
}
