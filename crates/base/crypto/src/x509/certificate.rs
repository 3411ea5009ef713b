use std::ops::Range;
use std::sync::Arc;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::time::Time;

use super::extensions::Extensions;
use super::{
    DistinguishedName, ExtendedKeyUsage, GeneralName, KeyUsage, MAX_DER, in_what, split_signed,
    unix_seconds, unsigned, write,
};
use crate::{CryptoError, PublicKey, pem, sha256};

/// ecdsa-with-SHA1 and the four of the SHA-2 family that follow it.
const ECDSA_SIGNATURES: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"),
];

/// An X.509 certificate of version 1 to 3, parsed once; cloning shares it.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    tbs: Range<usize>,
    algorithm: ObjectIdentifier,
    algorithm_der: Range<usize>,
    signature: Range<usize>,
    fields: Fields,
    fingerprint: [u8; 32],
}

struct Fields {
    version: u8,
    serial: Box<[u8]>,
    issuer: DistinguishedName,
    subject: DistinguishedName,
    not_before: i64,
    not_after: i64,
    public_key: PublicKey,
    extensions: Extensions,
}

impl Certificate {
    /// Reads DER; bytes after the certificate are an error.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`], or what [`PublicKey::from_spki_der`] says about its key.
    pub fn from_der(der: &[u8]) -> Result<Certificate, CryptoError> {
        let signed = split_signed(der, MAX_DER).map_err(in_what("certificate"))?;
        let within = |part: &[u8]| {
            let start = part.as_ptr() as usize - der.as_ptr() as usize;
            start..start + part.len()
        };
        let fields = fields(signed.tbs, signed.algorithm_der)?;
        Ok(Certificate(Arc::new(Inner {
            tbs: within(signed.tbs),
            algorithm: signed.algorithm,
            algorithm_der: within(signed.algorithm_der),
            signature: within(signed.signature),
            fields,
            fingerprint: sha256(der),
            der: der.into(),
        })))
    }

    /// Reads the first PEM block, which must be a `CERTIFICATE`.
    ///
    /// # Errors
    /// As [`Certificate::from_der`], and [`CryptoError::Pem`].
    pub fn from_pem(text: &[u8]) -> Result<Certificate, CryptoError> {
        Certificate::from_der(&pem::first(text, "CERTIFICATE")?.der)
    }

