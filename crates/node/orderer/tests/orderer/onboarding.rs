//! Joins with a later block than the first: answered at once, carried out when the others can be asked.

use std::time::Duration;

use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::BatchSize;

use crate::consortium::{CONSENTS, Cluster, Consensus, edit, newest_config};
use crate::reconfigure::update_orderer;
use crate::world::{At, CHANNEL, HttpAnswer, POST_FORM, form, http_to, join_at};

const ONE: &str = "/participation/v1/channels/trade HTTP/1.1\r\n";

pub(crate) async fn ask(at: At<'_>, method: &str) -> (u16, String) {
    let (code, body, _) = http_to(at, &format!("{method} {ONE}"), b"").await;
    (code, body)
}

/// Three Raft orderers that named a fourth as a consenter, and the block that does.
async fn with_a_fourth() -> (Cluster, Block) {
    let mut cluster = Cluster::new(Consensus::Raft, 4, 3);
    cluster.founded(3).await;
    for n in 0..5u8 {
        cluster.order(0, &[n]).await;
    }
    cluster.raft_consenters(0, &[0, 1, 2, 3]).await;
    let blocks = cluster.level(&[0, 1, 2]).await;
    (cluster, newest_config(&blocks).clone())
}

async fn update(at: At<'_>, envelope: &Envelope) -> HttpAnswer {
    let put = POST_FORM.replace("POST", "PUT");
    let form = form("config-update-envelope", &envelope.encode_to_vec());
    http_to(at, &put, &form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_for_orderers_that_are_away() {
    let (mut cluster, join) = with_a_fourth().await;
    for node in 0..3 {
        cluster.stop(node).await;
    }

    cluster.start(3).await;
    let waiting = "{\"name\":\"trade\",\"url\":\"/participation/v1/channels/trade\",\
                   \"consensusRelation\":\"consenter\",\"status\":\"onboarding\",\"height\":0}\n";
    assert_eq!(cluster.join(3, &join).await, waiting);
    let client = cluster.client(3);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"too early"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert_eq!(info, "orderer is a follower of channel trade");
    drop(client);

    // The answer is durable: a restart goes on with it.
    cluster.stop(3).await;
    cluster.start(3).await;
    let admin = cluster.admin_api(3);
    assert_eq!(ask(admin, "GET").await, (200, waiting.to_owned()));
    let list = "GET /participation/v1/channels HTTP/1.1\r\n";
    assert!(http_to(admin, list, b"").await.1.contains("\"trade\""));
    let (code, body, _) = join_at(admin, &join).await;
    assert_eq!(code, 405, "{body}");
    let (code, body, _) = http_to(
        admin,
        "GET /participation/v1/channels/trade/blocks/newest HTTP/1.1\r\n",
        b"",
    )
    .await;
    assert_eq!(code, 404, "{body}");

    // It can be taken back before there is anything.
    assert_eq!(ask(admin, "DELETE").await.0, 204);
    assert_eq!(ask(admin, "GET").await.0, 404);
    cluster.stop(3).await;
    cluster.start(3).await;
    assert_eq!(ask(cluster.admin_api(3), "GET").await.0, 404);

    assert_eq!(cluster.join(3, &join).await, waiting);
    for node in 0..3 {
        cluster.start(node).await;
    }
    cluster.becomes(3, CONSENTS).await;
    cluster.order(3, b"through the new one").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

/// Whenever it is taken back, nothing of it is left, and nothing comes back later.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_can_be_taken_back_at_any_moment() {
    let (mut cluster, join) = with_a_fourth().await;
    cluster.start(3).await;
    for pause in 0..30 {
        cluster.join(3, &join).await;
        tokio::time::sleep(Duration::from_millis(pause * 4)).await;
        let admin = cluster.admin_api(3);
        assert_eq!(ask(admin, "DELETE").await.0, 204, "after {pause}");
        assert_eq!(ask(admin, "GET").await.0, 404, "after {pause}");
        let folder = cluster.world.path("ledger3/chains/trade");
        assert!(!crate::world::exists(&folder), "after {pause}");
    }
    cluster.join(3, &join).await;
    cluster.becomes(3, CONSENTS).await;
    cluster.order(3, b"in the end").await;
    cluster.level(&[0, 1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_join_is_set_aside() {
    let (mut cluster, join) = with_a_fourth().await;
    for node in 0..3 {
        cluster.stop(node).await;
    }
    cluster.start(3).await;
    cluster.join(3, &join).await;
    cluster.stop(3).await;
    let file = cluster.world.path("wal3/trade/join");
    let bytes = std::fs::read(&file).unwrap();
    for left in [0, bytes.len() / 2] {
        std::fs::write(&file, &bytes[..left]).unwrap();
        cluster.start(3).await;
        cluster.becomes(3, "\"status\":\"failed\"").await;
        cluster.stop(3).await;
    }
    cluster.start(3).await;
    assert_eq!(ask(cluster.admin_api(3), "DELETE").await.0, 204);
    assert_eq!(ask(cluster.admin_api(3), "GET").await.0, 404);
    cluster.join(3, &join).await;
    cluster.stop_all().await;
}

/// One that is no consenter follows; what would change the channel is refused by it as Fabric does.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_no_updates() {
    let mut cluster = Cluster::new(Consensus::Raft, 4, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    let smaller = |orderer: &mut _| {
        edit(orderer, "BatchSize", |size: &mut BatchSize| {
            size.max_message_count = 7;
        });
    };
    cluster.reconfigure(0, smaller).await;
    let blocks = cluster.level(&[0, 1, 2]).await;
    let join = newest_config(&blocks).clone();
    cluster.start(3).await;
    let answer = cluster.join(3, &join).await;
    assert!(
        answer.contains("\"consensusRelation\":\"follower\",\"status\":\"onboarding\""),
        "{answer}"
    );
    cluster.becomes(3, "\"status\":\"active\"").await;
    let config = ChannelConfig::from_block(&join).unwrap();
    let envelope = update_orderer(&config, &cluster.admin(0), |orderer| {
        orderer.values.remove("BatchTimeout");
    });
    let (code, body, _) = update(cluster.admin_api(3), &envelope).await;
    assert_eq!(
        (code, body.as_str()),
        (
            403,
            "{\"error\":\"cannot update: channel is not ready, he is a follower\"}\n"
        )
    );
    cluster.stop_all().await;
}
