//! Identities made with nothing but openssl.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use selvage_crypto::{KeyKind, PrivateKey};
use selvage_identity::policy::build::{role_principal, signed_by_msp_member};
use selvage_identity::{Identity, Msp, MspFiles, MspFolder, MspVersion, SigningIdentity, policy};
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::msp::FabricMspConfig;

use support::{Organisation, manager, signed};

fn openssl(dir: &Path, command: &str) {
    let mut words = command.split(' ').map(|word| word.replace('~', " "));
    assert_eq!(words.next().as_deref(), Some("openssl"));
    let output = Command::new("openssl")
        .args(words)
        .current_dir(dir)
        .output();
    let output = output.expect("openssl is needed for this test: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {text}");
}

/// An organisation whose authority's files lie in `dir` under the names the service gives them.
fn organisation_with_files(dir: &Path) -> Organisation {
    let org = Organisation::new("organization");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write(
        "ca.organization-cert.pem",
        &org.authority.certificate().to_pem(),
    );
    write(
        "organization_sk",
        &org.authority.key().to_pkcs8_pem().unwrap(),
    );
    org
}

/// The commands a user is told to run, word for word; only the questions are answered (`-subj`).
fn make_user(dir: &Path) {
    openssl(
        dir,
        "openssl ecparam -name prime256v1 -genkey -out user-key_.pem",
    );
    openssl(
        dir,
        "openssl pkcs8 -topk8 -nocrypt -in user-key_.pem -out user-key",
    );
    openssl(
        dir,
        "openssl req -new -key user-key -out user-csr.pem -subj /C=CN/CN=user",
    );
    openssl(
        dir,
        "openssl x509 -req -in user-csr.pem -out user-cert.pem -CA ca.organization-cert.pem \
         -CAkey organization_sk -CAcreateserial -days 3650",
    );
}

/// Without node roles, as such networks are set up.
fn without_node_roles(org: &Organisation) -> Msp {
    let config = FabricMspConfig {
        name: org.id.clone(),
        root_certs: vec![org.authority.certificate().to_pem().into()],
        admins: [org.signer("a", selvage_crypto::issue::NodeRole::Admin)]
            .iter()
            .map(|admin| admin.certificate().to_pem().into())
            .collect(),
        ..FabricMspConfig::default()
    };
    Msp::new(&config, MspVersion::V1_4_3).unwrap()
}

#[test]
fn a_version_1_certificate_is_a_plain_member() {
    let dir = tempfile::tempdir().unwrap();
    let mut org = organisation_with_files(dir.path());
    let with_roles = org.msp.clone();
    org.msp = Arc::new(without_node_roles(&org));
    // An ECDSA signature is high-S every other time: enough rounds to have seen both.
    for _ in 0..6 {
        make_user(dir.path());
        let certificate = std::fs::read(dir.path().join("user-cert.pem")).unwrap();
        let key = PrivateKey::from_pem(&std::fs::read(dir.path().join("user-key")).unwrap());
        let user = SigningIdentity::new(&org.id, &certificate, key.unwrap()).unwrap();
        assert_eq!(
            (user.certificate().version(), user.certificate().ski()),
            (1, None)
        );
        assert_eq!(user.key().kind(), KeyKind::P256);

        let manager = manager(&[&org]);
        let identity = manager.deserialize(&user.serialized()).unwrap();
        // From a folder it names itself as others read it, low-S.
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let own = MspFiles::new([
            ("cacerts/ca.pem", read("ca.organization-cert.pem")),
            (
                "signcerts/u.pem",
                [b"Certificate: user\n", &certificate[..]].concat(),
            ),
            ("keystore/other", b"no key".to_vec()),
            ("keystore/user-key_.pem", read("user-key_.pem")),
        ]);
        let own = own.signing_identity(&org.id).unwrap();
        assert_eq!(own.serialized(), identity.serialized());
        identity.validate().unwrap();
        let days = (identity.expires_at() - user.certificate().not_before()) / 86_400;
        assert_eq!(days, 3650);
        let members = signed_by_msp_member(&org.id);
        let members = policy::compile(&members, manager.clone()).unwrap();
        members.evaluate(&[signed(&user, b"m")]).unwrap();
        let is = |identity: &Identity, role| {
            identity
                .satisfies(&role_principal(&org.id, role))
                .map_err(|e| e.to_string())
        };
        is(&identity, MspRoleType::Member).unwrap();
        for role in [MspRoleType::Admin, MspRoleType::Client, MspRoleType::Peer] {
            is(&identity, role).unwrap_err();
        }

        // With node roles it has none, and Fabric then calls it invalid.
        let strict = with_roles.identity(&certificate).unwrap();
        let error = strict.validate().unwrap_err().to_string();
        assert!(
            error.contains("does not have an OU that resolves to"),
            "{error}"
        );
        let error = is(&strict, MspRoleType::Member).unwrap_err();
        assert!(
            error.contains("does not have an OU that resolves to"),
            "{error}"
        );
    }
}

