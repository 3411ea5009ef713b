//! What Fabric's own tests accept and refuse, over the certificates of its test folders.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use prost::Message;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{Certificate, Crl, pem};
use selvage_identity::policy::build::{identity_principal, role_principal};
use selvage_identity::{Identity, IdentityError, Msp, MspFiles, MspManager, MspVersion, serialize};
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType as Role;
use selvage_proto::common::{
    CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, OrganizationUnit,
};
use selvage_proto::msp::{FabricMspConfig, SerializedIdentity};

use MspVersion::{V1_0, V1_1, V1_3, V1_4_3, V3_0};

const ORG: &str = "SampleOrg";

/// The files of one of Fabric's test folders (`msp/testdata`, `sampleconfig/msp`), without keys.
fn folder(name: &str) -> MspFiles {
    let mut files: Vec<(&str, usize)> = Vec::new();
    let mut blobs: Vec<String> = Vec::new();
    for line in include_str!("data/fabric-msp.txt").lines() {
        if let Some(entry) = line.strip_prefix("file ") {
            let (path, blob) = entry.split_once(' ').unwrap();
            files.push((path, blob.parse().unwrap()));
        } else if line.starts_with("blob ") {
            blobs.push(String::new());
        } else {
            let blob = blobs.last_mut().unwrap();
            blob.push_str(line);
            blob.push('\n');
        }
    }
    let prefix = format!("{name}/");
    let own = files.iter().filter_map(|(path, blob)| {
        Some((
            path.strip_prefix(&prefix)?.to_owned(),
            blobs[*blob].clone().into_bytes(),
        ))
    });
    let files = MspFiles::new(own);
    assert!(!files.files().is_empty(), "no folder {name}");
    files
}

fn file(folder_name: &str, path: &str) -> Vec<u8> {
    folder(folder_name).files()[path].to_vec()
}

fn set_up(name: &str, version: MspVersion) -> Result<Msp, String> {
    let config = folder(name)
        .verifying_config(ORG)
        .map_err(|e| e.to_string())?;
    Msp::new(&config, version).map_err(|e| e.to_string())
}

fn msp(name: &str, version: MspVersion) -> Msp {
    set_up(name, version).unwrap_or_else(|e| panic!("{name} {version:?}: {e}"))
}

fn refused(name: &str, version: MspVersion, reason: &str) {
    let error = set_up(name, version).expect_err(name);
    assert!(error.contains(reason), "{name} {version:?}: {error}");
}

/// The identity in `signcerts`.
fn signer(name: &str, msp: &Msp) -> Identity {
    let config = folder(name).local_config(ORG).unwrap();
    msp.identity(&config.signing_identity.unwrap().public_signer)
        .unwrap()
}

fn valid(name: &str, version: MspVersion) {
    let msp = msp(name, version);
    signer(name, &msp)
        .validate()
        .unwrap_or_else(|e| panic!("{name} {version:?}: {e}"));
}

fn invalid(name: &str, version: MspVersion, reason: &str) {
    let msp = msp(name, version);
    let error = signer(name, &msp).validate().expect_err(name).to_string();
    assert!(error.contains(reason), "{name} {version:?}: {error}");
}

fn has_role(identity: &Identity, role: Role) -> Result<(), String> {
    identity
        .satisfies(&role_principal(ORG, role))
        .map_err(|e| e.to_string())
}

fn principal(kind: Classification, message: &impl Message) -> MspPrincipal {
    let principal = message.encode_to_vec().into();
    MspPrincipal {
        principal_classification: kind.into(),
        principal,
    }
}

#[test]
fn plain_organisations() {
    for version in [V1_0, V1_1, V1_3] {
        valid("sampleconfig", version);
    }
    valid("intermediate", V1_0);
    valid("external", V1_0);
    valid("tls", V1_0);
    let msp = msp("tls", V1_0);
    assert_eq!(msp.tls_root_certificates().len(), 1);
    assert_eq!(msp.tls_intermediate_certificates().len(), 1);
    refused("badadmin", V1_0, "admin 1 is invalid");
}

#[test]
fn organisations_do_not_vouch_for_each_other() {
    let (sample, intermediate) = (msp("sampleconfig", V1_0), msp("intermediate", V1_0));
    let config = folder("intermediate").local_config(ORG).unwrap();
    let foreign = config.signing_identity.unwrap().public_signer;
    assert!(sample.identity(&foreign).is_err());
    let config = folder("sampleconfig").local_config(ORG).unwrap();
    assert!(
        intermediate
            .identity(&config.signing_identity.unwrap().public_signer)
            .is_err()
    );
}

