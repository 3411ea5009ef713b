//! Certificates, lists and requests: ours read by openssl, openssl's and Fabric's read by us.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use selvage_crypto::issue::{
    Authority, LeafProfile, NodeRole, Subject, TEN_YEARS, Validity, request,
};
use selvage_crypto::{
    Certificate, Crl, CryptoError, ExtendedKeyUsage, GeneralName, KeyKind, KeyUsage, PrivateKey,
    Request, pem,
};

const NOW: i64 = 1_735_689_612;

fn root() -> Authority {
    let mut subject = Subject::in_san_francisco("ca.org1.example.com");
    subject.organization = "org1.example.com".into();
    Authority::new_root(&subject, Validity::ten_years(NOW)).unwrap()
}

/// Runs openssl in `dir` and gives what it prints; it must succeed.
fn openssl(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output();
    let output = output.expect("openssl is needed to check what we issue: apt-get install openssl");
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

#[test]
fn an_authority_looks_like_cryptogens() {
    let root = root();
    let cert = root.certificate();
    assert_eq!(
        cert.subject().to_string(),
        "CN=ca.org1.example.com,O=org1.example.com,L=San Francisco,ST=California,C=US"
    );
    assert_eq!(
        (cert.version(), cert.is_ca(), cert.path_length()),
        (3, true, None)
    );
    assert_eq!(cert.ski(), Some(&cert.public_key().ski()[..]));
    assert_eq!((cert.aki(), cert.is_self_issued()), (None, true));
    assert_eq!(cert.not_before(), 1_735_689_600 - 300);
    assert_eq!(cert.not_after() - cert.not_before(), TEN_YEARS);
    let usage = cert.key_usage().unwrap();
    assert_eq!(usage, KeyUsage(0b110_0101));
    cert.verify_issued_by(cert).unwrap();
    let again = Authority::from_parts(cert.clone(), root.key().clone()).unwrap();
    assert_eq!(again.certificate(), cert);
    let other = PrivateKey::generate(KeyKind::P256).unwrap();
    assert!(Authority::from_parts(cert.clone(), other).is_err());
}

#[test]
fn leaves_say_what_they_were_asked_to() {
    let root = root();
    let validity = Validity::ten_years(NOW);
    let mut profile = LeafProfile::identity("peer0", NodeRole::Peer, validity);
    profile.attributes = BTreeMap::from([("b".into(), "<1>\"".into()), ("a".into(), "x".into())]);
    let (cert, key) = root.issue_new(&profile).unwrap();
    assert_eq!(cert.organizational_units(), ["peer"]);
    assert_eq!((cert.common_name(), cert.is_ca()), ("peer0", false));
    assert_eq!(cert.key_usage(), Some(KeyUsage::DIGITAL_SIGNATURE));
    assert_eq!((cert.aki(), cert.ski()), (root.certificate().ski(), None));
    assert_eq!(cert.public_key(), key.public_key());
    let attributes = cert.extension("1.2.3.4.5.6.7.8.1").unwrap();
    let want = r#"{"attrs":{"a":"x","b":"\u003c1\u003e\""}}"#;
    assert_eq!(std::str::from_utf8(attributes).unwrap(), want);
    cert.verify_issued_by(root.certificate()).unwrap();

    let tls = LeafProfile::tls("peer0", &["peer0.org1", "127.0.0.1", "::1"], validity);
    let (cert, _) = root.issue_new(&tls).unwrap();
    let names: Vec<String> = cert
        .subject_alt_names()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["peer0.org1", "127.0.0.1", "::1"]);
    let purposes = [ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth];
    assert_eq!(cert.extended_key_usage(), purposes);
    assert!(!cert.has_unhandled_critical_extension());
}

