//! `kill -9` under load: of peers and orderer in turn, and of whoever leads a cluster. Heights and hashes
//! are equal afterwards, and whatever was told to a client as committed is there, once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use selvage_client::{From, Gateway, explorer};
use selvage_network_tests::{Node, Service, leader_of, nodes_of, wait_for};
use tokio::sync::Mutex;

const CLIENTS: usize = 4;

/// Keys that a client was told are on the ledger.
type Acknowledged = Arc<Mutex<BTreeSet<String>>>;

/// Whom each round kills.
#[derive(Clone, Copy)]
enum Victims {
    EachInTurn,
    /// Whoever leads; a peer now and then.
    Leaders,
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_nothing_that_was_acknowledged() {
    nothing_is_lost(&[], 3, 10, Victims::EachInTurn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_leader_is_killed_twenty_times_under_load() {
    nothing_is_lost(&["--consensus", "raft"], 5, 20, Victims::Leaders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_leader_is_killed_twenty_times_under_load() {
    nothing_is_lost(&["--consensus", "bft"], 6, 20, Victims::Leaders).await;
}

/// Kills nodes of a network of `count` while clients send.
async fn nothing_is_lost(arguments: &[&str], count: usize, kills: usize, victims: Victims) {
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

    for round in 0..kills {
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
        for victim in chosen(&service, victims, round).await {
            println!("round {round}: kill -9 of {} {}", victim.name, victim.pid);
            victim.kill();
        }
    }
    let before = acknowledged.lock().await.len();
    wait_for("service after the last kill", || async {
        acknowledged.lock().await.len() >= before + 5
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut troubles = BTreeMap::new();
    for client in clients {
        for text in client.await.unwrap() {
            *troubles.entry(text).or_insert(0) += 1;
        }
    }
    println!("what clients were told meanwhile: {troubles:#?}");
    for text in troubles.keys() {
        assert!(text.contains("127.0.0.1:"), "it names no node: {text}");
    }

    let acknowledged = acknowledged.lock().await.clone();
    same_chain_everywhere(&service).await;
    everything_is_there(&service, &acknowledged).await;
    println!("{} acknowledged transactions are there", acknowledged.len());
}

async fn chosen(service: &Service, victims: Victims, round: usize) -> Vec<Node> {
    let nodes = nodes_of(service.folder());
    match victims {
        Victims::EachInTurn => vec![nodes[round % nodes.len()].clone()],
        Victims::Leaders => {
            let mut chosen = Vec::new();
            wait_for("a leader", || {
                chosen.extend(leader_of(service));
                std::future::ready(!chosen.is_empty())
            })
            .await;
            if round % 5 == 4 {
                let peers: Vec<_> = nodes.into_iter().filter(|n| n.kind == "peer").collect();
                chosen.push(peers[round % peers.len()].clone());
            }
            chosen
        }
    }
}

/// Sends until it is told to stop; returns what it was told when something failed.
async fn client(
    service: Arc<Service>,
    acknowledged: Acknowledged,
    stop: Arc<AtomicBool>,
    sequence: Arc<AtomicU64>,
) -> Vec<String> {
    let gateway = service.gateway();
    let mut troubles = Vec::new();
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
            Err(error) => {
                troubles.push(error.text());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    troubles
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
    let mut took_effect = BTreeSet::new();
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
        for transaction in explorer::block(&blocks[0]).transactions {
            let valid = transaction.validation.is_some_and(|code| code.valid);
            let first = !valid || transaction.id.is_empty() || took_effect.insert(transaction.id);
            assert!(first, "a transaction of block {number} took effect before");
        }
    }
    let newest = peers[0].block(channel, height - 1).await.unwrap().header;
    let user = service.user();
    for (index, orderer) in service.orderers().await.iter().enumerate() {
        wait_for(
            &format!("orderer {index} to have the newest block"),
            || async {
                let block = orderer.block(&user, channel, From::Newest).await;
                block.is_ok_and(|block| block.header == newest)
            },
        )
        .await;
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
