//! `kill -9` of peers and orderer under load, ten times: heights and hashes are equal afterwards,
//! and whatever was told to a client as committed is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use selvage_client::Gateway;
use selvage_network_tests::{Service, nodes_of, wait_for};
use tokio::sync::Mutex;

const KILLS: usize = 10;
const CLIENTS: usize = 4;

/// Keys that a client was told are on the ledger.
type Acknowledged = Arc<Mutex<BTreeSet<String>>>;

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_nothing_that_was_acknowledged() {
    nothing_is_lost(&[], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_nothing_of_a_raft_network_either() {
    nothing_is_lost(&["--consensus", "raft"], 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_nothing_of_a_bft_network_either() {
    nothing_is_lost(&["--consensus", "bft"], 6).await;
}

/// Kills nodes of a network of `count` in turn while clients send.
async fn nothing_is_lost(arguments: &[&str], count: usize) {
    let service = Arc::new(Service::up(arguments));
    let acknowledged: Acknowledged = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let sequence = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(client(
                service.clone(),
                acknowledged.clone(),
                stop.clone(),
                sequence.clone(),
            ))
        })
        .collect();

    for round in 0..KILLS {
        let before = acknowledged.lock().await.len();
        // The network serves before each kill, so that each kill meets transactions under way.
        wait_for(&format!("round {round} to be served"), || async {
            acknowledged.lock().await.len() >= before + 5
        })
        .await;
        // A cluster serves before the node killed last runs again.
        wait_for(&format!("{count} nodes to run"), || async {
            nodes_of(service.folder()).len() == count
        })
        .await;
        let nodes = nodes_of(service.folder());
        let victim = &nodes[round % nodes.len()];
        println!("round {round}: kill -9 of {} {}", victim.kind, victim.pid);
        victim.kill();
    }
    let before = acknowledged.lock().await.len();
    wait_for("service after the last kill", || async {
        acknowledged.lock().await.len() >= before + 5
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let acknowledged = acknowledged.lock().await.clone();
    same_chain_everywhere(&service).await;
    everything_is_there(&service, &acknowledged).await;
    println!("{} acknowledged transactions are there", acknowledged.len());
}

async fn client(
    service: Arc<Service>,
    acknowledged: Acknowledged,
    stop: Arc<AtomicBool>,
    sequence: Arc<AtomicU64>,
) {
    let gateway = service.gateway();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("key-{}", sequence.fetch_add(1, Ordering::Relaxed));
        match gateway
            .submit_transaction(&service.call("Put", &[&key, &key]))
            .await
        {
            Ok(_) => {
                acknowledged.lock().await.insert(key);
            }
            // A call that failed may or may not have taken effect; nothing was promised.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn same_chain_everywhere(service: &Service) {
    let channel = &service.said().channel;
    let peers = service.peers().await;
    assert!(
        peers.len() >= 2,
        "two organisations with a peer each expected"
    );
    wait_for("equal heights", || async {
        let mut seen = BTreeSet::new();
        for peer in &peers {
            match peer.channel_info(channel).await {
                Ok(info) => seen.insert((info.height, info.current_block_hash)),
                Err(_) => return false,
            };
        }
        seen.len() == 1
    })
    .await;
    let height = peers[0].channel_info(channel).await.unwrap().height;
    for number in 0..height {
        let mut blocks = Vec::new();
        for peer in &peers {
            blocks.push(peer.block(channel, number).await.unwrap());
        }
        // Header, transactions, validation flags and commit hash.
        for block in &blocks[1..] {
            assert_eq!(blocks[0].header, block.header, "header of block {number}");
            let metadata = |b: &selvage_proto::common::Block| b.metadata.clone().unwrap().metadata;
            assert_eq!(
                metadata(&blocks[0])[2..],
                metadata(block)[2..],
                "verdicts of {number}"
            );
        }
    }
}

async fn everything_is_there(service: &Service, acknowledged: &BTreeSet<String>) {
    let gateway: Gateway = service.gateway();
    for key in acknowledged {
        let call = service.call("Get", &[key]);
        let value = gateway.evaluate(&call, &[]).await.unwrap();
        assert_eq!(value, key.as_bytes(), "the value of {key}");
    }
}
