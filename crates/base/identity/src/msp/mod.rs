mod chain;
mod principal;
mod roles;
mod setup;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use selvage_crypto::{Certificate, Crl, CryptoError, HashAlgorithm, KeyKind};
use selvage_proto::msp::FabricMspConfig;

pub(crate) use chain::Pool;
pub use principal::Principal;
use roles::NodeUnits;

use crate::{Identity, IdentityError, MspError};

/// Which rules an organisation is judged by; the channel's capabilities decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MspVersion {
    /// Channels without capabilities: no node roles.
    V1_0,
    /// Channel capability V1_1: client and peer roles.
    V1_1,
    /// Channel capability V1_3: combined and anonymity principals.
    V1_3,
    /// Channel capability V1_4_3 and V2_0: administrator and orderer roles.
    V1_4_3,
    /// Channel capability V3_0: Ed25519 keys.
    V3_0,
}

/// An organisation: whom it trusts, whom it revoked, and how its roles are told apart.
///
/// Cheap to clone: the clones share everything.
#[derive(Clone)]
pub struct Msp(pub(crate) Arc<Rules>);

pub(crate) struct Rules {
    pub(crate) id: String,
    version: MspVersion,
    pool: Pool,
    /// Authorities with authorities below them: they must not issue identities themselves.
    inner: HashSet<[u8; 32]>,
    crls: Vec<Crl>,
    admins: Vec<Certificate>,
    units: BTreeMap<String, Vec<[u8; 32]>>,
    nodes: NodeUnits,
    id_hash: HashAlgorithm,
    tls: Pool,
}

impl std::fmt::Debug for Msp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Msp({}, {:?})", self.0.id, self.0.version)
    }
}

impl Msp {
    /// Sets an organisation up from its definition, checking all that Fabric checks. A signing
    /// identity in the definition is left alone; see [`crate::SigningIdentity`].
    ///
    /// # Errors
    /// [`MspError`] with what is wrong with the definition.
    pub fn new(definition: &FabricMspConfig, version: MspVersion) -> Result<Msp, MspError> {
        setup::set_up(definition, version).map(|rules| Msp(Arc::new(rules)))
    }

    /// The organisation's MSP identifier.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The rules it is judged by.
    pub fn version(&self) -> MspVersion {
        self.0.version
    }

    /// Whether organisational units tell clients, peers, orderers and administrators apart
    /// (NodeOUs). Without it nobody has such a role, and administrators are listed.
    pub fn has_node_roles(&self) -> bool {
        self.0.version > MspVersion::V1_0 && self.0.enforces_node_units()
    }

    /// The root authorities for identities, with low-S signatures.
    pub fn root_certificates(&self) -> &[Certificate] {
        &self.0.pool.roots
    }

    /// The intermediate authorities for identities, with low-S signatures.
    pub fn intermediate_certificates(&self) -> &[Certificate] {
        &self.0.pool.intermediates
    }

    /// The root authorities for TLS.
    pub fn tls_root_certificates(&self) -> &[Certificate] {
        &self.0.tls.roots
    }

    /// The intermediate authorities for TLS.
    pub fn tls_intermediate_certificates(&self) -> &[Certificate] {
        &self.0.tls.intermediates
    }

    /// Reads a serialised identity of this organisation. It may still be invalid.
    ///
    /// # Errors
    /// [`IdentityError::WrongMsp`] for another organisation's, or as [`Msp::identity`].
    pub fn deserialize(&self, serialized: &[u8]) -> Result<Identity, IdentityError> {
        let decoded: selvage_proto::msp::SerializedIdentity = prost::Message::decode(serialized)?;
        if decoded.mspid != self.id() {
            let (expected, received) = (self.id().to_owned(), decoded.mspid);
            return Err(IdentityError::WrongMsp { expected, received });
        }
        self.identity(&decoded.id_bytes)
    }

    /// The identity of a certificate in PEM form. Only the first block counts and its label does
    /// not matter, as in Fabric.
    ///
    /// # Errors
    /// [`IdentityError::Pem`], [`IdentityError::Certificate`], or [`IdentityError::Invalid`] when
    /// an ECDSA-signed certificate has no single chain to the organisation's authorities.
    pub fn identity(&self, pem: &[u8]) -> Result<Identity, IdentityError> {
        let (block, _) = selvage_crypto::pem::next(pem).ok_or(IdentityError::Pem)?;
        let read = Certificate::from_der(&block.der).map_err(IdentityError::Certificate)?;
        Identity::new(self.clone(), read).map_err(IdentityError::Invalid)
    }
}

/// Whether a TLS certificate comes from an authority for TLS of one of these organisations, for
/// servers or for clients. As everywhere here, it does not matter whether it has ended.
///
/// # Errors
/// [`IdentityError::Invalid`] with the text of Go's `x509`.
pub fn check_tls_certificate<'a>(
    msps: impl IntoIterator<Item = &'a Msp>,
    certificate: &Certificate,
) -> Result<(), IdentityError> {
    let mut pool = Pool::default();
    for msp in msps {
        pool.roots.extend_from_slice(msp.tls_root_certificates());
        pool.intermediates
            .extend_from_slice(msp.tls_intermediate_certificates());
    }
    pool.check_tls(certificate).map_err(IdentityError::Invalid)
}

