//! TLS as Fabric nodes use it: certificates and keys come as PEM, servers may ask for or demand
//! client certificates, and the roots that client certificates are checked against change while the
//! server runs, because channel configurations carry them.
//!
//! Fabric word: `internal/pkg/comm` (secure options, dynamic credentials).

mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
pub use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::TlsError;
pub use verify::{ClientRoots, ServerRoots};

/// The application protocol of gRPC.
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// The application protocol of plain HTTP clients.
pub(crate) const ALPN_HTTP11: &[u8] = b"http/1.1";

/// The cryptography that every TLS connection of this process uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Every certificate in a PEM text, in order. Text without one is an error that names `origin`.
pub fn certificates_from_pem(
    origin: &str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|source| TlsError::Pem {
        origin: origin.to_owned(),
        reason: source.to_string(),
    })?;
    if certificates.is_empty() {
        return Err(TlsError::Pem {
            origin: origin.to_owned(),
            reason: "it contains no CERTIFICATE block".to_owned(),
        });
    }
    Ok(certificates)
}

/// The public key of a certificate as its SubjectPublicKeyInfo (DER), whatever the kind of key and
/// however long the certificate is valid. `None` when the bytes are no certificate.
pub fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from(certificate);
    let parsed = ParsedCertificate::try_from(&certificate).ok()?;
    Some(parsed.subject_public_key_info().as_ref().to_vec())
}

/// A certificate chain and its private key, ready for either side of a handshake.
#[derive(Clone)]
pub struct TlsIdentity {
    key: Arc<CertifiedKey>,
}

impl TlsIdentity {
    /// Reads a chain (leaf first) and a private key in PKCS #8, SEC 1 or PKCS #1 form, and checks
    /// that they belong together. `origin` names them in errors, for example by file name.
    pub fn from_pem(origin: &str, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates_from_pem(origin, chain)?;
        let failed = |reason: String| TlsError::Key {
            origin: origin.to_owned(),
            reason,
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| {
            failed(format!(
                "{source}; name a file with one private key in PEM form"
            ))
        })?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|source| {
            failed(match source {
                rustls::Error::InconsistentKeys(_) => "the key does not belong to the \
                                                       certificate; name the file of the key that \
                                                       the certificate was issued for"
                    .to_owned(),
                other => format!("{other}; name a P-256, P-384, Ed25519 or RSA key"),
            })
        })?;
        Ok(Self { key: Arc::new(key) })
    }

    /// The DER form of the leaf certificate.
    pub fn leaf(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |c| c.as_ref())
    }

    /// SHA-256 of the leaf: what clients put into `ChannelHeader.tls_cert_hash` when the server
    /// demands client certificates.
    pub fn leaf_hash(&self) -> [u8; 32] {
        selvage_crypto::sha256(self.leaf())
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("certificates", &self.key.cert.len())
            .finish_non_exhaustive()
    }
}

/// What a server does about client certificates.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Ask for one and accept any, or none: Fabric's behaviour with `ClientAuthRequired: false`.
    /// The certificate is proved to be the client's, but nobody vouches for it.
    Request,
    /// Ask for one; where the client presents one, it must chain to these roots (operations and
    /// administration endpoints).
    Optional(Arc<ClientRoots>),
    /// Demand one that chains to these roots.
    Require(Arc<ClientRoots>),
}

/// TLS settings of one server. Clones share the server certificate, which can be replaced while
/// connections are served.
#[derive(Debug, Clone)]
pub struct ServerTls {
    identity: Arc<ServerIdentity>,
    client_auth: ClientAuth,
    time_shift: Duration,
}

impl ServerTls {
    /// A server that presents `identity`.
    pub fn new(identity: TlsIdentity, client_auth: ClientAuth) -> Self {
        Self {
            identity: Arc::new(ServerIdentity(ArcSwap::new(identity.key))),
            client_auth,
            time_shift: Duration::ZERO,
        }
    }

    /// Judges certificate validity as if it were `shift` earlier (`TLSHandshakeTimeShift`), so that
    /// nodes whose certificates have just expired can still be reached and given new ones.
    pub fn with_time_shift(mut self, shift: Duration) -> Self {
        self.time_shift = shift;
        self
    }

