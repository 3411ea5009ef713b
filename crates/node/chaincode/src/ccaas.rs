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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ServerEndpoint, ConnectionError> {
        let variables = BTreeMap::from([("peername".to_owned(), "peer0".to_owned())]);
        ServerEndpoint::from_connection_json("cc:1", json.as_bytes(), &variables)
    }

    #[test]
    fn connections_are_read_as_fabric_does() {
        let endpoint = read(
            r#"{"address": "ccaddress:12345", "domain": "ccaddress", "tls_required": true,
                "dial_timeout": "10s", "client_auth_required": true, "client_key": "fake-key",
                "client_cert": "fake-cert", "root_cert": "fake-root-cert"}"#,
        )
        .unwrap();
        assert_eq!(endpoint.address, "ccaddress:12345");
        assert_eq!(endpoint.dial_timeout, Duration::from_secs(10));
        let tls = endpoint.tls.clone().unwrap();
        assert_eq!(tls.root_pem, "fake-root-cert");
        assert_eq!(tls.server_name.as_deref(), Some("ccaddress"));
        let client = tls.client.unwrap();
        assert_eq!(
            (client.certificate_pem, client.key_pem),
            ("fake-cert".into(), "fake-key".into())
        );
        assert!(
            !format!("{endpoint:?}").contains("fake-key"),
            "keys are not printed"
        );
        // The domain counts only together with a client certificate.
        let json = r#"{"address":"a:1","domain":"d","tls_required":true,"root_cert":"r"}"#;
        assert_eq!(read(json).unwrap().tls.unwrap().server_name, None);
        let plain =
            read(r#"{"address":"{{.peername}}_{{ peername }}:9","root_cert":"r"}"#).unwrap();
        assert_eq!((plain.address.as_str(), plain.tls), ("peer0_peer0:9", None));
    }

    #[test]
    fn durations_are_gos() {
        let check = |value: &str, wanted: Option<u64>| {
            let json = format!(r#"{{"address":"a:1","dial_timeout":{value}}}"#);
            let got = read(&json).map(|endpoint| endpoint.dial_timeout);
            match wanted {
                Some(millis) => assert_eq!(got, Ok(Duration::from_millis(millis)), "{value}"),
                None => assert!(
                    matches!(got, Err(ConnectionError::DialTimeout(_))),
                    "{value}"
                ),
            }
        };
        check("null", Some(3000));
        check("0", Some(3000));
        check(r#""0s""#, Some(3000));
        check(r#""10s""#, Some(10_000));
        check(r#""1m30s""#, Some(90_000));
        check(r#""1.5s""#, Some(1500));
        check(r#""500ms""#, Some(500));
        check("10000000000", Some(10_000));
        for bad in [
            r#""""#,
            r#""10""#,
            r#""s""#,
            r#""-1s""#,
            r#""10 s""#,
            r#""9999h""#,
            "-5",
            "[]",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn bad_connections_are_refused() {
        let check = |json: &str, wanted: &str| {
            let text = read(json).unwrap_err().to_string();
            assert!(
                text.starts_with(wanted),
                "{text:?} does not start with {wanted:?}"
            );
        };
        check("{", "malformed chaincode info: ");
        check("\"text\"", "malformed chaincode info: ");
        check("{}", "chaincode address not provided");
        let tls = |rest: &str| format!(r#"{{"address":"a:1","tls_required":true{rest}}}"#);
        check(&tls(""), "chaincode tls root cert not provided");
        check(
            &tls(r#","client_auth_required":true"#),
            "chaincode tls key not provided",
        );
        check(
            &tls(r#","client_auth_required":true,"client_key":"k""#),
            "chaincode tls cert not provided",
        );
        check(
            r#"{"address":"{{.other}}:1"}"#,
            "connection.json uses {{.other}}, which",
        );
        check(
            r#"{"address":"{{.other:1"}"#,
            "malformed chaincode info: unclosed {{",
        );
        check(&" ".repeat(CONNECTION_LIMIT + 1), "connection.json has");
    }

    #[test]
    fn waits_double_and_start_over_after_a_lasting_run() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(8), seconds(60));
        let waits: Vec<u64> = (0..6)
            .map(|_| backoff.after(seconds(2)).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        assert_eq!(backoff.after(seconds(60)), seconds(1));
        assert_eq!(backoff.after(seconds(0)), seconds(2));
    }
}
