//! A network whose blocks are ordered by a cluster: any of its orderers may go, the leader too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use selvage_client::{From, Orderer};
use selvage_network_tests::{Node, Service, nodes_of, wait_for};

/// How long an orderer may take to take a transaction, elections included.
const SUBMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_network_outlives_its_orderers() {
    outlives_its_orderers("raft", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_network_outlives_its_orderers() {
    outlives_its_orderers("bft", 4).await;
}

async fn outlives_its_orderers(consensus: &str, count: usize) {
    let mut service = Service::up(&["--consensus", consensus]);
    let first = orderers_of(&service);
    assert_eq!(first.len(), count);
    commits(&service, "first").await;

    // Whoever leads is among them.
    for orderer in &first {
        orderer.kill();
        commits(&service, &orderer.name).await;
        runs_again(&service, orderer).await;
    }
    for orderer in orderers_of(&service) {
        orderer.freeze();
        commits(&service, &format!("frozen {}", orderer.pid)).await;
        orderer.thaw();
    }
    let orderers = service.orderers().await;
    level(&service, &orderers).await;

    service.down();
    service.up_again();
    commits(&service, "resumed").await;
    level(&service, &orderers).await;
    for orderer in &first {
        holds(&service, &orderer.name).await;
    }
    goes_on_without_one_that_lost_everything(&mut service, &orderers).await;
}

/// Without its log it could vote twice: it is not joined again, and the others are enough.
async fn goes_on_without_one_that_lost_everything(service: &mut Service, orderers: &[Orderer]) {
    service.down();
    let lost = service.node_folder("orderer").join("data");
    std::fs::remove_dir_all(lost).unwrap();
    service.up_again();
    commits(service, "without one").await;
    wait_for("the service to say what happened", || async {
        let log = std::fs::read_to_string(service.folder().join("data/manager.log"));
        log.unwrap().contains("takes no part any more")
    })
    .await;
    // Whichever orderer a gateway asks first.
    for number in 0..20 {
        let put = service.call("Put", &[&number.to_string(), "without one"]);
        service.gateway().submit_transaction(&put).await.unwrap();
    }
    let (user, channel) = (service.user(), &service.said().channel);
    let absent = orderers[0].block(&user, channel, From::Newest).await;
    let said = absent.unwrap_err().text();
    assert!(said.contains("NOT_FOUND"), "{said}");
    level(service, &orderers[1..]).await;
}

fn orderers_of(service: &Service) -> Vec<Node> {
    let nodes = nodes_of(service.folder()).into_iter();
    nodes.filter(|n| n.kind == "orderer").collect()
}

/// A transaction is committed; what an election refuses is sent again.
async fn commits(service: &Service, key: &str) {
    let mut gateway = service.gateway();
    gateway.submit_timeout = SUBMIT;
    let put = service.call("Put", &[key, key]);
    wait_for(&format!("{key} to be committed"), || async {
        let done = gateway.submit_transaction(&put).await;
        done.inspect_err(|e| println!("{key}: {}", e.text()))
            .is_ok()
    })
    .await;
}

async fn holds(service: &Service, key: &str) {
    let get = service.call("Get", &[key]);
    let value = service.gateway().evaluate(&get, &[]).await.unwrap();
    assert_eq!(value, key.as_bytes());
}

/// The service starts a killed node again.
async fn runs_again(service: &Service, killed: &Node) {
    wait_for(&format!("{} to run again", killed.name), || async {
        let mut nodes = orderers_of(service).into_iter();
        nodes.any(|n| n.name == killed.name && n.pid != killed.pid)
    })
    .await;
}

/// These orderers and every peer have the same newest block.
async fn level(service: &Service, orderers: &[Orderer]) {
    let channel = &service.said().channel;
    let (user, peers) = (service.user(), service.peers().await);
    wait_for("equal heights", || async {
        let mut newest = Vec::new();
        for orderer in orderers {
            let block = orderer.block(&user, channel, From::Newest).await;
            newest.push(block.ok().and_then(|b| b.header));
        }
        for peer in &peers {
            let height = peer.channel_info(channel).await.unwrap().height;
            let block = peer.block(channel, height - 1).await;
            newest.push(block.unwrap().header);
        }
        newest[0].is_some() && newest.iter().all(|header| *header == newest[0])
    })
    .await;
}
