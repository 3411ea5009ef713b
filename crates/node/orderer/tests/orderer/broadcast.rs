//! Messages in, answers out.

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use selvage_channel::block::block_verify;
use selvage_channel::{ChannelConfig, block::header_hash};
use selvage_crypto::issue::{NodeRole, Validity};
use selvage_net::deliver::{between, oldest, specified};
use selvage_net::tls::ClientTls;
use selvage_proto::common::{BlockMetadataIndex, Envelope, HeaderType, Metadata, Status};

use crate::world::{CHANNEL, Client, World, now};

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_acknowledged_once_they_are_in_a_signed_block() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let sent: Vec<_> = (0..25)
        .map(|n| client.transaction(CHANNEL, &[n; 100]))
        .collect();
    let answers = client.broadcast(sent.clone()).await;
    assert_eq!(answers.len(), 25);
    assert!(
        answers
            .iter()
            .all(|a| a.status() == Status::Success && a.info.is_empty())
    );

    // Everything acknowledged is there, in order, in blocks of at most ten.
    let ops = crate::world::http(
        orderer.admin.port(),
        "GET /participation/v1/channels/trade HTTP/1.1\r\n",
        b"",
    )
    .await;
    let height: u64 = serde_json::from_str::<serde_json::Value>(&ops.1).unwrap()["height"]
        .as_u64()
        .unwrap();
    let seek = between(oldest(), specified(height - 1));
    let (blocks, status) = client.deliver(client.seek(CHANNEL, &seek)).await;
    assert_eq!(status, Status::Success);
    let stored: Vec<_> = blocks[1..]
        .iter()
        .flat_map(|b| b.envelopes())
        .cloned()
        .collect();
    let expected: Vec<Bytes> = sent.iter().map(|e| e.encode_to_vec().into()).collect();
    assert_eq!(stored, expected);

    let config = ChannelConfig::from_block(&blocks[0]).unwrap();
    let mut hash = header_hash(blocks[0].header.as_ref().unwrap());
    for block in &blocks[1..] {
        assert!(block.envelopes().len() <= 10);
        hash = block_verify(&config, block, block.number() - 1, &hash).unwrap();
        assert_eq!(block.last_config_index().unwrap(), 0);
        assert_eq!(block.metadata.as_ref().unwrap().metadata.len(), 5);
        let last = Metadata::decode(block.metadata_slot(BlockMetadataIndex::LastConfig)).unwrap();
        assert!(last.value.is_empty() && last.signatures.is_empty());
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_message_waits_for_the_timeout_when_eager_cutting_is_off() {
    let world = World::new();
    let mut settings = world.settings();
    settings.selvage.eager_cutting = false;
    let orderer = world.start(&settings).await;
    // Only the count can cut within the life of this test.
    let genesis = world.genesis_of(CHANNEL, |text| text.replace("TIMEOUT", "1h"));
    assert_eq!(crate::world::join(&orderer, &genesis).await.0, 201);
    let client = world.client(&orderer);
    let envelopes = (0..10).map(|n| client.transaction(CHANNEL, &[n])).collect();
    assert_eq!(client.broadcast(envelopes).await.len(), 10);
    let (numbers, _) = client.blocks(&between(oldest(), specified(1))).await;
    assert_eq!(numbers, [0, 1]);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_fabric_words() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let as_other = |identity| Client {
        identity,
        ..client.clone()
    };

    let check = async |envelope: Envelope, status: Status, info: &str| {
        let (got, text) = client.broadcast_one(envelope).await;
        assert_eq!(got, status, "{text}");
        assert!(text.contains(info), "{text:?} lacks {info:?}");
    };
    let unknown = client.transaction("nowhere", b"x");
    check(unknown, Status::BadRequest, "channel does not exist").await;
    check(
        Envelope::default(),
        Status::BadRequest,
        "could not determine channel ID",
    )
    .await;
    let garbage = Envelope {
        payload: Bytes::from_static(b"\xff\xff\xff"),
        signature: Bytes::new(),
    };
    check(garbage, Status::BadRequest, "error unmarshalling Payload").await;
    let config = client.envelope(HeaderType::Config, CHANNEL, b"x");
    check(
        config,
        Status::BadRequest,
        "message is of type that cannot be processed directly",
    )
    .await;

    let mut forged = client.transaction(CHANNEL, b"x");
    forged.signature = client.identity.sign(b"something else").into();
    check(forged, Status::Forbidden, "permission denied").await;
    let peer = as_other(world.org1.identity(NodeRole::Peer));
    check(
        peer.transaction(CHANNEL, b"x"),
        Status::Forbidden,
        "permission denied",
    )
    .await;
    let stranger = as_other(crate::world::Org::new("Org1MSP").identity(NodeRole::Client));
    check(
        stranger.transaction(CHANNEL, b"x"),
        Status::Forbidden,
        "permission denied",
    )
    .await;
    let past = Validity {
        not_before: now() - 7200,
        not_after: now() - 3600,
    };
    let expired = as_other(world.org1.identity_valid(NodeRole::Client, past));
    let words = "broadcast client identity expired";
    check(
        expired.transaction(CHANNEL, b"x"),
        Status::BadRequest,
        words,
    )
    .await;

    // The orderer is none the worse for it.
    let (status, _) = client
        .broadcast_one(client.transaction(CHANNEL, b"fine"))
        .await;
    assert_eq!(status, Status::Success);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_content() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let check = async |envelope: Envelope, status: Status, info: &str| {
        let (got, text) = client.broadcast_one(envelope).await;
        assert_eq!(got, status, "{text}");
        assert!(text.contains(info), "{text:?} lacks {info:?}");
    };
    let large = client.transaction(CHANNEL, &vec![7; 1 << 20]);
    let size = large.payload.len() + large.signature.len();
    let words =
        format!("message payload is {size} bytes and exceeds maximum allowed 1048576 bytes");
    check(large, Status::BadRequest, &words).await;
    let update = client.envelope(HeaderType::ConfigUpdate, CHANNEL, b"\xff");
    let words = "error applying config update to existing channel 'trade'";
    check(update, Status::BadRequest, words).await;
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_stream_after_the_answers_before_it() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let envelopes = vec![
        client.transaction(CHANNEL, b"1"),
        client.transaction("nowhere", b"2"),
        client.transaction(CHANNEL, b"3"),
    ];
    let open = futures::stream::iter(envelopes).chain(futures::stream::pending());
    let answers = client.stub().broadcast(open).await.unwrap().into_inner();
    let statuses: Vec<_> = answers.map(|a| a.unwrap().status()).collect().await;
    assert_eq!(statuses, [Status::Success, Status::BadRequest]);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_above_the_transport_limit_break_the_call_and_nothing_else() {
    let world = World::new();
    let mut settings = world.settings();
    settings.general.max_recv_msg_size.0 = 2 << 20;
    let orderer = world.start(&settings).await;
    assert_eq!(
        crate::world::join(&orderer, &world.genesis(CHANNEL))
            .await
            .0,
        201
    );
    let client = world.client(&orderer);
    let large = client.transaction(CHANNEL, &vec![0; 3 << 20]);
    let answers = client
        .stub()
        .broadcast(futures::stream::iter([large]))
        .await;
    let error = match answers {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.message().contains("too large"), "{error}");
    let (status, _) = client
        .broadcast_one(client.transaction(CHANNEL, b"fine"))
        .await;
    assert_eq!(status, Status::Success);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_clients_still_get_through() {
    let world = World::new();
    let mut settings = world.settings();
    settings.general.throttling.rate = 1;
    settings.general.tls.client_root_cas = vec![world.path("tls/org1-ca.crt")];
    settings.general.tls.client_auth_required = true;
    settings.metrics.provider = "prometheus".to_owned();
    let orderer = world.start(&settings).await;
    assert_eq!(
        crate::world::join(&orderer, &world.genesis(CHANNEL))
            .await
            .0,
        201
    );
    let held_back = async || {
        let get = "GET /metrics HTTP/1.1\r\n";
        let (_, text, _) = crate::world::http(orderer.operations.port(), get, b"").await;
        let line = "broadcast_throttled_count{share=\"client\"} ";
        let count = text.lines().find_map(|l| l.strip_prefix(line));
        count.map_or(0, |count| count.parse::<u32>().unwrap())
    };
    let roots = world.orderer_org.tls.certificate().to_pem();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), Some(world.org1.tls_identity()));
    let client = Client::new(
        orderer.address.port(),
        Some(tls.unwrap()),
        world.org1.identity(NodeRole::Client),
    );
    assert_eq!(held_back().await, 0);
    let envelopes = (0..4).map(|n| client.transaction(CHANNEL, &[n])).collect();
    let answers = client.broadcast(envelopes).await;
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|a| a.status() == Status::Success));
    // One a second: whatever comes sooner waits.
    let waited = held_back().await;
    assert!((1..=3).contains(&waited), "{waited}");
    orderer.stop().await;
}
