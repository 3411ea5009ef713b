//! Making certificates, requests and revocation lists: what `cryptogen` and Fabric CA make.
//!
//! An [`Authority`] is a certificate with its key. It issues identity certificates, whose
//! organisational unit gives the role under NodeOUs, TLS certificates and intermediate
//! authorities. Names, extensions and their order are those of Fabric's `cryptogen`, so tools that
//! look at one look at ours the same way.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use der::asn1::ObjectIdentifier;

use crate::x509::write::{
    OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING, element, extension, oid, signed,
    time, unsigned,
};
use crate::x509::{ExtendedKeyUsage, GeneralName, KeyUsage, Request};
use crate::{Certificate, Crl, CryptoError, KeyKind, PrivateKey, PublicKey};

mod extension_id {
    pub(super) use crate::x509::extension_ids::*;
}

/// Fabric CA's attributes extension.
const ATTRIBUTES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.3.4.5.6.7.8.1");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

/// Ten years, the life `cryptogen` gives everything, in seconds.
pub const TEN_YEARS: i64 = 3650 * 24 * 3600;

/// The role a certificate's organisational unit gives under NodeOUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// A user or application.
    Client,
    /// A peer.
    Peer,
    /// An administrator of the organisation.
    Admin,
    /// An orderer.
    Orderer,
}

impl NodeRole {
    /// The organisational unit `cryptogen` writes for it.
    pub fn organizational_unit(self) -> &'static str {
        match self {
            NodeRole::Client => "client",
            NodeRole::Peer => "peer",
            NodeRole::Admin => "admin",
            NodeRole::Orderer => "orderer",
        }
    }
}

/// A name to be certified. Empty fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Country, two letters.
    pub country: String,
    /// State or province.
    pub province: String,
    /// City.
    pub locality: String,
    /// Street addresses.
    pub street: String,
    /// Postal code.
    pub postal_code: String,
    /// Organisation.
    pub organization: String,
    /// Organisational units, in order.
    pub organizational_units: Vec<String>,
    /// Common name.
    pub common_name: String,
}

impl Subject {
    /// A name with only a common name.
    pub fn named(common_name: impl Into<String>) -> Subject {
        Subject {
            common_name: common_name.into(),
            ..Subject::default()
        }
    }

    /// The place `cryptogen` puts everybody in unless told otherwise.
    pub fn in_san_francisco(common_name: impl Into<String>) -> Subject {
        Subject {
            country: "US".into(),
            province: "California".into(),
            locality: "San Francisco".into(),
            common_name: common_name.into(),
            ..Subject::default()
        }
    }

    fn to_der(&self) -> Result<Vec<u8>, CryptoError> {
        let mut parts: Vec<(&str, &str)> = vec![
            ("2.5.4.6", &self.country),
            ("2.5.4.8", &self.province),
            ("2.5.4.7", &self.locality),
            ("2.5.4.9", &self.street),
            ("2.5.4.17", &self.postal_code),
            ("2.5.4.10", &self.organization),
        ];
        parts.extend(
            self.organizational_units
                .iter()
                .map(|unit| ("2.5.4.11", unit.as_str())),
        );
        parts.push(("2.5.4.3", &self.common_name));
        let mut out = Vec::new();
        for (id, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
            if text.len() > 1024 {
                return Err(CryptoError::Issue("a name longer than 1024 bytes".into()));
            }
            let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
            let tag = if text.bytes().all(printable) {
                PRINTABLE_STRING
            } else {
                UTF8_STRING
            };
            let id = oid(ObjectIdentifier::new_unwrap(id));
            let pair = element(SEQUENCE, &[&id, &element(tag, &[text.as_bytes()])]);
            out.extend(element(SET, &[&pair]));
        }
        Ok(element(SEQUENCE, &[&out]))
    }
}

/// From when until when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Validity {
    /// From five minutes before the full minute of `now`, for `seconds`, as `cryptogen` does.
    pub fn starting(now: i64, seconds: i64) -> Validity {
        let not_before = ((now + 30).div_euclid(60) * 60 - 300).max(0);
        Validity {
            not_before,
            not_after: not_before.saturating_add(seconds),
        }
    }

    /// Ten years from `now`.
    pub fn ten_years(now: i64) -> Validity {
        Validity::starting(now, TEN_YEARS)
    }
}