    /// Reads every `CERTIFICATE` block of a text.
    ///
    /// # Errors
    /// As [`Certificate::from_der`]; [`CryptoError::Pem`] when there is none.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Certificate>, CryptoError> {
        let certificates = pem::blocks(text)
            .filter(|block| block.label == "CERTIFICATE")
            .map(|block| Certificate::from_der(&block.der))
            .collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(CryptoError::Pem("no CERTIFICATE in it".into()));
        }
        Ok(certificates)
    }

    /// The DER it was read from.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// A PEM block `CERTIFICATE`.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", self.der())
    }

    /// The key it certifies.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.fields.public_key
    }

    /// Whom it certifies.
    pub fn subject(&self) -> &DistinguishedName {
        &self.0.fields.subject
    }

    /// Who certifies.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.0.fields.issuer
    }

    /// The subject's common name; empty when it has none.
    pub fn common_name(&self) -> &str {
        self.subject().common_name()
    }

    /// The subject's organisational units, in the order they stand.
    pub fn organizational_units(&self) -> Vec<&str> {
        self.subject().organizational_units()
    }

    /// From when it is valid, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.0.fields.not_before
    }

    /// Until when it is valid, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.fields.not_after
    }

    /// The serial number, big-endian, without leading zeros (zero itself is one zero byte).
    pub fn serial(&self) -> &[u8] {
        &self.0.fields.serial
    }

    /// 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.0.fields.version
    }

    /// True when its basic constraints say it is an authority.
    pub fn is_ca(&self) -> bool {
        self.0
            .fields
            .extensions
            .basic_constraints
            .is_some_and(|(ca, _)| ca)
    }

    /// True when it has the extension that says whether it is an authority.
    pub fn has_basic_constraints(&self) -> bool {
        self.0.fields.extensions.basic_constraints.is_some()
    }

    /// How many authorities may follow below this one; `None` when any number may.
    pub fn path_length(&self) -> Option<u8> {
        self.0
            .fields
            .extensions
            .basic_constraints
            .and_then(|(_, length)| length)
    }

    /// What its key may be used for; `None` when it does not say, so for anything.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.fields.extensions.key_usage
    }

    /// The purposes it is meant for; empty when it names none, so for any.
    pub fn extended_key_usage(&self) -> &[ExtendedKeyUsage] {
        &self.0.fields.extensions.extended_key_usage
    }

    /// The hosts and other names it is good for.
    pub fn subject_alt_names(&self) -> &[GeneralName] {
        &self.0.fields.extensions.names
    }

    /// The subject key identifier, if it carries one.
    pub fn ski(&self) -> Option<&[u8]> {
        self.0.fields.extensions.subject_key_id.as_deref()
    }

    /// The key identifier of its authority, if it carries one.
    pub fn aki(&self) -> Option<&[u8]> {
        self.0.fields.extensions.authority_key_id.as_deref()
    }

    /// The value of an extension by its dotted OID, e.g. Fabric CA's attributes
    /// (`1.2.3.4.5.6.7.8.1`).
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        let oid = ObjectIdentifier::new(oid).ok()?;
        let found = self
            .0
            .fields
            .extensions
            .all
            .iter()
            .find(|e| e.extn_id == oid)?;
        Some(found.extn_value.as_bytes())
    }

    /// True when it has a critical extension nobody here acts on, so that no chain may use it.
    /// Name constraints do not count: whoever builds a chain must look at them.
    pub fn has_unhandled_critical_extension(&self) -> bool {
        self.0.fields.extensions.unhandled_critical
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.0.fingerprint
    }

    /// The signature of its issuer over it.
    pub fn signature(&self) -> &[u8] {
        &self.0.der[self.0.signature.clone()]
    }

    /// True when subject and issuer are the same.
    pub fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    /// Checks that `issuer` may sign certificates, bears the right name and did sign this one.
    /// Validity times are not looked at.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] for an issuer that must not have signed, or as for signatures.
    pub fn verify_issued_by(&self, issuer: &Certificate) -> Result<(), CryptoError> {
        let refuse = |reason| Err(CryptoError::malformed("certificate chain", reason));
        if self.issuer() != issuer.subject() {
            return refuse("the issuer bears another name");
        }
        let v3 = issuer.version() == 3;
        if (v3 && !issuer.has_basic_constraints())
            || (issuer.has_basic_constraints() && !issuer.is_ca())
        {
            return refuse("the issuer is no authority");
        }
        if issuer
            .key_usage()
            .is_some_and(|usage| !usage.contains(KeyUsage::CERT_SIGN))
        {
            return refuse("the issuer may not sign certificates");
        }
        self.verify_signed_by(issuer.public_key())
    }

    /// Checks the signature alone.
    ///
    /// # Errors
    /// As for signatures; high-S is no error here.
    pub fn verify_signed_by(&self, key: &PublicKey) -> Result<(), CryptoError> {
        let tbs = &self.0.der[self.0.tbs.clone()];
        key.verifier()
            .verify_x509(self.0.algorithm, tbs, self.signature())
    }

    /// True when it is signed with ECDSA, by whatever curve and hash.
    pub fn is_ecdsa_signed(&self) -> bool {
        is_ecdsa(self.0.algorithm)
    }

    /// True when its ECDSA signature is the one DER encoding of its two numbers.
    pub fn has_canonical_signature(&self) -> bool {
        let parsed = crate::encoding::parse(self.signature());
        parsed.is_ok_and(|numbers| numbers.to_der() == self.signature())
    }

    /// This certificate with its ECDSA signature in low-S form, as Fabric's MSP rewrites every
    /// certificate before it hashes or serialises it; itself when nothing is to be changed.
    ///
    /// # Errors
    /// When it says it is signed with ECDSA and the signature or the issuer's key is not.
    pub fn sanitized(&self, issuer_key: &PublicKey) -> Result<Certificate, CryptoError> {
        if !self.is_ecdsa_signed() {
            return Ok(self.clone());
        }
        let Some(low) = issuer_key.verifier().low_s(self.signature())? else {
            let reason = format!(
                "an ECDSA signature cannot be by a {} key",
                issuer_key.kind()
            );
            return Err(CryptoError::UnsupportedKey(reason));
        };
        if low == self.signature() {
            return Ok(self.clone());
        }
        let tbs = &self.0.der[self.0.tbs.clone()];
        let algorithm = &self.0.der[self.0.algorithm_der.clone()];
        Certificate::from_der(&write::signed(tbs, algorithm, &low))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Certificate {}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (subject, serial) = (self.subject(), hex::encode(self.serial()));
        write!(f, "Certificate({subject}, serial {serial})")
    }
}

