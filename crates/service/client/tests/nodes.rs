//! The client against nodes that answer as told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, future};
use selvage_client::{
    ClientError, Gateway, Invocation, Network, Orderer, Participation, Peer, PeerAdmin, User,
};
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_crypto::{KeyKind, PrivateKey};
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::axum::Router;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::services::deliver_server::{Deliver, DeliverServer};
use selvage_net::services::endorser_server::{Endorser, EndorserServer};
use selvage_net::services::gateway_server as gateway;
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Code, Request, Response, Status as GrpcStatus, Streaming};
use selvage_net::{CancellationToken, Endpoint};
use selvage_proto::common::{
    Block, BlockData, BlockHeader, BlockMetadataIndex, ChannelHeader, Envelope, Header, Payload,
    Status,
};
use selvage_proto::orderer::{BroadcastResponse, DeliverResponse, SeekInfo, seek_position};
use selvage_proto::peer::{
    self, ChaincodeAction, Endorsement, ProposalResponse, ProposalResponsePayload, SignedProposal,
    TxValidationCode,
};
use selvage_proto::{Any, Message};

fn user() -> User {
    let validity = Validity::ten_years(1_735_689_600);
    let subject = Subject::named("ca.example.com");
    let ca = Authority::new_root(&subject, validity).expect("an authority");
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let profile = LeafProfile::identity("user", NodeRole::Client, validity);
    let certificate = ca.issue(&profile, key.public_key()).expect("a certificate");
    let pem = certificate.to_pem();
    let identity = SigningIdentity::new("Org1MSP", pem.as_bytes(), key).expect("an identity");
    User::new(Arc::new(identity), &Env::test(7))
}

async fn serve(router: Router, http: bool) -> (Endpoint, CancellationToken) {
    let options = if http {
        ServerOptions::http(None)
    } else {
        ServerOptions::grpc(None)
    };
    let server = Server::bind("127.0.0.1:0", options).await.expect("a port");
    let address = server.local_addr().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(router, stop.clone()));
    (Endpoint::new(address, None), stop)
}

type Boxed<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, GrpcStatus>> + Send>>;

/// Accepts messages; refuses and hangs up at the one with the payload `bad`, and at every one when
/// it has not joined the channel, as Fabric's does.
struct FakeOrderer {
    joined: bool,
}