/// What a leaf certificate says besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProfile {
    /// Whom it is for.
    pub subject: Subject,
    /// From when until when.
    pub validity: Validity,
    /// What the key may do.
    pub key_usage: KeyUsage,
    /// What for; empty for anything.
    pub extended_key_usage: Vec<ExtendedKeyUsage>,
    /// Hosts it is good for.
    pub names: Vec<GeneralName>,
    /// Fabric CA attributes, put into extension 1.2.3.4.5.6.7.8.1 when there are any.
    pub attributes: BTreeMap<String, String>,
}

impl LeafProfile {
    /// An identity certificate: signing only, the role as its organisational unit.
    pub fn identity(common_name: &str, role: NodeRole, validity: Validity) -> LeafProfile {
        let mut subject = Subject::in_san_francisco(common_name);
        subject
            .organizational_units
            .push(role.organizational_unit().into());
        LeafProfile {
            subject,
            validity,
            key_usage: KeyUsage::DIGITAL_SIGNATURE,
            extended_key_usage: Vec::new(),
            names: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// A TLS certificate for a node: server and client at once, good for these hosts.
    pub fn tls(common_name: &str, hosts: &[&str], validity: Validity) -> LeafProfile {
        LeafProfile {
            subject: Subject::in_san_francisco(common_name),
            validity,
            key_usage: KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::KEY_ENCIPHERMENT),
            extended_key_usage: vec![ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth],
            names: hosts.iter().map(|host| GeneralName::host(host)).collect(),
            attributes: BTreeMap::new(),
        }
    }
}

/// A certificate authority: its certificate and key.
#[derive(Clone, Debug)]
pub struct Authority {
    certificate: Certificate,
    key: PrivateKey,
}

impl Authority {
    /// Makes a self-signed authority with a new P-256 key.
    ///
    /// # Errors
    /// [`CryptoError::Issue`] for names or times that cannot be written.
    pub fn new_root(subject: &Subject, validity: Validity) -> Result<Authority, CryptoError> {
        Authority::new_root_with_key(subject, validity, PrivateKey::generate(KeyKind::P256)?)
    }

    /// Makes a self-signed authority with this key.
    ///
    /// # Errors
    /// As [`Authority::new_root`].
    pub fn new_root_with_key(
        subject: &Subject,
        validity: Validity,
        key: PrivateKey,
    ) -> Result<Authority, CryptoError> {
        let name = subject.to_der()?;
        let to_sign = ToSign {
            issuer: &name,
            subject: &name,
            validity,
            key: key.public_key(),
            extensions: authority_extensions(key.public_key(), None, None),
        };
        let certificate = to_sign.sign(&key)?;
        Ok(Authority { certificate, key })
    }

