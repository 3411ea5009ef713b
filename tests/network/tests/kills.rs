//! `kill -9` under load: of peers and orderer in turn, and of whoever leads a cluster. Heights and hashes
//! are equal afterwards, and whatever was told to a client as committed is there, once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use selvage_client::From;
use selvage_network_tests::{
    Load, Node, Service, leader_of, nodes_of, same_chain_everywhere, wait_for,
};

const CLIENTS: usize = 4;

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
    let service = Service::up(arguments);
    let mut load = Load::default();
    load.begin(&service, CLIENTS);
    for round in 0..kills {
        // The network serves before each kill, so that each kill meets transactions under way.
        load.more(5).await;
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
    load.more(5).await;
    load.end().await;
    let troubles = load.troubles().await;
    println!("what clients were told meanwhile: {troubles:#?}");
    for text in troubles.keys() {
        assert!(text.contains("127.0.0.1:"), "it names no node: {text}");
    }
    let height = same_chain_everywhere(&service).await;
    orderers_have_it(&service, height).await;
    let there = load.is_all_there(&service.gateway(), &service).await;
    println!("{there} acknowledged transactions are there");
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

/// Every orderer's newest block is that of the peers.
async fn orderers_have_it(service: &Service, height: u64) {
    let channel = &service.said().channel;
    let newest = service.peers().await[0].block(channel, height - 1).await;
    let newest = newest.unwrap().header;
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