    /// Presents another certificate from the next handshake on.
    pub fn set_identity(&self, identity: TlsIdentity) {
        self.identity.0.store(identity.key);
    }

    /// SHA-256 of the certificate this server presents now.
    pub fn leaf_hash(&self) -> [u8; 32] {
        let key = self.identity.0.load();
        selvage_crypto::sha256(key.cert.first().map_or(&[][..], |c| c.as_ref()))
    }

    /// Whether clients must present a certificate that chains to a known root.
    pub fn requires_client_certificate(&self) -> bool {
        matches!(self.client_auth, ClientAuth::Require(_))
    }

    pub(crate) fn rustls_config(&self, protocols: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let builder =
            ServerConfig::builder_with_details(provider(), Arc::new(ShiftedTime(self.time_shift)))
                .with_protocol_versions(&[&TLS13, &TLS12])
                .map_err(TlsError::Setup)?;
        let verifier = match &self.client_auth {
            ClientAuth::Request => verify::any_client(),
            ClientAuth::Optional(roots) => verify::client_of(roots.clone(), false),
            ClientAuth::Require(roots) => verify::client_of(roots.clone(), true),
        };
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.identity.clone());
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

struct ServerIdentity(ArcSwap<CertifiedKey>);

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity")
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[derive(Debug)]
struct ShiftedTime(Duration);

impl TimeProvider for ShiftedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_secs(UnixTime::now().as_secs());
        Some(UnixTime::since_unix_epoch(now.saturating_sub(self.0)))
    }
}

/// TLS settings of a client: which roots vouch for the server, and what it presents itself.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    identity_hash: Option<[u8; 32]>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Trusts servers whose certificate chains to one of `roots`. Roots that are no certificate are
    /// skipped, as Fabric does; none left is an error.
    pub fn new(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        identity: Option<TlsIdentity>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?
            .with_root_certificates(store);
        let identity_hash = identity.as_ref().map(TlsIdentity::leaf_hash);
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(verify::OneIdentity(identity.key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            identity_hash,
            server_name: None,
        })
    }

    /// TLS between nodes: servers are trusted by `roots` as they are when a connection opens, and
    /// must moreover present a certificate with the public key `pinned`
    /// (SubjectPublicKeyInfo, DER), where one is given. Validity is judged as if it were
    /// `time_shift` earlier. Sessions are not resumed, because that would skip these checks.
    pub fn between_nodes(
        roots: &Arc<ServerRoots>,
        identity: Option<TlsIdentity>,
        pinned: Option<Vec<u8>>,
        time_shift: Duration,
    ) -> Result<Self, TlsError> {
        let identity_hash = identity.as_ref().map(TlsIdentity::leaf_hash);
        let clock = Arc::new(ShiftedTime(time_shift));
        let builder = ClientConfig::builder_with_details(provider(), clock)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verify::server_of(roots.clone(), pinned));
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(verify::OneIdentity(identity.key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            identity_hash,
            server_name: None,
        })
    }

    /// [`ClientTls::new`] with the roots as PEM texts; `origin` names them in errors.
    pub fn from_pem(
        origin: &str,
        roots: &[u8],
        identity: Option<TlsIdentity>,
    ) -> Result<Self, TlsError> {
        Self::new(certificates_from_pem(origin, roots)?, identity)
    }

    /// Checks the server's certificate against this name instead of the host that is dialled, as
    /// `ssl_target_name_override` and `ordererTLSHostnameOverride` do.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.server_name = (!name.is_empty()).then_some(name);
        self
    }

    /// SHA-256 of the client certificate, when there is one: the `tls_cert_hash` of requests.
    pub fn identity_hash(&self) -> Option<[u8; 32]> {
        self.identity_hash
    }

    pub(crate) fn rustls_config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    pub(crate) fn server_name_override(&self) -> Option<&str> {
        self.server_name.as_deref()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("client_certificate", &self.identity_hash.is_some())
            .finish_non_exhaustive()
    }
}

/// A host as rustls wants it: a DNS name or an address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}