#[test]
fn authorities_are_no_identities() {
    let sample = msp("sampleconfig", V1_0);
    let ca = sample.root_certificates()[0].to_pem();
    let error = sample
        .identity(ca.as_bytes())
        .unwrap()
        .validate()
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot be used as an identity"), "{error}");
    let with_intermediate = msp("intermediate", V1_0);
    let ica = with_intermediate.intermediate_certificates()[0].to_pem();
    assert!(
        with_intermediate
            .identity(ica.as_bytes())
            .unwrap()
            .validate()
            .is_err()
    );
}

#[test]
fn an_authority_with_authorities_below_issues_no_identities() {
    valid("intermediate2", V1_0);
    let msp = msp("intermediate2", V1_0);
    let user = msp
        .identity(&file("intermediate2", "users/user2-cert.pem"))
        .unwrap();
    let error = user.validate().unwrap_err().to_string();
    let reason = "invalid validation chain. Parent certificate should be a leaf";
    assert!(error.contains(reason), "{error}");
    assert!(user.organizational_units().is_empty());
}

#[test]
fn an_intermediate_put_among_the_roots_does_not_chain() {
    let root = Authority::new_root(&Subject::named("root"), Validity::ten_years(0)).unwrap();
    let middle = Subject::named("middle");
    let middle = root
        .new_intermediate(&middle, Validity::ten_years(0), None)
        .unwrap();
    let config = FabricMspConfig {
        name: ORG.into(),
        root_certs: vec![middle.certificate().to_pem().into()],
        ..FabricMspConfig::default()
    };
    let error = Msp::new(&config, V1_0).unwrap_err().to_string();
    assert!(
        error.contains("failed to traverse certificate verification chain"),
        "{error}"
    );
}

#[test]
fn revocation() {
    invalid("revocation", V1_0, "The certificate has been revoked");
    // The list's signature is wrong, so it revokes nobody.
    valid("revocation2", V1_0);
    refused("revokedica", V1_0, "CA Certificate is not valid, ");
    let revoking = msp("revocation", V1_0);
    let revoked = signer("revocation", &revoking);
    assert!(
        revoked
            .satisfies(&identity_principal(revoked.serialized()))
            .is_err()
    );
}

#[test]
fn a_list_whose_signature_carries_a_third_number_still_revokes() {
    let files = folder("revocation");
    let mut config = files.verifying_config(ORG).unwrap();
    let der = Crl::from_pem_or_der(&config.revocation_list[0])
        .unwrap()
        .der()
        .to_vec();
    let start =
        der.len() - usize::from(der[der.windows(2).rposition(|w| w == [0, 0x30]).unwrap() + 2]) - 2;
    let mut longer = der.clone();
    longer.extend([2, 1, 100]);
    // Signature sequence, BIT STRING and outer sequence each grow by three bytes.
    longer[start + 1] += 3;
    longer[start - 2] += 3;
    let outer = u16::from_be_bytes([longer[2], longer[3]]) + 3;
    longer[2..4].copy_from_slice(&outer.to_be_bytes());
    config.revocation_list = vec![pem::encode("X509 CRL", &longer).into()];
    let msp = Msp::new(&config, V1_0).unwrap();
    let error = signer("revocation", &msp)
        .validate()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "could not validate identity against certification chain: \
         The certificate has been revoked"
    );
}

