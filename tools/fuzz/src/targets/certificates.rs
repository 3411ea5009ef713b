//! Certificates, revocation lists, requests, keys, and the organisations made of them.

use bytes::Bytes;
use prost::Message;
use selvage_crypto::{Certificate, Crl, PrivateKey, PublicKey, Request, pem};
use selvage_identity::{Msp, MspFiles, MspManager, MspVersion};
use selvage_proto::common::MspPrincipal;
use selvage_proto::msp::{FabricMspConfig, SerializedIdentity};

use crate::golden;
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{MSP, world};

/// Certificates and lists of Fabric's own tests.
const FABRICS: &[u8] = include_bytes!("../../../../crates/base/identity/tests/data/fabric-msp.txt");

/// RFC 6979 A.2.5: the public key that signs "sample".
const SAMPLE_KEY: &str = "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
    60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
    7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

/// Its signature, with the low S.
const SAMPLE_SIGNATURE: &str = "3045022100\
    efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
    02200834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9";

/// The key itself, as PKCS#8 without the public half.
const SAMPLE_PRIVATE: &str = "3041020100301306072a8648ce3d020106082a8648ce3d03010704273025020101\
    0420c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap_or(""), 16);
    digits
        .chunks(2)
        .map(|two| pair(two).expect("hex"))
        .collect()
}

/// DER blocks with a label, from Fabric's tests.
fn blocks(label: &str) -> Vec<Vec<u8>> {
    pem::blocks(FABRICS)
        .filter(|block| block.label == label)
        .map(|block| block.der.to_vec())
        .collect()
}

/// Reads an input as DER, as PEM, and as the DER inside PEM.
fn each_form<T>(
    input: &[u8],
    label: &str,
    der: impl Fn(&[u8]) -> Option<T>,
    text: impl Fn(&[u8]) -> Option<T>,
) -> Vec<T> {
    let wrapped = pem::encode(label, input);
    [der(input), text(input), text(wrapped.as_bytes())]
        .into_iter()
        .flatten()
        .collect()
}

/// A certificate that is read is read again, as PEM too, and answers every question.
pub(super) fn certificate(input: &[u8]) {
    let _ = Certificate::all_from_pem(input);
    let read = each_form(
        input,
        "CERTIFICATE",
        |der| Certificate::from_der(der).ok(),
        |text| Certificate::from_pem(text).ok(),
    );
    for certificate in read {
        let again = Certificate::from_der(certificate.der()).expect("read once, read again");
        assert_eq!(again, certificate);
        let text = Certificate::from_pem(certificate.to_pem().as_bytes());
        assert_eq!(text.expect("its PEM is read"), certificate);
        look_at(&certificate);
    }
}

fn look_at(certificate: &Certificate) {
    let _ = (
        certificate.subject().to_string(),
        certificate.issuer().to_string(),
        certificate.common_name().len(),
        certificate.organizational_units(),
        certificate.key_usage(),
        certificate.path_length(),
        certificate.has_unhandled_critical_extension(),
        certificate.extension("1.2.3.4.5.6.7.8.1"),
        certificate.subject_alt_names(),
    );
    assert!(certificate.serial().len() <= certificate.der().len());
    let _ = certificate.verify_issued_by(certificate);
    reach("read");
    let sanitized = certificate.sanitized(certificate.public_key());
    if let Ok(sanitized) = sanitized {
        reach("sanitized");
        let twice = sanitized.sanitized(certificate.public_key());
        assert_eq!(twice.expect("sanitized again"), sanitized);
    }
}

pub(super) fn certificate_seeds() -> Vec<Vec<u8>> {
    let mut seeds = blocks("CERTIFICATE");
    let pem_file = |name: &str| name.ends_with(".pem") || name.ends_with(".crt");
    seeds.extend(golden::files("corpus/network/crypto", pem_file));
    seeds
}

/// A list that is read is read again and knows what it revokes.
pub(super) fn crl(input: &[u8]) {
    let _ = Crl::from_pem_or_der(input);
    let read = each_form(
        input,
        "X509 CRL",
        |der| Crl::from_der(der).ok(),
        |text| Crl::from_pem(text).ok(),
    );
    for list in read {
        let again = Crl::from_der(list.der()).expect("read once, read again");
        assert_eq!(
            (again.len(), again.is_empty()),
            (list.len(), list.is_empty())
        );
        assert!(Crl::from_pem(list.to_pem().as_bytes()).is_ok());
        reach("read");
        if !list.is_empty() {
            reach("something revoked");
        }
        assert!(list.len() <= list.der().len());
        let _ = (
            list.issuer().to_string(),
            list.this_update(),
            list.next_update(),
            list.aki(),
            list.revoked(&[1]),
        );
        let _ = list.verify_signature(&sample_key());
    }
}

