//! What the gateway refuses, and what it makes of nodes that refuse or do not answer: Fabric's codes
//! and words.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use selvage_channel::{CONSENSUS_BFT, ChannelConfig};
use selvage_net::CancellationToken;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::services::gateway_server::Gateway as GatewayApi;
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{Code, Request, Response, Status, Streaming};
use selvage_proto::common::{ChannelHeader, Envelope, Header, OrdererAddresses};
use selvage_proto::common::{Status as Said, Status::BadRequest, Status::Forbidden};
use selvage_proto::gateway::{
    CommitStatusRequest, EndorseRequest, ErrorDetail, EvaluateRequest,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest,
};
use selvage_proto::orderer::{BroadcastResponse, ConsensusType, DeliverResponse};
use selvage_proto::peer::{
    ChaincodeInvocationSpec, ChaincodeProposalPayload, Proposal, SignedProposal,
};

use super::client::{Ask, args, identity, propose_with};
use super::gateway::{Net, details, net_with};
use super::peer::block;
use crate::channels::CommittedBlock;

/// Longer than any test: nobody is given up on.
const PATIENT: Duration = Duration::from_secs(60);

/// Nobody who never answers is waited for longer.
const SHORT: Duration = Duration::from_millis(200);

/// Expects an error of this code whose text is, or begins as, the one given.
#[track_caller]
fn said<T>(what: &str, answer: Result<T, Status>, code: Code, text: &str) -> Status {
    let status = answer.err().unwrap_or_else(|| panic!("{what}: no error"));
    assert_eq!(status.code(), code, "{what}: {status}");
    let message = status.message();
    match text.strip_suffix('…') {
        Some(start) => assert!(message.starts_with(start), "{what}: {message}"),
        None => assert_eq!(message, text, "{what}"),
    }
    status
}

/// A proposal with another header or another invocation. Its signature fits no longer, which only
/// peers look at.
fn changed(
    signed: &SignedProposal,
    change: impl FnOnce(&mut ChannelHeader, &mut ChaincodeInvocationSpec),
) -> SignedProposal {
    let mut proposal = Proposal::decode(signed.proposal_bytes.clone()).unwrap();
    let mut header = Header::decode(proposal.header).unwrap();
    let mut channel = ChannelHeader::decode(header.channel_header).unwrap();
    let mut payload = ChaincodeProposalPayload::decode(proposal.payload).unwrap();
    let mut invocation = ChaincodeInvocationSpec::decode(payload.input).unwrap();
    change(&mut channel, &mut invocation);
    payload.input = invocation.encode_to_vec().into();
    header.channel_header = channel.encode_to_vec().into();
    proposal.header = header.encode_to_vec().into();
    proposal.payload = payload.encode_to_vec().into();
    SignedProposal {
        proposal_bytes: proposal.encode_to_vec().into(),
        ..signed.clone()
    }
}

/// Proposals that nobody can read, from the outermost layer inwards, and what Fabric says of them.
fn unreadable(good: &SignedProposal) -> Vec<(&'static str, SignedProposal)> {
    let garbage = Bytes::from_static(b"\xff");
    let proposal = Proposal::decode(good.proposal_bytes.clone()).unwrap();
    let header = Header::decode(proposal.header.clone()).unwrap();
    let sealed = |proposal: Proposal| SignedProposal {
        proposal_bytes: proposal.encode_to_vec().into(),
        ..good.clone()
    };
    let outer = SignedProposal {
        proposal_bytes: garbage.clone(),
        ..good.clone()
    };
    let headless = Proposal {
        header: garbage.clone(),
        ..proposal.clone()
    };
    let no_channel = Proposal {
        header: Header {
            channel_header: garbage.clone(),
            ..header
        }
        .encode_to_vec()
        .into(),
        ..proposal.clone()
    };
    let no_payload = Proposal {
        payload: garbage.clone(),
        ..proposal.clone()
    };
    let no_input = Proposal {
        payload: ChaincodeProposalPayload {
            input: garbage,
            ..Default::default()
        }
        .encode_to_vec()
        .into(),
        ..proposal
    };
    vec![
        ("Proposal", outer),
        ("Header", sealed(headless)),
        ("ChannelHeader", sealed(no_channel)),
        ("ChaincodeProposalPayload", sealed(no_payload)),
        ("ChaincodeInvocationSpec", sealed(no_input)),
    ]
}

