//! Certificates, revocation lists and requests, read as Go's `crypto/x509` reads them.

mod certificate;
mod crl;
mod extensions;
pub(crate) mod extension_ids {
    pub(crate) use super::extensions::{
        AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, CRL_NUMBER, EXTENDED_KEY_USAGE, KEY_USAGE,
        SUBJECT_ALT_NAME, SUBJECT_KEY_ID,
    };
}
mod name;
mod request;
pub(crate) mod write;

pub use certificate::Certificate;
pub use crl::{Crl, Revoked};
pub use extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
pub use name::DistinguishedName;
pub use request::Request;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tagged};
use x509_cert::time::Time;

use crate::CryptoError;

/// Larger input is no certificate or request anybody made in earnest.
const MAX_DER: usize = 1 << 20;

/// The three parts every signed X.509 structure has.
struct Signed<'a> {
    tbs: &'a [u8],
    algorithm: ObjectIdentifier,
    algorithm_der: &'a [u8],
    signature: &'a [u8],
}

fn split_signed(der: &[u8], limit: usize) -> Result<Signed<'_>, der::Error> {
    if der.len() > limit {
        return Err(der::ErrorKind::Overlength.into());
    }
    let mut reader = SliceReader::new(der)?;
    let found = reader.sequence(|outer| {
        let tbs = outer.tlv_bytes()?;
        let algorithm_der = outer.tlv_bytes()?;
        let bits = BitStringRef::decode(outer)?;
        let signature = bits
            .as_bytes()
            .ok_or_else(|| der::Tag::BitString.value_error())?;
        let algorithm = algorithm_of(algorithm_der)?;
        Ok::<_, der::Error>(Signed {
            tbs,
            algorithm,
            algorithm_der,
            signature,
        })
    })?;
    reader.finish()?;
    Ok(found)
}

/// The OID of a DER AlgorithmIdentifier.
fn algorithm_of(der: &[u8]) -> Result<ObjectIdentifier, der::Error> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|inner| {
        let oid = ObjectIdentifier::decode(inner)?;
        if !inner.is_finished() {
            AnyRef::decode(inner)?;
        }
        Ok::<_, der::Error>(oid)
    })
}

fn unix_seconds(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// The contents of a DER INTEGER that must not be negative, without its leading zero.
fn unsigned(der: &[u8]) -> Result<Box<[u8]>, der::Error> {
    let any = AnyRef::from_der(der)?;
    match (any.tag(), any.value()) {
        (der::Tag::Integer, [] | [0x80..=0xff, ..]) => Err(der::Tag::Integer.value_error().into()),
        (der::Tag::Integer, [0, second, ..]) if *second < 0x80 => {
            Err(der::Tag::Integer.value_error().into())
        }
        (der::Tag::Integer, [0, rest @ ..]) if !rest.is_empty() => Ok(rest.into()),
        (der::Tag::Integer, value) => Ok(value.into()),
        _ => Err(der::Tag::Integer.value_error().into()),
    }
}

fn in_what(what: &'static str) -> impl Fn(der::Error) -> CryptoError {
    move |error| CryptoError::malformed(what, error)
}