fn sample_key() -> PublicKey {
    PublicKey::from_spki_der(&from_hex(SAMPLE_KEY)).expect("the sample key")
}

pub(super) fn crl_seeds() -> Vec<Vec<u8>> {
    blocks("X509 CRL")
}

/// A request that is read is read again.
pub(super) fn request(input: &[u8]) {
    let read = each_form(
        input,
        "CERTIFICATE REQUEST",
        |der| Request::from_der(der).ok(),
        |text| Request::from_pem(text).ok(),
    );
    for request in read {
        let again = Request::from_der(request.der()).expect("read once, read again");
        assert_eq!(again.subject(), request.subject());
        assert!(Request::from_pem(request.to_pem().as_bytes()).is_ok());
        reach("read");
        let _ = (request.public_key().kind(), request.subject_alt_names());
    }
}

/// A request made by openssl for CN=u, with a name and an address in its extensions.
pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    const REQUEST: &str = include_str!("request.hex");
    vec![from_hex(REQUEST)]
}

/// Keys and signatures, whichever the input is.
pub(super) fn keys(input: &[u8]) {
    let sample = sample_key();
    // Whoever has no key makes no signature; the published one may stay.
    let known = from_hex(SAMPLE_SIGNATURE);
    if sample.verify(b"sample", input).is_ok() {
        reach("a signature");
        assert!(input.starts_with(&known), "another signature of the sample");
    }
    for read in [PublicKey::from_spki_der(input), PublicKey::from_pem(input)] {
        let Ok(key) = read else { continue };
        let again = PublicKey::from_spki_der(key.spki_der()).expect("read once, read again");
        assert_eq!(again, key);
        reach("a public key");
        let _ = (key.ski(), key.kind(), key.bits().len());
        let _ = key.verify(b"sample", &known);
    }
    for read in [PrivateKey::from_der(input), PrivateKey::from_pem(input)] {
        let Ok(key) = read else { continue };
        reach("a private key");
        let signature = key.sign(b"message").expect("a key that was read signs");
        key.public_key()
            .verify(b"message", &signature)
            .expect("and its other half verifies");
        let stored = key.to_pkcs8_der().expect("it can be stored");
        assert!(PrivateKey::from_der(&stored).is_ok());
    }
}

pub(super) fn keys_seeds() -> Vec<Vec<u8>> {
    let public = from_hex(SAMPLE_KEY);
    let private = from_hex(SAMPLE_PRIVATE);
    let mut seeds = vec![
        pem::encode("PUBLIC KEY", &public).into_bytes(),
        pem::encode("PRIVATE KEY", &private).into_bytes(),
        pem::encode("EC PRIVATE KEY", &private[28..]).into_bytes(),
        from_hex(SAMPLE_SIGNATURE),
        public,
        private,
    ];
    for der in blocks("CERTIFICATE") {
        if let Ok(certificate) = Certificate::from_der(&der) {
            seeds.push(certificate.public_key().spki_der().to_vec());
        }
    }
    seeds
}

/// A piece that is an identity, then a principal. The identity is asked of Fabric's organisations
/// and of this world's.
pub(super) fn identity(input: &[u8]) {
    let mut pick = Pick::new(input);
    let serialized = Bytes::copy_from_slice(pick.piece());
    let principal = MspPrincipal::decode(pick.rest()).unwrap_or_default();
    if let Ok(parts) = SerializedIdentity::decode(serialized.clone()) {
        let _ = world().config.msp_manager().check_well_formed(&parts);
    }
    let members = [world().client.identity().serialized(), serialized];
    for member in members {
        for manager in [world().config.msp_manager(), &fabrics()] {
            let Ok(identity) = manager.deserialize(&member) else {
                continue;
            };
            let valid = identity.validate().is_ok();
            let satisfies = identity.satisfies(&principal).is_ok();
            reach("read");
            if valid {
                reach("valid");
            }
            if satisfies {
                reach("satisfies");
            }
            let _ = identity.organizational_units();
            let again = manager.deserialize(&identity.serialized());
            let again = again.expect("its own form is read");
            assert_eq!(
                (again.id(), again.msp_id()),
                (identity.id(), identity.msp_id())
            );
        }
    }
}

