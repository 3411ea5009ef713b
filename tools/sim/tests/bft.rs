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

/// The seeds with which the simulator found bugs once: a message that went between an engine and
/// its driver for ever, a consenter that was left out, and began again where it had voted before, a
/// round that some left and others could not.
#[test]
fn what_was_mended_stays_mended() {
    for (nodes, seed) in [(7, 11), (7, 16), (7, 48), (7, 136), (7, 2186)] {
        play(&BftCluster, nodes, seed..seed + 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    play_twice(&BftCluster, 4, 1..5);
}

#[test]
fn mistakes_are_noticed() {
    notices(&BftCluster, 4, &Bug::BOTH);
    notices(&BftCluster, 4, &Bug::BFT);
}
