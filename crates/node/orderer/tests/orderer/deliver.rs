//! Every seek form, and who gets nothing.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use selvage_crypto::issue::NodeRole;
use selvage_env::{ManualClock, System};
use selvage_net::deliver::{
    Follower, Kind, Rejected, between, newest, oldest, only, seek_envelope, specified,
};
use selvage_net::tls::ClientTls;
use selvage_net::{CancellationToken, Endpoint};
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Envelope, Payload, Status};
use selvage_proto::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvage_proto::orderer::seek_position::Type as Position;
use selvage_proto::orderer::{SeekInfo, SeekNextCommit, SeekPosition};

use crate::world::{CHANNEL, Client, Org, Owned, World, http, now};

fn next_commit() -> SeekPosition {
    SeekPosition {
        r#type: Some(Position::NextCommit(SeekNextCommit {})),
    }
}

fn fail_if_not_ready(seek: SeekInfo) -> SeekInfo {
    SeekInfo {
        behavior: SeekBehavior::FailIfNotReady as i32,
        ..seek
    }
}

/// Three blocks besides genesis.
async fn chain_of_four(client: &Client) {
    for n in 0..3 {
        let (status, _) = client
            .broadcast_one(client.transaction(CHANNEL, &[n]))
            .await;
        assert_eq!(status, Status::Success);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seek_form() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    chain_of_four(&client).await;

    let check = async |seek: SeekInfo, numbers: &[u64], status: Status| {
        let got = client.blocks(&seek).await;
        assert_eq!(got, (numbers.to_vec(), status), "{seek:?}");
    };
    use Status::{BadRequest, NotFound, Success};
    check(only(oldest()), &[0], Success).await;
    check(only(newest()), &[3], Success).await;
    check(only(specified(2)), &[2], Success).await;
    check(between(oldest(), newest()), &[0, 1, 2, 3], Success).await;
    check(between(oldest(), specified(2)), &[0, 1, 2], Success).await;
    check(between(specified(1), newest()), &[1, 2, 3], Success).await;
    check(between(newest(), specified(3)), &[3], Success).await;
    check(between(specified(2), oldest()), &[2], Success).await;
    check(between(specified(3), specified(1)), &[], BadRequest).await;
    check(between(specified(5), specified(9)), &[], NotFound).await;
    check(fail_if_not_ready(only(specified(4))), &[], NotFound).await;
    let beyond = fail_if_not_ready(between(specified(2), specified(9)));
    check(beyond, &[2, 3], NotFound).await;
    check(
        fail_if_not_ready(between(next_commit(), specified(9))),
        &[],
        NotFound,
    )
    .await;
    // As in Fabric, a stop at the next commit stands for block 0, which a later start never meets.
    check(between(oldest(), next_commit()), &[0], Success).await;
    let endless = fail_if_not_ready(between(specified(1), next_commit()));
    check(endless, &[1, 2, 3], NotFound).await;
    let endless = fail_if_not_ready(only(next_commit()));
    check(endless, &[], NotFound).await;
    check(SeekInfo::default(), &[], BadRequest).await;
    let no_stop = SeekInfo {
        start: Some(oldest()),
        ..Default::default()
    };
    check(no_stop, &[], BadRequest).await;
    let empty = SeekPosition { r#type: None };
    check(between(empty, newest()), &[], NotFound).await;
    orderer.stop().await;
}

/// Waits until so many readers have their place in the channel.
async fn reading(orderer: &Orderer, count: usize) {
    let line = format!(
        "deliver_requests_received{{channel=\"{CHANNEL}\",filtered=\"false\",data_type=\"block\"}} \
         {count}"
    );
    let placed = async {
        loop {
            let port = orderer.operations.port();
            let (_, metrics, _) = http(port, "GET /metrics HTTP/1.1\r\n", b"").await;
            if metrics.lines().any(|l| l == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let placed = tokio::time::timeout(Duration::from_secs(20), placed).await;
    placed.expect("the requests never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_readers_get_blocks_as_they_are_written() {
    let world = World::new();
    let mut settings = world.settings();
    settings.metrics.provider = "prometheus".to_owned();
    let orderer = world.start(&settings).await;
    let joined = crate::world::join(&orderer, &world.genesis(CHANNEL)).await;
    assert_eq!(joined.0, 201);
    let client = world.client(&orderer);
    let write = async || {
        let transaction = client.transaction(CHANNEL, b"x");
        let (status, _) = client.broadcast_one(transaction).await;
        assert_eq!(status, Status::Success);
    };
    write().await;
    let seeks = [
        (between(next_commit(), specified(3)), vec![2, 3]),
        (between(specified(2), specified(3)), vec![2, 3]),
        (between(specified(1), specified(2)), vec![1, 2]),
        (between(newest(), specified(2)), vec![1, 2]),
        (between(oldest(), specified(3)), vec![0, 1, 2, 3]),
    ];
    let mut readers = Vec::new();
    for (seek, expected) in seeks {
        let client = client.clone();
        let reader = tokio::spawn(async move { client.blocks(&seek).await });
        readers.push((reader, expected));
    }
    reading(&orderer, readers.len()).await;
    write().await;
    write().await;
    for (reader, expected) in readers {
        assert_eq!(reader.await.unwrap(), (expected, Status::Success));
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_with_signatures_leave_out_the_data_of_transactions_only() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    chain_of_four(&client).await;
    let seek = SeekInfo {
        content_type: SeekContentType::HeaderWithSig as i32,
        ..between(oldest(), specified(1))
    };
    let (blocks, status) = client.deliver(client.seek(CHANNEL, &seek)).await;
    assert_eq!(status, Status::Success);
    assert!(blocks[0].data.is_some(), "configuration blocks stay whole");
    assert!(blocks[1].data.is_none());
    assert!(blocks[1].header.is_some() && blocks[1].metadata.is_some());
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_on_one_stream() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let requests = [
        client.seek(CHANNEL, &only(oldest())),
        client.seek(CHANNEL, &only(newest())),
        client.seek("nowhere", &only(newest())),
    ];
    let answers = client
        .stub()
        .deliver(futures::stream::iter(requests))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    let mut shapes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        shapes.push(match answer.r#type.unwrap() {
            selvage_proto::orderer::deliver_response::Type::Block(_) => 0,
            selvage_proto::orderer::deliver_response::Type::Status(status) => status,
        });
    }
    assert_eq!(shapes, [0, 200, 0, 200, 404]);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_get_nothing() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    let seek = only(oldest());
    let check = async |envelope: Envelope, status: Status| {
        let (blocks, got) = client.deliver(envelope).await;
        assert!(blocks.is_empty());
        assert_eq!(got, status);
    };
    check(Envelope::default(), Status::BadRequest).await;
    check(client.seek("nowhere", &seek), Status::NotFound).await;
    let mut forged = client.seek(CHANNEL, &seek);
    forged.signature = client.identity.sign(b"something else").into();
    check(forged, Status::Forbidden).await;
    let stranger = Client {
        identity: Org::new("Org1MSP").identity(NodeRole::Peer),
        ..client.clone()
    };
    check(stranger.seek(CHANNEL, &seek), Status::Forbidden).await;
    let timed = |minutes: i64| {
        let clock = ManualClock::new((now() + minutes * 60) * 1_000_000_000);
        let signer = Owned(client.identity.clone());
        seek_envelope(CHANNEL, &seek, &signer, None, &clock, &System)
    };
    for minutes in [-16, 16] {
        check(timed(minutes), Status::BadRequest).await;
    }
    for minutes in [-14, 14] {
        let (blocks, status) = client.deliver(timed(minutes)).await;
        assert_eq!((blocks.len(), status), (1, Status::Success), "{minutes}");
    }
    let mut payload = Payload::decode(client.seek(CHANNEL, &seek).payload).unwrap();
    payload.data = b"\xff\xff"[..].into();
    let payload = payload.encode_to_vec();
    let malformed = Envelope {
        signature: client.identity.sign(&payload).into(),
        payload: payload.into(),
    };
    check(malformed, Status::BadRequest).await;
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_follows_the_channels_and_binds_requests_to_certificates() {
    let world = World::new();
    let mut settings = world.settings();
    settings.general.tls.client_auth_required = true;
    let orderer = world.start(&settings).await;
    let port = orderer.address.port();
    let roots = world.orderer_org.tls.certificate().to_pem();
    let with = |identity| ClientTls::from_pem("test", roots.as_bytes(), identity).unwrap();
    let org1 = with(Some(world.org1.tls_identity()));
    let client = Client::new(
        port,
        Some(org1.clone()),
        world.org1.identity(NodeRole::Client),
    );

    // Nobody vouches for Org1's certificates before a channel does.
    let empty = futures::stream::pending::<Envelope>();
    assert!(client.stub().deliver(empty).await.is_err());
    assert_eq!(
        crate::world::join(&orderer, &world.genesis(CHANNEL))
            .await
            .0,
        201
    );
    assert_eq!(
        client.blocks(&only(newest())).await,
        (vec![0], Status::Success)
    );

    let unbound = Client {
        tls_hash: None,
        ..client.clone()
    };
    assert_eq!(unbound.blocks(&only(newest())).await.1, Status::BadRequest);
    let wrong = Client {
        tls_hash: Some([1; 32]),
        ..client.clone()
    };
    assert_eq!(wrong.blocks(&only(newest())).await.1, Status::BadRequest);
    let anonymous = Client::new(port, Some(with(None)), client.identity.clone());
    let empty = futures::stream::pending::<Envelope>();
    assert!(anonymous.stub().deliver(empty).await.is_err());
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_over_a_restart_and_past_a_bad_server() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    chain_of_four(&client).await;
    let roots = world.orderer_org.tls.certificate().to_pem();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), None).unwrap();
    let address = orderer.address;
    let follower = Follower {
        channel_id: CHANNEL.to_owned(),
        kind: Kind::Orderer,
        signer: Arc::new(Owned(world.org1.identity(NodeRole::Peer))),
        endpoints: Arc::new(move || {
            vec![
                Endpoint::new("127.0.0.1:1", None),
                Endpoint::new(address.to_string(), Some(tls.clone())),
            ]
        }),
        clock: Arc::new(System),
        rng: Arc::new(System),
        max_pause: Duration::from_millis(300),
        idle: Duration::from_secs(10),
        best_effort: true,
        refused: None,
    };
    let stop = CancellationToken::new();
    let (sender, mut received) = tokio::sync::mpsc::channel(16);
    let following = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut refused = false;
            follower
                .run(1, stop, |block, _| {
                    let refuse = block.number() == 2 && !std::mem::replace(&mut refused, true);
                    let sender = sender.clone();
                    async move {
                        if refuse {
                            return Err(Rejected("not to my taste".to_owned()));
                        }
                        sender.send(block.number()).await.unwrap();
                        Ok(())
                    }
                })
                .await;
        }
    });
    for number in 1..=3 {
        assert_eq!(received.recv().await, Some(number));
    }
    orderer.stop().await;
    let mut settings = world.settings();
    settings.general.listen_port = address.port();
    let orderer = world.start(&settings).await;
    let client = world.client(&orderer);
    chain_of_four(&client).await;
    for number in 4..=6 {
        assert_eq!(received.recv().await, Some(number));
    }
    stop.cancel();
    following.await.unwrap();
    orderer.stop().await;
}
