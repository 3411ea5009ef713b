//! The list of suites, and what each must do. SM2 with SM3 joins by one more entry.

mod ecdsa;
mod ed25519;
mod rsa;

use std::sync::Arc;

use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use crate::{CryptoError, HashAlgorithm};

/// The kind of a key, and with it of everything done with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on NIST P-256 with SHA-256: what Fabric uses everywhere unless told otherwise.
    P256,
    /// ECDSA on NIST P-384. Read and verified; Fabric hashes messages with SHA-256 here too.
    P384,
    /// ECDSA on NIST P-521. Read and verified; Fabric hashes messages with SHA-256 here too.
    P521,
    /// Ed25519. Read and verified; Fabric admits it with channel capability V3_0.
    Ed25519,
    /// RSA. Authorities only: Fabric verifies no message with it.
    Rsa,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyKind::P256 => "P-256",
            KeyKind::P384 => "P-384",
            KeyKind::P521 => "P-521",
            KeyKind::Ed25519 => "Ed25519",
            KeyKind::Rsa => "RSA",
        })
    }
}

/// A public key ready to verify. Made once, used many times from many threads.
pub trait VerifyingKey: Send + Sync {
    /// Verifies a message signature by Fabric's rules; the message is the parts in a row.
    ///
    /// # Errors
    /// [`CryptoError::HighS`], [`CryptoError::MalformedSignature`], [`CryptoError::BadSignature`],
    /// or [`CryptoError::UnsupportedKey`] when this kind signs no messages.
    fn verify(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), CryptoError>;

    /// Verifies the signature of a certificate, revocation list or request, by X.509's rules.
    ///
    /// # Errors
    /// As [`VerifyingKey::verify`], and [`CryptoError::UnsupportedAlgorithm`] when the algorithm
    /// is unknown, broken (SHA-1) or does not go with the key.
    fn verify_x509(
        &self,
        algorithm: ObjectIdentifier,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError>;

    /// The low-S form of a certificate signature made by this key; `None` for kinds that have no
    /// such notion.
    ///
    /// # Errors
    /// [`CryptoError::MalformedSignature`].
    fn low_s(&self, signature: &[u8]) -> Result<Option<Vec<u8>>, CryptoError>;
}

/// A private key ready to sign.
pub trait SigningKey: Send + Sync {
    /// Signs a message, given in parts; low-S DER for ECDSA.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    fn sign(&self, message: &[&[u8]]) -> Result<Vec<u8>, CryptoError>;

    /// The DER SubjectPublicKeyInfo of the key's other half.
    fn public_spki(&self) -> Vec<u8>;

    /// The key as unencrypted PKCS#8 DER.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError>;

    /// The DER AlgorithmIdentifier that names signatures by this key in certificates.
    fn x509_algorithm(&self) -> &'static [u8];
}

/// Everything that is done with one kind of key.
pub trait Suite: Send + Sync {
    /// Which kind.
    fn kind(&self) -> KeyKind;

    /// The hash that goes with this kind in identifiers and message digests.
    fn hash_algorithm(&self) -> HashAlgorithm;

    /// True when a SubjectPublicKeyInfo with this algorithm and parameter is of this kind.
    fn recognises(&self, algorithm: ObjectIdentifier, parameter: Option<ObjectIdentifier>) -> bool;

    /// Reads the contents of the BIT STRING of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`CryptoError::MalformedKey`].
    fn read_public(&self, bits: &[u8]) -> Result<Arc<dyn VerifyingKey>, CryptoError>;

    /// Reads a private key: PKCS#8 or the kind's own DER form.
    ///
    /// # Errors
    /// [`CryptoError::MalformedKey`], or [`CryptoError::UnsupportedKey`] for kinds that only
    /// verify.
    fn read_private(&self, der: &[u8]) -> Result<Arc<dyn SigningKey>, CryptoError>;

    /// Makes a key.
    ///
    /// # Errors
    /// [`CryptoError::Library`], or [`CryptoError::UnsupportedKey`] for kinds that only verify.
    fn generate(&self) -> Result<Arc<dyn SigningKey>, CryptoError>;
}

static SUITES: [&dyn Suite; 5] = [
    &ecdsa::P256,
    &ecdsa::P384,
    &ecdsa::P521,
    &ed25519::Ed25519,
    &rsa::Rsa,
];

/// Every suite there is, the usual one first.
pub fn suites() -> &'static [&'static dyn Suite] {
    &SUITES
}

/// The suite of a kind of key.
pub fn suite(kind: KeyKind) -> &'static dyn Suite {
    let found = SUITES.iter().find(|suite| suite.kind() == kind);
    *found.expect("every kind of key is in the list of suites")
}

fn verify_only<T>(kind: KeyKind) -> Result<T, CryptoError> {
    Err(CryptoError::UnsupportedKey(format!(
        "{kind} keys can verify but not sign here"
    )))
}
