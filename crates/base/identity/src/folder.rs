use std::collections::BTreeMap;

use selvage_crypto::{Certificate, Crl, CryptoError, PrivateKey};
use zeroize::Zeroizing;

/// What goes into a new MSP folder, of an organisation or, with certificate and key, of one of its
/// nodes or users. The file names are those of `cryptogen`.
#[derive(Clone, Debug, Default)]
pub struct MspFolder {
    /// Root authorities for identities; at least one.
    pub root_certificates: Vec<Certificate>,
    /// Intermediate authorities for identities.
    pub intermediate_certificates: Vec<Certificate>,
    /// Root authorities for TLS.
    pub tls_root_certificates: Vec<Certificate>,
    /// Intermediate authorities for TLS.
    pub tls_intermediate_certificates: Vec<Certificate>,
    /// Administrators by certificate; not needed with node roles.
    pub admins: Vec<Certificate>,
    /// Revocation lists.
    pub crls: Vec<Crl>,
    /// Whether organisational units give roles (NodeOUs), certified by the first root authority.
    pub node_roles: bool,
    /// Whose folder it is; `None` for an organisation's.
    pub signer: Option<(Certificate, PrivateKey)>,
}

/// The contents of one file; wiped when dropped, for it may be a key.
pub type Contents = Zeroizing<Vec<u8>>;

impl MspFolder {
    /// The files, by path relative to the folder.
    ///
    /// # Errors
    /// [`CryptoError`] when the key cannot be exported.
    pub fn files(&self) -> Result<BTreeMap<String, Contents>, CryptoError> {
        let mut files = BTreeMap::new();
        for (folder, list) in [
            ("cacerts", &self.root_certificates),
            ("intermediatecerts", &self.intermediate_certificates),
            ("tlscacerts", &self.tls_root_certificates),
            ("tlsintermediatecerts", &self.tls_intermediate_certificates),
            ("admincerts", &self.admins),
        ] {
            for certificate in list {
                let path = unused(&files, folder, &stem(certificate), "-cert.pem");
                files.insert(path, Zeroizing::new(certificate.to_pem().into_bytes()));
            }
        }
        for (i, crl) in self.crls.iter().enumerate() {
            let pem = crl.to_pem().into_bytes();
            files.insert(format!("crls/crl{i}.pem"), Zeroizing::new(pem));
        }
        if self.node_roles
            && let Some(root) = self.root_certificates.first()
        {
            let authority = format!("cacerts/{}-cert.pem", stem(root));
            let yaml = config_yaml(&authority).into_bytes();
            files.insert("config.yaml".to_owned(), Zeroizing::new(yaml));
        }
        if let Some((certificate, key)) = &self.signer {
            let path = format!("signcerts/{}-cert.pem", stem(certificate));
            files.insert(path, Zeroizing::new(certificate.to_pem().into_bytes()));
            let pem = Zeroizing::new(key.to_pkcs8_pem()?.as_bytes().to_vec());
            files.insert("keystore/priv_sk".to_owned(), pem);
        }
        Ok(files)
    }
}

/// The common name as a file name.
fn stem(certificate: &Certificate) -> String {
    let name = certificate.common_name();
    let safe = |c: char| {
        if c.is_alphanumeric() || "@._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().take(80).map(safe).collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() {
        hex::encode(&certificate.fingerprint()[..8])
    } else {
        name
    }
}

/// Two authorities may bear one name.
fn unused(files: &BTreeMap<String, Contents>, folder: &str, stem: &str, ending: &str) -> String {
    let mut path = format!("{folder}/{stem}{ending}");
    let mut n = 2;
    while files.contains_key(&path) {
        path = format!("{folder}/{stem}-{n}{ending}");
        n += 1;
    }
    path
}

fn config_yaml(authority: &str) -> String {
    let mut yaml = String::from("NodeOUs:\n  Enable: true\n");
    for role in ["Client", "Peer", "Admin", "Orderer"] {
        let unit = role.to_lowercase();
        yaml.push_str(&format!(
            "  {role}OUIdentifier:\n    Certificate: \"{authority}\"\n    \
             OrganizationalUnitIdentifier: {unit}\n"
        ));
    }
    yaml
}
