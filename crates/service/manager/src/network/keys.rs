//! Key material: for every organisation a certificate authority, a TLS authority, an administrator,
//! a user and its nodes, laid out as Fabric's tools lay it out. With NodeOUs the MSP folders say
//! which organisational unit means which role; without, they name the administrator. The
//! certificates have their units either way: policies may ask for them.
//!
//! The material is made whole or not at all: a mark says that it is complete and on the disk. What
//! a crash left without the mark was handed to nobody and is made anew.

use std::path::Path;

use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{Certificate, PrivateKey};

use super::{Folders, Network, Node, Org, OrgKind};
use crate::clock;
use crate::error::ManagerError;
use crate::files::{PRIVATE, PUBLIC, remove_dir, sync_volume, write_private, write_unsynced};

/// Users every organisation starts with.
pub(crate) const ADMIN: &str = "Admin";
/// The first user.
pub(crate) const USER: &str = "User1";

fn fail(doing: &'static str) -> impl FnOnce(selvage_crypto::CryptoError) -> ManagerError {
    move |source| ManagerError::Keys { doing, source }
}

/// Name of the mark in an instance's folder.
const MARK: &str = "keys.complete";

/// Makes an instance's key material, unless it is there.
pub(crate) fn make(network: &Network, folders: &Folders) -> Result<(), ManagerError> {
    let mark = folders.root().join(MARK);
    if mark.exists() {
        return Ok(());
    }
    for org in network.orgs() {
        let folder = folders.org(org);
        remove_dir(&folder)?;
        let ca = authority(&folder.join("ca"), org, "ca")?;
        let tls = authority(&folder.join("tlsca"), org, "tlsca")?;
        // First the administrator: without NodeOUs every MSP folder names it.
        let admin = issue(&ca, &format!("{ADMIN}@{}", org.hash), NodeRole::Admin)?;
        let listed = (!network.node_ous).then(|| admin.0.to_pem());
        let maker = Maker {
            org,
            ca: &ca,
            tls: &tls,
            admin: listed.as_deref(),
        };
        maker.organisation_msp(&folder.join("msp"))?;
        maker.user(&folders.user(org, ADMIN), ADMIN, &admin)?;
        if org.kind == OrgKind::Peer {
            let user = issue(&ca, &format!("{USER}@{}", org.hash), NodeRole::Client)?;
            maker.user(&folders.user(org, USER), USER, &user)?;
        }
        for node in &org.nodes {
            remove_dir(&folders.node(node))?;
            maker.node(&folders.node(node), node, &network.host)?;
        }
    }
    // One wait for the disk instead of one per file.
    sync_volume(folders.root())?;
    write_private(&mark, b"")
}

/// `ca.<org>-cert.pem`, the certificate of an authority.
pub(crate) fn authority_cert(org: &Org, kind: &str) -> String {
    format!("{kind}.{}-cert.pem", org.hash)
}

/// `<org>_sk`, the key of an authority.
pub(crate) fn authority_key(org: &Org) -> String {
    format!("{}_sk", org.hash)
}

fn authority(folder: &Path, org: &Org, kind: &str) -> Result<Authority, ManagerError> {
    let mut subject = Subject::in_san_francisco(format!("{kind}.{}", org.hash));
    subject.organization.clone_from(&org.hash);
    let made = Authority::new_root(&subject, Validity::ten_years(clock::now_s()))
        .map_err(fail("make a certificate authority"))?;
    write_key(&folder.join(authority_key(org)), made.key())?;
    let cert = folder.join(authority_cert(org, kind));
    write_unsynced(&cert, made.certificate().to_pem().as_bytes(), PUBLIC)?;
    Ok(made)
}

fn write_key(path: &Path, key: &PrivateKey) -> Result<(), ManagerError> {
    let pem = key.to_pkcs8_pem().map_err(fail("write a key"))?;
    write_unsynced(path, pem.as_bytes(), PRIVATE)
}

