//! The request signature SDK-HMAC-SHA256 of Huawei Cloud's SDKs, verified.
//!
//! The canonical request is rebuilt from the raw request target; nothing here normalises a path
//! before it is checked. Facts and traps: the SDK unquotes a path before it splits it, so `%2F`
//! inside a segment counts as a slash; the query is sorted by key, then value; an empty body has
//! the hash of the empty string even when a payload header is sent.

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use time::PrimitiveDateTime;
use time::macros::format_description;

/// Name of the algorithm at the head of the `Authorization` header.
pub const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// How far `X-Sdk-Date` may be from this clock, in seconds.
pub const WINDOW_S: i64 = 15 * 60;
/// Header with what stands for the body in the signature.
const PAYLOAD: &str = "x-sdk-content-sha256";
/// What that header says when the body is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What Python's `quote(s, safe='~')` leaves alone: the unreserved characters of RFC 3986.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a signature was not accepted. All answer 401; the text helps an honest caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header has another form.
    #[error("the Authorization header is not `{ALGORITHM} Access=…, SignedHeaders=…, Signature=…`")]
    Malformed,
    /// A header that must be signed is not, or is absent.
    #[error("the header {0} must be present and signed")]
    NotSigned(String),
    /// The date does not parse.
    #[error("X-Sdk-Date must have the form 20060102T150405Z")]
    BadDate,
    /// The date is too far away.
    #[error(
        "X-Sdk-Date is {0} seconds from this server's clock, more than {WINDOW_S}; \
         set the clock of the client"
    )]
    Skewed(i64),
    /// `UNSIGNED-PAYLOAD` on a body that must be signed.
    #[error("the body of this request must be signed, not UNSIGNED-PAYLOAD")]
    UnsignedPayload,
    /// The hash in the payload header is not that of the body.
    #[error("X-Sdk-Content-Sha256 is not the hash of the body")]
    PayloadMismatch,
    /// The signature is another one.
    #[error(
        "the signature does not match; check the secret key and that nothing changed the request"
    )]
    Mismatch,
}

/// The parts of an `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Access key.
    pub access: &'a str,
    /// Signed headers as written.
    pub signed_headers: &'a str,
    /// Signature, hexadecimal.
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header.
    pub fn parse(header: &'a str) -> Result<Self, SignatureError> {
        let rest = header
            .strip_prefix(ALGORITHM)
            .ok_or(SignatureError::Malformed)?;
        if !rest.starts_with(' ') {
            return Err(SignatureError::Malformed);
        }
        let (mut access, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let slot = match part.trim().split_once('=') {
                Some(("Access", value)) => (&mut access, value),
                Some(("SignedHeaders", value)) => (&mut signed_headers, value),
                Some(("Signature", value)) => (&mut signature, value),
                _ => return Err(SignatureError::Malformed),
            };
            if slot.0.replace(slot.1).is_some() {
                return Err(SignatureError::Malformed);
            }
        }
        match (access, signed_headers, signature) {
            (Some(access), Some(signed_headers), Some(signature)) => Ok(Self {
                access,
                signed_headers,
                signature,
            }),
            _ => Err(SignatureError::Malformed),
        }
    }

    fn signs(&self, name: &str) -> bool {
        self.signed_headers.split(';').any(|signed| signed == name)
    }
}

/// SHA-256 of a body.
pub type BodyHash = [u8; 32];

/// What a verified signature says of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered {
    /// It has this hash.
    Hash(BodyHash),
    /// Nothing: a multipart form sent as `UNSIGNED-PAYLOAD`.
    Nothing,
}

impl Covered {
    /// Compares with the body that came.
    pub fn check(&self, came: &BodyHash) -> Result<(), SignatureError> {
        match self {
            Self::Hash(hash) if hash != came => Err(SignatureError::PayloadMismatch),
            _ => Ok(()),
        }
    }
}

/// The parts of a request, but for its body, that a signature covers.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Raw path.
    pub path: &'a str,
    /// Raw query without the question mark.
    pub query: &'a str,
    /// Headers; names in any case.
    pub headers: &'a http::HeaderMap,
}

