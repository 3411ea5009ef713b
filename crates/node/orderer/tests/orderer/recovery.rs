//! What is left on the disk of an orderer of a cluster, and what becomes of the orderer with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use selvage_proto::common::Status;

use crate::bad_disk::{BadDisk, Mood};
use crate::consortium::{Cluster, Consensus};
use crate::onboarding::ask;
use crate::world::{CHANNEL, http_to};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\n";
const BOTH: [(Consensus, usize, &str); 2] =
    [(Consensus::Raft, 3, "etcdraft"), (Consensus::Bft, 4, "BFT")];

async fn founded(consensus: Consensus, count: usize) -> Cluster {
    let mut cluster = Cluster::new(consensus, count, count);
    cluster.founded(count).await;
    for n in 0..10u8 {
        cluster.order(0, &[n]).await;
    }
    let all: Vec<usize> = (0..count).collect();
    cluster.level(&all).await;
    cluster
}

/// The same with a last node whose disk can go wrong; all have the first block.
async fn with_a_bad_disk(consensus: Consensus, count: usize) -> (Cluster, BadDisk) {
    let disk = BadDisk::new();
    let mut cluster = Cluster::new(consensus, count, count);
    let last = count - 1;
    for node in 0..count {
        match node == last {
            true => cluster.start_in(node, disk.env()).await,
            false => cluster.start(node).await,
        }
        cluster.join(node, &cluster.genesis).await;
    }
    cluster.order(0, b"first").await;
    (cluster, disk)
}

/// The newest segment of a node's journal.
fn journal(cluster: &Cluster, node: usize, engine: &str) -> PathBuf {
    let folder = cluster.world.path(&format!("wal{node}/{CHANNEL}/{engine}"));
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let journals = files.filter(|f| f.extension().is_some_and(|e| e == "journal"));
    journals.max().unwrap()
}

/// A crash may tear what was written last: that was promised to nobody, and is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_a_torn_end_is_gone_on_with() {
    for (consensus, count, engine) in BOTH {
        let mut cluster = founded(consensus, count).await;
        let last = count - 1;
        cluster.stop(last).await;
        let path = journal(&cluster, last, engine);
        let mut bytes = std::fs::read(&path).unwrap();
        // A record that began: its length, and less than it says.
        bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3]);
        std::fs::write(&path, bytes).unwrap();
        cluster.start(last).await;
        cluster.order(last, b"behind a torn end").await;
        let all: Vec<usize> = (0..count).collect();
        cluster.level(&all).await;
        cluster.becomes(last, "\"status\":\"active\"").await;
        cluster.stop_all().await;
    }
}

/// What was durable once and is not any more may be a promise: the orderer takes no part, says what
/// to do, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_damaged_in_the_middle_keeps_its_node_out() {
    for (consensus, count, engine) in BOTH {
        let mut cluster = founded(consensus, count).await;
        let last = count - 1;
        cluster.stop(last).await;
        let path = journal(&cluster, last, engine);
        let mut bytes = std::fs::read(&path).unwrap();
        // In the payload of the first record, which is behind its length, checksum and mark.
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        for _ in 0..2 {
            cluster.start(last).await;
            cluster.becomes(last, "\"status\":\"failed\"").await;
            let (code, text, _) = http_to(cluster.operations(last), HEALTH, b"").await;
            assert_eq!(code, 503, "{text}");
            for part in ["is corrupt at byte", "add it again with a new certificate"] {
                assert!(text.contains(part), "{text} lacks {part}");
            }
            let client = cluster.client(last);
            let refused = client
                .broadcast_one(client.transaction(CHANNEL, b"no"))
                .await;
            assert_eq!(refused.0, Status::ServiceUnavailable, "{}", refused.1);
            // It serves the blocks it has.
            assert!(cluster.height(last).await > 1);
            cluster.order(0, b"the others go on").await;
            cluster.stop(last).await;
        }
        cluster.stop_all().await;
    }
}