#[test]
fn a_chain_holds_only_in_its_order() {
    let (root, stranger) = (root(), root());
    let validity = Validity::ten_years(NOW);
    let middle = root
        .new_intermediate(&Subject::named("ica"), validity, Some(0))
        .unwrap();
    assert_eq!(middle.certificate().path_length(), Some(0));
    assert_eq!(middle.certificate().aki(), root.certificate().ski());
    let profile = LeafProfile::identity("u", NodeRole::Client, validity);
    let (leaf, key) = middle.issue_new(&profile).unwrap();
    leaf.verify_issued_by(middle.certificate()).unwrap();
    middle
        .certificate()
        .verify_issued_by(root.certificate())
        .unwrap();
    let wrong_key = middle
        .certificate()
        .verify_issued_by(stranger.certificate());
    assert!(matches!(wrong_key, Err(CryptoError::BadSignature)));
    assert!(matches!(
        leaf.verify_issued_by(root.certificate()),
        Err(CryptoError::Malformed { .. })
    ));
    // A leaf that signs is no authority, whatever it signs.
    assert!(Authority::from_parts(leaf, key).is_err());
}

#[test]
fn issuing_refuses_nonsense() {
    let backwards = Validity {
        not_before: 10,
        not_after: 10,
    };
    assert!(Authority::new_root(&Subject::named("x"), backwards).is_err());
    let endless = Validity {
        not_before: 10,
        not_after: i64::MAX,
    };
    assert!(Authority::new_root(&Subject::named("x"), endless).is_err());
    let long = Subject::named("x".repeat(2000));
    assert!(Authority::new_root(&long, Validity::ten_years(NOW)).is_err());
}

#[test]
fn far_dates_and_other_alphabets_survive() {
    let validity = Validity {
        not_before: 0,
        not_after: 4_000_000_000,
    };
    let root = Authority::new_root(&Subject::named("组织一, \"q\""), validity).unwrap();
    let cert = root.certificate();
    assert_eq!((cert.not_before(), cert.not_after()), (0, 4_000_000_000));
    assert_eq!(cert.common_name(), "组织一, \"q\"");
    assert_eq!(cert.subject().to_string(), "CN=组织一\\, \\\"q\\\"");
}

#[test]
fn requests_prove_possession() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let names = [
        GeneralName::host("a.example"),
        GeneralName::host("10.0.0.1"),
    ];
    let made = request(&Subject::named("u1"), &names, &key).unwrap();
    assert_eq!(made.subject_alt_names(), names);
    assert_eq!(
        (made.subject().common_name(), made.public_key()),
        ("u1", key.public_key())
    );
    let mut forged = made.der().to_vec();
    let at = forged.windows(2).position(|pair| pair == b"u1").unwrap();
    forged[at + 1] = b'2';
    assert!(matches!(
        Request::from_der(&forged),
        Err(CryptoError::BadSignature)
    ));
    let profile = LeafProfile::identity("u1", NodeRole::Client, Validity::ten_years(NOW));
    let cert = root().issue_request(&made, &profile).unwrap();
    assert_eq!(cert.public_key(), key.public_key());
}

