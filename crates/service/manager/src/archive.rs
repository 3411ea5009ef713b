//! Archives for download: certificates and the SDK configuration, laid out as BCS lays them out.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use selvage_manager_api::cert::{CertType, CfgRequestBody};
use selvage_manager_api::{ApiError, ErrorCode};
use serde_json::{Map, Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::error::ManagerError;
use crate::fabric::Site;
use crate::files::read_limited;
use crate::network::keys::{self, ADMIN, USER};
use crate::network::{Network, Node, Org, OrgKind};

/// Largest file that goes into an archive.
const MOST: u64 = 1024 * 1024;

/// An archive in the making: names with contents.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    fn add(&mut self, name: String, path: &Path) -> Result<(), ManagerError> {
        self.files.insert(name, read_limited(path, MOST)?);
        Ok(())
    }

    /// The files, for putting them into a folder instead.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// The zip. Keys are readable by their owner only after unpacking.
    pub(crate) fn zip(&self) -> Result<Vec<u8>, ManagerError> {
        let fail =
            |e: &dyn std::fmt::Display| ManagerError::Driver(format!("cannot write a zip: {e}"));
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in &self.files {
            let secret = name.ends_with("_sk") || name.ends_with(".key");
            let mode = if secret { 0o600 } else { 0o644 };
            let options = SimpleFileOptions::default().unix_permissions(mode);
            writer
                .start_file(name.as_str(), options)
                .map_err(|e| fail(&e))?;
            writer.write_all(content).map_err(|e| fail(&e))?;
        }
        Ok(writer.finish().map_err(|e| fail(&e))?.into_inner())
    }
}

/// Operation 11.
pub(crate) fn certificates(
    site: &Site,
    org_name: &str,
    cert_type: CertType,
) -> Result<Archive, ApiError> {
    let org = org(&site.network, org_name)?;
    let mut archive = Archive::default();
    match cert_type {
        CertType::Ca => {
            let folder = site.folders.org(org).join("ca");
            let (cert, key) = (keys::authority_cert(org, "ca"), keys::authority_key(org));
            archive.add(format!("ca.{}-cert.pem", org.name), &folder.join(cert))?;
            archive.add(format!("{}_sk", org.name), &folder.join(key))?;
        }
        CertType::Admin => identity(&mut archive, site, org, ADMIN)?,
        CertType::User if org.kind == OrgKind::Peer => identity(&mut archive, site, org, USER)?,
        CertType::User => {
            return Err(ApiError::bad(
                "the ordering organisation has no users; ask for cert_type admin",
            ));
        }
    }
    Ok(archive)
}

fn org<'a>(network: &'a Network, name: &str) -> Result<&'a Org, ApiError> {
    network.org(name).ok_or_else(|| {
        ApiError::new(
            ErrorCode::NoSuchOrg,
            format!("Input org {name} is not exist"),
        )
    })
}

/// A user's folder: MSP and TLS files.
fn identity(archive: &mut Archive, site: &Site, org: &Org, user: &str) -> Result<(), ManagerError> {
    let source = site.folders.user(org, user);
    let msp = source.join("msp");
    let root = org.folder();
    let cert = format!("{}-cert.pem", org.user(user));
    let key = keys::only_file(&msp.join("keystore"))?;
    let key_name = key
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    archive.add(format!("{root}/msp/keystore/{key_name}"), &key)?;
    let signed = msp.join("signcerts").join(&cert);
    archive.add(format!("{root}/msp/signcerts/{cert}"), &signed)?;
    let admin = format!("{}-cert.pem", org.user(ADMIN));
    let admin_path = site
        .folders
        .user(org, ADMIN)
        .join("msp/signcerts")
        .join(&admin);
    archive.add(format!("{root}/msp/admincerts/{admin}"), &admin_path)?;
    for (folder, kind) in [("cacerts", "ca"), ("tlscacerts", "tlsca")] {
        let name = keys::authority_cert(org, kind);
        archive.add(
            format!("{root}/msp/{folder}/{name}"),
            &msp.join(folder).join(&name),
        )?;
    }
    if site.network.node_ous {
        archive.add(format!("{root}/msp/config.yaml"), &msp.join("config.yaml"))?;
    }
    for name in ["server.crt", "server.key", "ca.crt"] {
        archive.add(format!("{root}/tls/{name}"), &source.join("tls").join(name))?;
    }
    Ok(())
}

