//! Signing, verifying and hashing 2 KB messages, the size of a typical proposal response.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use selvage_crypto::issue::{Authority, Subject, Validity};
use selvage_crypto::{Certificate, KeyKind, PrivateKey, sha256};

fn signatures(c: &mut Criterion) {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let message = vec![7u8; 2048];
    let signature = key.sign(&message).unwrap();
    c.bench_function("p256 sign 2 KB", |b| {
        b.iter(|| key.sign(black_box(&message)).unwrap())
    });
    c.bench_function("p256 verify 2 KB", |b| {
        b.iter(|| {
            key.public_key()
                .verify(black_box(&message), &signature)
                .unwrap()
        });
    });
    c.bench_function("sha256 2 KB", |b| b.iter(|| sha256(black_box(&message))));
    let root = Authority::new_root(&Subject::named("ca"), Validity::ten_years(0)).unwrap();
    let der = root.certificate().der();
    c.bench_function("read certificate", |b| {
        b.iter(|| Certificate::from_der(black_box(der)).unwrap());
    });
}

criterion_group!(benches, signatures);
criterion_main!(benches);