#[test]
fn organizational_units() {
    invalid(
        "badconfigou",
        V1_0,
        "could not validate identity's OUs: none of the identity's",
    );
    refused(
        "badconfigoucert",
        V1_0,
        "] not in root or intermediate certs.",
    );
    let msp = msp("sampleconfig", V1_0);
    let identity = signer("sampleconfig", &msp);
    let unit = &identity.organizational_units()[0];
    assert_eq!(unit.name, "COP");
    let ca = &msp.root_certificates()[0];
    assert_eq!(unit.certifiers, selvage_crypto::sha256(ca.der()));

    let asked = |name: &str, org: &str, certifiers: &[u8]| {
        let unit = OrganizationUnit {
            organizational_unit_identifier: name.into(),
            msp_identifier: org.into(),
            certifiers_identifier: certifiers.to_vec().into(),
        };
        identity
            .satisfies(&principal(Classification::OrganizationUnit, &unit))
            .is_ok()
    };
    assert!(asked("COP", ORG, &unit.certifiers));
    assert!(!asked("COP2", ORG, &unit.certifiers));
    assert!(!asked("COP", "SampleOrgbarfbarf", &unit.certifiers));
    assert!(!asked("COP", ORG, &[]));
    assert!(!asked("COP", ORG, &[0, 1, 2, 3, 4]));
    let malformed = MspPrincipal {
        principal_classification: 1,
        principal: "barf".into(),
    };
    assert!(identity.satisfies(&malformed).is_err());
}

#[test]
fn node_roles_before_1_4_3() {
    let none = "the identity does not have an OU that resolves to client or peer. OUs: [], \
                MSP: [SampleOrg]";
    refused("nodeous1", V1_1, "admin 0 is invalid");
    valid("nodeous1", V1_0);
    invalid(
        "nodeous2",
        V1_1,
        &format!("could not validate identity's OUs: {none}"),
    );
    for version in [V1_0, V1_1] {
        valid("nodeous3", version);
        valid("nodeous6", version);
        let reason = "could not validate identity's OUs: none of the identity's organizational";
        refused("nodeous7", version, reason);
    }
    refused(
        "nodeous4",
        V1_1,
        "admin 0 is invalid: The identity is not valid under this MSP [SampleOrg]: could not \
         validate identity's OUs: certifiersIdentifier does not match",
    );
    valid("nodeous4", V1_0);
    refused(
        "nodeous8",
        V1_1,
        "The identity does not contain OU [CLIENT]",
    );
    set_up("nodeous8", V1_0).unwrap();
    let nil = "must be different from nil.";
    refused(
        "nodeousbadconf1",
        V1_3,
        &format!("Failed setting up NodeOUs. ClientOU {nil}"),
    );
    refused(
        "nodeousbadconf2",
        V1_3,
        &format!("Failed setting up NodeOUs. PeerOU {nil}"),
    );

    let msp = msp("nodeous3", V1_1);
    let peer = signer("nodeous3", &msp);
    has_role(&peer, Role::Peer).unwrap();
    let error = has_role(&peer, Role::Client).unwrap_err();
    assert!(
        error.contains("The identity is not a [CLIENT] under this MSP [SampleOrg]"),
        "{error}"
    );
    let admin = msp
        .identity(&file("nodeous3", "admincerts/peer0-cert.pem"))
        .unwrap();
    has_role(&admin, Role::Client).unwrap();
    has_role(&admin, Role::Admin).unwrap();
    let error = has_role(&admin, Role::Peer).unwrap_err();
    assert!(
        error.contains("The identity is not a [PEER] under this MSP [SampleOrg]"),
        "{error}"
    );
}

#[test]
fn node_roles_since_1_4_3() {
    invalid(
        "nodeous2",
        V1_4_3,
        "could not validate identity's OUs: the identity does not have an OU that resolves to \
         client, peer, orderer, or admin role. OUs: [], MSP: [SampleOrg]",
    );
    let admins = "administrators must be declared when no admin ou classification is set";
    refused("nodeouadmin2", V1_4_3, admins);
    refused("nodeouadmin3", V1_4_3, admins);
    refused(
        "nodeousbadconf1",
        V1_4_3,
        "admin 0 is invalid [cannot test for classification, node ou for type [CLIENT], not \
         defined, msp: [SampleOrg],The identity does not contain OU [ADMIN], MSP: [SampleOrg]]",
    );
    set_up("nodeousbadconf2", V1_4_3).unwrap();
    for version in [V1_4_3, V3_0] {
        let by_unit = msp("nodeouadmin", version);
        let admin = by_unit
            .identity(&file("nodeouadmin", "adm/testadmincert.pem"))
            .unwrap();
        has_role(&admin, Role::Admin).unwrap();
        has_role(&signer("nodeouadmin", &by_unit), Role::Admin).unwrap_err();
        let orderer = msp("nodeouorderer", version);
        has_role(&signer("nodeouorderer", &orderer), Role::Orderer).unwrap();
        for name in ["nodeouadminclient", "nodeouadminclient2"] {
            let listed = msp(name, version);
            let admin = listed
                .identity(&file(name, "admincerts/admin.pem"))
                .unwrap();
            assert!(
                admin
                    .organizational_units()
                    .iter()
                    .all(|unit| unit.name != "admin")
            );
            has_role(&admin, Role::Admin).unwrap();
        }
    }
    for name in ["nodeouorderer2", "nodeouorderer3"] {
        let without = msp(name, V1_4_3);
        assert_eq!(
            has_role(&signer(name, &without), Role::Orderer).unwrap_err(),
            "The identity is not a [ORDERER] under this MSP [SampleOrg]: cannot test for \
             classification, node ou for type [ORDERER], not defined, msp: [SampleOrg]"
        );
    }
}

