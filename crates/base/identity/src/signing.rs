use bytes::Bytes;
use prost::Message;
use selvage_crypto::{Certificate, CryptoError, PrivateKey};
use selvage_proto::msp::SerializedIdentity;

/// The bytes that name an identity: its organisation and its certificate in PEM form.
pub fn serialize(msp_id: &str, certificate_pem: &[u8]) -> Bytes {
    let id_bytes = Bytes::copy_from_slice(certificate_pem);
    SerializedIdentity {
        mspid: msp_id.to_owned(),
        id_bytes,
    }
    .encode_to_vec()
    .into()
}

/// An identity of our own, with its key. Never prints the key; clones share it.
#[derive(Clone)]
pub struct SigningIdentity {
    msp_id: String,
    certificate: Certificate,
    key: PrivateKey,
    serialized: Bytes,
}

impl SigningIdentity {
    /// An identity from its certificate (PEM) and key. Text around the PEM block and unusual line
    /// ends do not become part of it.
    ///
    /// # Errors
    /// [`CryptoError`] when the certificate cannot be read or the key is not its.
    pub fn new(
        msp_id: &str,
        certificate_pem: &[u8],
        key: PrivateKey,
    ) -> Result<SigningIdentity, CryptoError> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        if certificate.public_key() != key.public_key() {
            return Err(CryptoError::MalformedKey {
                what: "private",
                reason: "it does not belong to the certificate",
            });
        }
        let serialized = serialize(msp_id, certificate.to_pem().as_bytes());
        Ok(SigningIdentity {
            msp_id: msp_id.to_owned(),
            certificate,
            key,
            serialized,
        })
    }

    /// The organisation's MSP identifier.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.certificate.not_after()
    }

    /// The bytes others name this identity by: what goes into creator and endorser fields.
    pub fn serialized(&self) -> Bytes {
        self.serialized.clone()
    }

    /// Signs a message.
    ///
    /// # Panics
    /// When the cryptographic library is out of memory or random numbers.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_parts(&[message])
    }

    /// As [`SigningIdentity::sign`] for a message that lies in several places.
    ///
    /// # Panics
    /// As [`SigningIdentity::sign`].
    pub fn sign_parts(&self, message: &[&[u8]]) -> Vec<u8> {
        let signature = self.key.sign_parts(message);
        signature.expect("signing fails only when the library has no memory or random numbers")
    }
}

impl std::fmt::Debug for SigningIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SigningIdentity({}, {})",
            self.msp_id,
            self.certificate.subject()
        )
    }
}
