//! A short run of the simulator with each change; `make soak` is the long one.

use selvage_sim::bugs::Bug;
use selvage_sim::{RaftCluster, Scenario, run};

fn play(nodes: usize, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(&RaftCluster, Scenario::from_seed(seed, nodes), None) {
            panic!(
                "{} broken at {} µs: {}\nagain: selvage-sim --engine raft --nodes {nodes} --seed \
                 {seed} --count 1",
                failure.invariant, failure.at, failure.what
            );
        }
    }
}

#[test]
fn three_nodes_keep_their_promises() {
    play(3, 1..120);
}

#[test]
fn five_nodes_keep_their_promises() {
    play(5, 1..60);
}

/// The seeds with which the simulator found the engine's bugs once: a successor that never took
/// over, an election in the middle of storing a snapshot, a configuration that was proposed and
/// lost, a leader that fell silent for a node without a vote.
#[test]
fn what_was_mended_stays_mended() {
    for (nodes, seed) in [(3, 16), (3, 13), (3, 30), (3, 45), (3, 1311), (5, 197)] {
        play(nodes, seed..seed + 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..8 {
        let plan = Scenario::from_seed(seed, 3);
        assert_eq!(run(&RaftCluster, plan, None), run(&RaftCluster, plan, None));
    }
}

/// A simulator that notices nothing proves nothing.
#[test]
fn mistakes_are_noticed() {
    for bug in Bug::ALL {
        let noticed = (1..400).any(|seed| {
            let plan = Scenario::from_seed(seed, 3);
            run(&RaftCluster, plan, Some(bug)).is_err()
        });
        assert!(noticed, "{bug:?} was not noticed");
    }
}
