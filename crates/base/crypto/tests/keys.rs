//! Keys and signatures from outside: what the library, openssl and hostile senders hand over.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use selvage_crypto::{CryptoError, KeyKind, PrivateKey, PublicKey, suite, suites};

/// RFC 6979 A.2.5: the P-256 key, and its signature of "sample" with SHA-256, whose S is high.
const RFC6979_X: &str = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
const RFC6979_Y: &str = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
const RFC6979_R: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
const RFC6979_S: &str = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";

fn p256(x: &str, y: &str) -> PublicKey {
    let spki = format!("3059301306072a8648ce3d020106082a8648ce3d03010703420004{x}{y}");
    PublicKey::from_spki_der(&hex::decode(spki).unwrap()).unwrap()
}

fn der(r: &str, s: &str) -> Vec<u8> {
    let integer = |n: &str| {
        let mut bytes = hex::decode(n).unwrap();
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        [vec![2, bytes.len() as u8], bytes].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, body.len() as u8], body].concat()
}

#[test]
fn the_published_signature_is_valid_but_high() {
    let key = p256(RFC6979_X, RFC6979_Y);
    let high = der(RFC6979_R, RFC6979_S);
    assert!(matches!(
        key.verify(b"sample", &high),
        Err(CryptoError::HighS)
    ));
    // n - s
    let low = der(
        RFC6979_R,
        "0834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9",
    );
    key.verify(b"sample", &low).unwrap();
    key.verify_parts(&[b"sam", b"", b"ple"], &low).unwrap();
    key.verify(b"sample", &[low.clone(), vec![0]].concat())
        .unwrap();
    assert!(matches!(
        key.verify(b"simple", &low),
        Err(CryptoError::BadSignature)
    ));
    assert!(matches!(
        key.verify(b"sample", b"x"),
        Err(CryptoError::MalformedSignature(_))
    ));
}

#[test]
fn what_is_signed_verifies_and_is_low() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    for n in 0..64u8 {
        let message = vec![n; usize::from(n)];
        let signature = key.sign(&message).unwrap();
        key.public_key().verify(&message, &signature).unwrap();
        let split = usize::from(n / 3);
        let parts = [&message[..split], &message[split..]];
        key.public_key()
            .verify_parts(&parts, &key.sign_parts(&parts).unwrap())
            .unwrap();
    }
}

#[test]
fn keys_survive_their_text_forms() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let pem = key.to_pkcs8_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let again = PrivateKey::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    assert_eq!(*again.to_pkcs8_der().unwrap(), *key.to_pkcs8_der().unwrap());
    let public = PublicKey::from_spki_der(key.public_key().spki_der()).unwrap();
    public.verify(b"m", &again.sign(b"m").unwrap()).unwrap();
    assert_eq!(public.bits().len(), 65);
    assert_eq!(format!("{key:?}"), "PrivateKey(P-256, redacted)");
}

#[test]
fn kinds_that_only_verify_say_so() {
    for other in [KeyKind::P384, KeyKind::P521, KeyKind::Ed25519, KeyKind::Rsa] {
        let refused = PrivateKey::generate(other);
        assert!(
            matches!(refused, Err(CryptoError::UnsupportedKey(_))),
            "{other}"
        );
        assert_eq!(suite(other).kind(), other);
    }
    assert_eq!(suites()[0].kind(), KeyKind::P256);
}

#[test]
fn keys_that_are_none_are_refused() {
    assert!(matches!(
        PrivateKey::from_pem(b""),
        Err(CryptoError::Pem(_))
    ));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----";
    let error = PrivateKey::from_pem(encrypted.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("encrypted"), "{error}");
    // Off the curve, compressed, and on a curve nobody uses.
    let check = |spki: &str| {
        let bytes = hex::decode(spki).unwrap();
        PublicKey::from_spki_der(&bytes).unwrap_err()
    };
    let prefix = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
    let off = check(&format!("{prefix}{RFC6979_X}{RFC6979_X}"));
    assert!(matches!(off, CryptoError::MalformedKey { .. }), "{off}");
    let squeezed = "3039301306072a8648ce3d020106082a8648ce3d030107032200";
    let compressed = check(&format!("{squeezed}03{RFC6979_X}"));
    assert!(
        matches!(compressed, CryptoError::MalformedKey { .. }),
        "{compressed}"
    );
    let k256 = format!("3056301006072a8648ce3d020106052b8104000a03420004{RFC6979_X}{RFC6979_Y}");
    assert!(matches!(check(&k256), CryptoError::UnsupportedKey(_)));
}

proptest! {
    #[test]
    fn no_bytes_make_key_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = PublicKey::from_spki_der(&bytes);
        let _ = PrivateKey::from_der(&bytes);
        let _ = PrivateKey::from_pem(&bytes);
    }

    #[test]
    fn no_signature_makes_verification_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        whole in any::<bool>(),
    ) {
        if whole && bytes.len() > 4 {
            let inner = bytes.len() - 2;
            bytes[..4].copy_from_slice(&[0x30, inner as u8, 2, (inner / 2) as u8]);
        }
        let key = p256(RFC6979_X, RFC6979_Y);
        prop_assert!(key.verify(b"sample", &bytes).is_err());
    }
}
