use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};

const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
const ORGANIZATIONAL_UNIT: &str = "2.5.4.11";

/// Attribute types with a short name in the text form, as Go writes it.
const SHORT: [(&str, &str); 9] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    ("2.5.4.17", "POSTALCODE"),
];

/// The name of a subject or issuer.
///
/// Two names are the same when their DER is, which is how Go finds a certificate's issuer. The
/// text form is Go's: last part first, joined by commas.
#[derive(Clone)]
pub struct DistinguishedName {
    der: Box<[u8]>,
    parts: Vec<Vec<(ObjectIdentifier, String)>>,
}

impl DistinguishedName {
    pub(super) fn read(der: &[u8]) -> Result<DistinguishedName, der::Error> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|name| {
            let mut parts = Vec::new();
            while !name.is_finished() {
                parts.push(relative(AnyRef::decode(name)?)?);
            }
            Ok::<_, der::Error>(parts)
        })?;
        reader.finish()?;
        Ok(DistinguishedName {
            der: der.into(),
            parts,
        })
    }

    /// The DER it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn all(&self, wanted: &str) -> impl Iterator<Item = &str> {
        let wanted = ObjectIdentifier::new_unwrap(wanted);
        let all = self.parts.iter().flatten();
        all.filter(move |(oid, _)| *oid == wanted)
            .map(|(_, value)| value.as_str())
    }

    /// The common name; the last one when there are several, and empty when there is none.
    pub fn common_name(&self) -> &str {
        self.all(COMMON_NAME).last().unwrap_or_default()
    }

    /// The organisations, in the order they stand.
    pub fn organizations(&self) -> Vec<&str> {
        self.all(ORGANIZATION).collect()
    }

    /// The organisational units, in the order they stand.
    pub fn organizational_units(&self) -> Vec<&str> {
        self.all(ORGANIZATIONAL_UNIT).collect()
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &DistinguishedName) -> bool {
        self.der == other.der
    }
}

impl Eq for DistinguishedName {}

impl std::fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DistinguishedName({self})")
    }
}

impl std::fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, part) in self.parts.iter().rev().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            for (j, (oid, value)) in part.iter().enumerate() {
                f.write_str(if j == 0 { "" } else { "+" })?;
                let text = oid.to_string();
                let short = SHORT
                    .iter()
                    .find(|(known, _)| *known == text)
                    .map(|(_, name)| *name);
                write!(f, "{}={}", short.unwrap_or(&text), escaped(value))?;
            }
        }
        Ok(())
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (c == '#' && i == 0)
            || (c == ' ' && (i == 0 || i == last));
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn relative(set: AnyRef<'_>) -> Result<Vec<(ObjectIdentifier, String)>, der::Error> {
    if set.tag() != Tag::Set {
        return Err(Tag::Set.value_error().into());
    }
    let mut reader = SliceReader::new(set.value())?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        let pair = reader.sequence(|pair| {
            let oid = ObjectIdentifier::decode(pair)?;
            let value = AnyRef::decode(pair)?;
            Ok::<_, der::Error>((oid, text(value)?))
        })?;
        found.push(pair);
    }
    Ok(found)
}

/// The string kinds Go takes in names, with its checks.
fn text(value: AnyRef<'_>) -> Result<String, der::Error> {
    let (tag, bytes) = (value.tag(), value.value());
    let bad = || der::Error::from(tag.value_error());
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad());
    let printable = |b: &u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(b);
    match tag {
        Tag::Utf8String => utf8(bytes),
        Tag::PrintableString if bytes.iter().all(printable) => utf8(bytes),
        Tag::Ia5String if bytes.is_ascii() => utf8(bytes),
        Tag::NumericString if bytes.iter().all(|b| b.is_ascii_digit() || *b == b' ') => utf8(bytes),
        Tag::TeletexString => Ok(bytes.iter().map(|b| char::from(*b)).collect()),
        Tag::BmpString if bytes.len().is_multiple_of(2) => {
            let units: Vec<u16> = bytes
                .chunks(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}
