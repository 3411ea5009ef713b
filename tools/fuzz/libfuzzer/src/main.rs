//! One target of `selvage-fuzz` under libFuzzer; `tools/fuzz/run.sh` starts it.
//!
//! `SELVAGE_FUZZ_TARGET` names the target. `SELVAGE_FUZZ_CORPUS` names the folder that its seeds
//! are written into before libFuzzer reads it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use selvage_fuzz::{Target, mutate, target};

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("SELVAGE_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|error| {
            eprintln!("{error}");
            std::process::exit(2);
        })
    })
}

fn prepare() {
    let Ok(folder) = std::env::var("SELVAGE_FUZZ_CORPUS") else {
        return;
    };
    for (number, seed) in (chosen().seeds)().into_iter().enumerate() {
        let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("{}: {error}", path.display());
            std::process::exit(2);
        }
    }
}

fuzz_target!(
    init: prepare(),
    |input: &[u8]| (chosen().run)(input)
);

// Half the changes know protobuf, half are libFuzzer's own, which know what was compared.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut changed = mutate(&data[..size], &[], u64::from(seed));
    changed.truncate(max_size);
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
});