#[test]
fn lists_name_the_revoked() {
    let root = root();
    let revoked = [(vec![0xff, 1], NOW), (vec![7], NOW)];
    let crl = root.revoke(&revoked, 3, NOW, NOW + 60).unwrap();
    crl.verify_signed_by(root.certificate()).unwrap();
    assert_eq!(
        (crl.len(), crl.is_empty(), crl.next_update()),
        (2, false, Some(NOW + 60))
    );
    assert!(crl.revoked(&[0xff, 1]).is_some() && crl.revoked(&[8]).is_none());
    assert_eq!(crl.aki(), root.certificate().ski());
    assert_eq!(crl.issuer(), root.certificate().subject());
    let pem = crl.to_pem();
    assert_eq!(
        Crl::from_pem_or_der(pem.as_bytes()).unwrap().der(),
        crl.der()
    );
    assert_eq!(Crl::from_pem_or_der(crl.der()).unwrap().len(), 2);
    let empty = root.revoke(&[], 4, NOW, NOW + 60).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn openssl_reads_what_we_issue() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let root = root();
    let validity = Validity {
        not_before: 1_600_000_000,
        not_after: 4_000_000_000,
    };
    let ica = root
        .new_intermediate(&Subject::named("ica"), validity, Some(0))
        .unwrap();
    let tls = LeafProfile::tls("p", &["p.example", "127.0.0.1"], validity);
    let (leaf, key) = ica.issue_new(&tls).unwrap();
    let (gone, _) = ica.issue_new(&tls).unwrap();
    let crl = ica
        .revoke(&[(gone.serial().to_vec(), NOW)], 1, NOW, 4_000_000_000)
        .unwrap();
    let csr = request(&Subject::named("u"), &[GeneralName::host("h")], &key).unwrap();
    for (name, text) in [
        ("root.pem", root.certificate().to_pem()),
        ("ica.pem", ica.certificate().to_pem()),
        ("leaf.pem", leaf.to_pem()),
        ("gone.pem", gone.to_pem()),
        ("crl.pem", crl.to_pem()),
        ("csr.pem", csr.to_pem()),
        ("key.pem", key.to_pkcs8_pem().unwrap().to_string()),
    ] {
        write(name, &text);
    }
    let verify = [
        "verify",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "ica.pem",
        "-x509_strict",
    ];
    let ok = openssl(
        dir.path(),
        &[&verify[..], &["-purpose", "sslserver", "leaf.pem"]].concat(),
    );
    assert!(ok.contains("leaf.pem: OK"), "{ok}");
    let text = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    assert!(
        text.contains("DNS:p.example, IP Address:127.0.0.1"),
        "{text}"
    );
    openssl(dir.path(), &["pkey", "-in", "key.pem", "-check", "-noout"]);
    let listed = openssl(
        dir.path(),
        &[
            "crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ica.pem",
        ],
    );
    assert!(listed.contains("verify OK"), "{listed}");
    assert!(
        listed.to_lowercase().contains(&hex::encode(gone.serial())),
        "{listed}"
    );
    openssl(dir.path(), &["req", "-in", "csr.pem", "-noout", "-verify"]);
    write("message", "hello");
    std::fs::write(dir.path().join("signature"), key.sign(b"hello").unwrap()).unwrap();
    openssl(
        dir.path(),
        &[
            "x509", "-in", "leaf.pem", "-pubkey", "-noout", "-out", "pub.pem",
        ],
    );
    let check = [
        "dgst",
        "-sha256",
        "-verify",
        "pub.pem",
        "-signature",
        "signature",
        "message",
    ];
    openssl(dir.path(), &check);
}

#[test]
fn we_read_what_openssl_makes() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    openssl(
        dir.path(),
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-out",
            "sec1.pem",
        ],
    );
    let pkcs8 = [
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        "sec1.pem",
        "-out",
        "pkcs8.pem",
    ];
    openssl(dir.path(), &pkcs8);
    let key = PrivateKey::from_pem(&read("sec1.pem")).unwrap();
    assert_eq!(
        PrivateKey::from_pem(&read("pkcs8.pem"))
            .unwrap()
            .public_key(),
        key.public_key()
    );
    let csr = [
        "req",
        "-new",
        "-key",
        "pkcs8.pem",
        "-subj",
        "/C=CN/CN=u",
        "-out",
        "csr.pem",
    ];
    openssl(dir.path(), &csr);
    let request = Request::from_pem(&read("csr.pem")).unwrap();
    assert_eq!(
        (request.subject().common_name(), request.public_key()),
        ("u", key.public_key())
    );

    for (algorithm, option, kind, digest) in [
        ("EC", "ec_paramgen_curve:P-384", KeyKind::P384, "-sha384"),
        ("EC", "ec_paramgen_curve:P-521", KeyKind::P521, "-sha512"),
        ("EC", "ec_paramgen_curve:P-256", KeyKind::P256, "-sha384"),
        ("RSA", "rsa_keygen_bits:2048", KeyKind::Rsa, "-sha256"),
        ("ED25519", "", KeyKind::Ed25519, "-sha256"),
    ] {
        let mut generate = vec!["genpkey", "-algorithm", algorithm, "-out", "ca.key"];
        if !option.is_empty() {
            generate.extend(["-pkeyopt", option]);
        }
        openssl(dir.path(), &generate);
        let subject = [
            "-x509", "-key", "ca.key", "-subj", "/CN=ca", "-out", "ca.pem", "-days", "9",
        ];
        openssl(dir.path(), &[&["req", digest][..], &subject].concat());
        let ca = [
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "leaf.pem",
        ];
        openssl(
            dir.path(),
            &[&["x509", "-req", digest, "-in", "csr.pem"][..], &ca].concat(),
        );
        let ca = Certificate::from_pem(&read("ca.pem")).unwrap();
        let leaf = Certificate::from_pem(&read("leaf.pem")).unwrap();
        assert_eq!(ca.public_key().kind(), kind);
        assert_eq!(
            (leaf.version(), leaf.has_basic_constraints()),
            (1, false),
            "{kind}"
        );
        leaf.verify_issued_by(&ca).unwrap();
        let clean = leaf.sanitized(ca.public_key()).unwrap();
        clean.verify_issued_by(&ca).unwrap();
        assert_eq!(clean.sanitized(ca.public_key()).unwrap(), clean);
        assert_eq!(clean.public_key(), key.public_key());
    }
}

