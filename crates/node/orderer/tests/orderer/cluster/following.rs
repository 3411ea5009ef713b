//! Blocks from other orderers: honest, lying, dying and slow ones.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvage_channel::BlockVerifier;
use selvage_channel::ChannelConfig;
use selvage_crypto::issue::NodeRole;
use selvage_env::System;
use selvage_net::deliver::{Follower, Kind, Rejected, between, newest, oldest};
use selvage_net::tls::ClientTls;
use selvage_net::{CancellationToken, Endpoint};
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Block, BlockMetadataIndex, Status};
use tokio::sync::mpsc;

use super::chain::{Maker, Source, Twist, set_consenters, set_endpoints};
use super::{Pair, soon};
use crate::world::{CHANNEL, Owned, World, http, join};

/// A source that is honest below this number.
fn from(number: u64, twist: impl Fn(Block) -> Option<Block> + Send + Sync + 'static) -> Twist {
    Arc::new(move |block| match block.number() < number {
        true => Some(block),
        false => twist(block),
    })
}

/// Replaces the signatures of a block.
fn resigned(mut block: Block, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Option<Block> {
    let slot = BlockMetadataIndex::Signatures;
    let signed = block.metadata_slot(slot).to_vec();
    block.set_metadata_slot(slot, change(signed));
    Some(block)
}

/// What can be wrong with the third block and those behind it.
fn twists() -> Vec<(&'static str, Twist)> {
    vec![
        ("dies in the middle", from(3, |_| None)),
        (
            "another number",
            from(3, |mut block| {
                block.header.as_mut().unwrap().number += 1;
                Some(block)
            }),
        ),
        (
            "another history",
            from(3, |mut block| {
                block.header.as_mut().unwrap().previous_hash = vec![1; 32].into();
                Some(block)
            }),
        ),
        (
            "other transactions",
            from(3, |mut block| {
                let data = block.data.as_mut().unwrap();
                data.data.push(data.data[0].clone());
                Some(block)
            }),
        ),
        ("no signature", from(3, |block| resigned(block, |_| vec![]))),
        (
            "a forged signature",
            // The last bytes are those of the signature.
            from(3, |block| {
                resigned(block, |mut signed| {
                    *signed.last_mut().unwrap() ^= 1;
                    signed
                })
            }),
        ),
        (
            "no header",
            from(3, |block| {
                Some(Block {
                    header: None,
                    ..block
                })
            }),
        ),
    ]
}

fn remove(channel: &str) -> String {
    format!("DELETE /participation/v1/channels/{channel} HTTP/1.1\r\n")
}

/// Waits until an orderer shows this status of the channel.
async fn until(orderer: &Orderer, status: &str) -> String {
    let get = format!("GET /participation/v1/channels/{CHANNEL} HTTP/1.1\r\n");
    let waiting = async {
        loop {
            let (_, text, _) = http(orderer.admin.port(), &get, b"").await;
            if text.contains(status) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(waiting).await
}

async fn blocks_of(world: &World, orderer: &Orderer) -> Vec<Block> {
    let client = world.client(orderer);
    let all = client.seek(CHANNEL, &between(oldest(), newest()));
    let (blocks, status) = client.deliver(all).await;
    assert_eq!(status, Status::Success);
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_joins_and_follows_past_every_kind_of_lie() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let other = Pair::new(&world.orderer_org);
    for (name, twist) in twists() {
        let liar = Source::start(&world, &[], twist).await;
        let honest = Source::honest(&world, &[]).await;
        let addresses = [liar.address.clone(), honest.address.clone()];
        let before = Maker::new(&world, &|root| {
            set_endpoints(root, &["127.0.0.1:1".to_owned()]);
            set_consenters(root, &[&other]);
        });
        let maker = before
            .normal(3)
            .configure(&|root| set_endpoints(root, &addresses))
            .normal(3);
        for source in [&liar, &honest] {
            source.blocks.send_replace(maker.blocks.clone());
        }
        // It joins with the configuration in the middle and goes on to the end.
        let joined = join(&orderer, &maker.blocks[4]).await;
        assert_eq!(joined.0, 201, "{name}: {}", joined.1);
        let text = until(&orderer, "\"height\":8").await;
        assert!(text.contains("follower"), "{text}");
        assert_eq!(blocks_of(&world, &orderer).await, maker.blocks, "{name}");
        // And takes what comes later.
        let maker = maker.normal(1);
        for source in [&liar, &honest] {
            source.blocks.send_replace(maker.blocks.clone());
        }
        until(&orderer, "\"height\":9").await;
        let (code, text, _) = http(orderer.admin.port(), &remove(CHANNEL), b"").await;
        assert_eq!(code, 204, "{text}");
        liar.stop().await;
        honest.stop().await;
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_to_join_with_must_be_one_of_the_channel() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let other = Pair::new(&world.orderer_org);
    let source = Source::honest(&world, &[]).await;
    let addresses = [source.address.clone()];
    let chain = || {
        let maker = Maker::new(&world, &|root| {
            set_endpoints(root, &["127.0.0.1:1".to_owned()]);
            set_consenters(root, &[&other]);
        });
        let maker = maker.normal(1);
        maker.configure(&|root| set_endpoints(root, &addresses))
    };
    let (one, another) = (chain(), chain());
    source.blocks.send_replace(one.blocks.clone());
    let joined = join(&orderer, &another.blocks[2]).await;
    assert_eq!(joined.0, 201, "{}", joined.1);
    until(&orderer, "failed").await;
    // Removed and joined with the right one, it works.
    let (code, text, _) = http(orderer.admin.port(), &remove(CHANNEL), b"").await;
    assert_eq!(code, 204, "{text}");
    assert_eq!(join(&orderer, &one.blocks[2]).await.0, 201);
    until(&orderer, "\"height\":3").await;
    assert_eq!(blocks_of(&world, &orderer).await, one.blocks);
    source.stop().await;
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_need_more_than_the_signature_of_an_orderer() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let other = Pair::new(&world.orderer_org);
    let liar = Source::honest(&world, &[]).await;
    let addresses = [liar.address.clone()];
    let nobody = world.org1.identity(NodeRole::Client);
    let maker = Maker::new(&world, &|root| {
        set_endpoints(root, &addresses);
        set_consenters(root, &[&other]);
    });
    let maker = maker
        .normal(1)
        .configure_by(&nobody, &|root| set_endpoints(root, &["x:1".to_owned()]));
    liar.blocks.send_replace(maker.blocks.clone());
    assert_eq!(join(&orderer, &maker.blocks[0]).await.0, 201);
    // Asked again and again, it never becomes true.
    let mut asked = liar.asked.clone();
    soon(asked.wait_for(|asked| *asked > 3)).await.unwrap();
    assert_eq!(blocks_of(&world, &orderer).await, maker.blocks[..2]);
    liar.stop().await;
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_nothing_new_is_left_for_one_who_has() {
    let world = World::new();
    let lazy = Source::honest(&world, &[]).await;
    let honest = Source::honest(&world, &[]).await;
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let addresses = [lazy.address.clone(), honest.address.clone()];
    let mut maker = Maker::new(&world, &|root| set_endpoints(root, &addresses));
    for source in [&lazy, &honest] {
        source.blocks.send_replace(maker.blocks.clone());
    }
    let roots = world.orderer_org.tls.certificate().to_pem();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), None).unwrap();
    let endpoints = move || {
        let all = addresses.iter().chain([&silent_address]);
        let endpoint = |address: &String| {
            let mut endpoint = Endpoint::new(address, Some(tls.clone()));
            endpoint.connect_timeout = Duration::from_millis(300);
            endpoint
        };
        all.map(endpoint).collect()
    };
    let follower = Follower {
        channel_id: CHANNEL.to_owned(),
        kind: Kind::Orderer,
        signer: Arc::new(Owned(world.orderer_org.identity(NodeRole::Orderer))),
        endpoints: Arc::new(endpoints),
        clock: Arc::new(System),
        rng: Arc::new(System),
        max_pause: Duration::from_millis(300),
        idle: Duration::from_millis(200),
        best_effort: true,
        refused: None,
    };
    let config = Arc::new(ChannelConfig::from_block(&maker.blocks[0]).unwrap());
    let verifier = BlockVerifier::after(config, maker.blocks[0].header.as_ref().unwrap());
    let verifier = Mutex::new(verifier);
    let stop = CancellationToken::new();
    let (sender, mut blocks) = mpsc::channel(1);
    let following = tokio::spawn({
        let stop = stop.clone();
        async move {
            let accept = |block: Block, _| {
                let verified = verifier.lock().verify(&block);
                let sender = sender.clone();
                async move {
                    verified.map_err(|error| Rejected(error.to_string()))?;
                    sender.send(block).await.unwrap();
                    Ok(())
                }
            };
            follower.run(1, stop, accept).await;
        }
    });
    // Whichever is followed, the one that has nothing new is left.
    let mut next = 1;
    for source in [&honest, &lazy, &honest, &lazy] {
        maker = maker.normal(2);
        source.blocks.send_replace(maker.blocks.clone());
        for _ in 0..2 {
            assert_eq!(soon(blocks.recv()).await.unwrap(), maker.blocks[next]);
            next += 1;
        }
    }
    stop.cancel();
    soon(following).await.unwrap();
    lazy.stop().await;
    honest.stop().await;
}
