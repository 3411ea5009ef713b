//! Our orderers beside Fabric's orderers and peers: `make conformance FABRIC_BIN=DIR`.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use selvage_channel::block::header_hash;
use selvage_proto::common::{Block, Status};

use crate::consortium::{CONSENTS, Cluster, Consensus, newest_config, verify};
use crate::fabric;
use crate::load::{Load, counted, doubled};
use crate::world::CHANNEL;

const FOLLOWER: &str = "\"consensusRelation\":\"follower\"";

/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Orders by a node until it is told success: Fabric's refuses while nobody leads.
async fn order(cluster: &mut Cluster, index: usize, data: &[u8]) {
    let client = cluster.client(index);
    for _ in 0..300 {
        let answer = client.broadcast_one(client.transaction(CHANNEL, data));
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let (status, info) = answer.unwrap_or_else(|_| panic!("node {index} does not answer"));
        if status == Status::Success {
            // Fabric's says so before it is sure, and may lose the message when leaders change.
            cluster.accepted += usize::from(cluster.is_ours(index));
            return;
        }
        // Fabric's does not know a channel while it turns from follower to consenter or back.
        let turning = status == Status::BadRequest && info == "channel does not exist";
        assert!(turning || status == Status::ServiceUnavailable, "{info}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("node {index} refuses for half a minute");
}

async fn load(cluster: &mut Cluster, nodes: &[usize], count: u8) {
    for n in 0..count {
        for node in nodes {
            order(cluster, *node, &[n, *node as u8, 0, 1, 2, 3]).await;
        }
    }
}

/// Waits until these nodes have the same blocks; the load rests meanwhile.
async fn level(cluster: &Cluster, clients: &Load, nodes: &[usize]) -> Vec<Block> {
    let _quiet = clients.pause().await;
    cluster.level(nodes).await
}

/// Ours join, follow, and hand on what they are given.
async fn ours_join(cluster: &mut Cluster, clients: &Load) {
    for (new, all) in [(3, &[0, 1, 2, 3][..]), (4, &[0, 1, 2, 3, 4])] {
        cluster.raft_consenters(0, all).await;
        let blocks = level(cluster, clients, &[0, 1, 2]).await;
        cluster.start(new).await;
        cluster.join(new, newest_config(&blocks)).await;
        cluster.becomes(new, CONSENTS).await;
        load(cluster, all, 5).await;
        level(cluster, clients, all).await;
    }
}

/// One of Fabric's crashes, then one of ours, and each comes back.
async fn some_fail(cluster: &mut Cluster, clients: &Load, program: &Path) {
    cluster.stop(1).await;
    load(cluster, &[3, 4, 0], 10).await;
    cluster.start_fabrics(1, program).await;
    load(cluster, &[1, 3], 5).await;
    level(cluster, clients, &[0, 1, 2, 3, 4]).await;
    for ours in [3, 4] {
        cluster.stop(ours).await;
        load(cluster, &[7 - ours, 0], 10).await;
        cluster.start(ours).await;
        load(cluster, &[ours], 5).await;
    }
    level(cluster, clients, &[0, 1, 2, 3, 4]).await;
}

/// With two of Fabric's gone for good, and the third away for a while, ours lead. The messages that
/// were ordered in that while.
async fn ours_lead(cluster: &mut Cluster, clients: &Load, program: &Path) -> Vec<Block> {
    cluster.raft_consenters(3, &[0, 1, 3, 4]).await;
    cluster.raft_consenters(4, &[0, 3, 4]).await;
    level(cluster, clients, &[0, 3, 4]).await;
    cluster.stop(0).await;
    load(cluster, &[3, 4], 5).await;
    let before = cluster.height(3).await;
    load(cluster, &[3, 4], 25).await;
    let blocks = level(cluster, clients, &[3, 4]).await;
    cluster.start_fabrics(0, program).await;
    load(cluster, &[0, 3, 4], 5).await;
    level(cluster, clients, &[0, 3, 4]).await;
    blocks[before as usize..].to_vec()
}

/// Ours leave again: Fabric's come back as new consenters, and go on alone.
async fn ours_leave(cluster: &mut Cluster) {
    cluster.raft_consenters(3, &[0, 3, 4, 1]).await;
    cluster.becomes(1, CONSENTS).await;
    for (by, left, out) in [(3, &[0, 4, 1][..], 3), (0, &[0, 1], 4)] {
        cluster.raft_consenters(by, left).await;
        // A leader of Fabric's says nothing more to whoever is out: a newer block does.
        load(cluster, &[0, 1], 3).await;
        cluster.becomes(out, FOLLOWER).await;
    }
}

/// Three of Fabric's order; two of ours come, take over from them one by one, lead what is left
/// of Fabric's, and leave again. Clients of each node send all the while.
#[tokio::test(flavor = "multi_thread")]
async fn our_orderers_join_lead_follow_and_leave_a_cluster_of_fabrics() {
    let Some(programs) = fabric::programs() else {
        return;
    };
    let program = programs.join("orderer");
    eprintln!("beside Fabric's orderer: {}", fabric::version(&program));
    let mut cluster = Cluster::new(Consensus::Raft, 5, 3);
    for index in 0..3 {
        cluster.start_fabrics(index, &program).await;
        cluster.join(index, &cluster.genesis).await;
    }
    let clients = Load::begin(&cluster, PAUSE);
    load(&mut cluster, &[0, 1, 2], 5).await;
    level(&cluster, &clients, &[0, 1, 2]).await;
    ours_join(&mut cluster, &clients).await;
    some_fail(&mut cluster, &clients, &program).await;
    let led = ours_lead(&mut cluster, &clients, &program).await;
    ours_leave(&mut cluster).await;
    let sent = clients.end().await;
    let blocks = cluster.level(&[0, 1, 3, 4]).await;
    verify(&blocks);

    let ordered = counted(&blocks);
    for (node, sent) in sent.iter().enumerate() {
        let lost = sent.accepted.iter().filter(|m| !ordered.contains_key(*m));
        let lost = lost.count();
        eprintln!(
            "node {node} accepted {} messages, refused {}, left {} unanswered; {lost} are lost",
            sent.accepted.len(),
            sent.refused,
            sent.unanswered
        );
        // Fabric's say yes before a message is sure, and lose it when leaders change.
        assert!(lost == 0 || node < 3);
        assert!(!sent.accepted.is_empty());
    }
    // A leader of Fabric's does not look for what is on its way already when a message is sent to it
    // a second time; ours do.
    let doubled = doubled(&blocks);
    eprintln!(
        "{} of {} messages are doubled",
        doubled.len(),
        ordered.len()
    );
    assert!(led.len() > 10);
    for message in led.iter().flat_map(Block::envelopes) {
        assert!(!doubled.contains(message));
    }
    cluster.stop_all().await;
}

/// A peer of Fabric's takes the blocks of our orderers, and stays with them while they fail.
async fn a_peer_of_fabrics_follows(consensus: Consensus) {
    let Some(programs) = fabric::programs() else {
        return;
    };
    let mut cluster = Cluster::new(consensus, 4, 4);
    cluster.founded(4).await;
    load(&mut cluster, &[0, 1, 2, 3], 2).await;
    let peer = fabric::Peer::start(&programs, &cluster.world).await;
    peer.join(&cluster.genesis);
    for victim in 0..4 {
        cluster.stop(victim).await;
        load(&mut cluster, &[(victim + 1) % 4], 3).await;
        cluster.start(victim).await;
        let blocks = cluster.level(&[0, 1, 2, 3]).await;
        let newest = blocks.last().and_then(|block| block.header.as_ref());
        let hash = BASE64.encode(header_hash(newest.unwrap()));
        assert_eq!(peer.reaches(CHANNEL, blocks.len()).await, hash);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_fabrics_follows_our_raft_orderers() {
    a_peer_of_fabrics_follows(Consensus::Raft).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_fabrics_follows_our_bft_orderers() {
    a_peer_of_fabrics_follows(Consensus::Bft).await;
}
