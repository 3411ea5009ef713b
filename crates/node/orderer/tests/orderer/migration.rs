//! A channel moves from Raft to BFT while it runs.

use selvage_channel::update;
use selvage_proto::common::{ConfigGroup, Consenter, Orderers, Status};
use selvage_proto::orderer::ConsensusType;
use selvage_proto::orderer::consensus_type::State;

use crate::consortium::{CONSENTS, Cluster, Consensus, edit, verify};
use crate::world::CHANNEL;

fn state(orderer: &mut ConfigGroup, state: State) {
    edit(orderer, "ConsensusType", |consensus: &mut ConsensusType| {
        consensus.state = state as i32;
    });
}

/// Names BFT with these consenters. Settings that are not there are Fabric's defaults.
fn move_to_bft(orderer: &mut ConfigGroup, consenters: Vec<Consenter>) {
    edit(orderer, "ConsensusType", |consensus: &mut ConsensusType| {
        consensus.r#type = "BFT".to_owned();
        consensus.metadata = Default::default();
    });
    edit(orderer, "Orderers", |orderers: &mut Orderers| {
        orderers.consenter_mapping = consenters;
    });
    update::set_bft_block_validation(orderer).unwrap();
}

fn all(cluster: &Cluster) -> Vec<Consenter> {
    let consenters = cluster.nodes.iter().map(|node| node.consenter.clone());
    consenters.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_becomes_bft_in_maintenance_and_nobody_is_left_behind() {
    let mut cluster = Cluster::new(Consensus::Raft, 4, 4);
    cluster.founded(4).await;
    for n in 0..5u8 {
        cluster.order(usize::from(n) % 4, &[n]).await;
    }
    // Not in normal operation.
    let consenters = all(&cluster);
    let (status, info) = cluster
        .try_reconfigure(0, |orderer| move_to_bft(orderer, consenters))
        .await;
    assert_eq!(status, Status::BadRequest);
    assert!(info.contains("not in maintenance mode"), "{info}");

    cluster
        .reconfigure(0, |orderer| state(orderer, State::Maintenance))
        .await;
    cluster.level(&[0, 1, 2, 3]).await;
    let client = cluster.client(1);
    let refused = client.broadcast_one(client.transaction(CHANNEL, b"no"));
    let (status, info) = refused.await;
    assert_eq!(status, Status::ServiceUnavailable, "{info}");

    // Not with other consenters than those that agree on it.
    let mut fewer = all(&cluster);
    fewer.pop();
    let (status, info) = cluster
        .try_reconfigure(0, |orderer| move_to_bft(orderer, fewer))
        .await;
    assert_eq!(status, Status::BadRequest);
    assert!(info.contains("is not among the BFT consenters"), "{info}");

    // One of them is down meanwhile, and finds the others changed.
    cluster.stop(3).await;
    let consenters = all(&cluster);
    cluster
        .reconfigure(0, |orderer| move_to_bft(orderer, consenters))
        .await;
    cluster.start(3).await;
    cluster
        .reconfigure(1, |orderer| state(orderer, State::Normal))
        .await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.becomes(3, CONSENTS).await;
    for node in 0..4 {
        cluster.order(node, &[9, node as u8]).await;
    }
    let blocks = cluster.level(&[0, 1, 2, 3]).await;

    // Whoever follows the channel takes every block, from one consensus and the other.
    verify(&blocks);
    // A restart finds the engine that the channel has now, with its journal.
    for node in 0..4 {
        cluster.stop(node).await;
        cluster.start(node).await;
    }
    cluster.order(2, b"after a restart").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}