/// Operation 12.
pub(crate) fn sdk_config(
    site: &Site,
    instance: &str,
    body: &CfgRequestBody,
) -> Result<Archive, ApiError> {
    let channels = body.channels()?;
    let cert_path = body.cert_path.clone().unwrap_or_default();
    if cert_path.is_empty() {
        return Err(ApiError::missing("cert_path"));
    }
    for name in channels.keys() {
        if site.network.channel(name).is_none() {
            return Err(ApiError::new(
                ErrorCode::BadChannelName,
                "Invalid channel name.",
            ));
        }
    }
    let chosen = chosen_peers(&site.network, body)?;
    let profile = Profile {
        site,
        cert_path: &cert_path,
        chosen: &chosen,
    };
    let document = profile.document(&channels)?;
    let fail = |e: &dyn std::fmt::Display| {
        ManagerError::Driver(format!("cannot write the SDK configuration: {e}"))
    };
    let yaml = serde_norway::to_string(&document).map_err(|e| fail(&e))?;
    let json = serde_json::to_string_pretty(&document).map_err(|e| fail(&e))?;
    let mut archive = Archive::default();
    let mut stems = vec![format!("{instance}-sdk-config")];
    // The guide of 2021 shows the channel in the name, the demos of the FAQ do not.
    stems.extend(
        channels
            .keys()
            .map(|c| format!("{instance}-{c}-sdk-config")),
    );
    for stem in stems {
        archive
            .files
            .insert(format!("{stem}.yaml"), yaml.clone().into_bytes());
        archive
            .files
            .insert(format!("{stem}.json"), json.clone().into_bytes());
    }
    Ok(archive)
}

/// The peers the configuration is to name, with their organisations.
fn chosen_peers<'a>(
    network: &'a Network,
    body: &CfgRequestBody,
) -> Result<Vec<(&'a Org, &'a Node)>, ApiError> {
    let wanted = body.peer_orgs.clone().unwrap_or_default();
    if wanted.is_empty() {
        return Err(ApiError::missing("peer_orgs"));
    }
    let mut chosen = Vec::new();
    for (name, indexes) in &wanted {
        let org = org(network, name)?;
        for index in indexes {
            let at: Option<usize> = index.parse().ok();
            let node = at.and_then(|at| org.nodes.get(at)).ok_or_else(|| {
                ApiError::bad(format!("peer_orgs: {name} has no peer with index {index}"))
            })?;
            chosen.push((org, node));
        }
    }
    Ok(chosen)
}

struct Profile<'a> {
    site: &'a Site,
    cert_path: &'a str,
    chosen: &'a [(&'a Org, &'a Node)],
}

