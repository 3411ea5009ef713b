use std::sync::Arc;

use aws_lc_rs::signature::{self as alg, ParsedPublicKey};
use der::asn1::ObjectIdentifier;

use super::{KeyKind, SigningKey, Suite, VerifyingKey, verify_only};
use crate::{CryptoError, HashAlgorithm};

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

pub(crate) struct Ed25519;

impl Suite for Ed25519 {
    fn kind(&self) -> KeyKind {
        KeyKind::Ed25519
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::Sha256
    }

    fn recognises(&self, algorithm: ObjectIdentifier, _: Option<ObjectIdentifier>) -> bool {
        algorithm == ED25519
    }

    fn read_public(&self, bits: &[u8]) -> Result<Arc<dyn VerifyingKey>, CryptoError> {
        let key =
            ParsedPublicKey::new(&alg::ED25519, bits).map_err(|_| CryptoError::MalformedKey {
                what: "public",
                reason: "not an Ed25519 point",
            })?;
        Ok(Arc::new(Ed25519Public(key)))
    }

    fn read_private(&self, _der: &[u8]) -> Result<Arc<dyn SigningKey>, CryptoError> {
        verify_only(self.kind())
    }

    fn generate(&self) -> Result<Arc<dyn SigningKey>, CryptoError> {
        verify_only(self.kind())
    }
}

struct Ed25519Public(ParsedPublicKey);

impl VerifyingKey for Ed25519Public {
    fn verify(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), CryptoError> {
        let verified = match message {
            [whole] => self.0.verify_sig(whole, signature),
            parts => self.0.verify_sig(&parts.concat(), signature),
        };
        verified.map_err(|_| CryptoError::BadSignature)
    }

    fn verify_x509(
        &self,
        algorithm: ObjectIdentifier,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        if algorithm != ED25519 {
            return Err(CryptoError::UnsupportedAlgorithm(algorithm.to_string()));
        }
        self.verify(&[signed], signature)
    }

    fn low_s(&self, _signature: &[u8]) -> Result<Option<Vec<u8>>, CryptoError> {
        Ok(None)
    }
}
