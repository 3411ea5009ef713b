//! Clusters of other sizes than the smallest: as many may fail as the consensus allows.

use crate::consortium::{Cluster, Consensus, verify};

/// Orders with everyone, without `victims`, and with everyone again.
async fn goes_on_without(consensus: Consensus, count: usize, victims: &[usize]) {
    let mut cluster = Cluster::new(consensus, count, count);
    cluster.founded(count).await;
    for node in 0..count {
        cluster.order(node, &[b'a', node as u8]).await;
    }
    let all: Vec<usize> = (0..count).collect();
    cluster.level(&all).await;
    for victim in victims {
        cluster.stop(*victim).await;
    }
    let (left, gone): (Vec<usize>, Vec<usize>) =
        all.iter().partition(|node| !victims.contains(node));
    for round in 0..3u8 {
        for node in &left {
            cluster.order(*node, &[b'b', round, *node as u8]).await;
        }
    }
    cluster.level(&left).await;
    for node in &gone {
        cluster.start(*node).await;
    }
    cluster.level(&all).await;
    for node in &gone {
        cluster.order(*node, &[b'c', *node as u8]).await;
    }
    let blocks = cluster.level(&all).await;
    let transactions: usize = blocks[1..].iter().map(|b| b.envelopes().len()).sum();
    assert_eq!(transactions, count + 3 * left.len() + gone.len());
    verify(&blocks);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_raft_orderers_go_on_without_two() {
    goes_on_without(Consensus::Raft, 5, &[0, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_bft_orderers_go_on_without_two() {
    goes_on_without(Consensus::Bft, 7, &[0, 4]).await;
}