#[test]
fn role_and_identity_principals() {
    let msp = msp("sampleconfig", V1_3);
    let identity = signer("sampleconfig", &msp);
    has_role(&identity, Role::Member).unwrap();
    has_role(&identity, Role::Admin).unwrap();
    assert!(
        identity
            .satisfies(&role_principal("SampleOrgBARFBARF", Role::Member))
            .is_err()
    );
    let bogus = |kind: i32, role: i32| {
        let role = selvage_proto::common::MspRole {
            msp_identifier: ORG.into(),
            role,
        };
        let mut principal = principal(Classification::Role, &role);
        principal.principal_classification = kind;
        identity.satisfies(&principal).unwrap_err().to_string()
    };
    assert_eq!(bogus(0, 35), "invalid MSP role type 35");
    assert_eq!(bogus(35, 35), "invalid principal type 35");

    identity
        .satisfies(&identity_principal(identity.serialized()))
        .unwrap();
    assert!(
        identity
            .satisfies(&identity_principal("barf".into()))
            .is_err()
    );
    let other = signer_of_another_organisation();
    assert!(
        identity
            .satisfies(&identity_principal(serialize(ORG, &other)))
            .is_err()
    );
    let elsewhere = serialize("Other", identity.certificate().to_pem().as_bytes());
    assert!(identity.satisfies(&identity_principal(elsewhere)).is_err());
}

fn signer_of_another_organisation() -> Vec<u8> {
    file("intermediate", "signcerts/signcert.pem")
}

#[test]
fn combined_and_anonymity_principals() {
    let combine = |parts: &[MspPrincipal]| {
        let combined = CombinedPrincipal {
            principals: parts.to_vec(),
        };
        principal(Classification::Combined, &combined)
    };
    let (admin, member) = (
        role_principal(ORG, Role::Admin),
        role_principal(ORG, Role::Member),
    );
    let peer = role_principal(ORG, Role::Peer);
    let both = combine(&[admin.clone(), member.clone()]);
    let nested = combine(&[combine(std::slice::from_ref(&both)), member.clone()]);
    let bottomless = (0..10_000).fold(member.clone(), |inner, _| combine(&[inner]));
    let (new, old) = (msp("sampleconfig", V1_3), msp("sampleconfig", V1_1));
    let (new, old) = (signer("sampleconfig", &new), signer("sampleconfig", &old));
    for principal in [&both, &nested] {
        new.satisfies(principal).unwrap();
        let error = old.satisfies(principal).unwrap_err().to_string();
        assert_eq!(error, "invalid principal type 4");
    }
    let check = |principal: &MspPrincipal, reason: &str| {
        assert_eq!(new.satisfies(principal).unwrap_err().to_string(), reason);
    };
    check(&combine(&[]), "No principals in CombinedPrincipal");
    check(
        &combine(&[admin.clone(), combine(&[])]),
        "No principals in CombinedPrincipal",
    );
    check(&bottomless, "combined principals nest too deep");
    assert!(new.satisfies(&combine(&[admin, peer])).is_err());

    let anonymity = |anonymity_type| {
        principal(
            Classification::Anonymity,
            &MspIdentityAnonymity { anonymity_type },
        )
    };
    new.satisfies(&anonymity(0)).unwrap();
    check(
        &anonymity(1),
        "Principal is anonymous, but X.509 MSP does not support anonymous identities",
    );
    check(&anonymity(234), "Unknown principal anonymity type: 234");
    assert!(old.satisfies(&anonymity(0)).is_err());
}