/// A new identity.
fn issue(
    ca: &Authority,
    common_name: &str,
    role: NodeRole,
) -> Result<(Certificate, PrivateKey), ManagerError> {
    let profile = LeafProfile::identity(common_name, role, Validity::ten_years(clock::now_s()));
    ca.issue_new(&profile).map_err(fail("issue a certificate"))
}

struct Maker<'a> {
    org: &'a Org,
    ca: &'a Authority,
    tls: &'a Authority,
    /// The administrator's certificate, when MSP folders name it.
    admin: Option<&'a str>,
}

impl Maker<'_> {
    /// The roots and the rules that every MSP folder of the organisation holds.
    fn organisation_msp(&self, msp: &Path) -> Result<(), ManagerError> {
        let ca = authority_cert(self.org, "ca");
        let root = self.ca.certificate().to_pem();
        write_public(&msp.join("cacerts").join(&ca), root.as_bytes())?;
        write_public(
            &msp.join("tlscacerts")
                .join(authority_cert(self.org, "tlsca")),
            self.tls.certificate().to_pem().as_bytes(),
        )?;
        match self.admin {
            Some(admin) => {
                let name = format!("{}-cert.pem", self.org.user(ADMIN));
                write_public(&msp.join("admincerts").join(name), admin.as_bytes())
            }
            None => write_public(&msp.join("config.yaml"), node_ous(&ca).as_bytes()),
        }
    }

    /// An identity: one key in `keystore`, one certificate in `signcerts`.
    fn identity(
        &self,
        msp: &Path,
        file: &str,
        (certificate, key): &(Certificate, PrivateKey),
    ) -> Result<(), ManagerError> {
        let store = msp.join("keystore");
        write_key(&store.join(format!("{}_sk", uuid::Uuid::new_v4())), key)?;
        let path = msp.join("signcerts").join(format!("{file}-cert.pem"));
        write_public(&path, certificate.to_pem().as_bytes())
    }

    fn tls(&self, folder: &Path, name: &str, hosts: &[&str]) -> Result<(), ManagerError> {
        let cert = folder.join("server.crt");
        let profile = LeafProfile::tls(name, hosts, Validity::ten_years(clock::now_s()));
        let (made, key) = self
            .tls
            .issue_new(&profile)
            .map_err(fail("issue a certificate"))?;
        write_public(
            &folder.join("ca.crt"),
            self.tls.certificate().to_pem().as_bytes(),
        )?;
        write_key(&folder.join("server.key"), &key)?;
        write_public(&cert, made.to_pem().as_bytes())
    }

    fn user(
        &self,
        folder: &Path,
        user: &str,
        issued: &(Certificate, PrivateKey),
    ) -> Result<(), ManagerError> {
        let msp = folder.join("msp");
        self.organisation_msp(&msp)?;
        self.identity(&msp, &self.org.user(user), issued)?;
        self.tls(
            &folder.join("tls"),
            &format!("{user}@{}", self.org.hash),
            &[],
        )
    }

    fn node(&self, folder: &Path, node: &Node, host: &str) -> Result<(), ManagerError> {
        let msp = folder.join("msp");
        self.organisation_msp(&msp)?;
        let role = match self.org.kind {
            OrgKind::Peer => NodeRole::Peer,
            OrgKind::Orderer => NodeRole::Orderer,
        };
        self.identity(&msp, &node.name, &issue(self.ca, &node.name, role)?)?;
        let mut hosts = vec![
            node.domain.as_str(),
            node.name.as_str(),
            "localhost",
            "127.0.0.1",
        ];
        if !hosts.contains(&host) {
            hosts.push(host);
        }
        self.tls(&folder.join("tls"), &node.name, &hosts)
    }
}

fn write_public(path: &Path, content: &[u8]) -> Result<(), ManagerError> {
    write_unsynced(path, content, PUBLIC)
}

/// `config.yaml` of an MSP: which organisational unit means which role.
fn node_ous(ca: &str) -> String {
    let mut text = String::from("NodeOUs:\n  Enable: true\n");
    for role in ["Client", "Peer", "Admin", "Orderer"] {
        text.push_str(&format!(
            "  {role}OUIdentifier:\n    Certificate: cacerts/{ca}\n    \
             OrganizationalUnitIdentifier: {}\n",
            role.to_lowercase()
        ));
    }
    text
}

