//! Who may connect, and whom to believe: verifiers for client and server certificates whose roots
//! change while a node runs.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{provider, public_key};

/// The roots that client certificates must chain to. They can be replaced at any time; handshakes
/// that begin afterwards see the new ones, connections that exist stay.
pub struct ClientRoots {
    current: ArcSwapOption<Verifier>,
}

struct Verifier(Arc<dyn ClientCertVerifier>);

impl ClientRoots {
    /// A set of roots; an empty set refuses every client.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<Self> {
        let new = Self {
            current: ArcSwapOption::empty(),
        };
        new.replace(roots);
        Arc::new(new)
    }

    /// Takes over another set of roots and returns how many of them are usable. Certificates that
    /// cannot be parsed are skipped.
    pub fn replace(&self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> usize {
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(roots);
        let built = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .ok();
        self.current.store(built.map(|v| Arc::new(Verifier(v))));
        usable
    }
}

impl fmt::Debug for ClientRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientRoots")
    }
}

/// Accepts client certificates under `roots`, and no client without one where it is `mandatory`.
pub(super) fn client_of(roots: Arc<ClientRoots>, mandatory: bool) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Checked {
        roots: Some(roots),
        mandatory,
    })
}

/// Asks for a client certificate and takes any.
pub(super) fn any_client() -> Arc<dyn ClientCertVerifier> {
    Arc::new(Checked {
        roots: None,
        mandatory: false,
    })
}

#[derive(Debug)]
struct Checked {
    roots: Option<Arc<ClientRoots>>,
    mandatory: bool,
}

impl ClientCertVerifier for Checked {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    // No hints: the set changes at run time, and clients with one certificate need none.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ClientCertVerified::assertion());
        };
        match &*roots.current.load() {
            Some(verifier) => verifier
                .0
                .verify_client_cert(end_entity, intermediates, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client that has one certificate and always presents it, whatever the server hints at.
pub(super) struct OneIdentity(pub(super) Arc<CertifiedKey>);

impl fmt::Debug for OneIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneIdentity")
    }
}

impl ResolvesClientCert for OneIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The roots that server certificates must chain to, for a client whose roots change while it runs.
/// Handshakes that begin after a change see the new ones, connections that exist stay.
pub struct ServerRoots {
    current: ArcSwapOption<WebPkiServerVerifier>,
}

impl ServerRoots {
    /// A set of roots; an empty set trusts no server.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<Self> {
        let new = Self {
            current: ArcSwapOption::empty(),
        };
        new.replace(roots);
        Arc::new(new)
    }

    /// Takes over another set of roots and returns how many of them are usable. Certificates that
    /// cannot be parsed are skipped.
    pub fn replace(&self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> usize {
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(roots);
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .ok();
        self.current.store(built);
        usable
    }
}

impl fmt::Debug for ServerRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerRoots")
    }
}

/// Accepts servers under `roots` that, where a public key is pinned, have that one.
pub(super) fn server_of(
    roots: Arc<ServerRoots>,
    pinned: Option<Vec<u8>>,
) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Pinned { roots, pinned })
}

#[derive(Debug)]
struct Pinned {
    roots: Arc<ServerRoots>,
    pinned: Option<Vec<u8>>,
}

/// Fabric's words, by which operators find what is wrong.
#[derive(thiserror::Error)]
#[error(
    "public key of server certificate presented by {0} doesn't match the expected public key: the \
     channel's configuration names another certificate for this consenter"
)]
struct OtherKey(String);

// The TLS library shows causes by their debug form.
impl fmt::Debug for OtherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(verifier) = &*self.roots.current.load() else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let verified = verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        match &self.pinned {
            Some(pinned) if public_key(end_entity).as_ref() != Some(pinned) => {
                let reason = Arc::new(OtherKey(server_name.to_str().into_owned()));
                Err(CertificateError::Other(OtherError(reason)).into())
            }
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