#[test]
fn certificates_end_but_identities_do_not() {
    let msp = msp("expiration", V1_0);
    // 2027-08-17T12:19:48Z
    assert_eq!(signer("expiration", &msp).expires_at(), 1_818_505_188);
    valid("expired", V1_0);
}

#[test]
fn ids_are_hashes_of_low_s_certificates() {
    let msp = msp("mspid", V1_0);
    let identity = signer("mspid", &msp);
    identity.validate().unwrap();
    let given = Certificate::from_pem(&file("mspid", "signcerts/peer0-cert.pem")).unwrap();
    assert_ne!(identity.certificate(), &given);
    assert_ne!(identity.id(), hex::encode(given.fingerprint()));
    assert_eq!(
        identity.id(),
        hex::encode(identity.certificate().fingerprint())
    );
    // Both forms are one identity.
    let again = msp.deserialize(&identity.serialized()).unwrap();
    assert_eq!(again.id(), identity.id());
}

#[test]
fn reading_identities() {
    let msp = msp("sampleconfig", V1_0);
    let identity = signer("sampleconfig", &msp);
    let serialized = identity.serialized();
    let manager = MspManager::new([msp.clone().into()]);
    let first = manager.deserialize(&serialized).unwrap();
    let second = manager.deserialize(&serialized).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));

    let renamed = serialize("SampleOrgBARF", identity.certificate().to_pem().as_bytes());
    assert!(matches!(
        msp.deserialize(&renamed),
        Err(IdentityError::WrongMsp { .. })
    ));
    let error = manager.deserialize(&renamed).unwrap_err().to_string();
    assert_eq!(error, "MSP SampleOrgBARF is not defined on channel");
    let error = manager.deserialize(b"barf").unwrap_err().to_string();
    assert_eq!(error, "could not deserialize a SerializedIdentity");
    let no_pem = serialize(ORG, b"no pem");
    assert!(matches!(
        manager.deserialize(&no_pem),
        Err(IdentityError::Pem)
    ));
    let no_certificate = serialize(ORG, pem::encode("CERTIFICATE", b"x").as_bytes());
    let refused = manager.deserialize(&no_certificate);
    assert!(matches!(refused, Err(IdentityError::Certificate(_))));
}

#[test]
fn well_formed_identities() {
    let msp = msp("sampleconfig", V1_0);
    let identity = signer("sampleconfig", &msp);
    let manager = MspManager::new([msp.into()]);
    let check = |manager: &MspManager, id_bytes: Vec<u8>| {
        let identity = SerializedIdentity {
            mspid: ORG.into(),
            id_bytes: id_bytes.into(),
        };
        manager
            .check_well_formed(&identity)
            .map_err(|e| e.to_string())
    };
    let der = identity.certificate().der();
    let plain = pem::encode("CERTIFICATE", der).into_bytes();
    let nobody = MspManager::new([]);
    let error = check(&nobody, plain.clone()).unwrap_err();
    assert_eq!(error, "no MSP provider recognizes the identity");
    check(&manager, plain.clone()).unwrap();
    check(&manager, pem::encode("", der).into_bytes()).unwrap();
    let error = check(&manager, pem::encode("foo", der).into_bytes()).unwrap_err();
    assert_eq!(error, "pem type is foo, should be 'CERTIFICATE' or missing");
    let error = check(&manager, [&plain[..], &[1, 2, 3]].concat()).unwrap_err();
    assert!(
        error.contains("for MSP SampleOrg has trailing bytes"),
        "{error}"
    );

    // A third number in the signature changes nothing but the bytes.
    let signature = identity.certificate().signature();
    let mut longer = der.to_vec();
    longer.extend([2, 1, 100]);
    let start = der.len() - signature.len();
    longer[start + 1] += 3;
    longer[start - 2] += 3;
    let outer = u16::from_be_bytes([longer[2], longer[3]]) + 3;
    longer[2..4].copy_from_slice(&outer.to_be_bytes());
    let longer = pem::encode("CERTIFICATE", &longer).into_bytes();
    let error = check(&manager, longer.clone()).unwrap_err();
    assert!(
        error.contains("for MSP SampleOrg has a non canonical signature"),
        "{error}"
    );
    assert!(check(&manager, b"junk".to_vec()).is_err());
}

