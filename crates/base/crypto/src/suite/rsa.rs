use std::sync::Arc;

use aws_lc_rs::signature::{self as alg, RsaParameters, UnparsedPublicKey};
use der::asn1::ObjectIdentifier;

use super::{KeyKind, SigningKey, Suite, VerifyingKey, verify_only};
use crate::{CryptoError, HashAlgorithm};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

pub(crate) struct Rsa;

impl Suite for Rsa {
    fn kind(&self) -> KeyKind {
        KeyKind::Rsa
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::Sha256
    }

    fn recognises(&self, algorithm: ObjectIdentifier, _: Option<ObjectIdentifier>) -> bool {
        algorithm == RSA
    }

    fn read_public(&self, bits: &[u8]) -> Result<Arc<dyn VerifyingKey>, CryptoError> {
        let malformed = |_| CryptoError::MalformedKey {
            what: "public",
            reason: "no RSA modulus and exponent",
        };
        // Parsed to refuse nonsense early; the key itself is read again per certificate checked,
        // which is rare.
        alg::ParsedPublicKey::new(&alg::RSA_PKCS1_2048_8192_SHA256, bits).map_err(malformed)?;
        Ok(Arc::new(RsaPublic(bits.into())))
    }

    fn read_private(&self, _der: &[u8]) -> Result<Arc<dyn SigningKey>, CryptoError> {
        verify_only(self.kind())
    }

    fn generate(&self) -> Result<Arc<dyn SigningKey>, CryptoError> {
        verify_only(self.kind())
    }
}

struct RsaPublic(Box<[u8]>);

impl VerifyingKey for RsaPublic {
    fn verify(&self, _message: &[&[u8]], _signature: &[u8]) -> Result<(), CryptoError> {
        Err(CryptoError::UnsupportedKey(
            "RSA keys sign certificates only".into(),
        ))
    }

    fn verify_x509(
        &self,
        algorithm: ObjectIdentifier,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let parameters: &'static RsaParameters = match algorithm {
            WITH_SHA256 => &alg::RSA_PKCS1_2048_8192_SHA256,
            WITH_SHA384 => &alg::RSA_PKCS1_2048_8192_SHA384,
            WITH_SHA512 => &alg::RSA_PKCS1_2048_8192_SHA512,
            other => return Err(CryptoError::UnsupportedAlgorithm(other.to_string())),
        };
        let verified = UnparsedPublicKey::new(parameters, &self.0).verify(signed, signature);
        verified.map_err(|_| CryptoError::BadSignature)
    }

    fn low_s(&self, _signature: &[u8]) -> Result<Option<Vec<u8>>, CryptoError> {
        Ok(None)
    }
}
