//! How many transactions a second pass validation: decoding, creator and endorsement signatures,
//! policies. Each has a fresh nonce, two endorsers and one write.

#[path = "../tests/common/mod.rs"]
mod common;

use bytes::Bytes;
use common::bench::Bench;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use selvage_proto::common::{Block, BlockData, BlockHeader};

const TRANSACTIONS: usize = 500;

fn validate(c: &mut Criterion) {
    let bench = Bench::new();
    let envelopes: Vec<Bytes> = (0..TRANSACTIONS).map(|_| bench.good().seal()).collect();
    let block = Block {
        header: Some(BlockHeader {
            number: 1,
            ..Default::default()
        }),
        data: Some(BlockData { data: envelopes }),
        metadata: None,
    };
    let mut group = c.benchmark_group("validate");
    group.throughput(Throughput::Elements(TRANSACTIONS as u64));
    group.sample_size(20);
    group.bench_function("prepare", |b| {
        b.iter(|| bench.validator.prepare(&block, &bench.scope));
    });
    group.bench_function("judge", |b| {
        b.iter_batched(
            || bench.validator.prepare(&block, &bench.scope),
            |prepared| {
                bench
                    .validator
                    .judge(&prepared, &bench.world)
                    .expect("judged")
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, validate);
criterion_main!(benches);
