//! What is said of signatures that do not count, and to whom.

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_identity::{SignedData, SignerFault, SigningIdentity};

use support::{NOW, Organisation, manager, signed};

const MESSAGE: &[u8] = b"message";

/// The same signature with its other `s`.
fn high_s(signature: &[u8]) -> Bytes {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = hex::decode(ORDER).unwrap();
    let (r, rest) = signature[2..].split_at(2 + usize::from(signature[3]));
    let mut other = [0_u8; 32];
    let mut borrow = 0;
    for i in 0..32 {
        let taken = rest[2..].iter().rev().nth(i).copied().unwrap_or(0);
        let left = i16::from(order[31 - i]) - i16::from(taken) - borrow;
        borrow = i16::from(left < 0);
        other[31 - i] = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    let mut body = r.to_vec();
    body.extend([2, 33, 0]);
    body.extend(other);
    let mut der = vec![0x30, u8::try_from(body.len()).unwrap()];
    der.extend(body);
    der.into()
}

#[test]
fn faults_name_cause_and_remedy() {
    let org = Organisation::new("Org1MSP");
    let manager = manager(&[&org]);
    let check = |signed: &SignedData, words: &[&str]| {
        let fault = SignerFault::find(&manager, signed);
        let text = fault.map(|f| f.to_string()).unwrap_or_default();
        assert!(words.is_empty() == text.is_empty(), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
    };
    let signer = org.signer("user", NodeRole::Client);
    let good = signed(&signer, MESSAGE);
    check(&good, &[]);
    let with = |signature: Bytes| SignedData {
        signature,
        ..good.clone()
    };
    check(&with(high_s(&good.signature)), &["low-S", "n - S"]);
    check(&with(Bytes::from_static(b"x")), &["cannot be read", "DER"]);
    let other_key = org.signer("other", NodeRole::Client).sign(MESSAGE);
    let words = ["does not fit", "private key that belongs"];
    check(&with(other_key.into()), &words);

    let subject = Subject::named(org.authority.certificate().common_name().to_owned());
    let namesake = Authority::new_root(&subject, Validity::ten_years(NOW)).unwrap();
    let profile = LeafProfile::identity("user", NodeRole::Client, Validity::ten_years(NOW));
    let (certificate, key) = namesake.issue_new(&profile).unwrap();
    let stranger = SigningIdentity::new("Org1MSP", certificate.to_pem().as_bytes(), key).unwrap();
    let stranger = signed(&stranger, MESSAGE);
    let words = [
        "does not accept the certificate",
        "unknown authority",
        "issued",
    ];
    check(&stranger, &words);
    let nobody = signed(&org.without_role("user"), MESSAGE);
    check(&nobody, &["no organisational unit", "OU=client"]);
    // Who cannot sign with its key hears nothing of the certificate.
    let guessed = SignedData {
        signature: good.signature.clone(),
        ..nobody
    };
    check(&guessed, &["does not fit"]);

    let unknown = Organisation::new("Org9MSP").signer("user", NodeRole::Client);
    check(
        &signed(&unknown, MESSAGE),
        &["MSP Org9MSP", "correct the MSP id"],
    );
    let garbage = SignedData {
        identity: Bytes::from_static(b"\xff"),
        ..good
    };
    check(&garbage, &["cannot be read", "SerializedIdentity"]);
    let expired = SignerFault::Expired { seconds: 60 }.to_string();
    assert!(expired.contains("60 seconds ago") && expired.contains("issued again"));
}
