//! Certificates that are exchanged under a running orderer.

use std::time::{Duration, Instant};

use selvage_crypto::issue::NodeRole;
use selvage_net::tls::ClientTls;
use selvage_proto::common::Status;

use crate::world::{CHANNEL, Client, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let world = World::new();
    let orderer = world.serving().await;
    // The new one is of another authority, which these clients trust alone.
    let roots = world.org1.tls.certificate().to_pem();
    let client = || {
        let tls = ClientTls::from_pem("test", roots.as_bytes(), None).unwrap();
        let identity = world.org1.identity(NodeRole::Client);
        Client::new(orderer.address.port(), Some(tls), identity)
    };
    let no_envelope = futures::stream::empty();
    client().stub().broadcast(no_envelope).await.unwrap_err();
    let (certificate, key) = world.org1.tls_pem();
    std::fs::write(world.path("tls/server.crt"), certificate).unwrap();
    std::fs::write(world.path("tls/server.key"), key).unwrap();
    let begun = Instant::now();
    let client = loop {
        let client = client();
        if client
            .stub()
            .broadcast(futures::stream::empty())
            .await
            .is_ok()
        {
            break client;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the old one stays"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let transaction = client.transaction(CHANNEL, b"over the new one");
    assert_eq!(client.broadcast_one(transaction).await.0, Status::Success);
    orderer.stop().await;
}