impl Rules {
    /// Rewrites an ECDSA signature to low-S, as everything Fabric hashes or compares is. Gives the
    /// chain too where finding the signer needed it.
    pub(crate) fn sanitized(
        &self,
        certificate: Certificate,
    ) -> Result<(Certificate, Option<Vec<Certificate>>), String> {
        if !certificate.is_ecdsa_signed() {
            return Ok((certificate, None));
        }
        if certificate.is_ca() && certificate.verify_issued_by(&certificate).is_ok() {
            let key = certificate.public_key().clone();
            let clean = certificate.sanitized(&key).map_err(|e| e.to_string())?;
            // Fabric asks whether the clean certificate is valid given itself as the only root.
            let alone = Pool {
                roots: vec![clean.clone()],
                intermediates: self.pool.intermediates.clone(),
            };
            alone.unique_chain(&clean)?;
            return Ok((clean, None));
        }
        let mut chain = self.pool.unique_chain(&certificate)?;
        let Some(parent) = chain.get(1) else {
            let subject = certificate.subject();
            return Err(format!(
                "failed to traverse certificate verification chain for leaf or intermediate \
                 certificate, with subject {subject}"
            ));
        };
        let clean = certificate
            .sanitized(parent.public_key())
            .map_err(|e| e.to_string())?;
        chain[0] = clean.clone();
        Ok((clean, Some(chain)))
    }

    /// The chain of an identity, which must not be an authority, or of an intermediate.
    fn validation_chain(
        &self,
        certificate: &Certificate,
        found: Option<Vec<Certificate>>,
        of_intermediate: bool,
    ) -> Result<Vec<Certificate>, String> {
        let chain = match found {
            Some(chain) => chain,
            None => {
                let found = self.pool.unique_chain(certificate);
                found.map_err(|e| format!("failed getting validation chain: {e}"))?
            }
        };
        if chain.len() < 2 {
            let n = chain.len();
            return Err(format!("expected a chain of length at least 2, got {n}"));
        }
        let issuer = &chain[usize::from(!of_intermediate)];
        if self.inner.contains(issuer.fingerprint()) {
            return Err(
                "invalid validation chain. Parent certificate should be a leaf of the \
                        certification tree"
                    .to_owned(),
            );
        }
        Ok(chain)
    }

    /// As [`Rules::validation_chain`] for an identity.
    pub(crate) fn identity_chain(
        &self,
        certificate: &Certificate,
        found: Option<Vec<Certificate>>,
    ) -> Result<Vec<Certificate>, String> {
        if certificate.is_ca() {
            return Err(
                "An X509 certificate with Basic Constraint: Certificate Authority equals \
                        true cannot be used as an identity"
                    .to_owned(),
            );
        }
        self.validation_chain(certificate, found, false)
    }

    /// What names a chain of authorities: the hash of their certificates.
    pub(crate) fn certifiers_id(&self, authorities: &[Certificate]) -> [u8; 32] {
        self.id_hash.hash(authorities.iter().map(Certificate::der))
    }

    /// The id of an identity: the hash of its certificate, in hex.
    pub(crate) fn identity_id(&self, certificate: &Certificate) -> String {
        hex::encode(self.id_hash.hash([certificate.der()]))
    }

    /// Everything Fabric asks of a valid identity except its organisational units.
    pub(crate) fn validate(
        &self,
        certificate: &Certificate,
        chain: &Result<Vec<Certificate>, String>,
    ) -> Result<(), String> {
        let kind = certificate.public_key().kind();
        let supported = match kind {
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => true,
            KeyKind::Ed25519 => self.version >= MspVersion::V3_0,
            _ => false,
        };
        if !supported {
            return Err(format!(
                "could not validate identity's public key algorithm: {kind} is not supported"
            ));
        }
        let chain = chain
            .as_ref()
            .map_err(|e| format!("could not obtain certification chain: {e}"))?;
        self.check_not_revoked(certificate, &chain[1])
            .map_err(|e| format!("could not validate identity against certification chain: {e}"))
    }

    fn check_not_revoked(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), String> {
        let Some(ski) = issuer.ski() else {
            return Err("could not obtain Subject Key Identifier for signer cert: \
                        subjectKeyIdentifier not found in certificate"
                .to_owned());
        };
        for crl in &self.crls {
            let Some(aki) = crl.aki() else {
                return Err("could not obtain Authority Key Identifier for crl: \
                            authorityKeyIdentifier not found in certificate"
                    .to_owned());
            };
            if aki != ski || crl.revoked(certificate.serial()).is_none() {
                continue;
            }
            // A list counts only when the certificate's own issuer signed it. Its dates do not
            // matter. What cannot be checked at all counts as signed: doubt must not admit.
            match crl.verify_signature(issuer.public_key()) {
                Ok(()) | Err(CryptoError::UnsupportedAlgorithm(_)) => {
                    return Err("The certificate has been revoked".to_owned());
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn is_admin(&self, certificate: &Certificate) -> bool {
        self.admins.contains(certificate)
    }
}