pub(super) fn is_ecdsa(algorithm: ObjectIdentifier) -> bool {
    ECDSA_SIGNATURES.contains(&algorithm)
}

fn fields(tbs: &[u8], outer_algorithm: &[u8]) -> Result<Fields, CryptoError> {
    let mut key = None;
    let mut reader = SliceReader::new(tbs).map_err(in_what("certificate"))?;
    let read = reader.sequence(|inner| {
        let version = version(inner)?;
        let serial = unsigned(inner.tlv_bytes()?)?;
        if inner.tlv_bytes()? != outer_algorithm {
            // Go: inner and outer signature algorithm identifiers don't match.
            return Err(Tag::Sequence.value_error().into());
        }
        let issuer = DistinguishedName::read(inner.tlv_bytes()?)?;
        let (not_before, not_after) = inner.sequence(|validity| {
            Ok::<_, der::Error>((Time::decode(validity)?, Time::decode(validity)?))
        })?;
        let subject = DistinguishedName::read(inner.tlv_bytes()?)?;
        key = Some(PublicKey::from_spki_der(inner.tlv_bytes()?));
        let extensions = optional_parts(inner, version)?;
        let not_before = unix_seconds(not_before);
        let not_after = unix_seconds(not_after);
        Ok::<_, der::Error>((
            version, serial, issuer, subject, not_before, not_after, extensions,
        ))
    });
    // A key nobody knows says more than the generic error it causes.
    if let Some(Err(error)) = key {
        return Err(error);
    }
    let read = read.and_then(|read| reader.finish().map(|()| read));
    let (version, serial, issuer, subject, not_before, not_after, extensions) =
        read.map_err(in_what("certificate"))?;
    let Some(Ok(public_key)) = key else {
        return Err(CryptoError::malformed("certificate", "no key in it"));
    };
    let fields = Fields {
        version,
        serial,
        issuer,
        subject,
        not_before,
        not_after,
        public_key,
        extensions,
    };
    Ok(fields)
}

fn context(any: &AnyRef<'_>) -> Option<u32> {
    match any.tag() {
        Tag::ContextSpecific { number, .. } => Some(number.value()),
        _ => None,
    }
}

fn version<'a>(reader: &mut SliceReader<'a>) -> Result<u8, der::Error> {
    if !Tag::peek(reader)?.is_context_specific() {
        return Ok(1);
    }
    let explicit = AnyRef::decode(reader)?;
    if context(&explicit) != Some(0) {
        return Err(explicit.tag().value_error().into());
    }
    match u8::from_der(explicit.value())? {
        number @ 0..=2 => Ok(number + 1),
        _ => Err(Tag::Integer.value_error().into()),
    }
}

fn optional_parts(reader: &mut SliceReader<'_>, version: u8) -> Result<Extensions, der::Error> {
    let mut extensions = Extensions::default();
    let mut last = 0;
    while !reader.is_finished() {
        let part = AnyRef::decode(reader)?;
        match context(&part) {
            // The unique identifiers nobody uses.
            Some(number @ 1..=2) if number > last && version > 1 => last = number,
            Some(3) if last < 3 && version == 3 => {
                last = 3;
                extensions = Extensions::read(part.value())?;
            }
            _ => return Err(part.tag().value_error().into()),
        }
    }
    Ok(extensions)
}