impl Net {
    async fn evaluating(&self, signed: SignedProposal, orgs: &[&str]) -> Result<(), Status> {
        let request = EvaluateRequest {
            proposed_transaction: Some(signed),
            target_organizations: orgs.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        let answer = self.gateway.evaluate(Request::new(request)).await;
        answer.map(|_| ())
    }

    async fn endorsing(&self, signed: SignedProposal, orgs: &[&str]) -> Result<(), Status> {
        let request = EndorseRequest {
            proposed_transaction: Some(signed),
            endorsing_organizations: orgs.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        let answer = self.gateway.endorse(Request::new(request)).await;
        answer.map(|_| ())
    }

    /// A call with something in its transient map.
    fn secret(&self, chaincode: &str) -> SignedProposal {
        let user = identity(&self.corpus, "org1", "users", "User1");
        let ask = Ask {
            channel: "goldchannel",
            chaincode,
            args: args(&["get", "a"]),
            time: 1_795_376_000_000_000_000,
        };
        let signed = propose_with(&user, &ask, Some("secret"));
        self.both_at(&signed);
        signed
    }

    /// Submits the recorded transaction.
    async fn submitting(&self) -> Result<(), Status> {
        let request: SubmitRequest = self.recorded("submit-request.bin");
        let answer = self.gateway.submit(Request::new(request)).await;
        answer.map(|_| ())
    }

    /// Puts a configuration into force without a block that carries it.
    fn reconfigure(&self, config: ChannelConfig) {
        let channel = self.org1.channel();
        let number = channel.height() - 1;
        let announced = CommittedBlock {
            number,
            transactions: Vec::new(),
            redefined: Vec::new(),
            reconfigured: true,
        };
        let newest = block(&self.corpus, number);
        channel.committed(newest, announced, Some(Arc::new(config)), false);
    }
}

#[tokio::test]
async fn proposals_that_are_incomplete() {
    let Some(corpus) = super::corpus("golden gateway arguments") else {
        return;
    };
    let net = net_with(&corpus, Vec::new(), PATIENT).await;
    let good = net.ask("gold", &["get", "a"]);
    let invalid = Code::InvalidArgument;
    let unpack = |text: &str| format!("failed to unpack transaction proposal: {text}");
    let nothing = net.evaluating(SignedProposal::default(), &[]).await;
    let text = unpack("a signed proposal is required");
    said("no proposal to evaluate", nothing, invalid, &text);
    for (what, signed) in unreadable(&good) {
        let text = format!("error unmarshalling {what}: proto: …");
        let answer = net.evaluating(signed.clone(), &[]).await;
        said(what, answer, invalid, &unpack(&text));
        said(what, net.endorsing(signed, &[]).await, invalid, &text);
    }

    type Change = fn(&mut ChannelHeader, &mut ChaincodeInvocationSpec);
    let changes: [(&str, Change); 4] = [
        ("no channel id provided", |channel, _| {
            channel.channel_id.clear()
        }),
        (
            "no chaincode spec is provided, channel id [goldchannel]",
            |_, invocation| invocation.chaincode_spec = None,
        ),
        (
            "no chaincode id is provided, channel id [goldchannel]",
            |_, invocation| invocation.chaincode_spec.as_mut().unwrap().chaincode_id = None,
        ),
        (
            "no chaincode name is provided, channel id [goldchannel]",
            |_, invocation| {
                let spec = invocation.chaincode_spec.as_mut().unwrap();
                spec.chaincode_id.as_mut().unwrap().name.clear();
            },
        ),
    ];
    for (text, change) in changes {
        let answer = net.evaluating(changed(&good, change), &[]).await;
        said(text, answer, invalid, &unpack(text));
    }
    // The channel comes first where both are missing.
    let neither = changed(&good, |channel, invocation| {
        channel.channel_id.clear();
        invocation.chaincode_spec = None;
    });
    let answer = net.evaluating(neither, &[]).await;
    said(
        "neither",
        answer,
        invalid,
        &unpack("no channel id provided"),
    );
}

#[tokio::test]
async fn names_that_nobody_knows() {
    let Some(corpus) = super::corpus("golden gateway plans") else {
        return;
    };
    let net = net_with(&corpus, Vec::new(), PATIENT).await;
    let failed = Code::FailedPrecondition;
    let good = net.ask("gold", &["get", "a"]);
    let ghost = net.ask("ghost", &["get", "a"]);
    let elsewhere = changed(&good, |channel, _| {
        channel.channel_id = "nowhere".to_owned()
    });

    let nobody = "no peers available to evaluate chaincode";
    let answer = net.evaluating(good, &["Org9MSP"]).await;
    let text = format!("{nobody} gold in channel goldchannel");
    said("an unknown organisation", answer, failed, &text);
    let answer = net.evaluating(net.secret("ghost"), &[]).await;
    let text = format!(
        "no endorsers found in the gateway's organization; retry specifying target \
         organization(s) to protect transient data: {nobody} ghost in channel goldchannel"
    );
    said("a secret for nobody to read", answer, failed, &text);
    // Whoever names the organisations protects the secret himself.
    let answer = net.evaluating(net.secret("ghost"), &["Org1MSP"]).await;
    let text = format!("{nobody} ghost in channel goldchannel");
    said("a secret for one organisation", answer, failed, &text);
    let answer = net.evaluating(elsewhere.clone(), &[]).await;
    let text = "failed to get config for channel [nowhere]: could not get last config for channel \
                nowhere";
    said("an unknown channel", answer, Code::Unavailable, text);

    let answer = net.endorsing(net.secret("ghost"), &[]).await;
    let text = "no endorsers found in the gateway's organization; retry specifying endorsing \
                organization(s) to protect transient data";
    said("a secret for nobody to endorse", answer, failed, text);
    let unplanned = "no combination of peers can be derived which satisfy the endorsement policy: \
                     No metadata was found for chaincode";
    for (what, signed, who) in [
        (
            "an unknown chaincode",
            ghost,
            "ghost in channel goldchannel",
        ),
        (
            "in an unknown channel",
            elsewhere,
            "gold in channel nowhere",
        ),
    ] {
        let text = format!("{unplanned} {who}");
        said(what, net.endorsing(signed, &[]).await, failed, &text);
    }
}

#[tokio::test]
async fn peers_that_do_not_answer() {
    let Some(corpus) = super::corpus("golden gateway without peers") else {
        return;
    };
    let net = net_with(&corpus, Vec::new(), SHORT).await;
    let text = "failed to evaluate transaction, see attached details for more info";
    let hanging = net.ask("gold", &["hang"]);
    let answer = net.evaluating(hanging, &["Org2MSP"]).await;
    let status = said("a peer that hangs", answer, Code::Unavailable, text);
    let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    let detail = &details(&status)[0];
    assert_eq!(
        (detail.msp_id.as_str(), detail.message.as_str()),
        ("Org2MSP", late)
    );

    net.stop.cancel();
    let gone = "rpc error: code = Unavailable desc = ";
    loop {
        // The connection may live a moment longer than the server.
        let good = net.ask("gold", &["get", "a"]);
        let answer = net.evaluating(good, &["Org2MSP"]).await;
        let status = match answer {
            Ok(()) => continue,
            status => said("a peer that is gone", status, Code::Unavailable, text),
        };
        let detail = &details(&status)[0];
        assert_eq!(detail.msp_id, "Org2MSP");
        if detail.message.starts_with(gone) {
            return;
        }
        assert_eq!(
            detail.message, late,
            "a call that the server was stopped in"
        );
    }
}

/// Asks for an answer within a moment, with the header that gRPC has for it.
fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(SHORT);
    request
}

#[tokio::test]
async fn answers_that_come_too_late() {
    let Some(corpus) = super::corpus("golden gateway deadlines") else {
        return;
    };
    let silent = orderer(Arc::default()).await;
    let net = net_with(&corpus, vec![silent], PATIENT).await;
    let late = Code::DeadlineExceeded;
    let evaluate = EvaluateRequest {
        proposed_transaction: Some(net.ask("gold", &["hang"])),
        ..Default::default()
    };
    let answer = net.gateway.evaluate(soon(evaluate)).await;
    said("evaluate", answer, late, "evaluate timeout expired");
    let mut endorse = EndorseRequest {
        proposed_transaction: Some(net.ask("gold", &["hang"])),
        ..Default::default()
    };
    let answer = net.gateway.endorse(soon(endorse.clone())).await;
    let text = "endorsement timeout expired while collecting first endorsement";
    said("the first endorsement", answer, late, text);
    endorse.endorsing_organizations.push("Org2MSP".to_owned());
    let answer = net.gateway.endorse(soon(endorse)).await;
    let text = "endorsement timeout expired while collecting endorsements";
    said("an endorsement", answer, late, text);
    let submit: SubmitRequest = net.recorded("submit-request.bin");
    let answer = net.gateway.submit(soon(submit)).await;
    let text = "submit timeout expired while broadcasting to ordering service";
    said("submit", answer, late, text);
    let waiting: SignedCommitStatusRequest = net.recorded("commit-status-request.bin");
    let answer = net.gateway.commit_status(soon(waiting)).await;
    said("commit status", answer, late, "context deadline exceeded");
}

#[tokio::test]
async fn questions_for_a_commit_that_are_refused() {
    let Some(corpus) = super::corpus("golden commit status refusals") else {
        return;
    };
    let net = net_with(&corpus, Vec::new(), PATIENT).await;
    let recorded: SignedCommitStatusRequest = net.recorded("commit-status-request.bin");
    let good = CommitStatusRequest::decode(recorded.request.clone()).unwrap();
    let user = identity(&corpus, "org1", "users", "User1");
    let ask = async |bytes: Bytes, signature: Option<Bytes>| {
        let request = SignedCommitStatusRequest {
            signature: signature.unwrap_or_else(|| user.sign(&bytes).into()),
            request: bytes,
        };
        net.gateway.commit_status(Request::new(request)).await
    };
    let invalid = Code::InvalidArgument;
    let answer = ask(Bytes::new(), None).await;
    said(
        "nothing",
        answer,
        invalid,
        "a commit status request is required",
    );
    let answer = ask(Bytes::from_static(b"\xff"), None).await;
    said(
        "garbage",
        answer,
        invalid,
        "invalid status request: proto: …",
    );

    type Change = fn(&mut CommitStatusRequest);
    let changes: [(&str, Change); 4] = [
        ("no identity provided", |r| r.identity = Bytes::new()),
        ("no channel ID provided", |r| r.channel_id.clear()),
        ("transaction ID should not be empty", |r| {
            r.transaction_id.clear()
        }),
        // Of several, the first in this order.
        ("no identity provided", |r| {
            *r = CommitStatusRequest {
                transaction_id: "x".to_owned(),
                ..Default::default()
            }
        }),
    ];
    for (text, change) in changes {
        let mut request = good.clone();
        change(&mut request);
        let answer = ask(request.encode_to_vec().into(), None).await;
        said(text, answer, invalid, text);
    }

    let denied = Code::PermissionDenied;
    let other = user.sign(b"something else").into();
    let answer = ask(recorded.request, Some(other)).await;
    let text = "Failed evaluating policy on signed data during check policy on channel \
                [goldchannel] with policy [/Channel/Application/Readers]: [implicit policy \
                evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of \
                the 'Readers' sub-policies to be satisfied]";
    said("a forged signature", answer, denied, text);
    let elsewhere = CommitStatusRequest {
        channel_id: "nowhere".to_owned(),
        ..good
    };
    let answer = ask(elsewhere.encode_to_vec().into(), None).await;
    let text = "Failed to get policy manager for channel [nowhere]";
    said("an unknown channel", answer, denied, text);
}

#[tokio::test]
async fn requests_for_events_that_are_refused() {
    let Some(corpus) = super::corpus("golden event refusals") else {
        return;
    };
    let net = net_with(&corpus, Vec::new(), PATIENT).await;
    let check = async |request: &'static [u8], code: Code, text: &str| {
        let request = SignedChaincodeEventsRequest {
            request: Bytes::from_static(request),
            signature: Bytes::from_static(b"x"),
        };
        let answer = net.gateway.chaincode_events(Request::new(request)).await;
        said(text, answer, code, text);
    };
    let text = "a chaincode events request is required";
    check(b"", Code::InvalidArgument, text).await;
    let text = "invalid chaincode events request: proto: …";
    check(b"\xff", Code::InvalidArgument, text).await;
    let text = "Invalid channel ID name during check policy on signed data. Name must be different \
                from nil.";
    // A chaincode id and nothing else.
    check(b"\x1a\x01x", Code::PermissionDenied, text).await;
    let text = "Failed to get policy manager for channel [x]";
    check(b"\x0a\x01x", Code::PermissionDenied, text).await;
}

