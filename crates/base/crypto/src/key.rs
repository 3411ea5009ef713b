use std::sync::Arc;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};
use zeroize::Zeroizing;

use crate::suite::{SigningKey, Suite, VerifyingKey};
use crate::{CryptoError, KeyKind, pem, sha256, suite, suites};

/// A public key, parsed once; cloning shares it.
#[derive(Clone)]
pub struct PublicKey(Arc<Public>);

struct Public {
    suite: &'static dyn Suite,
    spki: Box<[u8]>,
    bits: std::ops::Range<usize>,
    key: Arc<dyn VerifyingKey>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`CryptoError::UnsupportedKey`] for algorithms and curves no suite knows,
    /// [`CryptoError::Malformed`] or [`CryptoError::MalformedKey`] for bytes that are no key.
    pub fn from_spki_der(der: &[u8]) -> Result<PublicKey, CryptoError> {
        let malformed = |e: der::Error| CryptoError::malformed("public key", e);
        let (algorithm, parameter, bits) = split_spki(der).map_err(malformed)?;
        let suite = suites()
            .iter()
            .copied()
            .find(|suite| suite.recognises(algorithm, parameter))
            .ok_or_else(|| {
                let curve = parameter
                    .map(|p| format!(" with parameter {p}"))
                    .unwrap_or_default();
                CryptoError::UnsupportedKey(format!("algorithm {algorithm}{curve}"))
            })?;
        let key = suite.read_public(bits)?;
        // The bits close the structure, so they are its end.
        let bits = der.len() - bits.len()..der.len();
        Ok(PublicKey(Arc::new(Public {
            suite,
            spki: der.into(),
            bits,
            key,
        })))
    }

    /// Reads a PEM block `PUBLIC KEY`.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki_der`], and [`CryptoError::Pem`].
    pub fn from_pem(text: &[u8]) -> Result<PublicKey, CryptoError> {
        PublicKey::from_spki_der(&pem::first(text, "PUBLIC KEY")?.der)
    }

    /// Which kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.0.suite.kind()
    }

    /// The suite it belongs to.
    pub fn suite(&self) -> &'static dyn Suite {
        self.0.suite
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The key without its algorithm; for an elliptic curve the uncompressed point.
    pub fn bits(&self) -> &[u8] {
        &self.0.spki[self.0.bits.clone()]
    }

    /// The subject key identifier Fabric's tools give a key: SHA-256 of [`PublicKey::bits`]
    /// (RFC 7093, section 2, method 4).
    pub fn ski(&self) -> [u8; 32] {
        sha256(self.bits())
    }

    /// Verifies a signature over `message` by Fabric's rules.
    ///
    /// # Errors
    /// [`CryptoError::HighS`] and [`CryptoError::MalformedSignature`] where Fabric reports an
    /// error, [`CryptoError::BadSignature`] where it reports a signature that does not match.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.key.verify(&[message], signature)
    }

    /// As [`PublicKey::verify`] for a message that lies in several places.
    ///
    /// # Errors
    /// As [`PublicKey::verify`].
    pub fn verify_parts(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.key.verify(message, signature)
    }

    pub(crate) fn verifier(&self) -> &dyn VerifyingKey {
        &*self.0.key
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind(), hex::encode(self.ski()))
    }
}

type Spki<'a> = (ObjectIdentifier, Option<ObjectIdentifier>, &'a [u8]);

fn split_spki(der: &[u8]) -> Result<Spki<'_>, der::Error> {
    let mut reader = SliceReader::new(der)?;
    let found = reader.sequence(|spki| {
        let (algorithm, parameter) = spki.sequence(|inner| {
            let algorithm = ObjectIdentifier::decode(inner)?;
            let parameter = if inner.is_finished() {
                None
            } else {
                Some(AnyRef::decode(inner)?)
            };
            let parameter = parameter.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            Ok::<_, der::Error>((algorithm, parameter))
        })?;
        let bits = BitStringRef::decode(spki)?;
        let bits = bits
            .as_bytes()
            .ok_or_else(|| der::Tag::BitString.value_error())?;
        Ok::<_, der::Error>((algorithm, parameter, bits))
    })?;
    reader.finish()?;
    Ok(found)
}

/// A private key. Its memory is wiped when the last copy goes; it never prints itself.
#[derive(Clone)]
pub struct PrivateKey {
    key: Arc<dyn SigningKey>,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a key of this kind.
    ///
    /// # Errors
    /// [`CryptoError::UnsupportedKey`] for kinds that only verify here.
    pub fn generate(kind: KeyKind) -> Result<PrivateKey, CryptoError> {
        PrivateKey::new(suite(kind).generate()?)
    }

    /// Reads unencrypted PKCS#8 or SEC1 DER.
    ///
    /// # Errors
    /// [`CryptoError::MalformedKey`] when no suite can sign with it.
    pub fn from_der(der: &[u8]) -> Result<PrivateKey, CryptoError> {
        match suites()
            .iter()
            .find_map(|suite| suite.read_private(der).ok())
        {
            Some(key) => PrivateKey::new(key),
            None => Err(CryptoError::MalformedKey {
                what: "private",
                reason: "neither PKCS#8 nor SEC1 of a kind that signs here (P-256)",
            }),
        }
    }

    /// Reads the first PEM block `PRIVATE KEY` (PKCS#8) or `EC PRIVATE KEY` (SEC1); blocks before
    /// it, such as openssl's `EC PARAMETERS`, are passed over.
    ///
    /// # Errors
    /// [`CryptoError::Pem`] when there is none, or as [`PrivateKey::from_der`].
    pub fn from_pem(text: &[u8]) -> Result<PrivateKey, CryptoError> {
        for block in pem::blocks(text) {
            match block.label.as_str() {
                "PRIVATE KEY" | "EC PRIVATE KEY" if !block.encrypted => {
                    return PrivateKey::from_der(&block.der);
                }
                "PRIVATE KEY" | "EC PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                    let reason =
                        "it is encrypted; decrypt it first (openssl pkcs8 -topk8 -nocrypt)";
                    return Err(CryptoError::MalformedKey {
                        what: "private",
                        reason,
                    });
                }
                _ => {}
            }
        }
        Err(CryptoError::Pem("no private key in it".into()))
    }

    fn new(key: Arc<dyn SigningKey>) -> Result<PrivateKey, CryptoError> {
        let public = PublicKey::from_spki_der(&key.public_spki())?;
        Ok(PrivateKey { key, public })
    }

    /// Which kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.public.kind()
    }

    /// The key as a PEM block `PRIVATE KEY`, unencrypted, as Fabric's key stores hold it.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, CryptoError> {
        Ok(Zeroizing::new(pem::encode(
            "PRIVATE KEY",
            &self.to_pkcs8_der()?,
        )))
    }

    /// The key as unencrypted PKCS#8 DER.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        self.key.to_pkcs8()
    }

    /// The other half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`; low-S DER for ECDSA.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.key.sign(&[message])
    }

    /// As [`PrivateKey::sign`] for a message that lies in several places.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn sign_parts(&self, message: &[&[u8]]) -> Result<Vec<u8>, CryptoError> {
        self.key.sign(message)
    }

    pub(crate) fn x509_algorithm(&self) -> &'static [u8] {
        self.key.x509_algorithm()
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({}, redacted)", self.kind())
    }
}
