//! Clusters of orderers that order by BFT.

use std::time::Duration;

use selvage_channel::update;
use selvage_crypto::issue::{NodeRole, Validity};
use selvage_proto::common::{ConfigGroup, Orderers, Status};

use crate::consortium::{CONSENTS, Cluster, Consensus, edit, newest_config, verify};
use crate::world::{CHANNEL, now};

#[tokio::test(flavor = "multi_thread")]
async fn four_orderers_order_the_same_whichever_is_asked() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    for round in 0..5u8 {
        for node in 0..4 {
            cluster.order(node, &[round, node as u8]).await;
        }
    }
    let blocks = cluster.level(&[0, 1, 2, 3]).await;
    let transactions: usize = blocks[1..].iter().map(|b| b.envelopes().len()).sum();
    assert_eq!(transactions, 20);
    // Peers of Fabric 3 ask for a quorum of the consenters' signatures.
    verify(&blocks);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_without_any_one_node_and_takes_it_back() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    cluster.order(0, b"first").await;
    for victim in 0..4 {
        cluster.stop(victim).await;
        // Where it led, the others pass it over while the client waits.
        let other = (victim + 1) % 4;
        for n in 0..10u8 {
            cluster.order(other, &[victim as u8, n, 7, 7, 7, 7]).await;
        }
        cluster.start(victim).await;
        cluster.level(&[0, 1, 2, 3]).await;
        cluster.order(victim, b"back").await;
    }
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

/// With two of four gone nothing is decided, and nothing that was accepted is lost.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_cluster_decides_nothing() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop(2).await;
    cluster.stop(3).await;
    let client = cluster.client(0);
    let envelope = client.transaction(CHANNEL, b"waits");
    let waiting = tokio::spawn(async move { client.broadcast_one(envelope).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.height(0).await, 2);
    assert!(!waiting.is_finished());
    cluster.start(2).await;
    let (status, info) = waiting.await.unwrap();
    assert_eq!(status, Status::Success, "{info}");
    cluster.accepted += 1;
    cluster.start(3).await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

/// Names these nodes as consenters, and lets their signatures make blocks valid.
async fn consenters(cluster: &mut Cluster, by: usize, nodes: &[usize]) {
    let consenters = nodes.iter().map(|n| cluster.nodes[*n].consenter.clone());
    let consenters: Vec<_> = consenters.collect();
    let change = |orderer: &mut ConfigGroup| {
        edit(orderer, "Orderers", |orderers: &mut Orderers| {
            orderers.consenter_mapping = consenters;
        });
        update::set_bft_block_validation(orderer).unwrap();
    };
    cluster.reconfigure(by, change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consenters_come_and_go_while_the_channel_runs() {
    let mut cluster = Cluster::new(Consensus::Bft, 5, 4);
    cluster.founded(4).await;
    for n in 0..10u8 {
        cluster.order(0, &[n]).await;
    }
    consenters(&mut cluster, 0, &[0, 1, 2, 3, 4]).await;
    let blocks = cluster.level(&[0, 1, 2, 3]).await;
    cluster.start(4).await;
    cluster.join(4, newest_config(&blocks)).await;
    cluster.becomes(4, CONSENTS).await;
    cluster.order(4, b"through the new one").await;
    cluster.level(&[0, 1, 2, 3, 4]).await;

    // One that is taken out follows the channel, and takes no transactions.
    consenters(&mut cluster, 1, &[1, 2, 3, 4]).await;
    cluster
        .becomes(0, "\"consensusRelation\":\"follower\"")
        .await;
    cluster.order(3, b"without the first").await;
    cluster.level(&[0, 1, 2, 3, 4]).await;
    let client = cluster.client(0);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert_eq!(info, "orderer is a follower of channel trade");

    // One that is taken out while it is down finds out once it is back.
    cluster.stop(4).await;
    consenters(&mut cluster, 1, &[0, 1, 2, 3]).await;
    cluster.start(4).await;
    cluster
        .becomes(4, "\"consensusRelation\":\"follower\"")
        .await;
    cluster.becomes(0, CONSENTS).await;
    cluster.order(0, b"here again").await;
    cluster.level(&[0, 1, 2, 3, 4]).await;
    cluster.stop_all().await;
}

/// The configuration names a new certificate first; the orderer takes part again once its files have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_consenter_gets_a_new_identity_without_a_restart() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    cluster.order(0, b"first").await;
    let validity = Validity::ten_years(now());
    let (pem, key) = cluster.world.orderer_org.issue(NodeRole::Orderer, validity);
    cluster.nodes[3].consenter.identity = pem.clone().into();
    consenters(&mut cluster, 0, &[0, 1, 2, 3]).await;
    cluster
        .becomes(3, "\"consensusRelation\":\"follower\"")
        .await;
    cluster.order(0, b"without it").await;
    let key = key.to_pkcs8_pem().unwrap().to_string();
    std::fs::write(cluster.world.path("msp3/keystore/priv_sk"), key).unwrap();
    std::fs::write(cluster.world.path("msp3/signcerts/cert.pem"), pem).unwrap();
    cluster.becomes(3, CONSENTS).await;
    // Now three of the four are enough, and it is one of them.
    cluster.stop(1).await;
    cluster.order(3, b"with it").await;
    cluster.start(1).await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_without_its_journal_says_so_and_serves_blocks() {
    let mut cluster = Cluster::new(Consensus::Bft, 4, 4);
    cluster.founded(4).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop(3).await;
    std::fs::remove_dir_all(cluster.world.path("wal3")).unwrap();
    cluster.start(3).await;
    cluster.becomes(3, "\"status\":\"failed\"").await;
    assert_eq!(cluster.height(3).await, 2);
    let client = cluster.client(3);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(
        info.contains("the journal of this orderer is gone"),
        "{info}"
    );
    cluster.order(0, b"the others go on").await;
    cluster.stop_all().await;
}
