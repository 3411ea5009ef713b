//! A short run of Raft clusters with each change; `make soak` is the long one.

mod common;

use common::{notices, play, play_twice};
use selvage_sim::RaftCluster;
use selvage_sim::bugs::Bug;

#[test]
fn three_nodes_keep_their_promises() {
    play(&RaftCluster, 3, 1..120);
}

#[test]
fn five_nodes_keep_their_promises() {
    play(&RaftCluster, 5, 1..60);
}

/// The seeds with which the simulator found the engine's bugs once: a successor that never took
/// over, an election in the middle of storing a snapshot, a configuration that was proposed and
/// lost, a leader that fell silent for a node without a vote.
#[test]
fn what_was_mended_stays_mended() {
    for (nodes, seed) in [(3, 16), (3, 13), (3, 30), (3, 45), (3, 1311), (5, 197)] {
        play(&RaftCluster, nodes, seed..seed + 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    play_twice(&RaftCluster, 3, 1..8);
}

#[test]
fn mistakes_are_noticed() {
    notices(&RaftCluster, 3, &Bug::BOTH);
    notices(&RaftCluster, 3, &Bug::RAFT);
}
