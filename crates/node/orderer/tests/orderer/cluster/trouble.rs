//! Nodes that are away, slow, or not who they should be.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use selvage_net::CancellationToken;
use selvage_net::config::{ByteSize, GoDuration};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::cluster_server::{Cluster, ClusterServer};
use selvage_net::tls::{ClientAuth, ServerTls};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Request, Response, Status, Streaming};
use selvage_orderer::cluster::{Kind, NotSent};
use selvage_ordering::Member;
use selvage_proto::orderer::{StepRequest, StepResponse};
use tokio::sync::mpsc;

use super::{Pair, Station, received, some_envelope, soon, two, until_received};
use crate::world::{CHANNEL, World};

fn impatient(settings: &mut selvage_orderer::config::Settings) {
    settings.general.cluster.rpc_timeout = GoDuration(Duration::from_millis(300));
    settings.general.cluster.dial_timeout = GoDuration(Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_is_reached_again() {
    let world = World::new();
    let (a, mut at_a, b, mut at_b) = two(&world).await;
    a.send(2, "before");
    assert_eq!(received(&mut at_b).await.payload, "before");
    let (pair, port) = b.stop().await;
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    // While nobody is there, messages are dropped and reported, and forwards refused.
    let down = async {
        while a.links.forward(CHANNEL, 2, some_envelope(1), 0).is_ok() {
            assert_eq!(at_a.unreachable.recv().await, 2);
        }
    };
    soon(down).await;
    let refused = async {
        loop {
            let sent = a.links.forward(CHANNEL, 2, some_envelope(1), 0);
            if sent == Err(NotSent::Unreachable(2)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(refused).await;
    let dropped = a.metric("cluster_comm_msg_dropped_count");
    a.send(2, "lost");
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);

    let b = Station::with(&world, 2, pair, port, |_| {}).await;
    let mut at_b = b.open(&[a.member()]);
    until_received(&a, 2, &mut at_b, b"after").await;
    assert!(a.metric("cluster_comm_msg_dropped_count") > dropped);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_key_gets_nothing() {
    let world = World::new();
    let (a, b) = (
        Station::start(&world, 1).await,
        Station::start(&world, 2).await,
    );
    let mut at_b = b.open(&[a.member()]);
    let other = Pair::new(&world.orderer_org);
    let pinned = |pair: &Pair| Member {
        server_tls_cert: pair.certificate.clone().into(),
        ..b.member()
    };
    // Same authority, same host, but not the certificate that the channel names.
    let mut at_a = a.open(&[pinned(&other)]);
    a.send(2, "x");
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    assert!(at_b.received.try_recv().is_err());
    // The configuration names the right one: the lane begins anew.
    a.links.configure(CHANNEL, Kind::Raft, &[pinned(&b.pair)]);
    until_received(&a, 2, &mut at_b, b"y").await;
    // Removed from the channel, it hears nothing more.
    a.links.configure(CHANNEL, Kind::Raft, &[]);
    let sent = a.links.forward(CHANNEL, 2, some_envelope(1), 0);
    assert_eq!(sent, Err(NotSent::Unknown(2)));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_servers_are_reached_with_a_time_shift_only() {
    let world = World::new();
    let expired = Pair::expired(&world.orderer_org);
    let b = Station::with(&world, 2, expired, 0, |_| {}).await;
    let a = Station::start(&world, 1).await;
    let shifted = |settings: &mut selvage_orderer::config::Settings| {
        settings.general.tls.tls_handshake_time_shift = GoDuration::seconds(5_000);
    };
    let pair = Pair::with_key(
        &world.orderer_org,
        a.pair.key.clone(),
        selvage_crypto::issue::Validity::starting(crate::world::now() - 10_000, 100_000),
    );
    let c = Station::with(&world, 3, pair, 0, shifted).await;
    let mut at_b = b.open(&[
        a.member(),
        Member {
            id: 3,
            ..c.member()
        },
    ]);
    let mut at_a = a.open(&[b.member()]);
    a.send(2, "x");
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    assert!(at_b.received.try_recv().is_err());
    let _at_c = c.open(&[b.member()]);
    c.send(2, "y");
    let got = received(&mut at_b).await;
    assert_eq!((got.from, &got.payload[..]), (3, &b"y"[..]));
    for station in [a, b, c] {
        station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_read_holds_up_nobody() {
    let world = World::new();
    let a = Station::with(&world, 1, Pair::new(&world.orderer_org), 0, impatient).await;
    let b = Station::start(&world, 2).await;
    let mut at_a = a.open(&[b.member()]);
    let mut at_b = b.open(&[a.member()]);
    let _other_a = a.links.open("other");
    a.links.configure("other", Kind::Raft, &[b.member()]);
    let mut other_b = b.links.open("other");
    b.links.configure("other", Kind::Raft, &[a.member()]);
    // Far more than may wait at either end; sending never waits.
    let megabyte = Bytes::from(vec![1; 1 << 20]);
    for _ in 0..400 {
        a.links.send(CHANNEL, 2, megabyte.clone(), Bytes::new());
    }
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    assert!(a.metric("cluster_comm_msg_dropped_count") > 200.0);
    let waiting = a.metric("cluster_comm_egress_queue_length");
    assert!(waiting <= 100.0, "{waiting}");
    // The same connection serves the other channel meanwhile.
    for n in 0..5u8 {
        a.links.send("other", 2, vec![n].into(), Bytes::new());
        assert_eq!(received(&mut other_b).await.payload[..], [n]);
    }
    // Once it reads, everything goes on.
    assert_eq!(received(&mut at_b).await.payload.len(), 1 << 20);
    until_received(&a, 2, &mut at_b, b"small").await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_wait_for_a_channel_and_are_then_refused() {
    let world = World::new();
    let a = Station::with(&world, 1, Pair::new(&world.orderer_org), 0, |settings| {
        settings.general.cluster.send_buffer_size = 10;
    })
    .await;
    let b = Station::start(&world, 2).await;
    let _at_a = a.open(&[b.member()]);
    let mut at_b = b.open(&[a.member()]);
    let mut accepted = 0;
    let full = async {
        let mut large = some_envelope(1);
        large.payload = vec![0; 1 << 20].into();
        loop {
            match a.links.forward(CHANNEL, 2, large.clone(), accepted) {
                Ok(()) => accepted += 1,
                Err(refused) => {
                    assert_eq!(refused, NotSent::Full(2));
                    // Room there, because the receiver has not taken its share yet.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    if a.links
                        .forward(CHANNEL, 2, large.clone(), accepted)
                        .is_err()
                    {
                        return;
                    }
                    accepted += 1;
                }
            }
        }
    };
    soon(full).await;
    // Nothing that was taken is lost, nothing overtakes.
    for n in 0..accepted {
        let got = soon(at_b.forwarded.recv()).await.unwrap();
        assert_eq!(got.sequence, n);
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_above_the_limit_are_reported_and_the_rest_goes_on() {
    let world = World::new();
    let a = Station::with(&world, 1, Pair::new(&world.orderer_org), 0, |settings| {
        settings.general.max_send_msg_size = ByteSize(4 << 20);
    })
    .await;
    let b = Station::with(&world, 2, Pair::new(&world.orderer_org), 0, |settings| {
        settings.general.max_recv_msg_size = ByteSize(1 << 20);
    })
    .await;
    let mut at_a = a.open(&[b.member()]);
    let mut at_b = b.open(&[a.member()]);
    // Above what the sender may send.
    a.send(2, vec![0; 5 << 20]);
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    let mut large = some_envelope(1);
    large.payload = vec![0; 5 << 20].into();
    let sent = a.links.forward(CHANNEL, 2, large, 0);
    assert_eq!(sent, Err(NotSent::TooLarge));
    // Above what the receiver takes.
    a.send(2, vec![0; 2 << 20]);
    assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    until_received(&a, 2, &mut at_b, b"small").await;
    assert!(at_b.received.try_recv().is_err());
    a.stop().await;
    b.stop().await;
}

/// Answers at once, and never reads what comes.
#[derive(Clone)]
struct Deaf(mpsc::UnboundedSender<Streaming<StepRequest>>);

#[tonic::async_trait]
impl Cluster for Deaf {
    type StepStream = Pin<Box<dyn Stream<Item = Result<StepResponse, Status>> + Send>>;

    async fn step(
        &self,
        request: Request<Streaming<StepRequest>>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_and_does_not_read_is_cut_off() {
    let world = World::new();
    let a = Station::with(&world, 1, Pair::new(&world.orderer_org), 0, impatient).await;
    let pair = Pair::new(&world.orderer_org);
    let (opened, mut streams) = mpsc::unbounded_channel();
    let router = Routes::new(ClusterServer::new(Deaf(opened))).into_axum_router();
    let tls = ServerTls::new(pair.identity(), ClientAuth::Request);
    let options = ServerOptions::grpc(Some(tls));
    let server = Server::bind("127.0.0.1:0", options).await.unwrap();
    let port = server.local_addr().port();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(router, shutdown.clone()));
    let member = Member {
        id: 2,
        port: port.into(),
        server_tls_cert: pair.certificate.clone().into(),
        ..a.member()
    };
    let mut at_a = a.open(&[member]);
    let a = Arc::new(a);
    let sending = tokio::spawn({
        let a = a.clone();
        async move {
            loop {
                a.send(2, vec![0; 1 << 20]);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    // Another connection is opened only once the one before it is given up.
    let mut first = soon(streams.recv()).await.unwrap();
    for _ in 0..2 {
        soon(streams.recv()).await.unwrap();
        assert_eq!(soon(at_a.unreachable.recv()).await, 2);
    }
    // What was on its way may still be there; then comes the end of the connection.
    let end = async { while let Ok(Some(_)) = first.message().await {} };
    soon(end).await;
    assert!(a.metric("cluster_comm_egress_tls_connection_count") <= 1.0);
    sending.abort();
    let _ = sending.await;
    Arc::into_inner(a).unwrap().stop().await;
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
