//! Every target on its seeds and on changes of them.

use std::time::Instant;

use selvage_fuzz::TARGETS;
use selvage_fuzz::driver::drive;

/// The number that changes start from, unless this variable says another.
const SEED: (&str, u64) = ("SELVAGE_FUZZ_SEED", 1);

// The only test of this process, for which it is noted where inputs get to.
#[test]
fn seeds_get_far_and_no_target_falls_over_them_or_their_changes() {
    let seed = std::env::var(SEED.0)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEED.1);
    let mut failures = Vec::new();
    for target in TARGETS {
        let begun = Instant::now();
        let name = target.name;
        match drive(target, seed, target.iterations) {
            Ok(tried) => {
                let millis = begun.elapsed().as_millis();
                println!("{name}: {} changes, {millis} ms", target.iterations);
                println!("    where they got to: {:?}", tried.changes);
                let missed = |place: &&&str| !tried.seeds.contains_key(**place);
                let missed = target.reaches.iter().filter(missed);
                failures.extend(missed.map(|place| format!("{name}: no seed reaches: {place}")));
                if tried.changes.is_empty() {
                    failures.push(format!("{name}: no change of a seed reaches anything"));
                }
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(
        failures.is_empty(),
        "from {}={seed}:\n{}",
        SEED.0,
        failures.join("\n")
    );
}