#[test]
fn definitions_that_make_no_sense() {
    let good = folder("sampleconfig").verifying_config(ORG).unwrap();
    let check = |change: &dyn Fn(&mut FabricMspConfig), reason: &str| {
        let mut config = good.clone();
        change(&mut config);
        let error = Msp::new(&config, V1_4_3).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    check(
        &|c| c.root_certs.clear(),
        "expected at least one CA certificate",
    );
    check(
        &|c| c.root_certs[0] = "barf".into(),
        "root CA 0: cannot read the certificate",
    );
    check(
        &|c| c.admins[0] = "barf".into(),
        "admin 0: cannot read the certificate",
    );
    check(
        &|c| c.revocation_list.push("barf".into()),
        "could not parse RevocationList",
    );
    let leaf = folder("sampleconfig")
        .local_config(ORG)
        .unwrap()
        .signing_identity
        .unwrap();
    let leaf = leaf.public_signer;
    let no_ca = "CA Certificate did not have the CA attribute, (SN: ";
    check(&|c| c.tls_root_certs = vec![leaf.clone()], no_ca);
    let hash = |c: &mut FabricMspConfig| {
        let crypto = c.crypto_config.as_mut().unwrap();
        crypto.identity_identifier_hash_function = "MD5".into();
    };
    check(&hash, "hash function not recognized [MD5]");
    let mut without = good.clone();
    without.crypto_config = None;
    Msp::new(&without, V1_3).unwrap();
    // Idle organisations keep certificates nobody renewed: not after matters nowhere.
    let issued = Validity {
        not_before: 0,
        not_after: 1,
    };
    let old = Authority::new_root(&Subject::named("old"), issued).unwrap();
    let mut expired = good.clone();
    expired.tls_intermediate_certs.clear();
    expired.tls_root_certs = vec![old.certificate().to_pem().into()];
    Msp::new(&expired, V1_3).unwrap();
}

#[test]
fn an_issuer_must_exist_before_what_it_issues() {
    let young = Validity {
        not_before: 1000,
        not_after: 2000,
    };
    let root = Authority::new_root(&Subject::named("ca"), young).unwrap();
    let mut config = FabricMspConfig {
        name: ORG.into(),
        ..FabricMspConfig::default()
    };
    config.root_certs = vec![root.certificate().to_pem().into()];
    let msp = Msp::new(&config, V1_0).unwrap();
    let issue = |not_before| {
        let validity = Validity {
            not_before,
            not_after: 5000,
        };
        let profile = LeafProfile::identity("u", NodeRole::Client, validity);
        root.issue_new(&profile).unwrap().0.to_pem()
    };
    msp.identity(issue(1000).as_bytes())
        .unwrap()
        .validate()
        .unwrap();
    msp.identity(issue(1999).as_bytes())
        .unwrap()
        .validate()
        .unwrap();
    for not_before in [998, 2000] {
        let error = msp
            .identity(issue(not_before).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains("expired or is not yet valid"), "{error}");
    }
}

#[test]
fn folders_that_lack_something() {
    let empty = MspFiles::new(BTreeMap::<String, Vec<u8>>::new());
    let error = empty.verifying_config(ORG).unwrap_err().to_string();
    assert_eq!(error, "no ca certificate found in directory cacerts");
    let sample = folder("sampleconfig");
    let without = |prefix: &str| {
        let kept = sample
            .files()
            .iter()
            .filter(|(path, _)| !path.starts_with(prefix));
        MspFiles::new(kept.map(|(path, bytes)| (path.clone(), bytes.clone())))
    };
    let error = without("signcerts")
        .local_config(ORG)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "no signing certificate found in directory signcerts");
    assert!(sample.signing_identity(ORG).is_err());
    let mut files = sample.files().clone();
    files.insert("config.yaml".into(), "NodeOUs: [".into());
    let error = MspFiles::new(files.clone())
        .verifying_config(ORG)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("failed unmarshalling configuration file"),
        "{error}"
    );
    let unit = "OrganizationalUnitIdentifiers:\n- Certificate: ../cacerts/gone.pem\n";
    files.insert("config.yaml".into(), unit.into());
    let error = MspFiles::new(files.clone())
        .verifying_config(ORG)
        .unwrap_err()
        .to_string();
    assert!(error.contains("[../cacerts/gone.pem]"), "{error}");
    files.insert("config.yaml".into(), "# nothing\n".into());
    let config = MspFiles::new(files).verifying_config(ORG).unwrap();
    assert_eq!(config.fabric_node_ous, None);
}