impl SignedRequest<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.header(name)
            .and_then(|v| std::str::from_utf8(v).ok())
            .map(str::trim)
    }

    /// Verifies the signature before the body is read, where the headers say what is signed of it.
    /// None when only the body itself can tell: then [`SignedRequest::verify_body`] decides.
    /// `is_empty` says that no body follows.
    pub fn verify_head(
        &self,
        authorization: &Authorization<'_>,
        secret: &str,
        now_unix_s: i64,
        is_empty: bool,
    ) -> Result<Option<Covered>, SignatureError> {
        self.check_names_and_date(authorization, now_unix_s)?;
        let empty = || {
            let hash: BodyHash = Sha256::digest(b"").into();
            self.check(authorization, secret, &hex::encode(hash))?;
            Ok(Some(Covered::Hash(hash)))
        };
        if is_empty {
            return empty();
        }
        let Some(sent) = self.text(PAYLOAD) else {
            return Ok(None);
        };
        let claimed = self.claimed(sent, authorization).and_then(|covered| {
            self.check(authorization, secret, sent)?;
            Ok(Some(covered))
        });
        // A body may turn out to be empty without having said so.
        claimed.or_else(|error| empty().map_err(|_| error))
    }

    /// Verifies a signature that covers the hash of a body which came without naming it.
    pub fn verify_body(
        &self,
        authorization: &Authorization<'_>,
        secret: &str,
        now_unix_s: i64,
        came: &BodyHash,
    ) -> Result<(), SignatureError> {
        self.check_names_and_date(authorization, now_unix_s)?;
        self.check(authorization, secret, &hex::encode(came))
    }

    fn check_names_and_date(
        &self,
        authorization: &Authorization<'_>,
        now_unix_s: i64,
    ) -> Result<(), SignatureError> {
        for needed in ["host", "x-sdk-date"] {
            if !authorization.signs(needed) {
                return Err(SignatureError::NotSigned(needed.to_owned()));
            }
        }
        let date = self.text("x-sdk-date").ok_or(SignatureError::BadDate)?;
        let skew = (parse_date(date)? - now_unix_s).abs();
        if skew > WINDOW_S {
            return Err(SignatureError::Skewed(skew));
        }
        Ok(())
    }

    /// What the payload header says of a body.
    fn claimed(
        &self,
        sent: &str,
        authorization: &Authorization<'_>,
    ) -> Result<Covered, SignatureError> {
        if sent == UNSIGNED {
            let kind = self.text("content-type").unwrap_or_default();
            let multipart = kind.to_ascii_lowercase().starts_with("multipart/form-data");
            // The header that takes the body out of the signature must itself be in it.
            return if multipart && authorization.signs(PAYLOAD) {
                Ok(Covered::Nothing)
            } else {
                Err(SignatureError::UnsignedPayload)
            };
        }
        let mut hash = BodyHash::default();
        hex::decode_to_slice(sent, &mut hash).map_err(|_| SignatureError::PayloadMismatch)?;
        Ok(Covered::Hash(hash))
    }

    /// Compares the signature with that of this request and payload line.
    fn check(
        &self,
        authorization: &Authorization<'_>,
        secret: &str,
        payload: &str,
    ) -> Result<(), SignatureError> {
        let claimed = hex::decode(authorization.signature).map_err(|_| SignatureError::Mismatch)?;
        self.mac(authorization.signed_headers, secret, payload)?
            .verify_slice(&claimed)
            .map_err(|_| SignatureError::Mismatch)
    }

    fn mac(
        &self,
        signed_headers: &str,
        secret: &str,
        payload: &str,
    ) -> Result<Hmac<Sha256>, SignatureError> {
        let date = self.text("x-sdk-date").ok_or(SignatureError::BadDate)?;
        let canonical = self.canonical(signed_headers, payload)?;
        let to_sign = format!(
            "{ALGORITHM}\n{date}\n{}",
            hex::encode(Sha256::digest(canonical))
        );
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes())
            .map_err(|_| SignatureError::Mismatch)?;
        mac.update(to_sign.as_bytes());
        Ok(mac)
    }

    fn canonical(&self, signed_headers: &str, payload: &str) -> Result<Vec<u8>, SignatureError> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(self.method.to_ascii_uppercase().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(canonical_path(self.path).as_bytes());
        out.push(b'\n');
        out.extend_from_slice(canonical_query(self.query).as_bytes());
        out.push(b'\n');
        for name in signed_headers.split(';') {
            let value = self
                .header(name)
                .ok_or_else(|| SignatureError::NotSigned(name.to_owned()))?;
            out.extend_from_slice(name.to_ascii_lowercase().as_bytes());
            out.push(b':');
            out.extend_from_slice(value.trim_ascii());
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(signed_headers.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(payload.as_bytes());
        Ok(out)
    }
}

fn quote(text: &str) -> String {
    utf8_percent_encode(text, QUOTED).to_string()
}

fn canonical_path(raw: &str) -> String {
    let decoded = percent_decode_str(raw).decode_utf8_lossy();
    let mut path = decoded.split('/').map(quote).collect::<Vec<_>>().join("/");
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn canonical_query(raw: &str) -> String {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (key, value) = p.split_once('=').unwrap_or((p, ""));
            let decode = |t: &str| percent_decode_str(t).decode_utf8_lossy().into_owned();
            (decode(key), decode(value))
        })
        .collect();
    pairs.sort();
    pairs
        .iter()
        .map(|(k, v)| format!("{}={}", quote(k), quote(v)))
        .collect::<Vec<_>>()
        .join("&")
}

fn parse_date(text: &str) -> Result<i64, SignatureError> {
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    PrimitiveDateTime::parse(text, form)
        .map(|d| d.assume_utc().unix_timestamp())
        .map_err(|_| SignatureError::BadDate)
}

/// Signs a request, for tests of the server; `payload` stands for the body.
#[cfg(test)]
pub(crate) fn sign(
    request: &SignedRequest<'_>,
    payload: &str,
    signed: &[&str],
    secret: &str,
) -> String {
    let mac = request.mac(&signed.join(";"), secret, payload);
    hex::encode(mac.expect("a request to sign").finalize().into_bytes())
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
