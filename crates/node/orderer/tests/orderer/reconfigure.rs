//! Configuration updates: judged, ordered alone, in force for what comes after, and after restarts.

use bytes::Bytes;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::block::{block_verify, header_hash, is_config_block};
use selvage_channel::update::compute;
use selvage_crypto::issue::NodeRole;
use selvage_env::{System, random_array};
use selvage_net::deliver::{between, newest, oldest};
use selvage_proto::common::{
    Block, ConfigGroup, ConfigSignature, ConfigUpdateEnvelope, Envelope, HeaderType,
    SignatureHeader, Status,
};
use selvage_proto::orderer::BatchSize;

use crate::world::{CHANNEL, Client, POST_FORM, World, form, http};

/// An update to blocks of `count` messages, signed and sent by `by`.
fn update(current: &ChannelConfig, count: u32, by: &Client) -> Envelope {
    update_value(current, "BatchSize", by, |value| {
        let mut size = BatchSize::decode(value).unwrap();
        size.max_message_count = count;
        size.encode_to_vec()
    })
}

/// An update of one value of the orderer group, signed and sent by `by`.
pub(crate) fn update_value(
    current: &ChannelConfig,
    name: &str,
    by: &Client,
    change: impl FnOnce(Bytes) -> Vec<u8>,
) -> Envelope {
    update_orderer(current, by, |orderer| {
        let value = orderer.values.get_mut(name).unwrap();
        value.value = change(value.value.clone()).into();
    })
}

/// An update of the orderer group, signed by one.
pub(crate) fn update_orderer(
    current: &ChannelConfig,
    by: &Client,
    change: impl FnOnce(&mut ConfigGroup),
) -> Envelope {
    update_root(current, by, |root| {
        change(root.groups.get_mut("Orderer").unwrap());
    })
}

/// An update of any part of the configuration, signed and sent by one.
pub(crate) fn update_root(
    current: &ChannelConfig,
    by: &Client,
    change: impl FnOnce(&mut ConfigGroup),
) -> Envelope {
    let original = current.config();
    let mut updated = original.clone();
    change(updated.channel_group.as_mut().unwrap());
    let mut update = compute(original, &updated).unwrap();
    update.channel_id = current.channel_id().to_owned();
    let config_update = update.encode_to_vec();
    let signature_header = SignatureHeader {
        creator: by.identity.serialized(),
        nonce: random_array::<24>(&System).to_vec().into(),
    }
    .encode_to_vec();
    let signature = by.identity.sign_parts(&[&signature_header, &config_update]);
    let content = ConfigUpdateEnvelope {
        config_update: config_update.into(),
        signatures: vec![ConfigSignature {
            signature_header: signature_header.into(),
            signature: signature.into(),
        }],
    };
    by.envelope(HeaderType::ConfigUpdate, CHANNEL, &content.encode_to_vec())
}

pub(crate) async fn chain(client: &Client) -> Vec<Block> {
    let all = client.seek(CHANNEL, &between(oldest(), newest()));
    let (blocks, status) = client.deliver(all).await;
    assert_eq!(status, Status::Success);
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_take_effect_and_stay() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let admin = Client {
        identity: world.orderer_org.identity(NodeRole::Admin),
        ..client.clone()
    };
    let genesis = chain(&client).await.remove(0);
    let first = ChannelConfig::from_block(&genesis).unwrap();

    // Whoever may write may propose, but the change needs the administrators of the group.
    let (status, info) = client.broadcast_one(update(&first, 3, &client)).await;
    assert_eq!(status, Status::BadRequest, "{info}");
    assert!(
        info.contains("error applying config update to existing channel 'trade'"),
        "{info}"
    );

    assert_eq!(
        client
            .broadcast_one(client.transaction(CHANNEL, b"a"))
            .await
            .0,
        Status::Success
    );
    let (status, info) = admin.broadcast_one(update(&first, 3, &admin)).await;
    assert_eq!((status, info.as_str()), (Status::Success, ""));
    let many = (0..20u8)
        .map(|n| client.transaction(CHANNEL, &[n]))
        .collect();
    assert_eq!(client.broadcast(many).await.len(), 20);

    // The same update again no longer fits the configuration in force.
    let (status, _) = admin.broadcast_one(update(&first, 3, &admin)).await;
    assert_eq!(status, Status::BadRequest);

    let config = follow(first, &chain(&client).await);
    orderer.stop().await;

    // The configuration is the newest one after a restart, too. This time by HTTP.
    let orderer = world.start(&world.settings()).await;
    let client = world.client(&orderer);
    let envelope = update(&config, 7, &admin).encode_to_vec();
    let put = POST_FORM.replace("POST", "PUT");
    let body = form("config-update-envelope", &envelope);
    let (code, text, _) = http(orderer.admin.port(), &put, &body).await;
    assert_eq!(code, 201, "{text}");
    let blocks = chain(&client).await;
    let last = blocks.last().unwrap();
    assert!(is_config_block(last));
    assert_eq!(last.last_config_index().unwrap(), last.number());
    let which = "GET /participation/v1/channels/trade/blocks/config HTTP/1.1\r\n";
    assert_eq!(http(orderer.admin.port(), which, b"").await.0, 200);
    orderer.stop().await;
}

/// Judges the chain of the test above by the configuration in force at each block.
fn follow(mut config: ChannelConfig, blocks: &[Block]) -> ChannelConfig {
    let genesis = &blocks[0];
    assert!(is_config_block(&blocks[2]) && !is_config_block(&blocks[1]));
    let mut hash = header_hash(genesis.header.as_ref().unwrap());
    for block in &blocks[1..] {
        hash = block_verify(&config, block, block.number() - 1, &hash).unwrap();
        let expected = if block.number() < 2 { 0 } else { 2 };
        assert_eq!(block.last_config_index().unwrap(), expected);
        if is_config_block(block) {
            let envelope = Envelope::decode(block.envelopes()[0].clone()).unwrap();
            let (_, next) = selvage_channel::open_config(&envelope).unwrap();
            config = config.apply(&next).unwrap();
        } else if block.number() > 2 {
            assert!(block.envelopes().len() <= 3);
        }
    }
    assert_eq!(config.sequence(), 1);
    config
}
