//! Who signs and who verifies. The engine asks through [`Keys`], so that it never names an
//! algorithm, and a simulator can bring keys that cost nothing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::{Certificate, PublicKey};
use selvage_identity::SigningIdentity;
use selvage_proto::common::Consenter;

/// This node's key, and the way to those of the others.
pub trait Keys: Send + Sync {
    /// Whether a consenter of the configuration is this node.
    fn is_me(&self, consenter: &Consenter) -> bool;

    /// Signs with this node's key.
    fn sign(&self, message: &[u8]) -> Vec<u8>;

    /// The key of a consenter; the error says what is wrong with its identity.
    fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String>;
}

/// One consenter's public key.
pub trait Verifier: Send + Sync {
    /// Whether this consenter signed the message.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool;
}

impl Verifier for PublicKey {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        PublicKey::verify(self, message, signature).is_ok()
    }
}

/// The keys of real nodes: this one's signing identity, and the certificates of the `Orderers`
/// value.
impl Keys for SigningIdentity {
    fn is_me(&self, consenter: &Consenter) -> bool {
        let certificate = Certificate::from_pem(&consenter.identity);
        consenter.msp_id == self.msp_id()
            && certificate.is_ok_and(|c| c.to_pem() == self.certificate().to_pem())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        SigningIdentity::sign(self, message)
    }

    fn verifier(&self, consenter: &Consenter) -> Result<Arc<dyn Verifier>, String> {
        let certificate = Certificate::from_pem(&consenter.identity);
        let certificate = certificate.map_err(|error| error.to_string())?;
        Ok(Arc::new(certificate.public_key().clone()))
    }
}

/// A consenter's key beside the identity that it came from.
#[derive(Clone)]
pub(crate) struct Key {
    identity: Bytes,
    verifier: Arc<dyn Verifier>,
}

impl Key {
    pub(crate) fn new(keys: &dyn Keys, consenter: &Consenter) -> Result<Self, String> {
        Ok(Self {
            identity: consenter.identity.clone(),
            verifier: keys.verifier(consenter)?,
        })
    }

    pub(crate) fn identity(&self) -> &Bytes {
        &self.identity
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify(message, signature)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Key {}
