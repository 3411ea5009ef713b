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

#[test]
fn the_same_seed_gives_the_same_run() {
    play_twice(&RaftCluster, 3, 1..8);
}

#[test]
fn mistakes_are_noticed() {
    notices(&RaftCluster, 3, Bug::RAFT);
}
