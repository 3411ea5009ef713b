use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::{Certificate, CryptoError};
use selvage_proto::common::MspPrincipal;
use selvage_proto::msp::SerializedIdentity;

use crate::{IdentityError, Msp, Principal};

/// An organisational unit of an identity, and what names the authorities that vouch for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationalUnit {
    /// The unit's name.
    pub name: String,
    /// Hash of the authorities' certificates, from the issuer up to the root.
    pub certifiers: [u8; 32],
}

/// Somebody an organisation's authorities issued a certificate to.
///
/// What is found out about it is kept in it, so an identity that is asked again answers at once.
pub struct Identity {
    msp: Msp,
    certificate: Certificate,
    id: String,
    chain: Result<Vec<Certificate>, String>,
    units: Vec<OrganizationalUnit>,
    validity: OnceLock<Result<(), String>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Identity({}, {})",
            self.msp_id(),
            self.certificate.subject()
        )
    }
}

impl Identity {
    pub(crate) fn new(msp: Msp, read: Certificate) -> Result<Identity, String> {
        let (certificate, found) = msp.0.sanitized(read)?;
        let id = msp.0.identity_id(&certificate);
        let chain = msp.0.identity_chain(&certificate, found);
        let units = match &chain {
            Err(_) => Vec::new(),
            Ok(chain) => {
                let certifiers = msp.0.certifiers_id(&chain[1..]);
                let names = certificate.organizational_units();
                let unit = |name: &str| OrganizationalUnit {
                    name: name.to_owned(),
                    certifiers,
                };
                names.into_iter().map(unit).collect()
            }
        };
        Ok(Identity {
            msp,
            certificate,
            id,
            chain,
            units,
            validity: OnceLock::new(),
        })
    }

    /// Its organisation.
    pub fn msp(&self) -> &Msp {
        &self.msp
    }

    /// Its organisation's MSP identifier.
    pub fn msp_id(&self) -> &str {
        self.msp.id()
    }

    /// Its certificate, with a low-S signature.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What tells it from others of its organisation: the hash of its certificate, in hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When its certificate ends, in seconds since 1970. Being valid does not depend on it.
    pub fn expires_at(&self) -> i64 {
        self.certificate.not_after()
    }

    /// Its organisational units; none when it has no chain to its organisation's authorities.
    pub fn organizational_units(&self) -> &[OrganizationalUnit] {
        &self.units
    }

    /// The bytes others name it by. They differ from those it was read from when its certificate
    /// had a high-S signature or an unusual text form.
    pub fn serialized(&self) -> Bytes {
        let id_bytes = self.certificate.to_pem().into();
        SerializedIdentity {
            mspid: self.msp_id().to_owned(),
            id_bytes,
        }
        .encode_to_vec()
        .into()
    }

    /// Whether its organisation vouches for it: chain, revocation and organisational units.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`] with Fabric's text.
    pub fn validate(&self) -> Result<(), IdentityError> {
        self.validity()
            .map_err(|reason| IdentityError::Invalid(reason.to_owned()))
    }

    /// Whether all that keeps it from being valid is that none of its organisational units gives
    /// the role its organisation asks for: its certificate has to be issued again with one.
    pub fn lacks_role(&self) -> bool {
        self.msp.has_node_roles()
            && self.msp.0.bears_no_role(self)
            && self.msp.0.validate(&self.certificate, &self.chain).is_ok()
    }

    pub(crate) fn validity(&self) -> Result<(), &str> {
        let judge = || {
            self.msp.0.validate(&self.certificate, &self.chain)?;
            let units = self.msp.0.validate_units(self);
            units.map_err(|e| format!("could not validate identity's OUs: {e}"))
        };
        self.validity
            .get_or_init(judge)
            .as_ref()
            .copied()
            .map_err(String::as_str)
    }

    /// Checks that it signed `message`. Says nothing about whether it is valid.
    ///
    /// # Errors
    /// [`IdentityError::BadSignature`], or [`IdentityError::Signature`] for what cannot be one.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), IdentityError> {
        self.verify_parts(&[message], signature)
    }

    /// As [`Identity::verify`] for a message that lies in several places.
    ///
    /// # Errors
    /// As [`Identity::verify`].
    pub fn verify_parts(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), IdentityError> {
        match self
            .certificate
            .public_key()
            .verify_parts(message, signature)
        {
            Ok(()) => Ok(()),
            Err(CryptoError::BadSignature) => Err(IdentityError::BadSignature),
            Err(other) => Err(IdentityError::Signature(other)),
        }
    }

    /// Whether it is whom a principal asks for; valid too, where the principal needs that.
    ///
    /// # Errors
    /// [`IdentityError::Principal`] with Fabric's text.
    pub fn satisfies(&self, principal: &MspPrincipal) -> Result<(), IdentityError> {
        self.satisfies_decoded(&Principal::new(principal))
    }

    /// As [`Identity::satisfies`] for a principal that is asked about often.
    ///
    /// # Errors
    /// As [`Identity::satisfies`].
    pub fn satisfies_decoded(&self, principal: &Principal) -> Result<(), IdentityError> {
        self.msp
            .0
            .satisfies(self, principal)
            .map_err(IdentityError::Principal)
    }
}
