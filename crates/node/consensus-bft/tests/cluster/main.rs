//! Clusters of BFT engines in one thread.
//!
//! `SELVAGE_SEEDS=FIRST..END` runs other seeds than the few of every day.

// Support of tests may panic like tests.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../../base/channel/tests/network/mod.rs"]
mod network;

mod fabric;
mod faults;
mod harness;
mod journal;
mod reconfiguration;
mod world;

/// The seeds to run.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(given) = std::env::var("SELVAGE_SEEDS") else {
        return 0..count;
    };
    let range = given.split_once("..");
    let range = range.and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    range.unwrap_or_else(|| panic!("SELVAGE_SEEDS={given} is not FIRST..END"))
}

/// Runs one seed and names it when it fails.
fn run_seed(what: &str, seed: u64, run: impl FnOnce()) {
    struct Name<'a>(&'a str, u64);
    impl Drop for Name<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Self(what, seed) = self;
                let end = *seed + 1;
                eprintln!("{what}: seed {seed} failed; SELVAGE_SEEDS={seed}..{end} repeats it");
            }
        }
    }
    let name = Name(what, seed);
    run();
    drop(name);
}
