use selvage_crypto::{CryptoError, in_full};

use crate::{Identity, IdentityError, MspManager, SignedData};

/// The most characters that are said of what came from outside.
const LONGEST: usize = 300;

/// Why a signature does not count, for whoever made it: its text names the cause and what helps.
///
/// Fabric tells clients only that access is denied, and programs match its words; these come
/// beside or behind them. They tell a stranger nothing: that a certificate was revoked or has no
/// role, only whoever signs with its key gets to hear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFault {
    /// The identity names an organisation that is none of those asked.
    #[error(
        "the identity names an organisation that has no part here (MSP {0}): correct the MSP id in \
         the client's settings, or use an identity of an organisation that has"
    )]
    UnknownMsp(String),
    /// The bytes are no identity.
    #[error(
        "the identity cannot be read ({0}): send MSP id and certificate, in PEM form, as one \
         SerializedIdentity"
    )]
    Unreadable(String),
    /// S is in the upper half of the group order.
    #[error(
        "the signature is not in low-S form: where S is more than half the curve's order n, replace \
         it by n - S before sending, as Fabric's SDKs do"
    )]
    HighS,
    /// The signature is not what its algorithm prescribes.
    #[error(
        "the signature cannot be read ({0}): send R and S of ECDSA over the message's hash, in DER \
         form"
    )]
    Malformed(String),
    /// The signature is that of another key or message.
    #[error(
        "the signature does not fit the certificate that was sent: sign with the private key that \
         belongs to this certificate, and sign exactly the bytes that are sent"
    )]
    OtherKey,
    /// No organisational unit gives the identity a role, and its organisation asks for one.
    #[error(
        "the certificate has no organisational unit that gives its holder a role, and this \
         organisation asks for one (NodeOUs): have it issued again with OU=client in its subject, \
         such as `openssl req -new -subj \"/OU=client/CN=user\" …`"
    )]
    NoRole,
    /// The organisation does not accept the certificate.
    #[error(
        "the identity's organisation does not accept the certificate ({0}): use one that an \
         authority of this organisation issued to its holder and has not revoked"
    )]
    Certificate(String),
    /// The certificate is past its end.
    #[error(
        "the certificate ended {} ago by this node's clock: have it issued again, or set the clock \
         if it is wrong", span(*seconds)
    )]
    Expired {
        /// How long ago.
        seconds: i64,
    },
}

impl SignerFault {
    /// What is wrong with somebody's signature or, when that is good, with the certificate; nothing
    /// when both are good. Expiry is no matter of the organisation, so who enforces it adds
    /// [`SignerFault::Expired`].
    pub fn find(manager: &MspManager, signed: &SignedData) -> Option<Self> {
        match manager.deserialize(&signed.identity) {
            Ok(identity) => Self::of(&identity, &signed.data, &signed.signature),
            Err(error) => Some(Self::unusable(error)),
        }
    }

    /// As [`SignerFault::find`] for an identity that was read.
    pub fn of(identity: &Identity, message: &[u8], signature: &[u8]) -> Option<Self> {
        match identity.verify(message, signature) {
            Ok(()) => {}
            Err(IdentityError::Signature(CryptoError::HighS)) => return Some(Self::HighS),
            Err(IdentityError::Signature(error)) => {
                return Some(Self::Malformed(shortened(&in_full(&error))));
            }
            Err(_) => return Some(Self::OtherKey),
        }
        let reason = identity.validity().err()?;
        Some(if identity.lacks_role() {
            Self::NoRole
        } else {
            Self::Certificate(shortened(reason))
        })
    }

    /// What is wrong with bytes that no organisation takes for an identity.
    pub fn unusable(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownMsp(id) => Self::UnknownMsp(shortened(&id)),
            // No authority of the organisation stands behind it.
            IdentityError::Invalid(reason) => Self::Certificate(shortened(&reason)),
            other => Self::Unreadable(shortened(&in_full(&other))),
        }
    }
}

/// What came from outside may be of any length and hold anything, and this goes into logs and headers.
fn shortened(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).take(LONGEST).collect()
}

/// A length of time as people say it, rounded down.
fn span(seconds: i64) -> String {
    let (count, unit) = match seconds.max(0) {
        s @ ..120 => (s, "seconds"),
        s @ 120..7_200 => (s / 60, "minutes"),
        s @ 7_200..172_800 => (s / 3_600, "hours"),
        s => (s / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_as_people_do() {
        for (seconds, text) in [
            (-5, "0 seconds"),
            (60, "60 seconds"),
            (960, "16 minutes"),
            (7_200, "2 hours"),
            (400 * 86_400, "400 days"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
