//! Submitting to orderers that accept, refuse, say nothing, or end.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream as Answers, StreamExt as _, future};
use selvage_env::System;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Request, Response, Status as GrpcStatus};
use selvage_net::{CancellationToken, MAX_MESSAGE_BYTES};
use selvage_proto::orderer::DeliverResponse;

use super::*;
use crate::connections::throwaway_identity;
use crate::target::Node;

/// What an orderer says to envelopes.
#[derive(Clone, Copy)]
enum Orderer {
    Accepts,
    /// Accepts the first one and hangs up.
    Leaves,
    Refuses,
    /// As a BFT orderer of Fabric that has it from another one already.
    Knows,
    Silent,
}

type Boxed<T> = Pin<Box<dyn Answers<Item = Result<T, GrpcStatus>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Orderer {
    type BroadcastStream = Boxed<BroadcastResponse>;
    type DeliverStream = Boxed<DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, GrpcStatus> {
        let (status, info) = match self {
            Self::Accepts | Self::Leaves | Self::Silent => (Status::Success, ""),
            Self::Refuses => (Status::Forbidden, "not you"),
            Self::Knows => (Status::ServiceUnavailable, EXISTS_ALREADY),
        };
        let answer = BroadcastResponse {
            status: status as i32,
            info: info.into(),
        };
        let silent = matches!(self, Self::Silent);
        let answers = request.into_inner().filter_map(move |message| {
            let answer = message.map(|_| answer.clone());
            future::ready((!silent).then_some(answer))
        });
        // As in Fabric, the first refusal ends the stream.
        let last = match self {
            Self::Accepts | Self::Silent => usize::MAX,
            Self::Leaves | Self::Refuses | Self::Knows => 1,
        };
        Ok(Response::new(Box::pin(answers.take(last))))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, GrpcStatus> {
        Err(GrpcStatus::unimplemented("no blocks here"))
    }
}

async fn start(orderer: Orderer) -> Connection {
    let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(None))
        .await
        .unwrap();
    let address = server.local_addr().to_string();
    let service = AtomicBroadcastServer::new(orderer).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(service).into_axum_router();
    tokio::spawn(server.serve(routes, CancellationToken::new()));
    connection(address)
}

fn connection(address: String) -> Connection {
    let node = Node {
        address,
        tls_roots: None,
        server_name: None,
    };
    Connection::open(&node, &throwaway_identity(&System).unwrap()).unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        payload: Bytes::from_static(b"something"),
        signature: Bytes::new(),
    }
}

/// Submits a few envelopes in a row; each has to end alike.
async fn check(orderers: &[Orderer], trust: Trust, expected: Result<(), &str>) {
    let connections = future::join_all(orderers.iter().map(|orderer| start(*orderer))).await;
    let mut submitter = Submitter::new(&connections, trust, 0);
    let expected = expected.map_err(String::from);
    for _ in 0..2 * OWED {
        let outcome = submitter.submit(envelope()).await;
        assert_eq!(outcome, expected);
    }
}

#[tokio::test]
async fn one_of_them_suffices() {
    use Orderer::{Accepts, Refuses};
    let refused = Err("broadcast: 403 not you");
    check(&[Accepts], Trust::One, Ok(())).await;
    check(&[Refuses, Refuses, Accepts], Trust::One, Ok(())).await;
    check(&[Refuses, Refuses], Trust::One, refused).await;
}

#[tokio::test]
async fn another_one_is_asked_when_one_ends() {
    let leaves = start(Orderer::Leaves).await;
    let accepts = start(Orderer::Accepts).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    let gone = connection(address);

    let all = [leaves.clone(), gone, accepts];
    let mut submitter = Submitter::new(&all, Trust::One, 3);
    for _ in 0..5 {
        submitter.submit(envelope()).await.unwrap();
    }

    // Alone it is asked again with the next envelope.
    let alone = [leaves];
    let mut submitter = Submitter::new(&alone, Trust::One, 0);
    submitter.submit(envelope()).await.unwrap();
    let refusal = submitter.submit(envelope()).await.unwrap_err();
    assert!(refusal.contains("ended"), "{refusal}");
    submitter.submit(envelope()).await.unwrap();
}

#[tokio::test]
async fn a_quorum_suffices_and_nothing_less() {
    use Orderer::{Accepts, Knows, Refuses, Silent};
    let trust = Trust::bft(4);
    let refused = Err("no quorum: broadcast: 403 not you");
    check(&[Accepts, Accepts, Accepts, Accepts], trust, Ok(())).await;
    // More envelopes than one that is silent may owe.
    check(&[Silent, Accepts, Accepts, Accepts], trust, Ok(())).await;
    check(&[Refuses, Accepts, Knows, Accepts], trust, Ok(())).await;
    check(&[Refuses, Accepts, Accepts, Refuses], trust, refused).await;
}

#[test]
fn quorums_are_those_of_fabrics_gateway() {
    let check = |orderers, needed| assert_eq!(Trust::bft(orderers), Trust::Quorum(needed));
    check(1, 1);
    check(4, 3);
    check(5, 4);
    check(6, 4);
    check(7, 5);
    check(10, 7);
}
