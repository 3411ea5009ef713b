//! Mistakes inside the engines and the journal, made again. They need a build with the feature
//! `mistakes`, so that no other build has them.

mod common;

use common::notices_from;
use selvage_sim::bugs::Bug;
use selvage_sim::{BftCluster, RaftCluster};

#[test]
fn mistakes_inside_raft_are_noticed() {
    for (noticed, first) in Bug::IN_RAFT {
        notices_from(&RaftCluster, 3, *noticed, *first);
    }
}

#[test]
fn mistakes_inside_bft_are_noticed() {
    for (noticed, first) in Bug::IN_BFT {
        notices_from(&BftCluster, 4, *noticed, *first);
    }
}