#[test]
fn a_high_certificate_signature_is_rewritten_to_the_low_one() {
    let root = root();
    let profile = LeafProfile::identity("u", NodeRole::Client, Validity::ten_years(NOW));
    let (low, _) = root.issue_new(&profile).unwrap();
    // The other half of each signature: S replaced by the order minus S.
    let order =
        hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let signature = low.signature();
    let r_length = usize::from(signature[3]);
    let (r, s) = (&signature[2..4 + r_length], &signature[6 + r_length..]);
    let mut high = [0; 33];
    let mut borrow = 0i16;
    for i in 0..32 {
        let s_byte = s.iter().rev().nth(i).copied().unwrap_or(0);
        let digit = i16::from(order[31 - i]) - i16::from(s_byte) - borrow;
        borrow = i16::from(digit < 0);
        high[32 - i] = digit.rem_euclid(256) as u8;
    }
    let body = [r, &[2, 33], &high[..]].concat();
    let replaced = [&[0x30, body.len() as u8][..], &body].concat();
    let der = low.der();
    let tbs_and_algorithm = &der[4..der.len() - signature.len() - 3];
    let tail = [&[3, replaced.len() as u8 + 1, 0][..], &replaced].concat();
    let length = (tbs_and_algorithm.len() + tail.len()) as u16;
    let whole = [
        &[0x30, 0x82][..],
        &length.to_be_bytes(),
        tbs_and_algorithm,
        &tail,
    ]
    .concat();
    let high = Certificate::from_der(&whole).unwrap();
    high.verify_issued_by(root.certificate()).unwrap();
    assert_ne!(high, low);
    let clean = high.sanitized(root.certificate().public_key()).unwrap();
    assert_eq!(clean, low);
    assert_eq!(clean.fingerprint(), low.fingerprint());
}

