use std::collections::HashMap;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::Extension;
use x509_cert::time::Time;

use super::certificate::is_ecdsa;
use super::extensions::{AUTHORITY_KEY_ID, authority_key_id};
use super::{DistinguishedName, in_what, split_signed, unix_seconds, unsigned};
use crate::{Certificate, CryptoError, KeyUsage, PublicKey, pem};

/// The largest revocation list that is read, in bytes: a million entries.
const MAX_CRL: usize = 64 << 20;

/// One entry of a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When, in seconds since 1970. Fabric ignores it.
    pub at: i64,
}

/// A certificate revocation list of version 1 or 2.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Box<[u8]>,
    tbs: std::ops::Range<usize>,
    signature: Box<[u8]>,
    algorithm: ObjectIdentifier,
    issuer: DistinguishedName,
    this_update: i64,
    next_update: Option<i64>,
    aki: Option<Box<[u8]>>,
    revoked: HashMap<Box<[u8]>, Revoked>,
}

impl Crl {
    /// Reads DER.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Crl, CryptoError> {
        let bad = in_what("revocation list");
        let signed = split_signed(der, MAX_CRL).map_err(&bad)?;
        let start = signed.tbs.as_ptr() as usize - der.as_ptr() as usize;
        let mut crl = Crl {
            der: der.into(),
            tbs: start..start + signed.tbs.len(),
            signature: signed.signature.into(),
            algorithm: signed.algorithm,
            issuer: DistinguishedName::read(&[0x30, 0]).map_err(&bad)?,
            this_update: 0,
            next_update: None,
            aki: None,
            revoked: HashMap::new(),
        };
        crl.read_fields(signed.tbs).map_err(&bad)?;
        Ok(crl)
    }

    /// Reads a PEM block `X509 CRL`.
    ///
    /// # Errors
    /// [`CryptoError::Pem`] or [`CryptoError::Malformed`].
    pub fn from_pem(text: &[u8]) -> Result<Crl, CryptoError> {
        Crl::from_der(&pem::first(text, "X509 CRL")?.der)
    }

    /// Reads either form, as Go does: PEM when it begins like a PEM block of that label.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`].
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Crl, CryptoError> {
        match pem::first(bytes, "X509 CRL") {
            Ok(block) if bytes.starts_with(b"-----BEGIN X509 CRL") => Crl::from_der(&block.der),
            _ => Crl::from_der(bytes),
        }
    }

    fn read_fields(&mut self, tbs: &[u8]) -> Result<(), der::Error> {
        let mut reader = SliceReader::new(tbs)?;
        reader.sequence(|inner| {
            if Tag::peek(inner)? == Tag::Integer && u8::decode(inner)? > 1 {
                return Err(Tag::Integer.value_error().into());
            }
            inner.tlv_bytes()?; // the algorithm again
            self.issuer = DistinguishedName::read(inner.tlv_bytes()?)?;
            self.this_update = unix_seconds(Time::decode(inner)?);
            if !inner.is_finished()
                && matches!(Tag::peek(inner)?, Tag::UtcTime | Tag::GeneralizedTime)
            {
                self.next_update = Some(unix_seconds(Time::decode(inner)?));
            }
            if !inner.is_finished() && Tag::peek(inner)? == Tag::Sequence {
                self.read_entries(inner)?;
            }
            if !inner.is_finished() {
                self.read_extensions(AnyRef::decode(inner)?)?;
            }
            Ok::<_, der::Error>(())
        })?;
        reader.finish()
    }

    fn read_entries(&mut self, reader: &mut SliceReader<'_>) -> Result<(), der::Error> {
        reader.sequence(|entries| {
            while !entries.is_finished() {
                entries.sequence(|entry| {
                    let serial = unsigned(entry.tlv_bytes()?)?;
                    let at = unix_seconds(Time::decode(entry)?);
                    if !entry.is_finished() {
                        entry.tlv_bytes()?;
                    }
                    self.revoked.insert(serial, Revoked { at });
                    Ok::<_, der::Error>(())
                })?;
            }
            Ok::<_, der::Error>(())
        })
    }

    fn read_extensions(&mut self, explicit: AnyRef<'_>) -> Result<(), der::Error> {
        if !explicit.tag().is_context_specific() {
            return Err(explicit.tag().value_error().into());
        }
        for extension in Vec::<Extension>::from_der(explicit.value())? {
            if extension.extn_id == AUTHORITY_KEY_ID {
                self.aki = authority_key_id(extension.extn_value.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The DER it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A PEM block `X509 CRL`.
    pub fn to_pem(&self) -> String {
        pem::encode("X509 CRL", &self.der)
    }

    /// Who revokes.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// When it was made, in seconds since 1970.
    pub fn this_update(&self) -> i64 {
        self.this_update
    }

    /// When the next is promised, in seconds since 1970.
    pub fn next_update(&self) -> Option<i64> {
        self.next_update
    }

    /// The key identifier of the authority that signed it, if it says.
    pub fn aki(&self) -> Option<&[u8]> {
        self.aki.as_deref()
    }

    /// The entry for a serial number as [`Certificate::serial`] gives it.
    pub fn revoked(&self, serial: &[u8]) -> Option<Revoked> {
        self.revoked.get(serial).copied()
    }

    /// How many certificates it revokes.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// True when it revokes none.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// Checks that `authority` signed this list.
    ///
    /// # Errors
    /// As for signatures; [`CryptoError::Malformed`] when it may not sign lists.
    pub fn verify_signed_by(&self, authority: &Certificate) -> Result<(), CryptoError> {
        if authority
            .key_usage()
            .is_some_and(|usage| !usage.contains(KeyUsage::CRL_SIGN))
        {
            let reason = "the authority may not sign revocation lists";
            return Err(CryptoError::malformed("revocation list", reason));
        }
        self.verify_signature(authority.public_key())
    }

    /// Checks the signature alone, as Fabric's MSP does: an ECDSA signature counts by its two
    /// numbers, whatever else its encoding carries.
    ///
    /// # Errors
    /// As for signatures; [`CryptoError::UnsupportedAlgorithm`] also for SHA-1.
    pub fn verify_signature(&self, key: &PublicKey) -> Result<(), CryptoError> {
        let tbs = &self.der[self.tbs.clone()];
        let canonical = crate::encoding::parse(&self.signature).map(|numbers| numbers.to_der());
        let signature = match &canonical {
            Ok(der) if is_ecdsa(self.algorithm) => der,
            _ => &self.signature[..],
        };
        key.verifier().verify_x509(self.algorithm, tbs, signature)
    }
}