#[test]
fn a_unit_asked_of_openssl_gives_the_role() {
    let dir = tempfile::tempdir().unwrap();
    let org = organisation_with_files(dir.path());
    make_user(dir.path());
    openssl(
        dir.path(),
        "openssl req -new -key user-key -out user-csr.pem -subj /CN=u/OU=client",
    );
    openssl(
        dir.path(),
        "openssl x509 -req -in user-csr.pem -out user-cert.pem -CA ca.organization-cert.pem \
         -CAkey organization_sk -CAcreateserial -days 3650",
    );
    let certificate = std::fs::read(dir.path().join("user-cert.pem")).unwrap();
    let identity = org.msp.identity(&certificate).unwrap();
    identity.validate().unwrap();
    identity
        .satisfies(&role_principal(&org.id, MspRoleType::Client))
        .unwrap();
    identity
        .satisfies(&role_principal(&org.id, MspRoleType::Peer))
        .unwrap_err();
}

#[test]
fn a_constrained_authority_does_not_vouch_for_host_names() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(
        dir,
        "openssl ecparam -name prime256v1 -genkey -noout -out ca.key",
    );
    openssl(
        dir,
        "openssl req -x509 -key ca.key -subj /CN=TestCA -out ca.pem -days 9 \
         -addext nameConstraints=critical,excluded;DNS:example.com",
    );
    let issue = |subject: &str| {
        openssl(
            dir,
            "openssl ecparam -name prime256v1 -genkey -noout -out u.key",
        );
        openssl(
            dir,
            &format!("openssl req -new -key u.key -out u.csr -subj {subject}"),
        );
        openssl(
            dir,
            "openssl x509 -req -in u.csr -out u.pem -CA ca.pem -CAkey ca.key -CAcreateserial \
             -days 9",
        );
        std::fs::read(dir.join("u.pem")).unwrap()
    };
    let config = FabricMspConfig {
        name: "ConstraintsMSP".into(),
        root_certs: vec![std::fs::read(dir.join("ca.pem")).unwrap().into()],
        ..FabricMspConfig::default()
    };
    let msp = Msp::new(&config, MspVersion::V1_0).unwrap();
    let error = msp
        .identity(&issue("/CN=localhost"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("issuer has name constraints"), "{error}");
    msp.identity(&issue("/CN=no~host"))
        .unwrap()
        .validate()
        .unwrap();
}

#[test]
fn ed25519_members_need_the_newest_rules() {
    let dir = tempfile::tempdir().unwrap();
    let org = organisation_with_files(dir.path());
    openssl(
        dir.path(),
        "openssl genpkey -algorithm ed25519 -out user-key",
    );
    openssl(
        dir.path(),
        "openssl req -new -key user-key -out user-csr.pem -subj /CN=u/OU=client",
    );
    openssl(
        dir.path(),
        "openssl x509 -req -in user-csr.pem -out user-cert.pem -CA ca.organization-cert.pem \
         -CAkey organization_sk -CAcreateserial -days 3650",
    );
    std::fs::write(dir.path().join("message"), b"TEST").unwrap();
    openssl(
        dir.path(),
        "openssl pkeyutl -sign -inkey user-key -rawin -in message -out signature",
    );
    let certificate = std::fs::read(dir.path().join("user-cert.pem")).unwrap();
    let signature = std::fs::read(dir.path().join("signature")).unwrap();
    let folder = MspFolder {
        root_certificates: vec![org.authority.certificate().clone()],
        node_roles: true,
        ..MspFolder::default()
    };
    let files = folder
        .files()
        .unwrap()
        .into_iter()
        .map(|(path, b)| (path, b.to_vec()));
    let config = MspFiles::new(files).verifying_config(&org.id).unwrap();
    let newest = Msp::new(&config, MspVersion::V3_0).unwrap();
    let identity = newest.identity(&certificate).unwrap();
    identity.validate().unwrap();
    identity.verify(b"TEST", &signature).unwrap();
    identity.verify(b"TOAST", &signature).unwrap_err();
    let error = org
        .msp
        .identity(&certificate)
        .unwrap()
        .validate()
        .unwrap_err()
        .to_string();
    assert!(error.contains("Ed25519 is not supported"), "{error}");
}