#[tonic::async_trait]
impl AtomicBroadcast for FakeOrderer {
    type BroadcastStream = Boxed<BroadcastResponse>;
    type DeliverStream = Boxed<DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, GrpcStatus> {
        let joined = self.joined;
        let answers = request.into_inner().scan(false, move |refused, message| {
            if *refused {
                return future::ready(None);
            }
            let bad = matches!(&message, Ok(m) if m.payload == "bad");
            *refused = bad || !joined || message.is_err();
            let (status, info) = if !joined {
                (Status::BadRequest, "channel does not exist")
            } else if bad {
                (Status::BadRequest, "it is bad")
            } else {
                (Status::Success, "")
            };
            future::ready(Some(message.map(|_| BroadcastResponse {
                status: status as i32,
                info: info.to_owned(),
            })))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, GrpcStatus> {
        Err(GrpcStatus::unimplemented("no blocks here"))
    }
}

fn message(payload: &'static str) -> Envelope {
    Envelope {
        payload: Bytes::from_static(payload.as_bytes()),
        signature: Bytes::from_static(b"signature"),
    }
}

#[tokio::test]
async fn broadcasts_share_a_stream_and_survive_a_refusal() {
    let routes = Routes::new(AtomicBroadcastServer::new(FakeOrderer { joined: true }));
    let (endpoint, stop) = serve(routes.into_axum_router(), false).await;
    let orderer = Orderer::new(&endpoint).expect("an endpoint");
    let many = (0..200).map(|_| orderer.broadcast(message("good")));
    for result in future::join_all(many).await {
        result.expect("good messages are acknowledged");
    }
    let error = orderer
        .broadcast(message("bad"))
        .await
        .expect_err("refused");
    match &error {
        ClientError::Broadcast { status, info, .. } => {
            assert_eq!((*status, info.as_str()), (Status::BadRequest, "it is bad"));
        }
        other => panic!("{other:?}"),
    }
    // The orderer hung up; a message may meet the end of the old stream once.
    let again = async {
        loop {
            match orderer.broadcast(message("good")).await {
                Ok(()) => return,
                Err(ClientError::Unconfirmed { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .expect("a new stream is opened");

    let stranger = Routes::new(AtomicBroadcastServer::new(FakeOrderer { joined: false }));
    let (stranger, stop_stranger) = serve(stranger.into_axum_router(), false).await;
    let network = Network {
        channel_id: "ch".to_owned(),
        endorsers: Vec::new(),
        orderers: vec![
            Orderer::new(&Endpoint::new("127.0.0.1:1", None)).expect("an endpoint"),
            Orderer::new(&stranger).expect("an endpoint"),
            orderer.clone(),
        ],
    };
    network
        .order(message("good"))
        .await
        .expect("the third orderer takes it");
    stop_stranger.cancel();
    let refused = network.order(message("bad")).await.expect_err("refused");
    assert!(
        matches!(refused, ClientError::Broadcast { .. }),
        "{refused:?}"
    );
    stop.cancel();
}

/// Endorses everything: functions starting with `!` are refused, `?` gives every peer its own
/// result.
struct FakePeer(&'static str);

fn function(signed: &SignedProposal) -> String {
    let proposal = peer::Proposal::decode(signed.proposal_bytes.clone()).expect("a proposal");
    let payload = peer::ChaincodeProposalPayload::decode(proposal.payload).expect("a payload");
    let spec = peer::ChaincodeInvocationSpec::decode(payload.input).expect("a call");
    let spec = spec.chaincode_spec.expect("a call");
    let args = spec.input.expect("arguments").args;
    String::from_utf8(args[0].to_vec()).expect("text")
}

fn endorse(name: &str, signed: &SignedProposal) -> ProposalResponse {
    let function = function(signed);
    let (status, text) = match function.chars().next() {
        Some('!') => (500, "it is not allowed".to_owned()),
        Some('?') => (200, name.to_owned()),
        _ => (200, function),
    };
    let response = peer::Response {
        status,
        message: if status == 200 {
            String::new()
        } else {
            text.clone()
        },
        payload: text.into(),
    };
    let action = ChaincodeAction {
        response: Some(response.clone()),
        ..Default::default()
    };
    let payload = ProposalResponsePayload {
        proposal_hash: Bytes::new(),
        extension: action.encode_to_vec().into(),
    };
    ProposalResponse {
        version: 1,
        response: Some(response),
        payload: payload.encode_to_vec().into(),
        endorsement: Some(Endorsement {
            endorser: Bytes::copy_from_slice(name.as_bytes()),
            signature: Bytes::new(),
        }),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Endorser for FakePeer {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, GrpcStatus> {
        Ok(Response::new(endorse(self.0, request.get_ref())))
    }
}

async fn fake_peer(name: &'static str) -> (Peer, CancellationToken) {
    let routes = Routes::new(EndorserServer::new(FakePeer(name)));
    let (endpoint, stop) = serve(routes.into_axum_router(), false).await;
    (Peer::new(&endpoint).expect("an endpoint"), stop)
}

#[tokio::test]
async fn endorsements_have_to_agree() {
    let (first, stop_first) = fake_peer("first").await;
    let (second, stop_second) = fake_peer("second").await;
    let user = user();
    let peers = [first.clone(), second.clone(), first.clone()];
    let propose =
        |function| selvage_client::Proposal::new(&user, "ch", Invocation::new("cc", function));

    let proposal = propose("same");
    let answers = selvage_client::endorse(&proposal, &peers)
        .await
        .expect("endorsed");
    let envelope = proposal.assemble(&user, &answers).expect("they agree");
    let result = selvage_client::transaction_result(&envelope).expect("a result");
    assert_eq!(result.payload, "same");
    let payload = Payload::decode(envelope.payload).expect("a payload");
    let transaction = peer::Transaction::decode(payload.data).expect("a transaction");
    let action = peer::ChaincodeActionPayload::decode(transaction.actions[0].payload.clone());
    let action = action.expect("an action").action.expect("endorsements");
    assert_eq!(action.endorsements.len(), 2, "an endorser counts once");

    let proposal = propose("?");
    let answers = selvage_client::endorse(&proposal, &peers)
        .await
        .expect("endorsed");
    let error = proposal.assemble(&user, &answers).expect_err("they differ");
    assert!(matches!(error, ClientError::Mismatch { .. }), "{error:?}");

    let error = selvage_client::endorse(&propose("!"), &peers)
        .await
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .ends_with("answered 500: it is not allowed"),
        "{error}"
    );
    let nobody: [(String, ProposalResponse); 0] = [];
    let error = proposal.assemble(&user, &nobody).expect_err("nobody");
    assert!(
        error.to_string().contains("at least one proposal response"),
        "{error}"
    );

    let admin = PeerAdmin::new(first, user);
    let error = admin.channels().await.expect_err("no channel list");
    assert!(matches!(error, ClientError::Answer { .. }), "{error:?}");
    stop_first.cancel();
    stop_second.cancel();
}

/// Fails every endorsement with details, as a gateway does.
struct FakeGateway;

fn failure() -> GrpcStatus {
    let detail = selvage_proto::gateway::ErrorDetail {
        address: "peer1:7051".to_owned(),
        msp_id: "Org2MSP".to_owned(),
        message: "chaincode response 500, no such asset".to_owned(),
    };
    let status = selvage_proto::google::rpc::Status {
        code: Code::Aborted as i32,
        message: "failed to endorse".to_owned(),
        details: vec![Any {
            type_url: "type.googleapis.com/gateway.ErrorDetail".to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    GrpcStatus::with_details(
        Code::Aborted,
        "failed to endorse",
        status.encode_to_vec().into(),
    )
}

#[tonic::async_trait]
impl gateway::Gateway for FakeGateway {
    type ChaincodeEventsStream = Boxed<selvage_proto::gateway::ChaincodeEventsResponse>;

    async fn endorse(
        &self,
        _: Request<selvage_proto::gateway::EndorseRequest>,
    ) -> Result<Response<selvage_proto::gateway::EndorseResponse>, GrpcStatus> {
        Err(failure())
    }

    async fn submit(
        &self,
        _: Request<selvage_proto::gateway::SubmitRequest>,
    ) -> Result<Response<selvage_proto::gateway::SubmitResponse>, GrpcStatus> {
        Err(failure())
    }

    async fn commit_status(
        &self,
        _: Request<selvage_proto::gateway::SignedCommitStatusRequest>,
    ) -> Result<Response<selvage_proto::gateway::CommitStatusResponse>, GrpcStatus> {
        future::pending().await
    }

    async fn evaluate(
        &self,
        request: Request<selvage_proto::gateway::EvaluateRequest>,
    ) -> Result<Response<selvage_proto::gateway::EvaluateResponse>, GrpcStatus> {
        let signed = request
            .into_inner()
            .proposed_transaction
            .expect("a proposal");
        Ok(Response::new(selvage_proto::gateway::EvaluateResponse {
            result: endorse("peer", &signed).response,
        }))
    }

    async fn chaincode_events(
        &self,
        _: Request<selvage_proto::gateway::SignedChaincodeEventsRequest>,
    ) -> Result<Response<Self::ChaincodeEventsStream>, GrpcStatus> {
        let event = |tx_id: &str| peer::ChaincodeEvent {
            tx_id: tx_id.to_owned(),
            ..Default::default()
        };
        let answer = |block_number, events| selvage_proto::gateway::ChaincodeEventsResponse {
            block_number,
            events,
        };
        let answers = [
            Ok(answer(4, vec![event("a"), event("b")])),
            Ok(answer(5, Vec::new())),
            Ok(answer(6, vec![event("c")])),
            Err(GrpcStatus::unavailable("gone")),
        ];
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }
}

#[tokio::test]
async fn the_gateway_tells_what_single_peers_said() {
    let routes = Routes::new(gateway::GatewayServer::new(FakeGateway));
    let (endpoint, stop) = serve(routes.into_axum_router(), false).await;
    let peer = Peer::new(&endpoint).expect("an endpoint");
    let mut gateway = Gateway::new(peer, user(), "ch");
    gateway.commit_timeout = Duration::from_millis(50);
    let call = Invocation::new("cc", "read").args(["one"]);

    let value = gateway.evaluate(&call, &[]).await.expect("evaluated");
    assert_eq!(value, "read");
    let error = gateway
        .submit_transaction(&call)
        .await
        .expect_err("refused");
    let failure = error.failure().expect("a gRPC failure");
    assert_eq!(failure.code, Code::Aborted);
    assert_eq!(failure.details[0].msp_id, "Org2MSP");
    assert!(
        error
            .text()
            .ends_with("peer1:7051 (Org2MSP): chaincode response 500, no such asset"),
        "{}",
        error.text()
    );
    let error = gateway
        .commit_status("tx")
        .await
        .expect_err("it never commits");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");

    let events = gateway.chaincode_events("cc", &Default::default()).await;
    let events: Vec<_> = events.expect("a stream").collect().await;
    let seen: Vec<(u64, String)> = events
        .iter()
        .filter_map(|e| e.as_ref().ok())
        .map(|e| (e.block, e.event.tx_id.clone()))
        .collect();
    let expected = [(4, "a"), (4, "b"), (6, "c")].map(|(b, t)| (b, t.to_owned()));
    assert_eq!(seen, expected);
    assert!(events.last().expect("the end").is_err());
    assert_eq!(events.len(), 4, "nothing after the error");
    stop.cancel();
}

/// Hands out blocks of one transaction each. Its block 4 cannot be filtered; then, as told, it goes
/// on with the stream or hangs up.
#[derive(Clone, Copy)]
struct FakeBlocks {
    newest: u64,
    hangs_up: bool,
}

const UNFILTERABLE: u64 = 4;
const LAST: u64 = 6;

fn tx_of(number: u64) -> String {
    format!("tx{number}")
}

fn whole_block(number: u64) -> Block {
    let channel = ChannelHeader {
        tx_id: tx_of(number),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel.encode_to_vec().into(),
            ..Default::default()
        }),
        // No transaction: it cannot be decoded.
        data: Bytes::from_static(b"\xff"),
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        ..Default::default()
    };
    let mut block = Block {
        header: Some(BlockHeader {
            number,
            ..Default::default()
        }),
        data: Some(BlockData {
            data: vec![Bytes::from_static(b"\xff"), envelope.encode_to_vec().into()],
        }),
        ..Default::default()
    };
    let codes = [TxValidationCode::BadPayload, TxValidationCode::Valid].map(|c| c as u8);
    block.set_metadata_slot(BlockMetadataIndex::TransactionsFilter, codes.to_vec());
    block
}

impl FakeBlocks {
    async fn answer(
        self,
        request: Request<Streaming<Envelope>>,
        filtered: bool,
    ) -> Result<Response<Boxed<peer::DeliverResponse>>, GrpcStatus> {
        use peer::deliver_response::Type;
        let envelope = request.into_inner().message().await?.unwrap_or_default();
        let payload = Payload::decode(envelope.payload).expect("a payload");
        let header = payload.header.expect("a header");
        let channel = ChannelHeader::decode(header.channel_header).expect("a channel header");
        let seek = SeekInfo::decode(payload.data).expect("a seek");
        let respond = |answer| {
            Ok(peer::DeliverResponse {
                r#type: Some(answer),
            })
        };
        if channel.channel_id != "ch" {
            let refused = respond(Type::Status(Status::BadRequest as i32));
            return Ok(Response::new(Box::pin(futures::stream::iter([refused]))));
        }
        let start = match seek.start.and_then(|s| s.r#type) {
            Some(seek_position::Type::Specified(at)) => at.number,
            _ => self.newest,
        };
        let answers = (start..=LAST).map(move |number| match (filtered, number) {
            (true, UNFILTERABLE) => respond(Type::Status(Status::BadRequest as i32)),
            (true, number) => respond(Type::FilteredBlock(peer::FilteredBlock {
                number,
                filtered_transactions: vec![peer::FilteredTransaction {
                    txid: tx_of(number),
                    tx_validation_code: TxValidationCode::Valid as i32,
                    ..Default::default()
                }],
                ..Default::default()
            })),
            (false, number) => respond(Type::Block(whole_block(number))),
        });
        let until = match filtered && self.hangs_up && start <= UNFILTERABLE {
            true => UNFILTERABLE - start + 1,
            false => LAST - start + 1,
        };
        let answers = futures::stream::iter(answers).take(until as usize);
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl Deliver for FakeBlocks {
    type DeliverStream = Boxed<peer::DeliverResponse>;
    type DeliverFilteredStream = Boxed<peer::DeliverResponse>;
    type DeliverWithPrivateDataStream = Boxed<peer::DeliverResponse>;

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, GrpcStatus> {
        self.answer(request, false).await
    }

    async fn deliver_filtered(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverFilteredStream>, GrpcStatus> {
        self.answer(request, true).await
    }

    async fn deliver_with_private_data(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverWithPrivateDataStream>, GrpcStatus> {
        Err(GrpcStatus::unimplemented("no private data here"))
    }
}

#[tokio::test]
async fn a_watch_goes_on_behind_a_block_that_cannot_be_filtered() {
    let user = user();
    // The block in question comes later, or is the newest when the watch begins.
    for newest in [3, UNFILTERABLE] {
        for hangs_up in [false, true] {
            let routes = Routes::new(DeliverServer::new(FakeBlocks { newest, hangs_up }));
            let (endpoint, stop) = serve(routes.into_axum_router(), false).await;
            let peer = Peer::new(&endpoint).expect("an endpoint");
            let mut watch = peer.watch_commits(&user, "ch").await.expect("a stream");
            for number in newest..=LAST {
                let status = watch.commit(&tx_of(number)).await.expect("committed");
                assert_eq!(
                    (status.block, status.code),
                    (number, TxValidationCode::Valid)
                );
            }
            // Block by block, and what has no id is left out.
            let mut watch = peer.watch_commits(&user, "ch").await.expect("a stream");
            for number in newest..=LAST {
                let ended = watch.commits().await.expect("a block");
                let ids: Vec<String> = ended.into_iter().map(|(id, _)| id).collect();
                assert_eq!(ids, [tx_of(number)]);
            }
            // A request that is bad is still refused.
            let mut watch = peer.watch_commits(&user, "other").await.expect("a stream");
            let error = watch.commits().await.expect_err("refused");
            assert!(error.text().contains("BAD_REQUEST"), "{error}");
            stop.cancel();
        }
    }
}

#[tokio::test]
async fn participation_speaks_its_rest_api() {
    use selvage_net::http::{WholeRequest, empty, form_parts, json, json_error};
    use selvage_net::tonic::codegen::http::{Method, StatusCode};

    async fn answer(request: WholeRequest) -> selvage_net::tonic::codegen::http::Response<Bytes> {
        let channel = serde_json::json!({
            "name": "ch", "url": "/participation/v1/channels/ch",
            "consensusRelation": "consenter", "status": "active", "height": 1,
        });
        let path = request.uri().path().to_owned();
        match (request.method().clone(), path.as_str()) {
            (Method::GET, "/participation/v1/channels") => json(
                StatusCode::OK,
                &serde_json::json!({"systemChannel": null, "channels": null}),
            ),
            (Method::GET, "/participation/v1/channels/ch") => json(StatusCode::OK, &channel),
            (Method::POST, "/participation/v1/channels") => match form_parts(request).await {
                Ok(parts) if parts[0].name == "config-block" && parts[0].is_file => {
                    assert_eq!(parts[0].content, Bytes::from_static(b"\x0a\x02\x08\x07"));
                    json(StatusCode::CREATED, &channel)
                }
                _ => json_error(StatusCode::BAD_REQUEST, "no block"),
            },
            (Method::DELETE, "/participation/v1/channels/ch") => empty(StatusCode::NO_CONTENT),
            _ => json_error(StatusCode::NOT_FOUND, "channel does not exist"),
        }
    }

    let router = selvage_net::http::endpoint(1 << 20, answer);
    let (endpoint, stop) = serve(router, true).await;
    let orderer = Participation::new(&endpoint).expect("an endpoint");
    assert_eq!(orderer.list().await.expect("a list"), []);
    assert_eq!(orderer.channel("ch").await.expect("the channel").height, 1);
    let error = orderer.channel("other").await.expect_err("unknown");
    match error {
        ClientError::Http {
            status, message, ..
        } => {
            assert_eq!((status, message.as_str()), (404, "channel does not exist"));
        }
        other => panic!("{other:?}"),
    }
    let block = Block {
        header: Some(BlockHeader {
            number: 7,
            ..Default::default()
        }),
        ..Default::default()
    };
    let env = Env::test(1);
    let state = orderer
        .join(&block, env.rng.as_ref())
        .await
        .expect("joined");
    assert_eq!(state.consensus_relation, "consenter");
    orderer.remove("ch").await.expect("removed");
    stop.cancel();

    let nobody = Participation::new(&Endpoint::new("127.0.0.1:1", None)).expect("an endpoint");
    let error = nobody.list().await.expect_err("nobody listens");
    assert!(
        matches!(error, ClientError::Http { status: 503, .. }),
        "{error:?}"
    );
}