/// What an orderer says to every message; nothing at all until it is told what.
type Line = Arc<Mutex<Option<BroadcastResponse>>>;

/// An orderer that orders nothing.
struct Refusing(Line);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[selvage_net::tonic::async_trait]
impl AtomicBroadcast for Refusing {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let line = self.0.clone();
        let answers = request.into_inner().then(move |message| {
            let line = line.lock().clone();
            async move {
                message?;
                match line {
                    Some(line) => Ok(line),
                    None => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        Err(Status::unimplemented("it has no blocks"))
    }
}

/// Starts one; gives its address.
async fn orderer(line: Line) -> String {
    let options = ServerOptions::grpc(None);
    let server = Server::bind("127.0.0.1:0", options).await.unwrap();
    let address = server.local_addr().to_string();
    let service = AtomicBroadcastServer::new(Refusing(line));
    let router = Routes::new(service).into_axum_router();
    tokio::spawn(server.serve(router, CancellationToken::new()));
    address
}

/// Four orderers, their addresses, and a network that knows them.
async fn with_orderers(corpus: &Path, patience: Duration) -> (Net, Vec<Line>, Vec<String>) {
    let lines: Vec<Line> = (0..4).map(|_| Line::default()).collect();
    let mut addresses = Vec::new();
    for line in &lines {
        addresses.push(orderer(line.clone()).await);
    }
    let net = net_with(corpus, addresses.clone(), patience).await;
    (net, lines, addresses)
}

fn tell(lines: &[Line], status: i32, info: &str) {
    for line in lines {
        *line.lock() = Some(BroadcastResponse {
            status,
            info: info.to_owned(),
        });
    }
}

#[tokio::test]
async fn orderers_that_refuse() {
    let Some(corpus) = super::corpus("golden gateway with refusing orderers") else {
        return;
    };
    let (net, lines, mut addresses) = with_orderers(&corpus, PATIENT).await;
    let unsuccessful = |status: &str, info: &str| {
        format!("received unsuccessful response from orderer: status={status}, info={info}")
    };
    // What the client did wrong is wrong with the next orderer too.
    for (status, name) in [
        (BadRequest as i32, "BAD_REQUEST"),
        (Forbidden as i32, "FORBIDDEN"),
        (
            Said::RequestEntityTooLarge as i32,
            "REQUEST_ENTITY_TOO_LARGE",
        ),
        (499, ""),
    ] {
        tell(&lines, status, "why");
        let answer = net.submitting().await;
        let text = unsuccessful(name, "why");
        let refused = said(name, answer, Code::Aborted, &text);
        assert!(refused.details().is_empty(), "{name}");
    }
    addresses.sort();
    let text = "no orderers could successfully process transaction";
    for (status, name, info) in [
        (
            Said::ServiceUnavailable as i32,
            "SERVICE_UNAVAILABLE",
            "no Raft leader",
        ),
        (
            Said::InternalServerError as i32,
            "INTERNAL_SERVER_ERROR",
            "disk",
        ),
        // An orderer that has yet to join differs from the others.
        (BadRequest as i32, "BAD_REQUEST", "channel does not exist"),
    ] {
        tell(&lines, status, info);
        let answer = net.submitting().await;
        let refused = said(name, answer, Code::Unavailable, text);
        let mut details = of_orderers(&refused, &addresses);
        details.sort_by(|a, b| a.address.cmp(&b.address));
        let asked: Vec<&String> = details.iter().map(|d| &d.address).collect();
        assert_eq!(asked, addresses.iter().collect::<Vec<_>>(), "{name}");
        for detail in &details {
            assert_eq!(detail.message, unsuccessful(name, info));
        }
    }
    // One that takes it is enough.
    tell(&lines[2..3], Said::Success as i32, "");
    net.submitting().await.unwrap();
}

/// What these orderers said. What the gateway itself adds is advice, once.
fn of_orderers(refused: &Status, addresses: &[String]) -> Vec<ErrorDetail> {
    let details = details(refused).into_iter();
    let (theirs, own): (Vec<_>, Vec<_>) = details.partition(|d| addresses.contains(&d.address));
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].message.contains("no orderer took"), "{own:?}");
    theirs
}

/// The recorded configuration with another consensus and other orderers.
fn bft(config: &ChannelConfig, addresses: &[String]) -> ChannelConfig {
    let mut config = config.config().clone();
    config.sequence += 1;
    let root = config.channel_group.as_mut().unwrap();
    root.values.remove("OrdererAddresses");
    let orderer = root.groups.get_mut("Orderer").unwrap();
    let consensus = orderer.values.get_mut("ConsensusType").unwrap();
    let mut kind = ConsensusType::decode(consensus.value.clone()).unwrap();
    kind.r#type = CONSENSUS_BFT.to_owned();
    consensus.value = kind.encode_to_vec().into();
    let endpoints = OrdererAddresses {
        addresses: addresses.to_vec(),
    };
    for org in orderer.groups.values_mut() {
        let value = org.values.get_mut("Endpoints").unwrap();
        value.value = endpoints.encode_to_vec().into();
    }
    ChannelConfig::new("goldchannel", config).unwrap()
}

#[tokio::test]
async fn orderers_of_a_bft_cluster_that_refuse() {
    let Some(corpus) = super::corpus("golden gateway with a BFT cluster") else {
        return;
    };
    let (net, lines, addresses) = with_orderers(&corpus, PATIENT).await;
    net.reconfigure(bft(&net.org1.channel().config(), &addresses));
    tell(&lines, Said::Success as i32, "");
    net.submitting().await.unwrap();
    // One of four may do as it likes, and one that has the transaction already counts.
    tell(&lines[..1], Forbidden as i32, "no");
    let exists = "failed to submit request: request already exists";
    tell(&lines[1..2], Said::ServiceUnavailable as i32, exists);
    net.submitting().await.unwrap();
    tell(&lines[1..2], Said::ServiceUnavailable as i32, "busy");
    let text = "insufficient number of orderers could successfully process transaction to satisfy \
                quorum requirement";
    let answer = net.submitting().await;
    let refused = said("two refuse", answer, Code::Unavailable, text);
    let mut told: Vec<_> = of_orderers(&refused, &addresses)
        .into_iter()
        .map(|d| (d.address, d.message))
        .collect();
    told.sort_by_key(|(address, _)| addresses.iter().position(|a| a == address));
    let unsuccessful = "received unsuccessful response from orderer: status=";
    let expected = [
        (
            addresses[0].clone(),
            format!("{unsuccessful}FORBIDDEN, info=no"),
        ),
        (
            addresses[1].clone(),
            format!("{unsuccessful}SERVICE_UNAVAILABLE, info=busy"),
        ),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn orderers_that_do_not_answer() {
    let Some(corpus) = super::corpus("golden gateway with silent orderers") else {
        return;
    };
    let (net, _, addresses) = with_orderers(&corpus, SHORT).await;
    let check = async |text: &str, count: usize, detail: &str| {
        let refused = said(text, net.submitting().await, Code::Unavailable, text);
        let said = of_orderers(&refused, &addresses).into_iter();
        let said: Vec<String> = said.map(|d| d.message).collect();
        assert_eq!(said, vec![detail; count]);
    };
    let text = "no orderers could successfully process transaction";
    let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    check(text, 4, late).await;
    net.reconfigure(bft(&net.org1.channel().config(), &addresses));
    let text = "insufficient number of orderers could successfully process transaction to satisfy \
                quorum requirement";
    // Two are enough to know that there will be no three.
    check(
        text,
        2,
        "rpc error: code = Canceled desc = context canceled",
    )
    .await;
}
