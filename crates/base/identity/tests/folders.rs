//! MSP folders written and read back.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use selvage_crypto::issue::{NodeRole, Subject, Validity};
use selvage_identity::policy::build::role_principal;
use selvage_identity::{Msp, MspFiles, MspFolder, MspVersion};
use selvage_proto::common::msp_role::MspRoleType;

use support::{NOW, Organisation};

fn read_back(folder: &MspFolder) -> MspFiles {
    let files = folder.files().unwrap();
    MspFiles::new(
        files
            .into_iter()
            .map(|(path, bytes)| (path, bytes.to_vec())),
    )
}

#[test]
fn a_node_finds_its_organisation_and_itself() {
    let org = Organisation::new("Org1MSP");
    let signer = org.signer("peer0.org1.example.com", NodeRole::Peer);
    let tls = selvage_crypto::issue::Authority::new_root(
        &Subject::in_san_francisco("tlsca.org1.example.com"),
        Validity::ten_years(NOW),
    );
    let folder = MspFolder {
        root_certificates: vec![org.authority.certificate().clone()],
        tls_root_certificates: vec![tls.unwrap().certificate().clone()],
        node_roles: true,
        signer: Some((signer.certificate().clone(), signer.key().clone())),
        ..MspFolder::default()
    };
    assert!(!format!("{folder:?}").contains("BEGIN"));
    let files = read_back(&folder);
    assert!(!format!("{files:?}").contains("BEGIN"));
    assert!(!format!("{files:?}").contains("[45, 45"));
    let paths: Vec<&str> = files.files().keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "cacerts/ca.Org1MSP-cert.pem",
            "config.yaml",
            "keystore/priv_sk",
            "signcerts/peer0.org1.example.com-cert.pem",
            "tlscacerts/tlsca.org1.example.com-cert.pem",
        ]
    );
    let own = files.signing_identity("Org1MSP").unwrap();
    assert_eq!(own.serialized(), signer.serialized());
    let config = files.local_config("Org1MSP").unwrap();
    let msp = Msp::new(&config, MspVersion::V1_4_3).unwrap();
    assert_eq!(msp.tls_root_certificates().len(), 1);
    let identity = msp.deserialize(&own.serialized()).unwrap();
    identity.verify(b"m", &own.sign(b"m")).unwrap();
    identity
        .satisfies(&role_principal("Org1MSP", MspRoleType::Peer))
        .unwrap();
    identity
        .satisfies(&role_principal("Org1MSP", MspRoleType::Admin))
        .unwrap_err();
}

#[test]
fn intermediates_admins_and_lists_come_back() {
    let org = Organisation::new("Org1MSP");
    let validity = Validity::ten_years(NOW);
    let below = org
        .authority
        .new_intermediate(&Subject::named("ca/../x"), validity, None)
        .unwrap();
    let namesake = org
        .authority
        .new_intermediate(&Subject::named("ca/../x"), validity, None);
    let admin = selvage_crypto::issue::LeafProfile::identity("a", NodeRole::Client, validity);
    let (admin, _) = below.issue_new(&admin).unwrap();
    let (gone, _) = below
        .issue_new(&selvage_crypto::issue::LeafProfile::identity(
            "g",
            NodeRole::Client,
            validity,
        ))
        .unwrap();
    let crl = below
        .revoke(&[(gone.serial().to_vec(), NOW)], 1, NOW, NOW + 60)
        .unwrap();
    let folder = MspFolder {
        root_certificates: vec![org.authority.certificate().clone()],
        intermediate_certificates: vec![
            below.certificate().clone(),
            namesake.unwrap().certificate().clone(),
        ],
        admins: vec![admin.clone()],
        crls: vec![crl],
        ..MspFolder::default()
    };
    let files = read_back(&folder);
    assert!(
        files
            .files()
            .contains_key("intermediatecerts/ca_.._x-2-cert.pem")
    );
    let msp = Msp::new(
        &files.verifying_config("Org1MSP").unwrap(),
        MspVersion::V1_4_3,
    )
    .unwrap();
    let admin = msp.identity(admin.to_pem().as_bytes()).unwrap();
    admin
        .satisfies(&role_principal("Org1MSP", MspRoleType::Admin))
        .unwrap();
    let gone = msp.identity(gone.to_pem().as_bytes()).unwrap();
    let error = gone.validate().unwrap_err().to_string();
    assert!(error.contains("revoked"), "{error}");
    assert_eq!(gone.organizational_units()[0].name, "client");
}

#[test]
fn a_key_must_belong_to_its_certificate() {
    let org = Organisation::new("Org1MSP");
    let (one, other) = (
        org.signer("a", NodeRole::Client),
        org.signer("b", NodeRole::Client),
    );
    let folder = MspFolder {
        root_certificates: vec![org.authority.certificate().clone()],
        signer: Some((one.certificate().clone(), other.key().clone())),
        ..MspFolder::default()
    };
    let error = read_back(&folder)
        .signing_identity("Org1MSP")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no private key in keystore belongs"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_folder_makes_it_panic(
        config in "\\PC{0,200}",
        root in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let files = [("config.yaml", config.into_bytes()), ("cacerts/a", root)];
        if let Ok(config) = MspFiles::new(files).verifying_config("x") {
            let _ = Msp::new(&config, MspVersion::V1_4_3);
        }
    }

    #[test]
    fn no_definition_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        der in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        use prost::Message;
        if let Ok(config) = selvage_proto::msp::FabricMspConfig::decode(&bytes[..]) {
            let _ = Msp::new(&config, MspVersion::V1_4_3);
        }
        let text = selvage_crypto::pem::encode("CERTIFICATE", &der);
        let config = selvage_proto::msp::FabricMspConfig {
            root_certs: vec![text.clone().into()],
            revocation_list: vec![der.into()],
            ..Default::default()
        };
        let _ = Msp::new(&config, MspVersion::V1_4_3);
    }
}