#[test]
fn cryptogens_certificates_read_as_they_are() {
    let Some(golden) = selvage_testing::golden_dir("cryptogens_certificates_read_as_they_are")
    else {
        return;
    };
    let org = golden.join("corpus/network/crypto/peerOrganizations/org1.example.com");
    let read = |path: &str| std::fs::read(org.join(path)).unwrap();
    let ca = Certificate::from_pem(&read("ca/ca.org1.example.com-cert.pem")).unwrap();
    let tlsca = Certificate::from_pem(&read("tlsca/tlsca.org1.example.com-cert.pem")).unwrap();
    for ca in [&ca, &tlsca] {
        ca.verify_issued_by(ca).unwrap();
        // Not the hash of the public key: this cryptogen hashes the private one. We follow older
        // versions and Fabric CA, which hash the public key.
        assert_eq!(ca.ski().map(<[u8]>::len), Some(32));
    }
    let peer = "peers/peer0.org1.example.com";
    let tls = Certificate::from_pem(&read(&format!("{peer}/tls/server.crt"))).unwrap();
    tls.verify_issued_by(&tlsca).unwrap();
    assert!(
        tls.subject_alt_names()
            .contains(&GeneralName::host("127.0.0.1"))
    );
    let sign = format!("{peer}/msp/signcerts/peer0.org1.example.com-cert.pem");
    let sign = Certificate::from_pem(&read(&sign)).unwrap();
    sign.verify_issued_by(&ca).unwrap();
    assert_eq!(sign.aki(), ca.ski());
    let key = PrivateKey::from_pem(&read(&format!("{peer}/msp/keystore/priv_sk"))).unwrap();
    assert_eq!(key.public_key(), sign.public_key());

    // Ours differ from theirs in keys, serial, times and signatures only.
    let mut subject = Subject::in_san_francisco("ca.org1.example.com");
    subject.organization = "org1.example.com".into();
    let validity = Validity {
        not_before: ca.not_before(),
        not_after: ca.not_after(),
    };
    let our_ca = Authority::new_root(&subject, validity).unwrap();
    let mut profile = LeafProfile::identity("peer0.org1.example.com", NodeRole::Peer, validity);
    let same = |ours: &Certificate, theirs: &Certificate| {
        assert_eq!(ours.subject(), theirs.subject());
        assert_eq!(ours.issuer(), theirs.issuer());
        for oid in ["2.5.29.15", "2.5.29.37", "2.5.29.19", "2.5.29.17"] {
            assert_eq!(ours.extension(oid), theirs.extension(oid), "{oid}");
        }
        assert_eq!(ours.ski().is_some(), theirs.ski().is_some());
        assert_eq!(ours.aki().is_some(), theirs.aki().is_some());
    };
    same(our_ca.certificate(), &ca);
    same(&our_ca.issue_new(&profile).unwrap().0, &sign);
    profile = LeafProfile::tls(
        "peer0.org1.example.com",
        &["peer0.org1.example.com", "peer0", "localhost", "127.0.0.1"],
        validity,
    );
    let mut tls_subject = subject.clone();
    tls_subject.common_name = "tlsca.org1.example.com".into();
    let our_tlsca = Authority::new_root(&tls_subject, validity).unwrap();
    same(&our_tlsca.issue_new(&profile).unwrap().0, &tls);
}

fn sample_certificate() -> Vec<u8> {
    let validity = Validity::ten_years(NOW);
    let tls = LeafProfile::tls("p", &["p.example", "127.0.0.1"], validity);
    root().issue_new(&tls).unwrap().0.der().to_vec()
}

proptest! {
    #[test]
    fn no_bytes_make_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::from_pem(&bytes);
        let _ = Certificate::all_from_pem(&bytes);
        let _ = Crl::from_pem_or_der(&bytes);
        let _ = Request::from_der(&bytes);
        let _ = pem::blocks(&bytes).count();
    }

    #[test]
    fn no_damaged_list_or_request_makes_readers_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let root = root();
        let list = root.revoke(&[(vec![9], NOW)], 1, NOW, NOW + 60).unwrap();
        let asked = request(&Subject::named("u"), &[GeneralName::host("h")], root.key()).unwrap();
        let mut list = list.der().to_vec();
        let mut asked = asked.der().to_vec();
        let (in_list, in_request) = (at.index(list.len()), at.index(asked.len()));
        list[in_list] = byte;
        asked[in_request] = byte;
        if let Ok(list) = Crl::from_der(&list) {
            let _ = list.verify_signed_by(root.certificate());
        }
        let _ = Request::from_der(&asked);
    }

    #[test]
    fn no_damage_makes_readers_panic(
        at in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = sample_certificate();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(cert) = Certificate::from_der(&bytes) {
            let _ = cert.sanitized(cert.public_key());
            let _ = (cert.subject().to_string(), cert.verify_signed_by(cert.public_key()));
        }
        let shorter = cut.index(bytes.len());
        prop_assert!(Certificate::from_der(&bytes[..shorter]).is_err());
    }
}
