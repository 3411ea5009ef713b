//! Playing seeds in tests.

use std::ops::Range;

use selvage_sim::bugs::Bug;
use selvage_sim::{Cluster, Scenario, run};

/// Plays seeds of which none may fail.
pub(crate) fn play(cluster: &dyn Cluster, nodes: usize, seeds: Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(cluster, Scenario::from_seed(seed, nodes), None) {
            panic!(
                "{} broken at {} µs: {}\nagain: selvage-sim --engine {} --nodes {nodes} --seed \
                 {seed} --count 1",
                failure.invariant,
                failure.at,
                failure.what,
                cluster.name()
            );
        }
    }
}

/// Plays seeds twice.
pub(crate) fn play_twice(cluster: &dyn Cluster, nodes: usize, seeds: Range<u64>) {
    for seed in seeds {
        let plan = Scenario::from_seed(seed, nodes);
        assert_eq!(run(cluster, plan, None), run(cluster, plan, None));
    }
}

/// A simulator that notices nothing proves nothing: some seed has to fail with each mistake.
pub(crate) fn notices(cluster: &dyn Cluster, nodes: usize, bugs: &[Bug]) {
    for bug in bugs {
        let noticed = (1..1000).any(|seed| {
            let plan = Scenario::from_seed(seed, nodes);
            run(cluster, plan, Some(*bug)).is_err()
        });
        assert!(noticed, "{bug:?} was not noticed");
    }
}