/// Organisations under every authority of Fabric's tests that makes one.
fn fabrics() -> std::sync::Arc<MspManager> {
    static MANAGER: std::sync::OnceLock<std::sync::Arc<MspManager>> = std::sync::OnceLock::new();
    let make = || {
        let authorities = blocks("CERTIFICATE").into_iter().enumerate();
        let msp = |(at, der): (usize, Vec<u8>)| {
            let config = FabricMspConfig {
                name: format!("Org{at}"),
                root_certs: vec![pem::encode("CERTIFICATE", &der).into()],
                ..Default::default()
            };
            Some(std::sync::Arc::new(
                Msp::new(&config, MspVersion::V1_1).ok()?,
            ))
        };
        std::sync::Arc::new(MspManager::new(authorities.filter_map(msp)))
    };
    MANAGER.get_or_init(make).clone()
}

pub(super) fn identity_seeds() -> Vec<Vec<u8>> {
    use selvage_identity::policy::build::{identity_principal, role_principal};
    use selvage_proto::common::msp_role::MspRoleType;
    let certificates = blocks("CERTIFICATE");
    let known = fabrics();
    let names: Vec<&String> = known.msps().keys().collect();
    let mut seeds = Vec::new();
    for (at, der) in certificates.iter().enumerate() {
        let identity = SerializedIdentity {
            mspid: names[at % names.len()].clone(),
            id_bytes: pem::encode("CERTIFICATE", der).into(),
        };
        let identity = identity.encode_to_vec();
        let principal = match at % 3 {
            0 => role_principal(MSP, MspRoleType::Client),
            1 => role_principal(names[at % names.len()], MspRoleType::Member),
            _ => identity_principal(identity.clone().into()),
        };
        seeds.push(
            Put::default()
                .piece(identity)
                .rest(principal.encode_to_vec()),
        );
    }
    seeds
}

/// A definition in a configuration; and a folder: its `config.yaml`, an authority, a list.
pub(super) fn msp(input: &[u8]) {
    if let Ok(config) = FabricMspConfig::decode(input) {
        organisation(&config);
    }
    let mut pick = Pick::new(input);
    let files = [
        "config.yaml",
        "cacerts/a.pem",
        "crls/c.pem",
        "intermediatecerts/i.pem",
    ];
    let files = files.map(|name| (name, pick.piece().to_vec()));
    let files = MspFiles::new(files);
    if let Ok(config) = files.verifying_config(MSP) {
        reach("a folder");
        organisation(&config);
    }
    let _ = files.signing_identity(MSP);
}

fn organisation(config: &FabricMspConfig) {
    for version in [MspVersion::V1_0, MspVersion::V1_4_3, MspVersion::V3_0] {
        let Ok(msp) = Msp::new(config, version) else {
            continue;
        };
        reach("an organisation");
        assert_eq!(msp.id(), config.name);
        for certificate in &config.root_certs {
            if let Ok(identity) = msp.identity(certificate) {
                let _ = identity.validate();
            }
        }
    }
}

pub(super) fn msp_seeds() -> Vec<Vec<u8>> {
    let authorities = blocks("CERTIFICATE")
        .into_iter()
        .map(|der| pem::encode("CERTIFICATE", &der));
    let list = blocks("X509 CRL")
        .first()
        .map(|der| pem::encode("X509 CRL", der));
    let units = "NodeOUs: {Enable: true, ClientOUIdentifier: {OrganizationalUnitIdentifier: c}}\n\
                 OrganizationalUnitIdentifiers:\n- {Certificate: cacerts/a.pem}\n";
    let folder = |authority: String| {
        Put::default()
            .piece(units)
            .piece(&authority)
            .piece(list.as_deref().unwrap_or_default())
            .piece(authority)
            .rest([])
    };
    let mut seeds: Vec<Vec<u8>> = authorities.clone().map(folder).collect();
    seeds.extend(authorities.map(|authority| {
        let config = FabricMspConfig {
            name: MSP.to_owned(),
            root_certs: vec![authority.into()],
            ..Default::default()
        };
        config.encode_to_vec()
    }));
    seeds
}
