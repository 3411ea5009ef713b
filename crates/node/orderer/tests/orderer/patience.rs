//! A message waits for a quorum, but not for ever.

use std::time::Duration;

use selvage_proto::common::Status;

use crate::consortium::{Cluster, Consensus};
use crate::world::CHANNEL;

/// Far beyond what a message may wait: whoever is told nothing by then hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Leaves fewer nodes than it takes to order, and says what a client of one of them is told.
async fn without_quorum(consensus: Consensus, count: usize, gone: &[usize], expected: &str) {
    let mut cluster = Cluster::new(consensus, count, count);
    cluster.founded(count).await;
    cluster.order(0, b"first").await;
    let all: Vec<usize> = (0..count).collect();
    cluster.level(&all).await;
    for node in gone {
        cluster.stop(*node).await;
    }
    let client = cluster.client(0);
    let envelope = client.transaction(CHANNEL, b"in vain");
    let answer = tokio::time::timeout(HANGS, client.broadcast_one(envelope)).await;
    let (status, info) = answer.expect("the client is told nothing");
    assert_eq!(status, Status::ServiceUnavailable, "{info}");
    assert!(info.starts_with(expected), "{info}");
    assert_eq!(cluster.height(0).await, 2);

    // The next one is ordered as soon as there are enough again.
    for node in gone {
        cluster.start(*node).await;
    }
    cluster.order(0, b"with a quorum again").await;
    cluster.level(&all).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_that_nobody_leads() {
    without_quorum(Consensus::Raft, 3, &[1, 2], "no Raft leader; ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_that_nothing_is_decided() {
    let text = "timed out waiting for the message to be ordered, try again";
    without_quorum(Consensus::Bft, 4, &[2, 3], text).await;
}