impl Profile<'_> {
    fn folder(&self, org: &Org) -> String {
        format!("{}/{}", self.cert_path.trim_end_matches('/'), org.folder())
    }

    fn document(&self, channels: &BTreeMap<String, Vec<String>>) -> Result<Value, ApiError> {
        let network = &self.site.network;
        let first = self.chosen.first().map_or("", |(org, _)| org.hash.as_str());
        let mut orgs = Map::new();
        let mut peers = Map::new();
        for (org, node) in self.chosen {
            if !orgs.contains_key(&org.hash) {
                orgs.insert(org.hash.clone(), self.organisation(org)?);
            }
            peers.insert(node.domain.clone(), self.peer(org, node));
        }
        let orderer = &network.orderer;
        orgs.insert(
            orderer.name.clone(),
            json!({
                "mspID": orderer.msp_id(),
                "mspid": orderer.msp_id(),
                "cryptoPath": format!("{}/msp", self.folder(orderer)),
            }),
        );
        let orderers: Map<String, Value> = orderer
            .nodes
            .iter()
            .map(|node| (node.domain.clone(), self.node(orderer, node)))
            .collect();
        let sections: Map<String, Value> = channels
            .iter()
            .map(|(name, ccs)| (name.clone(), self.channel(name, ccs)))
            .collect();
        Ok(json!({
            "name": "global-trade-network",
            "x-type": "hlfv1",
            "description": "Written by the management service",
            "version": "1.0.0",
            "client": self.client(first),
            "channels": sections,
            "organizations": orgs,
            "orderers": orderers,
            "peers": peers,
        }))
    }

    fn client(&self, organization: &str) -> Value {
        json!({
            "organization": organization,
            "logging": { "level": "info" },
            "peer": { "timeout": {
                "connection": "10s", "queryResponse": "45s", "executeTxResponse": "120s",
            }},
            "eventService": { "timeout": {
                "connection": "10s", "registrationResponse": "50s",
            }},
            "orderer": { "timeout": { "connection": "10s", "response": "45s" } },
            "cryptoconfig": { "path": self.cert_path },
            "credentialStore": {
                "path": "/tmp/hfc-kvs",
                "cryptoStore": { "path": "/tmp/msp" },
                "wallet": "wallet-name",
            },
            "BCCSP": { "security": {
                "enabled": true,
                "default": { "provider": "SW" },
                "hashAlgorithm": "SHA2",
                "softVerify": true,
                "ephemeral": false,
                "level": 256,
            }},
        })
    }

    fn channel(&self, name: &str, chaincodes: &[String]) -> Value {
        let network = &self.site.network;
        let members = network
            .channel(name)
            .map(|c| c.orgs.clone())
            .unwrap_or_default();
        let role = json!({
            "endorsingPeer": true, "chaincodeQuery": true,
            "ledgerQuery": true, "eventSource": true,
        });
        let peers: Map<String, Value> = self
            .chosen
            .iter()
            .filter(|(org, _)| members.contains(&org.name))
            .map(|(_, node)| (node.domain.clone(), role.clone()))
            .collect();
        let orderers: Vec<&str> = network
            .orderer
            .nodes
            .iter()
            .map(|n| n.domain.as_str())
            .collect();
        json!({ "orderers": orderers, "peers": peers, "chaincodes": chaincodes })
    }

    fn organisation(&self, org: &Org) -> Result<Value, ApiError> {
        let folder = self.folder(org);
        let store = self.site.folders.user(org, USER).join("msp/keystore");
        let key = keys::only_file(&store)?;
        let key = key
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let peers: Vec<&str> = self
            .chosen
            .iter()
            .filter(|(o, _)| o.hash == org.hash)
            .map(|(_, node)| node.domain.as_str())
            .collect();
        Ok(json!({
            "mspid": org.msp_id(),
            "cryptoPath": format!("{folder}/msp"),
            "tlsCryptoKeyPath": format!("{folder}/tls/server.key"),
            "tlsCryptoCertPath": format!("{folder}/tls/server.crt"),
            "peers": peers,
            "certificateAuthorities": [],
            "signedCert": {
                "path": format!("{folder}/msp/signcerts/{}-cert.pem", org.user(USER)),
            },
            "adminPrivateKey": { "path": format!("{folder}/msp/keystore/{key}") },
        }))
    }

    fn node(&self, org: &Org, node: &Node) -> Value {
        let tls = format!(
            "{}/msp/tlscacerts/{}",
            self.folder(org),
            keys::authority_cert(org, "tlsca")
        );
        json!({
            "url": format!("grpcs://{}", self.site.network.address(node)),
            "grpcOptions": {
                "ssl-target-name-override": node.domain,
                "hostnameOverride": node.domain,
                "grpc-max-send-message-length": 15,
                "sslProvider": "openSSL",
                "negotiationType": "TLS",
            },
            "tlsCACerts": { "path": tls },
        })
    }

    fn peer(&self, org: &Org, node: &Node) -> Value {
        let mut peer = self.node(org, node);
        let folder = self.folder(org);
        peer["eventUrl"] = json!(format!("grpcs://{}", self.site.network.address(node)));
        peer["grpcOptions"]["grpc.http2.keepalive_time"] = json!(15);
        peer["grpcOptions"]["clientKeyFile"] = json!(format!("{folder}/tls/server.key"));
        peer["grpcOptions"]["clientCertFile"] = json!(format!("{folder}/tls/server.crt"));
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Folders, testing};
    use selvage_manager_api::consensus::Consensus;
    use selvage_manager_api::validate::CreateSpec;
    use std::sync::Arc;

    fn site(dir: &Path) -> Site {
        let spec = CreateSpec {
            consensus: Consensus::Raft,
            orderers: 3,
            node_ous: false,
            ..testing::spec()
        };
        let site = Site {
            network: Arc::new(testing::named(&spec)),
            folders: Folders::new(dir.to_owned()),
        };
        keys::make(&site.network, &site.folders).expect("keys");
        site
    }

    #[test]
    fn certificate_archives_have_the_layout_of_bcs() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let site = site(dir.path());
        let org = &site.network.peers[0];
        let names = |kind| -> Vec<String> {
            let archive = certificates(&site, "org1", kind).expect("archive");
            archive.files().map(|(name, _)| name.to_owned()).collect()
        };
        let admin = names(CertType::Admin);
        let root = org.folder();
        let has = |start: &str| admin.iter().filter(|n| n.starts_with(start)).count();
        assert_eq!(has(&format!("{root}/msp/keystore/")), 1);
        let cert = format!("{root}/msp/signcerts/{}-cert.pem", org.user("Admin"));
        assert!(admin.contains(&cert), "{admin:?}");
        assert!(admin.contains(&format!("{root}/tls/server.key")));
        assert!(admin.contains(&format!(
            "{root}/msp/tlscacerts/tlsca.{}-cert.pem",
            org.hash
        )));
        let listed = format!("{root}/msp/admincerts/{}-cert.pem", org.user("Admin"));
        assert!(admin.contains(&listed) && names(CertType::User).contains(&listed));
        // Nothing says that units give roles: in this network they do not.
        assert_eq!(has(&format!("{root}/msp/config.yaml")), 0);
        assert_eq!(names(CertType::Ca), ["ca.org1-cert.pem", "org1_sk"]);
        let error = certificates(&site, "nobody", CertType::Ca).expect_err("unknown");
        assert_eq!(error.message, "Input org nobody is not exist");
        assert!(certificates(&site, "ordererorg", CertType::User).is_err());
        let zipped = certificates(&site, "org1", CertType::User)
            .expect("archive")
            .zip();
        let mut read = zip::ZipArchive::new(Cursor::new(zipped.expect("zip"))).expect("a zip");
        let names: Vec<String> = read.file_names().map(str::to_owned).collect();
        let key = names.iter().find(|n| n.ends_with("_sk")).expect("a key");
        let mode = read.by_name(key).expect("file").unix_mode().expect("mode");
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_sdk_configuration_names_only_what_was_asked_for() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let site = site(dir.path());
        let body = CfgRequestBody {
            chaincode_name: Some("assets".into()),
            channel_name: Some("channel".into()),
            cert_path: Some("/certs".into()),
            peer_orgs: Some(BTreeMap::from([("org1".into(), vec!["0".into()])])),
            ..CfgRequestBody::default()
        };
        let archive = sdk_config(&site, "bcs-test", &body).expect("archive");
        let files: BTreeMap<&str, &[u8]> = archive.files().collect();
        assert_eq!(files.len(), 4);
        let yaml = files["bcs-test-channel-sdk-config.yaml"];
        let value: Value = serde_norway::from_slice(yaml).expect("YAML");
        let org = &site.network.peers[0];
        assert_eq!(value["client"]["organization"], org.hash);
        assert_eq!(value["peers"].as_object().expect("peers").len(), 1);
        let peer = &value["peers"][&org.nodes[0].domain];
        assert_eq!(
            peer["url"],
            format!("grpcs://127.0.0.1:{}", org.nodes[0].port)
        );
        assert_eq!(value["channels"]["channel"]["chaincodes"][0], "assets");
        for orderer in &site.network.orderer.nodes {
            let url = &value["orderers"][&orderer.domain]["url"];
            assert_eq!(url, &format!("grpcs://127.0.0.1:{}", orderer.port));
            let named = value["channels"]["channel"]["orderers"].as_array();
            assert!(named.expect("orderers").contains(&json!(orderer.domain)));
        }
        let cert = value["organizations"][&org.hash]["signedCert"]["path"].as_str();
        assert!(cert.expect("path").starts_with("/certs/"), "{cert:?}");
        let refuse = |change: fn(&mut CfgRequestBody)| {
            let mut body = body.clone();
            change(&mut body);
            sdk_config(&site, "bcs-test", &body)
                .expect_err("refused")
                .code
        };
        assert_eq!(refuse(|b| b.cert_path = None), ErrorCode::MissingParameter);
        assert_eq!(refuse(|b| b.peer_orgs = None), ErrorCode::MissingParameter);
        assert_eq!(
            refuse(|b| b.channel_name = Some("other".into())),
            ErrorCode::BadChannelName
        );
        let peers = |org: &str, at: &str| Some(BTreeMap::from([(org.into(), vec![at.into()])]));
        let with = |peer_orgs| {
            let body = CfgRequestBody {
                peer_orgs,
                ..body.clone()
            };
            sdk_config(&site, "bcs-test", &body)
                .expect_err("refused")
                .code
        };
        assert_eq!(with(peers("org9", "0")), ErrorCode::NoSuchOrg);
        assert_eq!(with(peers("org1", "7")), ErrorCode::BadParameter);
    }
}