/// The one file in a folder, such as the key in `keystore`.
pub(crate) fn only_file(folder: &Path) -> Result<std::path::PathBuf, ManagerError> {
    let fail = |e| ManagerError::file("list", folder, e);
    let mut files = std::fs::read_dir(folder)
        .map_err(fail)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    match files.pop() {
        Some(path) if files.is_empty() => Ok(path),
        _ => Err(fail(std::io::Error::other(
            "it should hold exactly one file",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::genesis::FolderMaterial;
    use crate::network::testing;
    use selvage_channel::genesis::Material as _;
    use selvage_identity::policy::build::role_principal;
    use selvage_identity::{Msp, MspFiles, MspVersion};
    use selvage_manager_api::validate::CreateSpec;
    use selvage_proto::common::msp_role::MspRoleType;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn material_is_complete_and_stable() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folders = Folders::new(dir.path().to_owned());
        let network = testing::network();
        make(&network, &folders).expect("made");
        let org = &network.peers[0];
        let admin = folders.user(org, ADMIN).join("msp");
        let key = only_file(&admin.join("keystore")).expect("one key");
        let cert = only_file(&admin.join("signcerts")).expect("one certificate");
        assert_eq!(
            cert.file_name().and_then(|n| n.to_str()),
            Some(format!("{}-cert.pem", org.user("Admin")).as_str())
        );
        assert_eq!(
            std::fs::metadata(&key).expect("key").permissions().mode() & 0o777,
            0o600
        );
        let before = std::fs::read(&cert).expect("certificate");
        let parsed = Certificate::from_pem(&before).expect("parses");
        assert_eq!(parsed.organizational_units(), ["admin"]);
        let ca = folders.org(org).join("ca").join(authority_cert(org, "ca"));
        let ca = Certificate::from_pem(&std::fs::read(ca).expect("ca")).expect("parses");
        parsed.verify_issued_by(&ca).expect("chains");
        // A crash before the mark: everything is made anew, nothing twice.
        std::fs::remove_file(dir.path().join(MARK)).expect("removed");
        make(&network, &folders).expect("made again");
        only_file(&admin.join("keystore")).expect("still one key");
        let user = only_file(&folders.user(org, USER).join("msp/signcerts")).expect("user");
        let kept = std::fs::read(&user).expect("certificate");
        make(&network, &folders).expect("a third time");
        assert_eq!(std::fs::read(&user).expect("certificate"), kept);
    }

    #[test]
    fn msp_folders_say_who_is_who_with_and_without_node_ous() {
        for node_ous in [true, false] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let folders = Folders::new(dir.path().to_owned());
            let spec = CreateSpec {
                node_ous,
                ..testing::spec()
            };
            let network = testing::named(&spec);
            make(&network, &folders).expect("made");
            for org in network.orgs() {
                let admin = folders.user(org, ADMIN).join("msp");
                let cert = only_file(&admin.join("signcerts")).expect("one certificate");
                let cert = std::fs::read(cert).expect("certificate");
                let nodes = org.nodes.iter().map(|n| folders.node(n).join("msp"));
                let folders = [folders.org(org).join("msp"), admin.clone()];
                for folder in folders.into_iter().chain(nodes) {
                    assert_eq!(folder.join("config.yaml").exists(), node_ous);
                    let listed = folder.join("admincerts");
                    assert_eq!(listed.exists(), !node_ous);
                    let files = FolderMaterial.folder(&folder.display().to_string());
                    let files = files.expect("readable");
                    let definition = MspFiles::new(files).verifying_config(&org.msp_id());
                    let msp = Msp::new(&definition.expect("complete"), MspVersion::V1_4_3);
                    let msp = msp.expect("accepted as nodes will");
                    assert_eq!(msp.has_node_roles(), node_ous);
                    let admin = msp.identity(&cert).expect("known");
                    let principal = role_principal(&org.msp_id(), MspRoleType::Admin);
                    admin.satisfies(&principal).expect("an administrator");
                }
            }
        }
    }
}
