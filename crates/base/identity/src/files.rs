use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_crypto::{Certificate, CryptoError, PrivateKey, pem};
use selvage_proto::msp::{
    FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, SigningIdentityInfo,
};
use serde::Deserialize;

use crate::SigningIdentity;

/// A larger `config.yaml` is none.
const MAX_CONFIG: usize = 1 << 20;

/// Why an MSP folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A folder without which there is no organisation or no identity.
    #[error("no {what} found in directory {folder}")]
    Missing {
        /// What should lie in it.
        what: &'static str,
        /// The folder, relative to the MSP folder.
        folder: &'static str,
    },
    /// A file that `config.yaml` names.
    #[error("failed loading OrganizationalUnit certificate at [{0}]")]
    UnitCertificate(String),
    /// `config.yaml` cannot be read.
    #[error("failed unmarshalling configuration file at [config.yaml]: {0}")]
    Config(String),
    /// The certificate in `signcerts` cannot be read.
    #[error("the certificate in signcerts cannot be used")]
    SignCert(#[source] CryptoError),
    /// No key in `keystore` belongs to the certificate in `signcerts`.
    #[error("no private key in keystore belongs to the certificate in signcerts")]
    NoKey,
}

/// The files of an MSP folder, by path relative to it with `/` between parts. Reading them from a
/// disk is the caller's part.
#[derive(Clone, Default)]
pub struct MspFiles {
    files: BTreeMap<String, Bytes>,
}

impl std::fmt::Debug for MspFiles {
    /// Names only: there may be a key among the files.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MspFiles").field(&self.files.keys()).finish()
    }
}

#[derive(Debug, Default, Deserialize)]
struct Configuration {
    #[serde(rename = "OrganizationalUnitIdentifiers", default)]
    units: Option<Vec<Unit>>,
    #[serde(rename = "NodeOUs", default)]
    nodes: Option<Nodes>,
}

#[derive(Debug, Default, Deserialize)]
struct Unit {
    #[serde(rename = "Certificate", default)]
    certificate: Option<String>,
    #[serde(rename = "OrganizationalUnitIdentifier", default)]
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Nodes {
    #[serde(rename = "Enable", default)]
    enable: bool,
    #[serde(rename = "ClientOUIdentifier", default)]
    client: Option<Unit>,
    #[serde(rename = "PeerOUIdentifier", default)]
    peer: Option<Unit>,
    #[serde(rename = "AdminOUIdentifier", default)]
    admin: Option<Unit>,
    #[serde(rename = "OrdererOUIdentifier", default)]
    orderer: Option<Unit>,
}

impl MspFiles {
    /// A folder with these files.
    pub fn new<P: Into<String>, B: Into<Bytes>>(
        files: impl IntoIterator<Item = (P, B)>,
    ) -> MspFiles {
        let files = files
            .into_iter()
            .map(|(path, bytes)| (path.into(), bytes.into()))
            .collect();
        MspFiles { files }
    }

    /// The files.
    pub fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.files
    }

    /// The organisation's definition, without a signing identity: what goes into a channel.
    ///
    /// # Errors
    /// [`FileError`] for missing authorities or a `config.yaml` that cannot be used.
    pub fn verifying_config(&self, msp_id: &str) -> Result<FabricMspConfig, FileError> {
        let roots = self.pem_files("cacerts");
        if roots.is_empty() {
            return Err(FileError::Missing {
                what: "ca certificate",
                folder: "cacerts",
            });
        }
        let tls_roots = self.pem_files("tlscacerts");
        let tls_intermediates = match tls_roots.is_empty() {
            true => Vec::new(),
            false => self.pem_files("tlsintermediatecerts"),
        };
        let configuration = self.configuration()?;
        let units = configuration.units.unwrap_or_default();
        let nodes = configuration.nodes.filter(|nodes| nodes.enable);
        Ok(FabricMspConfig {
            name: msp_id.to_owned(),
            root_certs: roots,
            intermediate_certs: self.pem_files("intermediatecerts"),
            admins: self.pem_files("admincerts"),
            revocation_list: self.pem_files("crls"),
            signing_identity: None,
            organizational_unit_identifiers: units
                .into_iter()
                .map(|unit| self.admitted_unit(unit))
                .collect::<Result<_, _>>()?,
            crypto_config: Some(FabricCryptoConfig {
                signature_hash_family: "SHA2".into(),
                identity_identifier_hash_function: "SHA256".into(),
            }),
            tls_root_certs: tls_roots,
            tls_intermediate_certs: tls_intermediates,
            fabric_node_ous: nodes.map(|nodes| FabricNodeOUs {
                enable: true,
                client_ou_identifier: self.node_unit(nodes.client),
                peer_ou_identifier: self.node_unit(nodes.peer),
                admin_ou_identifier: self.node_unit(nodes.admin),
                orderer_ou_identifier: self.node_unit(nodes.orderer),
            }),
        })
    }

