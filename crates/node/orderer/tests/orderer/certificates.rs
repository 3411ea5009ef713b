//! Certificates that are exchanged under a running orderer.

use std::time::{Duration, Instant};

use prost::Message;
use selvage_crypto::issue::{NodeRole, Validity};
use selvage_net::deliver::{newest, only};
use selvage_net::tls::ClientTls;
use selvage_proto::common::{BlockMetadataIndex, Metadata, SignatureHeader, Status};

use crate::world::{CHANNEL, Client, World, now};

/// Who signed the newest block.
async fn signer(client: &Client) -> Vec<u8> {
    let newest = client.seek(CHANNEL, &only(newest()));
    let (blocks, _) = client.deliver(newest).await;
    let slot = blocks[0].metadata_slot(BlockMetadataIndex::Signatures);
    let signature = Metadata::decode(slot).unwrap().signatures.remove(0);
    let header = SignatureHeader::decode(signature.signature_header).unwrap();
    header.creator.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_signed_with_a_renewed_certificate_without_a_restart() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let send = async || {
        let envelope = client.transaction(CHANNEL, b"x");
        assert_eq!(client.broadcast_one(envelope).await.0, Status::Success);
    };
    send().await;
    let old = signer(&client).await;
    // A certificate whose key is not there yet changes nothing.
    let (pem, _) = world
        .orderer_org
        .issue(NodeRole::Orderer, Validity::ten_years(now()));
    std::fs::write(world.path("msp/signcerts/cert.pem"), pem).unwrap();
    send().await;
    assert_eq!(signer(&client).await, old);
    let pem = world.write_msp("msp", &world.orderer_org, NodeRole::Orderer);
    let begun = Instant::now();
    loop {
        send().await;
        let signer = signer(&client).await;
        if String::from_utf8_lossy(&signer).contains(pem.trim()) {
            break;
        }
        assert_eq!(signer, old);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the old one stays"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    orderer.stop().await;
}

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
