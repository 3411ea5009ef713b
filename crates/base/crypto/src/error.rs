/// Why a key, signature or certificate was not accepted or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The signature is well formed and was not made by this key over these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// The signature's S is in the upper half of the group order. Fabric refuses such signatures
    /// because anybody can turn them into a second valid signature of the same message.
    #[error("the signature is not in low-S form")]
    HighS,
    /// The signature is not what its algorithm prescribes.
    #[error("malformed signature: {0}")]
    MalformedSignature(&'static str),
    /// The key is none this program works with, or not for this purpose.
    #[error("unsupported key: {0}")]
    UnsupportedKey(String),
    /// A signature or hash algorithm this program does not work with.
    #[error("unsupported algorithm {0}")]
    UnsupportedAlgorithm(String),
    /// A key that cannot be read. Never says anything about its contents.
    #[error("malformed {what} key: {reason}")]
    MalformedKey {
        /// Private or public.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes that are no PEM, or not the PEM block that was asked for.
    #[error("malformed PEM: {0}")]
    Pem(String),
    /// Bytes that are no valid DER for what they should be.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What the bytes should be.
        what: &'static str,
        /// Where they fail.
        reason: String,
    },
    /// What was asked to be issued is contradictory or out of range.
    #[error("cannot issue: {0}")]
    Issue(String),
    /// The cryptographic library failed for no fault of the input.
    #[error("the cryptographic library failed to {0}")]
    Library(&'static str),
}

impl CryptoError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> CryptoError {
        CryptoError::Malformed {
            what,
            reason: reason.to_string(),
        }
    }
}

/// An error and what caused it in one line, as Go's wrapped errors print and as Fabric's users know
/// them. It stands here because every crate that has errors to show stands on this one.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
