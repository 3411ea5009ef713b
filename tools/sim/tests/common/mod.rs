//! Playing seeds in tests.

#![allow(dead_code)]

use std::ops::Range;

use selvage_sim::bugs::Noticed;
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

/// A simulator that notices nothing proves nothing: some seed has to fail with each mistake, and the
/// first that does has to break what the mistake breaks.
pub(crate) fn notices(cluster: &dyn Cluster, nodes: usize, bugs: &[Noticed]) {
    for noticed in bugs {
        notices_from(cluster, nodes, *noticed, 1);
    }
}

/// The same of one mistake, from a seed on.
pub(crate) fn notices_from(
    cluster: &dyn Cluster,
    nodes: usize,
    (bug, invariant): Noticed,
    first: u64,
) {
    let failure = (first..first + 1000).find_map(|seed| {
        let plan = Scenario::from_seed(seed, nodes);
        let failure = run(cluster, plan, Some(bug)).err()?;
        Some((seed, failure))
    });
    let Some((seed, failure)) = failure else {
        panic!("{bug:?} was not noticed");
    };
    assert_eq!(
        failure.invariant, invariant,
        "{bug:?} broke something else with seed {seed}: {}",
        failure.what
    );
    // Without the mistake nothing breaks there.
    assert!(run(cluster, Scenario::from_seed(seed, nodes), None).is_ok());
}
