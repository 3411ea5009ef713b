//! Connection profiles: the YAML or JSON that tells Fabric's SDKs where a network is, such as the
//! SDK configuration that BCS hands out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::ClientError;

/// What a profile says to a client of its organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The MSP id of the client's organisation.
    pub msp_id: String,
    /// The organisation's peers, in the profile's order.
    pub peers: Vec<ProfileNode>,
    /// The orderers.
    pub orderers: Vec<ProfileNode>,
    /// The channels, each with the names of the chaincodes it lists.
    pub channels: BTreeMap<String, Vec<String>>,
    /// The user's certificate (`signedCert`).
    pub cert: Option<Pem>,
    /// The user's key (`adminPrivateKey`).
    pub key: Option<Pem>,
}

/// A node of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileNode {
    /// `host:port`.
    pub address: String,
    /// Authorities of its TLS certificate; none when it is to be dialled in clear.
    pub tls_roots: Option<Pem>,
    /// The name in its TLS certificate, where that is not the address.
    pub server_name: Option<String>,
}

/// Something in PEM form.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PemKeys")]
pub enum Pem {
    /// The text itself.
    Text(String),
    /// A file; a relative path starts at the profile's folder.
    File(PathBuf),
}

/// A PEM as profiles write it; with both keys the text counts.
#[derive(Deserialize)]
struct PemKeys {
    pem: Option<String>,
    path: Option<PathBuf>,
}

impl TryFrom<PemKeys> for Pem {
    type Error = &'static str;

    fn try_from(keys: PemKeys) -> Result<Self, Self::Error> {
        match keys {
            PemKeys {
                pem: Some(text), ..
            } => Ok(Self::Text(text)),
            PemKeys {
                path: Some(path), ..
            } => Ok(Self::File(path)),
            _ => Err("neither pem nor path is there"),
        }
    }
}

impl std::fmt::Debug for Pem {
    /// Without the text: it may be a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ClientError::Request`] when it is none, or names an organisation it does not describe.
    pub fn parse(text: &[u8]) -> Result<Self, ClientError> {
        let wrong = |reason: String| {
            ClientError::Request(format!("no usable connection profile: {reason}"))
        };
        let file: File = serde_norway::from_slice(text).map_err(|e| wrong(e.to_string()))?;
        let name = &file.client.organization;
        let org = file.organizations.get(name);
        let org = org.ok_or_else(|| {
            wrong(format!(
                "client.organization names {name}, which organizations does not have"
            ))
        })?;
        let msp_id = org.mspid.clone();
        let described = org.peers.iter().filter_map(|peer| file.peers.get(peer));
        let channels = file.channels.iter().map(|(name, channel)| {
            // `name:version` in older profiles.
            let bare = |c: &String| c.split(':').next().unwrap_or_default().to_owned();
            (name.clone(), channel.chaincodes.iter().map(bare).collect())
        });
        Ok(Self {
            msp_id: msp_id.ok_or_else(|| wrong(format!("organizations.{name} has no mspid")))?,
            peers: described.map(Node::read).collect(),
            orderers: file.orderers.values().map(Node::read).collect(),
            channels: channels.collect(),
            cert: org.signed_cert.clone(),
            key: org.admin_private_key.clone(),
        })
    }
}

#[derive(Deserialize)]
struct File {
    client: Client,
    organizations: BTreeMap<String, Organization>,
    #[serde(default)]
    peers: BTreeMap<String, Node>,
    #[serde(default)]
    orderers: BTreeMap<String, Node>,
    #[serde(default)]
    channels: BTreeMap<String, Channel>,
}

#[derive(Deserialize)]
struct Client {
    organization: String,
}

#[derive(Deserialize)]
struct Organization {
    /// Absent in what some profiles say of the ordering organisation.
    mspid: Option<String>,
    #[serde(default)]
    peers: Vec<String>,
    #[serde(rename = "signedCert")]
    signed_cert: Option<Pem>,
    #[serde(rename = "adminPrivateKey")]
    admin_private_key: Option<Pem>,
}

#[derive(Deserialize)]
struct Channel {
    #[serde(default)]
    chaincodes: Vec<String>,
}

#[derive(Deserialize)]
struct Node {
    url: String,
    #[serde(rename = "grpcOptions", default)]
    options: BTreeMap<String, serde_norway::Value>,
    #[serde(rename = "tlsCACerts")]
    tls_roots: Option<Pem>,
}

impl Node {
    fn read(&self) -> ProfileNode {
        let bare = self.url.trim_start_matches("grpcs://");
        let secure = bare.len() < self.url.len();
        let names = ["ssl-target-name-override", "hostnameOverride"];
        let mut names = names.iter();
        ProfileNode {
            address: bare.trim_start_matches("grpc://").to_owned(),
            tls_roots: self.tls_roots.clone().filter(|_| secure),
            server_name: names
                .find_map(|name| self.options.get(*name)?.as_str().map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "
name: net
client: {organization: abc, logging: {level: info}}
channels:
  one: {orderers: [o], peers: {p0: {endorsingPeer: true}}, chaincodes: ['assets:1.0', other]}
organizations:
  abc:
    mspid: abcMSP
    cryptoPath: /certs/abc.peer/msp
    peers: [p1, p0, gone]
    signedCert: {path: msp/signcerts/u.pem}
    adminPrivateKey: {pem: SECRET}
  ordererorg: {mspID: oMSP}
orderers:
  o: {url: 'grpcs://h:7050', tlsCACerts: {path: /tls.pem}}
peers:
  p0: {url: 'grpc://h:1', tlsCACerts: {pem: X}}
  p1:
    url: grpcs://h:2
    grpcOptions: {ssl-target-name-override: p1.example.com, grpc-max-send-message-length: 15}
    tlsCACerts: {pem: X}
";

    #[test]
    fn a_profile_says_where_the_clients_organisation_is() {
        let profile = Profile::parse(PROFILE.as_bytes()).expect("a profile");
        assert_eq!(profile.msp_id, "abcMSP");
        let node = |address: &str, tls_roots, server_name: Option<&str>| ProfileNode {
            address: address.to_owned(),
            tls_roots,
            server_name: server_name.map(str::to_owned),
        };
        let text = || Some(Pem::Text("X".to_owned()));
        assert_eq!(
            profile.peers,
            [
                node("h:2", text(), Some("p1.example.com")),
                node("h:1", None, None)
            ]
        );
        let file = |path: &str| Some(Pem::File(path.into()));
        assert_eq!(profile.orderers, [node("h:7050", file("/tls.pem"), None)]);
        assert_eq!(profile.channels["one"], ["assets", "other"]);
        assert_eq!(profile.cert, file("msp/signcerts/u.pem"));
        assert!(!format!("{profile:?}").contains("SECRET"));
    }

    #[test]
    fn what_is_no_profile_is_refused_by_name() {
        let check = |text: &str, word: &str| {
            let error = Profile::parse(text.as_bytes()).expect_err("refused").text();
            assert!(error.contains(word), "{error}");
        };
        check("[", "connection profile");
        check("client: {}", "organization");
        check("{client: {organization: x}, organizations: {}}", "names x");
        check(
            "{client: {organization: x}, organizations: {x: {}}}",
            "mspid",
        );
    }
}
