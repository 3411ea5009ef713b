//! Chaincode as a service: where it listens, and when to connect again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Fabric's default of `dial_timeout`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Certificates and keys are a few kilobytes each.
const CONNECTION_LIMIT: usize = 1 << 20;

/// Why `connection.json` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// It is not the JSON document Fabric defines.
    #[error("malformed chaincode info: {0}")]
    Malformed(String),
    /// It names no address.
    #[error("chaincode address not provided")]
    NoAddress,
    /// `dial_timeout` is no duration.
    #[error("invalid dial_timeout {0}: give a duration such as \"10s\"")]
    DialTimeout(String),
    /// TLS without a root certificate.
    #[error("chaincode tls root cert not provided")]
    NoRootCertificate,
    /// Mutual TLS without a client certificate.
    #[error("chaincode tls cert not provided")]
    NoClientCertificate,
    /// Mutual TLS without a client key.
    #[error("chaincode tls key not provided")]
    NoClientKey,
    /// A template names something the peer does not know.
    #[error(
        "connection.json uses {{{{.{0}}}}}, which CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG of this \
         peer does not set"
    )]
    Variable(String),
    /// The file is absurdly large.
    #[error("connection.json has {0} bytes, more than {CONNECTION_LIMIT}")]
    TooLarge(usize),
}

/// A client certificate for mutual TLS with a chaincode service.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerClientAuth {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl fmt::Debug for ServerClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerClientAuth").finish_non_exhaustive()
    }
}

/// TLS towards a chaincode service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Authorities the service's certificate must come from, PEM.
    pub root_pem: String,
    /// Our certificate, when the service asks for one.
    pub client: Option<ServerClientAuth>,
    /// The name to expect in its certificate instead of the host of the address. As in Fabric it
    /// counts only together with a client certificate.
    pub server_name: Option<String>,
}

/// Where a chaincode service listens (Fabric: `ChaincodeServerInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEndpoint {
    /// The package it serves.
    pub package_id: String,
    /// Host and port.
    pub address: String,
    /// Longest wait for a connection.
    pub dial_timeout: Duration,
    /// `None`: plain text.
    pub tls: Option<ServerTls>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    address: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    dial_timeout: serde_json::Value,
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    client_auth_required: bool,
    #[serde(default)]
    client_key: String,
    #[serde(default)]
    client_cert: String,
    #[serde(default)]
    root_cert: String,
}

impl ServerEndpoint {
    /// Reads `connection.json` of a package of type `ccaas`.
    ///
    /// `variables` fill `{{.name}}` in its strings, as Fabric's builder for services does with
    /// `CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG`.
    pub fn from_connection_json(
        package_id: &str,
        json: &[u8],
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConnectionError> {
        if json.len() > CONNECTION_LIMIT {
            return Err(ConnectionError::TooLarge(json.len()));
        }
        let mut document: Document = serde_json::from_slice(json)
            .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        for text in [
            &mut document.address,
            &mut document.domain,
            &mut document.client_key,
            &mut document.client_cert,
            &mut document.root_cert,
        ] {
            fill(text, variables)?;
        }
        if document.address.is_empty() {
            return Err(ConnectionError::NoAddress);
        }
        let dial_timeout = dial_timeout(&document.dial_timeout)?;
        Ok(Self {
            package_id: package_id.to_owned(),
            dial_timeout,
            tls: tls(&document)?,
            address: document.address,
        })
    }
}

/// Replaces each `{{.name}}` by its value.
fn fill(text: &mut String, variables: &BTreeMap<String, String>) -> Result<(), ConnectionError> {
    let mut filled = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            return Err(ConnectionError::Malformed(
                "unclosed {{ in a template".to_owned(),
            ));
        };
        let name = name.trim().trim_start_matches('.');
        let Some(value) = variables.get(name) else {
            return Err(ConnectionError::Variable(name.to_owned()));
        };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    *text = filled;
    Ok(())
}

fn tls(document: &Document) -> Result<Option<ServerTls>, ConnectionError> {
    if !document.tls_required {
        return Ok(None);
    }
    let client = if document.client_auth_required {
        if document.client_key.is_empty() {
            return Err(ConnectionError::NoClientKey);
        }
        if document.client_cert.is_empty() {
            return Err(ConnectionError::NoClientCertificate);
        }
        Some(ServerClientAuth {
            certificate_pem: document.client_cert.clone(),
            key_pem: document.client_key.clone(),
        })
    } else {
        None
    };
    if document.root_cert.is_empty() {
        return Err(ConnectionError::NoRootCertificate);
    }
    let server_name =
        (client.is_some() && !document.domain.is_empty()).then(|| document.domain.clone());
    Ok(Some(ServerTls {
        root_pem: document.root_cert.clone(),
        client,
        server_name,
    }))
}

/// As Go reads it: a string is a duration (`10s`, `1m30s`), a number counts nanoseconds.
fn dial_timeout(value: &serde_json::Value) -> Result<Duration, ConnectionError> {
    let refused = || ConnectionError::DialTimeout(value.to_string());
    let seconds = match value {
        serde_json::Value::Null => return Ok(DIAL_TIMEOUT),
        serde_json::Value::Number(number) => number.as_f64().ok_or_else(refused)? / 1e9,
        serde_json::Value::String(text) if text == "0" => 0.0,
        serde_json::Value::String(text) => go_duration(text).ok_or_else(refused)?,
        _ => return Err(refused()),
    };
    if seconds == 0.0 {
        return Ok(DIAL_TIMEOUT);
    }
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err(refused());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn go_duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        seconds += number * unit;
    }
    Some(seconds)
}

/// When to start or connect again after a chaincode went away.
///
/// The wait doubles from one failure to the next up to a limit, and starts over after a run that
/// lasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    stable: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(
            Duration::from_secs(1),
            Duration::from_secs(60),
            Duration::from_secs(60),
        )
    }
}

impl Backoff {
    /// Waits from `first` up to `longest`; a run of `stable` counts as success.
    pub fn new(first: Duration, longest: Duration, stable: Duration) -> Self {
        Self {
            first,
            longest,
            stable,
            next: first,
        }
    }

    /// The wait after a run that lasted `ran`.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.stable {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(self.longest);
        wait
    }
}
