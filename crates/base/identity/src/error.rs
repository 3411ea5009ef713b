use selvage_crypto::CryptoError;

/// Why an identity or what it signed is not accepted. The texts are those a Fabric user knows.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no serialised identity.
    #[error("could not deserialize a SerializedIdentity")]
    Decode(#[from] prost::DecodeError),
    /// Its organisation is not part of the channel.
    #[error("MSP {0} is not defined on channel")]
    UnknownMsp(String),
    /// It belongs to another organisation than the one asked.
    #[error("expected MSP ID {expected}, received {received}")]
    WrongMsp {
        /// The organisation that was asked.
        expected: String,
        /// The one the identity names.
        received: String,
    },
    /// Its certificate is not in PEM form.
    #[error("could not decode the PEM structure")]
    Pem,
    /// Its certificate cannot be read.
    #[error("parseCertificate failed")]
    Certificate(#[source] CryptoError),
    /// It is not valid in its organisation; the text gives the whole chain of reasons.
    #[error("{0}")]
    Invalid(String),
    /// The signature does not match.
    #[error("The signature is invalid")]
    BadSignature,
    /// The signature cannot match: malformed, high-S, or by a key that signs no messages.
    #[error("could not determine the validity of the signature")]
    Signature(#[source] CryptoError),
    /// It does not satisfy a principal.
    #[error("{0}")]
    Principal(String),
    /// It can be read, but its form leaves room for others that mean the same.
    #[error("{0}")]
    IllFormed(String),
}

/// Why an organisation's definition is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum MspError {
    /// A certificate of the definition cannot be read.
    #[error("{part} {index}: cannot read the certificate")]
    Certificate {
        /// Which list of the definition.
        part: &'static str,
        /// Which of its entries.
        index: usize,
        /// Why.
        source: CryptoError,
    },
    /// A revocation list cannot be read.
    #[error("could not parse RevocationList")]
    Crl(#[source] CryptoError),
    /// The definition contradicts itself or Fabric's rules.
    #[error("{0}")]
    Definition(String),
    /// It asks for something this program does not do.
    #[error("{0}")]
    Unsupported(String),
}
