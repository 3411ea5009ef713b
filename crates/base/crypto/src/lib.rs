//! Cryptographic suites, keys and X.509 certificates.
//!
//! A [`Suite`] is everything Fabric's BCCSP is asked for with one kind of key: making keys, reading
//! them, signing, verifying, and the hash that goes with it. [`PublicKey`] and [`PrivateKey`]
//! carry their suite, so a caller never names an algorithm: what it does with P-256 keys today it
//! does with any other suite that joins the list in `suite.rs`.
//!
//! | here | Fabric |
//! |---|---|
//! | [`Suite`], [`KeyKind`] | BCCSP, key import options |
//! | [`PublicKey::verify`], [`PrivateKey::sign`] | BCCSP's ECDSA: low-S only |
//! | [`Certificate::sanitized`] | the MSP's rewriting of ECDSA certificate signatures to low-S |
//! | [`issue`] | `cryptogen` and Fabric CA: authorities, identity and TLS certificates |
//! | [`sha256`], [`Hasher`] | hashing of blocks, proposals, identities |
//!
//! Signatures and hashes come from AWS-LC; certificates are walked by hand over the `der` reader
//! so that the bytes that were signed are the bytes that are checked.

mod encoding;
mod error;
mod hash;
pub mod issue;
mod key;
pub mod pem;
mod suite;
mod x509;

pub use error::{CryptoError, in_full};
pub use hash::{HashAlgorithm, Hasher, sha3_256, sha256, sha256_parts};
pub use key::{PrivateKey, PublicKey};
pub use suite::{KeyKind, SigningKey, Suite, VerifyingKey, suite, suites};
pub use x509::{
    Certificate, Crl, DistinguishedName, ExtendedKeyUsage, GeneralName, KeyUsage, Request, Revoked,
};