/// Blocks that rot take their own channel out of service, not the node; it can be joined again.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_blocks_are_damaged_is_set_aside() {
    let mut cluster = founded(Consensus::Raft, 3).await;
    let other = cluster.world.genesis("other");
    let (code, text, _) = crate::world::join_at(cluster.admin_api(2), &other).await;
    assert_eq!(code, 201, "{text}");
    cluster.stop(2).await;
    let folder = PathBuf::from(cluster.world.path("ledger2/chains/trade"));
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let largest = files.max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    cluster.start(2).await;
    cluster
        .becomes(2, "\"status\":\"failed\",\"height\":0")
        .await;
    let (code, text, _) = http_to(cluster.operations(2), HEALTH, b"").await;
    assert_eq!(code, 503, "{text}");
    for part in ["is corrupt at byte", "out of the channel's consenters"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let client = cluster.client(2);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(info.contains("channel trade cannot be opened"), "{info}");
    let served = client
        .broadcast_one(client.transaction("other", b"x"))
        .await;
    assert_eq!(served.0, Status::Success, "{}", served.1);
    cluster.order(0, b"the others go on").await;

    let (code, text) = ask(cluster.admin_api(2), "DELETE").await;
    assert_eq!(code, 204, "{text}");
    assert_eq!(ask(cluster.admin_api(2), "GET").await.0, 404);
    cluster.stop_all().await;
}

/// A full disk holds one node back, and only as long as it is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_back_one_orderer_of_a_cluster() {
    for (consensus, count, _) in BOTH {
        let (mut cluster, disk) = with_a_bad_disk(consensus, count).await;
        let last = count - 1;
        let all: Vec<usize> = (0..count).collect();
        cluster.level(&all).await;
        disk.turns(Mood::Full);
        for n in 0..20u8 {
            cluster.order(usize::from(n) % last, &[n, 1, 2, 3]).await;
        }
        cluster.level(&all[..last]).await;
        let begun = Instant::now();
        loop {
            let (code, text, _) = http_to(cluster.operations(last), HEALTH, b"").await;
            if code == 503 {
                assert!(text.contains("disk is full"), "{text}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        disk.turns(Mood::Well);
        cluster.level(&all).await;
        cluster.order(last, b"room again").await;
        cluster.level(&all).await;
        cluster.stop_all().await;
    }
}

/// What a disk kept after a failed fsync is unknown: the node ends, with a reason, and the others go
/// on.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_ends_the_node() {
    for (consensus, count, _) in BOTH {
        let (mut cluster, disk) = with_a_bad_disk(consensus, count).await;
        let last = count - 1;
        disk.turns(Mood::NeverSynced);
        cluster.order(0, b"second").await;
        let reason = cluster.ends(last).await;
        assert!(
            reason.contains("channel trade can no longer write"),
            "{reason}"
        );
        cluster.order(0, b"without it").await;
        // What was durable before is enough to come back.
        disk.turns(Mood::Well);
        cluster.start_in(last, disk.env()).await;
        let all: Vec<usize> = (0..count).collect();
        cluster.order(last, b"back").await;
        cluster.level(&all).await;
        cluster.stop_all().await;
    }
}

/// The log of a Raft leader is cut off behind its snapshots: whoever was away for longer gets the
/// blocks instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_long_gets_what_the_log_no_longer_has() {
    let mut cluster = founded(Consensus::Raft, 3).await;
    cluster.stop(2).await;
    // Several times the snapshot interval of 20 KB.
    let data = vec![7; 4096];
    for n in 0..40u8 {
        cluster.order(0, &[&[n][..], &data].concat()).await;
    }
    cluster.level(&[0, 1]).await;
    for node in [0, 1] {
        let kept = journal(&cluster, node, "etcdraft")
            .metadata()
            .unwrap()
            .len();
        assert!(kept < 100_000, "node {node} keeps a log of {kept} bytes");
    }
    cluster.start(2).await;
    cluster.level(&[0, 1, 2]).await;
    // It votes and acknowledges with what it got.
    cluster.stop(1).await;
    cluster.order(2, b"with the one that was away").await;
    cluster.start(1).await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop_all().await;
}