    /// The definition with the signing identity's certificate: what a node sets itself up from.
    ///
    /// # Errors
    /// As [`MspFiles::verifying_config`], and when `signcerts` is empty.
    pub fn local_config(&self, msp_id: &str) -> Result<FabricMspConfig, FileError> {
        let mut config = self.verifying_config(msp_id)?;
        let public_signer = self.signcert()?;
        config.signing_identity = Some(SigningIdentityInfo {
            public_signer,
            private_signer: None,
        });
        Ok(config)
    }

    /// The identity of the certificate in `signcerts`, with its key from `keystore`. Files that
    /// are no keys, and other keys, are passed over.
    ///
    /// # Errors
    /// [`FileError::Missing`], [`FileError::SignCert`] or [`FileError::NoKey`].
    pub fn signing_identity(&self, msp_id: &str) -> Result<SigningIdentity, FileError> {
        let text = self.signcert()?;
        let certificate = Certificate::from_pem(&text).map_err(FileError::SignCert)?;
        let key = self
            .in_folder("keystore")
            .filter_map(|(_, bytes)| PrivateKey::from_pem(bytes).ok())
            .find(|key| key.public_key() == certificate.public_key())
            .ok_or(FileError::NoKey)?;
        let pem = self.sanitized(certificate).to_pem();
        SigningIdentity::new(msp_id, pem.as_bytes(), key).map_err(FileError::SignCert)
    }

    /// With a low-S signature, so that it names itself as others read it; unchanged when the
    /// folder does not hold its issuer.
    fn sanitized(&self, certificate: Certificate) -> Certificate {
        let folders = [
            self.pem_files("cacerts"),
            self.pem_files("intermediatecerts"),
        ];
        let mut authorities = folders.iter().flatten().filter_map(|pem| {
            Certificate::from_pem(pem)
                .ok()
                .filter(|ca| certificate.verify_issued_by(ca).is_ok())
        });
        let clean = authorities
            .next()
            .and_then(|ca| certificate.sanitized(ca.public_key()).ok());
        clean.unwrap_or(certificate)
    }

    fn signcert(&self) -> Result<Bytes, FileError> {
        let missing = FileError::Missing {
            what: "signing certificate",
            folder: "signcerts",
        };
        self.pem_files("signcerts")
            .into_iter()
            .next()
            .ok_or(missing)
    }

    /// The files that lie in a folder itself, by name.
    fn in_folder(&self, folder: &str) -> impl Iterator<Item = (&String, &Bytes)> {
        let prefix = format!("{folder}/");
        self.files.iter().filter(move |(path, _)| {
            path.strip_prefix(&prefix)
                .is_some_and(|name| !name.is_empty() && !name.contains('/'))
        })
    }

    /// As Fabric: whatever has a PEM block in it, in order of name; the rest is passed over.
    fn pem_files(&self, folder: &str) -> Vec<Bytes> {
        let with_pem = |(_, bytes): &(&String, &Bytes)| pem::next(bytes).is_some();
        self.in_folder(folder)
            .filter(with_pem)
            .map(|(_, bytes)| bytes.clone())
            .collect()
    }

    fn configuration(&self) -> Result<Configuration, FileError> {
        let Some(bytes) = self.files.get("config.yaml") else {
            return Ok(Configuration::default());
        };
        if bytes.len() > MAX_CONFIG {
            return Err(FileError::Config("it is too large".to_owned()));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| FileError::Config(e.to_string()))?;
        if text.trim().is_empty() {
            return Ok(Configuration::default());
        }
        let read: Option<Configuration> =
            serde_norway::from_str(text).map_err(|e| FileError::Config(e.to_string()))?;
        Ok(read.unwrap_or_default())
    }

    /// A file named in `config.yaml`; its path may be written with `./` and the like.
    fn named(&self, path: &str) -> Option<&Bytes> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split(['/', '\\']) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        self.files.get(&parts.join("/"))
    }

    fn admitted_unit(&self, unit: Unit) -> Result<FabricOuIdentifier, FileError> {
        let path = unit.certificate.unwrap_or_default();
        let certificate = self.named(&path).cloned();
        Ok(FabricOuIdentifier {
            certificate: certificate.ok_or(FileError::UnitCertificate(path))?,
            organizational_unit_identifier: unit.name.unwrap_or_default(),
        })
    }

    /// A certificate that is not there counts as none named, as in Fabric.
    fn node_unit(&self, unit: Option<Unit>) -> Option<FabricOuIdentifier> {
        let unit = unit?;
        let name = unit.name.filter(|name| !name.is_empty())?;
        let path = unit.certificate.unwrap_or_default();
        Some(FabricOuIdentifier {
            certificate: self.named(&path).cloned().unwrap_or_default(),
            organizational_unit_identifier: name,
        })
    }
}
