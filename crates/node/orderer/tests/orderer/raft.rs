//! Clusters of orderers that order by Raft.

use std::time::Duration;

use selvage_channel::ChannelConfig;
use selvage_channel::block::block_verify;
use selvage_proto::common::Status;

use crate::consortium::{CONSENTS, Cluster, Consensus, newest_config, raft_metadata};
use crate::world::CHANNEL;

#[tokio::test(flavor = "multi_thread")]
async fn three_orderers_order_the_same_whichever_is_asked() {
    let mut cluster = Cluster::new(Consensus::Raft, 3, 3);
    cluster.founded(3).await;
    for round in 0..5u8 {
        for node in 0..3 {
            cluster.order(node, &[round, node as u8]).await;
        }
    }
    let blocks = cluster.level(&[0, 1, 2]).await;
    let transactions: usize = blocks[1..].iter().map(|b| b.envelopes().len()).sum();
    assert_eq!(transactions, 15);
    // Peers judge the blocks of a Raft channel as those of any other.
    let config = ChannelConfig::from_block(&blocks[0]).unwrap();
    for pair in blocks.windows(2) {
        let hash = selvage_channel::block::header_hash(pair[0].header.as_ref().unwrap());
        block_verify(&config, &pair[1], pair[0].number(), &hash).unwrap();
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_without_any_one_node_and_takes_it_back() {
    let mut cluster = Cluster::new(Consensus::Raft, 3, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    for victim in 0..3 {
        cluster.stop(victim).await;
        // Whoever led, the others find a leader while the client waits.
        let other = (victim + 1) % 3;
        for n in 0..30u8 {
            cluster
                .order(other, &[victim as u8, n, 7, 7, 7, 7, 7, 7])
                .await;
        }
        cluster.start(victim).await;
        cluster.level(&[0, 1, 2]).await;
        cluster.order(victim, b"back").await;
    }
    cluster.level(&[0, 1, 2]).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consenters_come_and_go_while_the_channel_runs() {
    let mut cluster = Cluster::new(Consensus::Raft, 4, 3);
    cluster.founded(3).await;
    for n in 0..10u8 {
        cluster.order(0, &[n]).await;
    }
    // A fourth orderer is added, and joins with the block that adds it.
    cluster.raft_consenters(0, &[0, 1, 2, 3]).await;
    let blocks = cluster.level(&[0, 1, 2]).await;
    cluster.start(3).await;
    cluster.join(3, newest_config(&blocks)).await;
    cluster.becomes(3, CONSENTS).await;
    cluster.order(3, b"through the new one").await;
    cluster.level(&[0, 1, 2, 3]).await;

    // One that is taken out follows the channel, and takes no transactions.
    cluster.raft_consenters(1, &[1, 2, 3]).await;
    cluster
        .becomes(0, "\"consensusRelation\":\"follower\"")
        .await;
    cluster.order(3, b"without the first").await;
    cluster.level(&[0, 1, 2, 3]).await;
    let client = cluster.client(0);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert_eq!(info, "orderer is a follower of channel trade");

    // Two at once are refused in Fabric's words.
    let truncated = |orderer: &mut _| raft_metadata(orderer, |raft| raft.consenters.truncate(1));
    let (status, info) = cluster.try_reconfigure(1, truncated).await;
    assert_eq!(status, Status::BadRequest);
    assert!(
        info.contains("update of more than one consenter at a time"),
        "{info}"
    );

    // Added again, it takes part under a new number.
    cluster.raft_consenters(1, &[1, 2, 3, 0]).await;
    cluster.becomes(0, CONSENTS).await;
    cluster.order(0, b"here again").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_without_its_log_says_so_and_serves_blocks() {
    let mut cluster = Cluster::new(Consensus::Raft, 3, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop(2).await;
    std::fs::remove_dir_all(cluster.world.path("wal2")).unwrap();
    cluster.start(2).await;
    cluster.becomes(2, "\"status\":\"failed\"").await;
    assert_eq!(cluster.height(2).await, 2);
    let client = cluster.client(2);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(
        info.contains("the Raft log of this orderer is gone"),
        "{info}"
    );
    cluster.order(0, b"the others go on").await;
    cluster.stop_all().await;
}

/// Fabric's rule, and its text: whoever is asked knows from the leader who is alive.
#[tokio::test(flavor = "multi_thread")]
async fn no_consenter_is_added_that_would_cost_the_quorum() {
    let mut cluster = Cluster::new(Consensus::Raft, 4, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop(2).await;
    cluster.order(0, b"without one").await;
    // Several election timeouts, after which the leader misses it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for by in [0, 1] {
        let consenters: Vec<_> = cluster.nodes.iter().map(|n| n.raft_consenter()).collect();
        let add = |orderer: &mut _| raft_metadata(orderer, |raft| raft.consenters = consenters);
        let (status, info) = cluster.try_reconfigure(by, add).await;
        assert_eq!(status, Status::BadRequest, "{by}: {info}");
        let expected = "2 out of 3 nodes are alive, configuration will result in quorum loss";
        assert!(info.contains(expected), "{by}: {info}");
    }
    cluster.start(2).await;
    cluster.order(2, b"back").await;
    cluster.raft_consenters(0, &[0, 1, 2, 3]).await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop_all().await;
}
