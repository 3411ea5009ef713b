use std::net::IpAddr;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::BasicConstraints;

pub(crate) const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(crate) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
pub(crate) const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// Extensions that may be critical though nothing is decoded of them here: name constraints, which
/// whoever builds a chain must look at, and those Go reads and does not act on (where revocation
/// lists lie, policies).
const ELSEWHERE: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
];

/// What a key may be used for: the KeyUsage extension, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage(pub u16);

impl KeyUsage {
    /// Signing messages.
    pub const DIGITAL_SIGNATURE: KeyUsage = KeyUsage(1);
    /// Encrypting keys.
    pub const KEY_ENCIPHERMENT: KeyUsage = KeyUsage(1 << 2);
    /// Signing certificates.
    pub const CERT_SIGN: KeyUsage = KeyUsage(1 << 5);
    /// Signing revocation lists.
    pub const CRL_SIGN: KeyUsage = KeyUsage(1 << 6);

    /// True when all of `other` is allowed.
    pub fn contains(self, other: KeyUsage) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: KeyUsage) -> KeyUsage {
        KeyUsage(self.0 | other.0)
    }
}

/// A purpose a certificate is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// Any purpose.
    Any,
    /// Being a TLS server.
    ServerAuth,
    /// Being a TLS client.
    ClientAuth,
    /// Anything else.
    Other(ObjectIdentifier),
}

impl ExtendedKeyUsage {
    const ANY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
    const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
    const CLIENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            ExtendedKeyUsage::Any => Self::ANY,
            ExtendedKeyUsage::ServerAuth => Self::SERVER,
            ExtendedKeyUsage::ClientAuth => Self::CLIENT,
            ExtendedKeyUsage::Other(oid) => oid,
        }
    }

    fn from_oid(oid: ObjectIdentifier) -> ExtendedKeyUsage {
        match oid {
            Self::ANY => ExtendedKeyUsage::Any,
            Self::SERVER => ExtendedKeyUsage::ServerAuth,
            Self::CLIENT => ExtendedKeyUsage::ClientAuth,
            other => ExtendedKeyUsage::Other(other),
        }
    }
}

/// A name a TLS certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GeneralName {
    /// A host name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// A URI.
    Uri(String),
    /// A mail address.
    Email(String),
}

impl GeneralName {
    /// An IP address when `text` is one, else a host name, as `cryptogen` decides.
    pub fn host(text: &str) -> GeneralName {
        match text.parse() {
            Ok(ip) => GeneralName::Ip(ip),
            Err(_) => GeneralName::Dns(text.to_owned()),
        }
    }
}

impl std::fmt::Display for GeneralName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GeneralName::Dns(text) | GeneralName::Uri(text) | GeneralName::Email(text) => {
                f.write_str(text)
            }
            GeneralName::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The extensions of a certificate, those we act on decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub(super) all: Vec<Extension>,
    pub(super) basic_constraints: Option<(bool, Option<u8>)>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Vec<ExtendedKeyUsage>,
    pub(super) names: Vec<GeneralName>,
    pub(super) subject_key_id: Option<Box<[u8]>>,
    pub(super) authority_key_id: Option<Box<[u8]>>,
    pub(super) unhandled_critical: bool,
}

impl Extensions {
    /// Decodes a DER SEQUENCE of extensions. A repeated extension is an error, as in Go.
    pub(super) fn read(der: &[u8]) -> Result<Extensions, der::Error> {
        let all = Vec::<Extension>::from_der(der)?;
        let mut seen: Vec<ObjectIdentifier> = all.iter().map(|e| e.extn_id).collect();
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Tag::Sequence.value_error().into());
        }
        let mut found = Extensions::default();
        for extension in &all {
            let known = found.take(extension.extn_id, extension.extn_value.as_bytes())?;
            found.unhandled_critical |= extension.critical && !known;
        }
        found.all = all;
        Ok(found)
    }

    fn take(&mut self, oid: ObjectIdentifier, value: &[u8]) -> Result<bool, der::Error> {
        match oid {
            BASIC_CONSTRAINTS => {
                let basic = BasicConstraints::from_der(value)?;
                self.basic_constraints = Some((basic.ca, basic.path_len_constraint));
            }
            KEY_USAGE => self.key_usage = Some(key_usage(value)?),
            EXTENDED_KEY_USAGE => {
                let oids = Vec::<ObjectIdentifier>::from_der(value)?;
                self.extended_key_usage =
                    oids.into_iter().map(ExtendedKeyUsage::from_oid).collect();
            }
            SUBJECT_ALT_NAME => self.names = names(value)?,
            SUBJECT_KEY_ID => {
                let id = AnyRef::from_der(value)?;
                id.tag().assert_eq(Tag::OctetString)?;
                self.subject_key_id = Some(id.value().into());
            }
            AUTHORITY_KEY_ID => self.authority_key_id = authority_key_id(value)?,
            _ => return Ok(ELSEWHERE.contains(&oid)),
        }
        Ok(true)
    }
}

/// The bits of a BIT STRING, first bit lowest.
fn key_usage(value: &[u8]) -> Result<KeyUsage, der::Error> {
    let any = AnyRef::from_der(value)?;
    any.tag().assert_eq(Tag::BitString)?;
    let [unused @ 0..8, bytes @ ..] = any.value() else {
        return Err(Tag::BitString.value_error().into());
    };
    if bytes.is_empty() && *unused > 0 {
        return Err(Tag::BitString.value_error().into());
    }
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0).reverse_bits();
    Ok(KeyUsage(u16::from(byte(0)) | (u16::from(byte(1)) & 1) << 8))
}

/// The key identifier; issuer and serial, which may stand beside it, decide nothing in Fabric.
pub(super) fn authority_key_id(value: &[u8]) -> Result<Option<Box<[u8]>>, der::Error> {
    let mut reader = SliceReader::new(value)?;
    let found = reader.sequence(|inner| {
        let mut id = None;
        while !inner.is_finished() {
            let any = AnyRef::decode(inner)?;
            if let Tag::ContextSpecific {
                constructed: false,
                number,
            } = any.tag()
                && number.value() == 0
            {
                id = Some(any.value().into());
            }
        }
        Ok::<_, der::Error>(id)
    })?;
    reader.finish()?;
    Ok(found)
}

pub(super) fn names(value: &[u8]) -> Result<Vec<GeneralName>, der::Error> {
    let mut reader = SliceReader::new(value)?;
    let found = reader.sequence(|inner| {
        let mut names = Vec::new();
        while !inner.is_finished() {
            let any = AnyRef::decode(inner)?;
            let Tag::ContextSpecific { number, .. } = any.tag() else {
                return Err(any.tag().value_error().into());
            };
            let text = || match std::str::from_utf8(any.value()) {
                Ok(text) if text.is_ascii() => Ok(text.to_owned()),
                _ => Err(der::Error::from(Tag::Ia5String.value_error())),
            };
            match number.value() {
                1 => names.push(GeneralName::Email(text()?)),
                2 => names.push(GeneralName::Dns(text()?)),
                6 => names.push(GeneralName::Uri(text()?)),
                7 => names.push(GeneralName::Ip(ip(any.value())?)),
                _ => {}
            }
        }
        Ok::<_, der::Error>(names)
    })?;
    reader.finish()?;
    Ok(found)
}

fn ip(bytes: &[u8]) -> Result<IpAddr, der::Error> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(v6.into()),
        Err(_) => Err(Tag::OctetString.value_error().into()),
    }
}
