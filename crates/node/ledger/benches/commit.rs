//! How long a block of 500 transactions takes to commit, each writing one new key of 100 bytes or
//! changing one that is there, on a real disk; how long in memory, where no database hides what
//! our own code does; and what memory the ledger holds afterwards.

#[path = "../tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use selvage_ledger::{DecodedTx, Ledger, PrivateSets};
use selvage_proto::common::Block;
use selvage_proto::peer::TxValidationCode;

use support::{NS, decoded, in_memory, next_block, on_disk, run};

const TXS: usize = 500;

/// A block with its transactions as a validator hands them over.
type Validated = (Block, Vec<Option<DecodedTx>>);

fn writes(ledger: &Ledger, key: impl Fn(usize) -> String) -> Validated {
    let height = ledger.height();
    let value = Bytes::from(vec![7; 100]);
    let envelopes = (0..TXS)
        .map(|n| {
            // Ids are spread as hashes are.
            let id = selvage_crypto::sha256(format!("{height}-{n}").as_bytes());
            run(ledger, &hex::encode(id), |s| {
                s.get_state(NS, &key(n)).expect("reads");
                s.set_state(NS, &key(n), value.clone()).expect("writes");
            })
        })
        .collect();
    let block = next_block(ledger, envelopes);
    let decoded = decoded(&block);
    (block, decoded)
}

fn commit(ledger: &Ledger, (block, decoded): Validated) {
    let codes = [TxValidationCode::Valid; TXS];
    let done = ledger.commit_decoded(block, &codes, decoded, &PrivateSets::new());
    assert!(
        done.expect("commits")
            .codes
            .iter()
            .all(|&c| c == TxValidationCode::Valid)
    );
}

/// The same without disk and database, for transactions decoded by a validator and for those that
/// the ledger decodes. A new ledger each time: one in memory grows slower as it fills.
fn in_memory_commits(group: &mut BenchmarkGroup<'_, WallTime>) {
    for (name, handed_over) in [("in memory", true), ("in memory, undecoded", false)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let ledger = in_memory();
                    let (block, mut decoded) = writes(&ledger, |n| format!("key-{n}"));
                    if !handed_over {
                        decoded.clear();
                    }
                    (ledger, (block, decoded))
                },
                |(ledger, block)| {
                    commit(&ledger, block);
                    ledger
                },
                BatchSize::PerIteration,
            );
        });
    }
}

/// Resident memory of this process in KiB; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1))
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Names the ledger that a second process only opens, to see what that takes.
const OPEN_ONLY: &str = "SELVAGE_BENCH_OPEN_ONLY";

fn open_only(dir: &std::path::Path) {
    let before = resident_kib();
    let ledger = on_disk(dir).expect("opens again");
    let after = resident_kib();
    println!(
        "resident memory of a process that opens it at height {}: {after} KiB, {} KiB more \
         than before",
        ledger.height(),
        after - before
    );
}

fn main() {
    if let Some(dir) = std::env::var_os(OPEN_ONLY) {
        return open_only(dir.as_ref());
    }
    let dir = tempfile::tempdir().expect("a folder");
    let before = resident_kib();
    let ledger = on_disk(dir.path()).expect("opens");
    println!(
        "resident memory of an empty ledger: {} KiB",
        resident_kib() - before
    );
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("commit 500 transactions");
    group.throughput(Throughput::Elements(TXS as u64));
    group.bench_function("new keys", |b| {
        b.iter_batched(
            || {
                let height = ledger.height();
                writes(&ledger, |n| format!("key-{height}-{n}"))
            },
            |block| commit(&ledger, block),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("changed keys", |b| {
        b.iter_batched(
            || writes(&ledger, |n| format!("same-{n}")),
            |block| commit(&ledger, block),
            BatchSize::PerIteration,
        );
    });
    in_memory_commits(&mut group);
    group.finish();
    let height = ledger.height();
    println!("resident memory at height {height}: {} KiB", resident_kib());
    drop(ledger);
    let this = std::env::current_exe().expect("the path of this program");
    let mut other = std::process::Command::new(this);
    let status = other.env(OPEN_ONLY, dir.path()).status();
    assert!(status.expect("starts").success());
    criterion.final_summary();
}
