//! What an endorsement costs a validator: reading its identity, asking its validity, a policy.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_identity::policy::{self, dsl};
use selvage_identity::{
    Msp, MspFiles, MspFolder, MspManager, MspVersion, SignedData, SigningIdentity,
};

fn organisation(id: &str) -> (Arc<Msp>, SigningIdentity) {
    let validity = Validity::ten_years(0);
    let authority = Authority::new_root(&Subject::named(id), validity).unwrap();
    let folder = MspFolder {
        root_certificates: vec![authority.certificate().clone()],
        node_roles: true,
        ..MspFolder::default()
    };
    let files = folder
        .files()
        .unwrap()
        .into_iter()
        .map(|(path, b)| (path, b.to_vec()));
    let config = MspFiles::new(files).verifying_config(id).unwrap();
    let msp = Arc::new(Msp::new(&config, MspVersion::V1_4_3).unwrap());
    let profile = LeafProfile::identity("peer0", NodeRole::Peer, validity);
    let (certificate, key) = authority.issue_new(&profile).unwrap();
    let signer = SigningIdentity::new(id, certificate.to_pem().as_bytes(), key).unwrap();
    (msp, signer)
}

fn identities(c: &mut Criterion) {
    let (one, signer_one) = organisation("Org1MSP");
    let (two, signer_two) = organisation("Org2MSP");
    let serialized = signer_one.serialized();
    c.bench_function("deserialize and validate, first time", |b| {
        b.iter(|| {
            one.deserialize(black_box(&serialized))
                .unwrap()
                .validate()
                .unwrap()
        });
    });
    let manager = Arc::new(MspManager::new([one, two]));
    c.bench_function("deserialize and validate, again", |b| {
        b.iter(|| {
            manager
                .deserialize(black_box(&serialized))
                .unwrap()
                .validate()
                .unwrap()
        });
    });
    let message = Bytes::from(vec![7; 2048]);
    let signed: Vec<SignedData> = [&signer_one, &signer_two]
        .map(|signer| SignedData {
            data: message.clone(),
            identity: signer.serialized(),
            signature: signer.sign(&message).into(),
        })
        .into();
    let rule = dsl::parse("AND('Org1MSP.peer', 'Org2MSP.peer')").unwrap();
    let policy = policy::compile(&rule, manager.clone()).unwrap();
    let signers = policy::valid_identities(&manager, &signed);
    c.bench_function("two-of-two policy, signers known", |b| {
        b.iter(|| policy.evaluate_identities(black_box(&signers)).unwrap());
    });
    c.bench_function("two-of-two policy with both signatures", |b| {
        b.iter(|| policy.evaluate(black_box(&signed)).unwrap());
    });
}

criterion_group!(benches, identities);
criterion_main!(benches);
