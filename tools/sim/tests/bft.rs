//! A short run of BFT clusters with each change; `make soak` is the long one.

mod common;

use common::{notices, play, play_twice};
use selvage_sim::BftCluster;
use selvage_sim::bugs::Bug;

#[test]
fn four_nodes_keep_their_promises() {
    play(&BftCluster, 4, 1..120);
}

#[test]
fn seven_nodes_keep_their_promises() {
    play(&BftCluster, 7, 1..30);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    play_twice(&BftCluster, 4, 1..5);
}

/// Six and nine bear no more liars than four and seven, and have larger quorums.
#[test]
fn six_and_nine_nodes_keep_their_promises() {
    play(&BftCluster, 6, 1..15);
    play(&BftCluster, 9, 1..6);
}

#[test]
fn mistakes_are_noticed() {
    notices(&BftCluster, 4, Bug::BFT);
}
