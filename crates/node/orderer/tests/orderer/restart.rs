//! Nothing acknowledged is lost, whatever ends the process.

use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use selvage_crypto::issue::NodeRole;
use selvage_net::deliver::{between, newest, oldest};
use selvage_proto::common::Status;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::world::{CHANNEL, Client, World, join_at};

/// Not a test of its own: the orderer process that the next test starts and kills.
#[test]
fn orderer_process() {
    if std::env::var_os("SELVAGE_TEST_ORDERER").is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(selvage_orderer::node::run()).unwrap();
}

struct Process {
    child: Child,
    port: u16,
    admin: u16,
}

fn port_after(line: &str, key: &str) -> u16 {
    let rest = line.split(key).nth(1).unwrap();
    let address = rest.split_whitespace().next().unwrap();
    address.rsplit(':').next().unwrap().parse().unwrap()
}

async fn spawn(world: &World) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["restart::orderer_process", "--exact", "--nocapture"])
        .env("SELVAGE_TEST_ORDERER", "1")
        .env("FABRIC_CFG_PATH", world.folder.path())
        .env("ORDERER_GENERAL_LISTENPORT", "0")
        .env("ORDERER_GENERAL_LOCALMSPID", "OrdererMSP")
        .env("ORDERER_FILELEDGER_LOCATION", "ledger")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line());
        let line = line
            .await
            .unwrap()
            .unwrap()
            .expect("the orderer ended before it served");
        if line.contains("Beginning to serve requests") {
            // Whatever else it says must not fill the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Process {
                child,
                port: port_after(&line, " address="),
                admin: port_after(&line, " admin="),
            };
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_acknowledged() {
    let world = World::new();
    std::fs::write(
        world.path("orderer.yaml"),
        "Selvage: {EagerCutting: true}\n",
    )
    .unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4u8 {
        let mut process = spawn(&world).await;
        if round == 0 {
            let joined = join_at(("127.0.0.1", process.admin), &world.genesis(CHANNEL)).await;
            assert_eq!(joined.0, 201, "{}", joined.1);
        }
        let client = Client::new(process.port, None, world.org1.identity(NodeRole::Client));
        let reads = client.blocks(&between(oldest(), newest())).await;
        assert_eq!(reads.1, Status::Success);

        let sent: Vec<_> = (0..400u16)
            .map(|n| client.transaction(CHANNEL, &[&[round][..], &n.to_be_bytes()].concat()))
            .collect();
        let load = futures::stream::iter(sent.clone()).chain(futures::stream::pending());
        let mut answers = client.stub().broadcast(load).await.unwrap().into_inner();
        // The process dies in the middle of it, at another point each round.
        let enough = acknowledged.len() + 30 + usize::from(round) * 45;
        for envelope in &sent {
            match answers.message().await {
                Ok(Some(answer)) if answer.status() == Status::Success => {
                    acknowledged.push(envelope.encode_to_vec());
                }
                _ => break,
            }
            if acknowledged.len() == enough {
                process.child.start_kill().unwrap();
            }
        }
        process.child.kill().await.unwrap();
        assert!(
            acknowledged.len() >= enough,
            "the orderer stopped answering too early"
        );
    }
    let process = spawn(&world).await;
    let client = Client::new(process.port, None, world.org1.identity(NodeRole::Client));
    let seek = client.seek(CHANNEL, &between(oldest(), newest()));
    let (blocks, status) = client.deliver(seek).await;
    assert_eq!(status, Status::Success);
    let stored: std::collections::HashSet<Vec<u8>> = blocks
        .iter()
        .flat_map(|block| block.envelopes())
        .map(|envelope| envelope.to_vec())
        .collect();
    assert!(acknowledged.len() > 100);
    let lost = acknowledged.iter().filter(|e| !stored.contains(*e)).count();
    assert_eq!(lost, 0);
    let (status, _) = client
        .broadcast_one(client.transaction(CHANNEL, b"goes on"))
        .await;
    assert_eq!(status, Status::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_survive_an_orderly_restart() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    for n in 0..5 {
        client
            .broadcast_one(client.transaction(CHANNEL, &[n]))
            .await;
    }
    let before = client
        .deliver(client.seek(CHANNEL, &between(oldest(), newest())))
        .await;
    orderer.stop().await;

    // A join that was cut short leaves a folder without a block.
    std::fs::create_dir_all(world.path("ledger/chains/half")).unwrap();
    let orderer = world.start(&world.settings()).await;
    let client = world.client(&orderer);
    let after = client
        .deliver(client.seek(CHANNEL, &between(oldest(), newest())))
        .await;
    assert_eq!(before, after);
    assert!(!crate::world::exists(&world.path("ledger/chains/half")));
    let (status, _) = client
        .broadcast_one(client.transaction(CHANNEL, b"on"))
        .await;
    assert_eq!(status, Status::Success);
    orderer.stop().await;
}
