use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::Extension;

use super::extensions::{SUBJECT_ALT_NAME, names};
use super::{DistinguishedName, GeneralName, MAX_DER, in_what, split_signed};
use crate::{CryptoError, PublicKey, pem};

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// A certificate request (PKCS #10) whose own signature has been checked: whoever made it holds
/// the key.
#[derive(Clone, Debug)]
pub struct Request {
    der: Box<[u8]>,
    subject: DistinguishedName,
    public_key: PublicKey,
    names: Vec<GeneralName>,
}

impl Request {
    /// Reads DER and checks the signature.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`], or as for keys and signatures.
    pub fn from_der(der: &[u8]) -> Result<Request, CryptoError> {
        let bad = in_what("certificate request");
        let signed = split_signed(der, MAX_DER).map_err(&bad)?;
        let mut reader = SliceReader::new(signed.tbs).map_err(&bad)?;
        let read = reader.sequence(|inner| {
            u8::decode(inner)?;
            let subject = DistinguishedName::read(inner.tlv_bytes()?)?;
            let key = inner.tlv_bytes()?;
            let names = if inner.is_finished() {
                Vec::new()
            } else {
                requested(AnyRef::decode(inner)?)?
            };
            Ok::<_, der::Error>((subject, key, names))
        });
        let (subject, key, names) = read.map_err(&bad)?;
        reader.finish().map_err(&bad)?;
        let public_key = PublicKey::from_spki_der(key)?;
        public_key
            .verifier()
            .verify_x509(signed.algorithm, signed.tbs, signed.signature)?;
        Ok(Request {
            der: der.into(),
            subject,
            public_key,
            names,
        })
    }

    /// Reads a PEM block `CERTIFICATE REQUEST` and checks the signature.
    ///
    /// # Errors
    /// As [`Request::from_der`], and [`CryptoError::Pem`].
    pub fn from_pem(text: &[u8]) -> Result<Request, CryptoError> {
        let block = pem::first(text, "CERTIFICATE REQUEST")
            .or_else(|_| pem::first(text, "NEW CERTIFICATE REQUEST"))?;
        Request::from_der(&block.der)
    }

    /// A PEM block `CERTIFICATE REQUEST`.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.der)
    }

    /// The DER it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whom the certificate shall be for.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// The key to certify.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The hosts the certificate shall be good for.
    pub fn subject_alt_names(&self) -> &[GeneralName] {
        &self.names
    }
}

fn requested(attributes: AnyRef<'_>) -> Result<Vec<GeneralName>, der::Error> {
    if !attributes.tag().is_context_specific() {
        return Err(attributes.tag().value_error().into());
    }
    let mut reader = SliceReader::new(attributes.value())?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        let (oid, values) = reader.sequence(|attribute| {
            Ok::<_, der::Error>((
                ObjectIdentifier::decode(attribute)?,
                AnyRef::decode(attribute)?,
            ))
        })?;
        values.tag().assert_eq(Tag::Set)?;
        if oid != EXTENSION_REQUEST {
            continue;
        }
        for extension in Vec::<Extension>::from_der(values.value())? {
            if extension.extn_id == SUBJECT_ALT_NAME {
                found.extend(names(extension.extn_value.as_bytes())?);
            }
        }
    }
    Ok(found)
}