    /// An authority from what was stored of it.
    ///
    /// # Errors
    /// [`CryptoError::Issue`] when the certificate is no authority's or the key is another's.
    pub fn from_parts(certificate: Certificate, key: PrivateKey) -> Result<Authority, CryptoError> {
        if certificate.public_key() != key.public_key() {
            return Err(CryptoError::Issue(
                "the key does not belong to the certificate".into(),
            ));
        }
        if !certificate.is_ca() {
            return Err(CryptoError::Issue(
                "the certificate is no authority's".into(),
            ));
        }
        Ok(Authority { certificate, key })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Makes an authority below this one, with a new P-256 key. `path_length` is how many more
    /// authorities may follow below it.
    ///
    /// # Errors
    /// As [`Authority::new_root`].
    pub fn new_intermediate(
        &self,
        subject: &Subject,
        validity: Validity,
        path_length: Option<u8>,
    ) -> Result<Authority, CryptoError> {
        let key = PrivateKey::generate(KeyKind::P256)?;
        let aki = self.certificate.ski();
        let to_sign = ToSign {
            issuer: self.certificate.subject().der(),
            subject: &subject.to_der()?,
            validity,
            key: key.public_key(),
            extensions: authority_extensions(key.public_key(), aki, path_length),
        };
        let certificate = to_sign.sign(&self.key)?;
        Ok(Authority { certificate, key })
    }

    /// Certifies a key.
    ///
    /// # Errors
    /// As [`Authority::new_root`].
    pub fn issue(
        &self,
        profile: &LeafProfile,
        key: &PublicKey,
    ) -> Result<Certificate, CryptoError> {
        let to_sign = ToSign {
            issuer: self.certificate.subject().der(),
            subject: &profile.subject.to_der()?,
            validity: profile.validity,
            key,
            extensions: leaf_extensions(profile, self.certificate.ski())?,
        };
        to_sign.sign(&self.key)
    }

    /// Makes a P-256 key and certifies it.
    ///
    /// # Errors
    /// As [`Authority::new_root`].
    pub fn issue_new(
        &self,
        profile: &LeafProfile,
    ) -> Result<(Certificate, PrivateKey), CryptoError> {
        let key = PrivateKey::generate(KeyKind::P256)?;
        Ok((self.issue(profile, key.public_key())?, key))
    }

    /// Certifies the key of a request. The profile decides everything else; a caller that wants to
    /// honour names from the request copies them into it.
    ///
    /// # Errors
    /// As [`Authority::new_root`].
    pub fn issue_request(
        &self,
        request: &Request,
        profile: &LeafProfile,
    ) -> Result<Certificate, CryptoError> {
        self.issue(profile, request.public_key())
    }

    /// Makes a revocation list of serial numbers with the moment each was revoked.
    ///
    /// # Errors
    /// [`CryptoError::Issue`] for times that cannot be written.
    pub fn revoke(
        &self,
        revoked: &[(Vec<u8>, i64)],
        number: u64,
        this_update: i64,
        next_update: i64,
    ) -> Result<Crl, CryptoError> {
        let mut entries = Vec::new();
        for (serial, at) in revoked {
            entries.extend(element(SEQUENCE, &[&unsigned(serial), &time(*at)?]));
        }
        let entries = if entries.is_empty() {
            Vec::new()
        } else {
            element(SEQUENCE, &[&entries])
        };
        let mut extensions = self
            .certificate
            .ski()
            .map(authority_key_id)
            .unwrap_or_default();
        let number = unsigned(&number.to_be_bytes());
        extensions.extend(extension(extension_id::CRL_NUMBER, false, &number));
        let tbs = element(
            SEQUENCE,
            &[
                &[2, 1, 1],
                self.key.x509_algorithm(),
                self.certificate.subject().der(),
                &time(this_update)?,
                &time(next_update)?,
                &entries,
                &element(0xa0, &[&element(SEQUENCE, &[&extensions])]),
            ],
        );
        let signature = self.key.sign(&tbs)?;
        Crl::from_der(&signed(&tbs, self.key.x509_algorithm(), &signature))
    }
}

/// Makes a certificate request for a key.
///
/// # Errors
/// [`CryptoError::Issue`] for names that cannot be written.
pub fn request(
    subject: &Subject,
    names: &[GeneralName],
    key: &PrivateKey,
) -> Result<Request, CryptoError> {
    let attributes = if names.is_empty() {
        Vec::new()
    } else {
        let extensions = element(SEQUENCE, &[&alt_names(names)]);
        let id = oid(EXTENSION_REQUEST);
        element(SEQUENCE, &[&id, &element(SET, &[&extensions])])
    };
    let tbs = element(
        SEQUENCE,
        &[
            &[2, 1, 0],
            &subject.to_der()?,
            key.public_key().spki_der(),
            &element(0xa0, &[&attributes]),
        ],
    );
    let signature = key.sign(&tbs)?;
    Request::from_der(&signed(&tbs, key.x509_algorithm(), &signature))
}

struct ToSign<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: Validity,
    key: &'a PublicKey,
    extensions: Vec<u8>,
}

impl ToSign<'_> {
    fn sign(self, key: &PrivateKey) -> Result<Certificate, CryptoError> {
        if self.validity.not_after <= self.validity.not_before {
            return Err(CryptoError::Issue("it would end before it begins".into()));
        }
        let mut serial = [0; 16];
        rand::fill(&mut serial).map_err(|_| CryptoError::Library("make a serial number"))?;
        let validity = [
            time(self.validity.not_before)?,
            time(self.validity.not_after)?,
        ];
        let tbs = element(
            SEQUENCE,
            &[
                &[0xa0, 3, 2, 1, 2],
                &unsigned(&serial),
                key.x509_algorithm(),
                self.issuer,
                &element(SEQUENCE, &[&validity[0], &validity[1]]),
                self.subject,
                self.key.spki_der(),
                &element(0xa3, &[&element(SEQUENCE, &[&self.extensions])]),
            ],
        );
        let signature = key.sign(&tbs)?;
        Certificate::from_der(&signed(&tbs, key.x509_algorithm(), &signature))
    }
}

