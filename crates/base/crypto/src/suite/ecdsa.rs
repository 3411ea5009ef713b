use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{
    self as alg, EcdsaKeyPair, EcdsaVerificationAlgorithm, KeyPair, ParsedPublicKey,
    UnparsedPublicKey,
};
use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use super::{KeyKind, SigningKey, Suite, VerifyingKey, verify_only};
use crate::encoding::{self, Order};
use crate::{CryptoError, HashAlgorithm};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

/// AlgorithmIdentifier of ecdsa-with-SHA256: no parameters.
const X509_WITH_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 3, 1, 7, 3, 0x42, 0,
];

/// One curve with the library's verifiers for the three hashes certificates are signed with; the
/// first, SHA-256, is also the one for messages.
pub(crate) struct Ecdsa {
    kind: KeyKind,
    curve: ObjectIdentifier,
    order: &'static Order,
    point_length: usize,
    sha256: &'static EcdsaVerificationAlgorithm,
    sha384: &'static EcdsaVerificationAlgorithm,
    sha512: &'static EcdsaVerificationAlgorithm,
}

pub(crate) static P256: Ecdsa = Ecdsa {
    kind: KeyKind::P256,
    curve: ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
    order: &encoding::P256_ORDER,
    point_length: 65,
    sha256: &alg::ECDSA_P256_SHA256_ASN1,
    sha384: &alg::ECDSA_P256_SHA384_ASN1,
    sha512: &alg::ECDSA_P256_SHA512_ASN1,
};

pub(crate) static P384: Ecdsa = Ecdsa {
    kind: KeyKind::P384,
    curve: ObjectIdentifier::new_unwrap("1.3.132.0.34"),
    order: &encoding::P384_ORDER,
    point_length: 97,
    sha256: &alg::ECDSA_P384_SHA256_ASN1,
    sha384: &alg::ECDSA_P384_SHA384_ASN1,
    sha512: &alg::ECDSA_P384_SHA512_ASN1,
};

pub(crate) static P521: Ecdsa = Ecdsa {
    kind: KeyKind::P521,
    curve: ObjectIdentifier::new_unwrap("1.3.132.0.35"),
    order: &encoding::P521_ORDER,
    point_length: 133,
    sha256: &alg::ECDSA_P521_SHA256_ASN1,
    sha384: &alg::ECDSA_P521_SHA384_ASN1,
    sha512: &alg::ECDSA_P521_SHA512_ASN1,
};

impl Suite for Ecdsa {
    fn kind(&self) -> KeyKind {
        self.kind
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::Sha256
    }

    fn recognises(&self, algorithm: ObjectIdentifier, parameter: Option<ObjectIdentifier>) -> bool {
        algorithm == EC_PUBLIC_KEY && parameter == Some(self.curve)
    }

    fn read_public(&self, bits: &[u8]) -> Result<Arc<dyn VerifyingKey>, CryptoError> {
        let malformed = |reason| CryptoError::MalformedKey {
            what: "public",
            reason,
        };
        if bits.first() != Some(&4) || bits.len() != self.point_length {
            return Err(malformed("not an uncompressed point of its curve"));
        }
        let key = ParsedPublicKey::new(self.sha256, bits)
            .map_err(|_| malformed("not a point of its curve"))?;
        let (order, kind, point) = (self.order, self.kind, bits.into());
        Ok(Arc::new(EcdsaPublic {
            key,
            order,
            kind,
            point,
        }))
    }

    fn read_private(&self, der: &[u8]) -> Result<Arc<dyn SigningKey>, CryptoError> {
        if self.kind != KeyKind::P256 {
            return verify_only(self.kind);
        }
        let pair = EcdsaKeyPair::from_private_key_der(&alg::ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_| CryptoError::MalformedKey {
                what: "private",
                reason: "no P-256 key",
            })?;
        Ok(Arc::new(P256Private(pair)))
    }

    fn generate(&self) -> Result<Arc<dyn SigningKey>, CryptoError> {
        if self.kind != KeyKind::P256 {
            return verify_only(self.kind);
        }
        let pair = EcdsaKeyPair::generate(&alg::ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| CryptoError::Library("make a P-256 key"))?;
        Ok(Arc::new(P256Private(pair)))
    }
}

struct EcdsaPublic {
    key: ParsedPublicKey,
    order: &'static Order,
    kind: KeyKind,
    point: Box<[u8]>,
}

fn sha256_digest(message: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    message.iter().for_each(|part| context.update(part));
    context.finish()
}

impl VerifyingKey for EcdsaPublic {
    fn verify(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), CryptoError> {
        let parsed = encoding::parse(signature)?;
        if !parsed.is_low_s(self.order) {
            return Err(CryptoError::HighS);
        }
        // The library is stricter than Go about the encoding, so it gets the canonical one.
        let canonical = parsed.to_der();
        let digest = sha256_digest(message);
        let verified = self.key.verify_digest_sig(&digest, &canonical);
        verified.map_err(|_| CryptoError::BadSignature)
    }

    fn verify_x509(
        &self,
        algorithm: ObjectIdentifier,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let suite = match self.kind {
            KeyKind::P384 => &P384,
            KeyKind::P521 => &P521,
            _ => &P256,
        };
        let verified = match algorithm {
            WITH_SHA256 => self.key.verify_sig(signed, signature),
            WITH_SHA384 => {
                UnparsedPublicKey::new(suite.sha384, &self.point).verify(signed, signature)
            }
            WITH_SHA512 => {
                UnparsedPublicKey::new(suite.sha512, &self.point).verify(signed, signature)
            }
            other => return Err(CryptoError::UnsupportedAlgorithm(other.to_string())),
        };
        verified.map_err(|_| CryptoError::BadSignature)
    }

    fn low_s(&self, signature: &[u8]) -> Result<Option<Vec<u8>>, CryptoError> {
        encoding::to_low_s(signature, self.order).map(Some)
    }
}

struct P256Private(EcdsaKeyPair);

impl SigningKey for P256Private {
    fn sign(&self, message: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
        let signature = self
            .0
            .sign_digest(&sha256_digest(message))
            .map_err(|_| CryptoError::Library("sign"))?;
        encoding::to_low_s(signature.as_ref(), &encoding::P256_ORDER)
    }

    fn public_spki(&self) -> Vec<u8> {
        let mut spki = P256_SPKI_PREFIX.to_vec();
        spki.extend_from_slice(self.0.public_key().as_ref());
        spki
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        // Written by hand: the library's own buffer would not be wiped after use.
        let secret = self.0.private_key();
        let failed = |_| CryptoError::Library("export a private key");
        let secret: aws_lc_rs::encoding::EcPrivateKeyBin<'_> =
            secret.as_be_bytes().map_err(failed)?;
        let mut out = Zeroizing::new(Vec::with_capacity(138));
        out.extend_from_slice(&[0x30, 0x81, 0x87, 2, 1, 0]);
        out.extend_from_slice(&P256_SPKI_PREFIX[2..23]);
        out.extend_from_slice(&[4, 0x6d, 0x30, 0x6b, 2, 1, 1, 4, 0x20]);
        out.extend_from_slice(secret.as_ref());
        out.extend_from_slice(&[0xa1, 0x44, 3, 0x42, 0]);
        out.extend_from_slice(self.0.public_key().as_ref());
        Ok(out)
    }

    fn x509_algorithm(&self) -> &'static [u8] {
        X509_WITH_SHA256
    }
}
