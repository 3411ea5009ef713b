//! What is wrong with the machine or the settings is said by name, with a remedy.

use std::sync::Arc;

use selvage_env::{Env, MemDisk};
use selvage_net::logging::Levels;
use selvage_orderer::config::Settings;
use selvage_orderer::in_full;
use selvage_orderer::node::Orderer;
use selvage_proto::common::Status;

use crate::bad_disk::{BadDisk, Mood, simulated};
use crate::world::{CHANNEL, World, http, join};

async fn start_error(settings: &Settings) -> String {
    let levels = Levels::new("info").unwrap();
    match Orderer::start(settings, Env::real(), levels).await {
        Ok(_) => panic!("the orderer started"),
        Err(error) => in_full(&error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_at_start_name_cause_and_remedy() {
    let world = World::new();
    let check = async |change: &dyn Fn(&mut Settings), parts: &[&str]| {
        let mut settings = world.settings();
        change(&mut settings);
        let error = start_error(&settings).await;
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    };
    let nowhere = world.path("nowhere");
    check(
        &|s| s.general.local_msp_dir = nowhere.clone(),
        &["nowhere", "LocalMSPDir"],
    )
    .await;
    let tls = world.path("tls");
    check(
        &|s| s.general.local_msp_dir = tls.clone(),
        &["ca certificate", "cacerts"],
    )
    .await;
    let missing = world.path("missing.key");
    check(
        &|s| s.general.tls.private_key = missing.clone(),
        &["TLS private key", "missing.key", "does not exist"],
    )
    .await;
    let certificate = world.path("tls/server.crt");
    check(
        &|s| s.general.tls.private_key = certificate.clone(),
        &["General.TLS", "private key"],
    )
    .await;
    let file = world.path("tls/ca.crt");
    check(
        &|s| s.file_ledger.location = file.clone(),
        &["FileLedger.Location", "ca.crt"],
    )
    .await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    check(
        &|s| s.general.listen_port = port,
        &["General.ListenPort", "another process uses this port"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrelated_key_is_no_identity() {
    let world = World::new();
    let (_, key) = world.org1.tls_pem();
    std::fs::write(world.path("msp/keystore/priv_sk"), key).unwrap();
    let error = start_error(&world.settings()).await;
    assert!(error.contains("keystore"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_orderers_do_not_share_a_ledger() {
    let world = World::new();
    let orderer = world.serving().await;
    let error = start_error(&world.settings()).await;
    assert!(error.contains("channel trade"), "{error}");
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let world = World::new();
    let disk = BadDisk::new();
    let env = disk.env();
    let settings = world.settings();
    let levels = Levels::new("info").unwrap();
    let orderer = Orderer::start(&settings, env, levels).await.unwrap();
    assert_eq!(join(&orderer, &world.genesis(CHANNEL)).await.0, 201);
    let client = world.client(&orderer);
    let send = async || {
        client
            .broadcast_one(client.transaction(CHANNEL, b"x"))
            .await
    };
    assert_eq!(send().await.0, Status::Success);

    disk.turns(Mood::Full);
    // This one reached the queue before anyone knew; it is answered when there is room.
    let pending = tokio::spawn({
        let client = client.clone();
        let envelope = client.transaction(CHANNEL, b"patient");
        async move { client.broadcast_one(envelope).await }
    });
    let health = "GET /healthz HTTP/1.1\r\n";
    while http(orderer.operations.port(), health, b"").await.0 != 503 {
        tokio::task::yield_now().await;
    }
    let (_, text, _) = http(orderer.operations.port(), health, b"").await;
    assert!(text.contains("disk is full"), "{text}");
    let (status, info) = send().await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(
        info.contains("disk is full") && info.contains("makes room"),
        "{info}"
    );

    disk.turns(Mood::Well);
    assert_eq!(pending.await.unwrap().0, Status::Success);
    assert_eq!(send().await.0, Status::Success);
    assert_eq!(http(orderer.operations.port(), health, b"").await.0, 200);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_stops_the_node() {
    let world = World::new();
    let disk = Arc::new(MemDisk::new());
    let levels = Levels::new("info").unwrap();
    let env = simulated(disk.clone());
    let orderer = Orderer::start(&world.settings(), env, levels)
        .await
        .unwrap();
    assert_eq!(join(&orderer, &world.genesis(CHANNEL)).await.0, 201);
    let client = world.client(&orderer);
    let fault = selvage_env::Fault {
        at: disk.operations(),
        kind: selvage_env::FaultKind::Io,
        sticky: true,
    };
    disk.set_fault(Some(fault));
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"x"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable, "{info}");
    let ended = orderer.serve_until(std::future::pending()).await;
    let error = in_full(&ended.unwrap_err());
    assert!(
        error.contains("channel trade can no longer write"),
        "{error}"
    );
}