fn authority_extensions(key: &PublicKey, aki: Option<&[u8]>, path_length: Option<u8>) -> Vec<u8> {
    let usage = KeyUsage::DIGITAL_SIGNATURE
        .with(KeyUsage::KEY_ENCIPHERMENT)
        .with(KeyUsage::CERT_SIGN)
        .with(KeyUsage::CRL_SIGN);
    let mut out = key_usage(usage);
    out.extend(purposes(&[
        ExtendedKeyUsage::ClientAuth,
        ExtendedKeyUsage::ServerAuth,
    ]));
    let length = path_length
        .map(|length| unsigned(&[length]))
        .unwrap_or_default();
    let constraints = element(SEQUENCE, &[&[1, 1, 0xff], &length]);
    out.extend(extension(
        extension_id::BASIC_CONSTRAINTS,
        true,
        &constraints,
    ));
    let ski = element(OCTET_STRING, &[&key.ski()]);
    out.extend(extension(extension_id::SUBJECT_KEY_ID, false, &ski));
    out.extend(aki.map(authority_key_id).unwrap_or_default());
    out
}

fn leaf_extensions(profile: &LeafProfile, aki: Option<&[u8]>) -> Result<Vec<u8>, CryptoError> {
    let mut out = key_usage(profile.key_usage);
    if !profile.extended_key_usage.is_empty() {
        out.extend(purposes(&profile.extended_key_usage));
    }
    out.extend(extension(
        extension_id::BASIC_CONSTRAINTS,
        true,
        &[SEQUENCE, 0],
    ));
    out.extend(aki.map(authority_key_id).unwrap_or_default());
    if !profile.names.is_empty() {
        if profile
            .names
            .iter()
            .any(|name| !name.to_string().is_ascii())
        {
            return Err(CryptoError::Issue("a host name that is not ASCII".into()));
        }
        out.extend(alt_names(&profile.names));
    }
    if !profile.attributes.is_empty() {
        let json = attributes_json(&profile.attributes);
        out.extend(extension(ATTRIBUTES, false, json.as_bytes()));
    }
    Ok(out)
}

fn key_usage(usage: KeyUsage) -> Vec<u8> {
    let bytes = [
        (usage.0 as u8).reverse_bits(),
        ((usage.0 >> 8) as u8).reverse_bits(),
    ];
    let used = if bytes[1] == 0 {
        &bytes[..1]
    } else {
        &bytes[..]
    };
    let unused = used
        .last()
        .map_or(0, |last| last.trailing_zeros().min(7) as u8);
    let value = element(3, &[&[unused], used]);
    extension(extension_id::KEY_USAGE, true, &value)
}

fn purposes(purposes: &[ExtendedKeyUsage]) -> Vec<u8> {
    let oids: Vec<u8> = purposes
        .iter()
        .flat_map(|purpose| oid(purpose.oid()))
        .collect();
    extension(
        extension_id::EXTENDED_KEY_USAGE,
        false,
        &element(SEQUENCE, &[&oids]),
    )
}

fn authority_key_id(id: &[u8]) -> Vec<u8> {
    let value = element(SEQUENCE, &[&element(0x80, &[id])]);
    extension(extension_id::AUTHORITY_KEY_ID, false, &value)
}

fn alt_names(names: &[GeneralName]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        out.extend(match name {
            GeneralName::Email(text) => element(0x81, &[text.as_bytes()]),
            GeneralName::Dns(text) => element(0x82, &[text.as_bytes()]),
            GeneralName::Uri(text) => element(0x86, &[text.as_bytes()]),
            GeneralName::Ip(std::net::IpAddr::V4(ip)) => element(0x87, &[&ip.octets()]),
            GeneralName::Ip(std::net::IpAddr::V6(ip)) => element(0x87, &[&ip.octets()]),
        });
    }
    extension(
        extension_id::SUBJECT_ALT_NAME,
        false,
        &element(SEQUENCE, &[&out]),
    )
}

/// Fabric CA's JSON, byte for byte: keys sorted, and Go's escapes.
fn attributes_json(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = attributes
        .iter()
        .map(|(name, value)| format!("{}:{}", json_string(name), json_string(value)))
        .collect();
    format!("{{\"attrs\":{{{}}}}}", pairs.join(","))
}

fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
