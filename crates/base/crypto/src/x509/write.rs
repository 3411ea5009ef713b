//! The few DER forms that are written, as Go writes them.

use der::asn1::{GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{DateTime, Encode};

use crate::CryptoError;

pub(crate) const INTEGER: u8 = 2;
pub(crate) const BIT_STRING: u8 = 3;
pub(crate) const OCTET_STRING: u8 = 4;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// One element: tag, length, and the parts in a row as contents.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - zeros) as u8);
        out.extend_from_slice(&bytes[zeros..]);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A non-negative integer from its big-endian bytes.
pub(crate) fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
    let digits = &magnitude[zeros..];
    let pad: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(INTEGER, &[pad, digits])
}

pub(crate) fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    element(6, &[oid.as_bytes()])
}

pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes])
}

/// One extension; `critical` is left out when false, as its default.
pub(crate) fn extension(id: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    element(
        SEQUENCE,
        &[&oid(id), flag, &element(OCTET_STRING, &[value])],
    )
}

/// A moment as certificates write it: two-digit years through 2049, four-digit ones after.
pub(crate) fn time(unix_seconds: i64) -> Result<Vec<u8>, CryptoError> {
    let out_of_range = |_| CryptoError::Issue(format!("the time {unix_seconds} is out of range"));
    let seconds = u64::try_from(unix_seconds)
        .map_err(|_| CryptoError::Issue("a time before 1970".to_owned()))?;
    let date = DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))
        .map_err(out_of_range)?;
    let encoded = match UtcTime::from_date_time(date) {
        Ok(short) => short.to_der(),
        Err(_) => GeneralizedTime::from_date_time(date).to_der(),
    };
    encoded.map_err(out_of_range)
}

/// What was signed, how, and the signature.
pub(crate) fn signed(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[tbs, algorithm, &bit_string(signature)])
}
