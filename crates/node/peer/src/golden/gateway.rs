//! The gateway's recorded exchange, and failures in the words that clients were recorded to get.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_net::axum::Router;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::gateway_server::Gateway as GatewayApi;
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{Code, Request, Status};
use selvage_net::{CancellationToken, Endpoint, TlsError};
use selvage_proto::common::Payload;
use selvage_proto::gateway::{ChaincodeEventsRequest, SignedChaincodeEventsRequest};
use selvage_proto::gateway::{
    CommitStatusResponse, EndorseRequest, EndorseResponse, ErrorDetail, EvaluateRequest,
    EvaluateResponse, SignedCommitStatusRequest, SubmitRequest,
};
use selvage_proto::google::rpc;
use selvage_proto::orderer::{SeekPosition, SeekSpecified, seek_position};
use selvage_proto::peer::{ChaincodeActionPayload, Transaction};

use super::client::{Ask, args, identity, propose, propose_with};
use super::peer::{GoldenPeer, read};
use crate::channels::PeerChannel;
use crate::deliver::Orderers;
use crate::discovery::{Membership, OwnPeer, Planner};
use crate::endorser::EndorserService;
use crate::gateway::{Gateway, GatewayParts, GatewayService, GatewayTimeouts, PeerEndpoints};

/// Height of the channel when the exchange was recorded.
const HEIGHT: u64 = 207;

/// Sends every call for another peer to the one server there is.
struct OnePeer(String);

impl PeerEndpoints for OnePeer {
    fn endpoint(&self, _: &ChannelConfig, _: &str, _: &str) -> Result<Endpoint, TlsError> {
        Ok(Endpoint::new(&self.0, None))
    }
}

/// Orderers at addresses where nobody listens, or none.
struct Nobody(Vec<String>);

impl Orderers for Nobody {
    fn endpoints(&self, _: &PeerChannel) -> Vec<Endpoint> {
        self.0
            .iter()
            .map(|address| Endpoint::new(address, None))
            .collect()
    }
}

/// A gateway with the peers behind it.
pub(super) struct Net {
    pub(super) corpus: PathBuf,
    pub(super) org1: GoldenPeer,
    org2: GoldenPeer,
    pub(super) gateway: GatewayService,
    /// Stops the other peer.
    pub(super) stop: CancellationToken,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Two peers at the recorded height; the second one is reached over the network.
async fn net(corpus: &Path, orderers: Vec<String>) -> Net {
    net_with(corpus, orderers, Duration::from_secs(20)).await
}

/// The same, with a gateway that waits so long for other nodes.
pub(super) async fn net_with(corpus: &Path, orderers: Vec<String>, patience: Duration) -> Net {
    let (org1, org2) = (
        GoldenPeer::new(corpus, "org1"),
        GoldenPeer::new(corpus, "org2"),
    );
    for peer in [&org1, &org2] {
        while peer.channel().height() < HEIGHT {
            peer.commit_next();
        }
    }
    let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(None))
        .await
        .unwrap();
    let address = server.local_addr().to_string();
    let service = EndorserService::new(org2.endorser.clone(), &address).into_service();
    let router: Router = Routes::new(service).into_axum_router();
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(router, stop.clone()));
    let config = org1.channel().config();
    let own = config.application().unwrap().orgs()["Org1MSP"].anchor_peers[0].clone();
    let own = OwnPeer {
        endpoint: format!("{}:{}", own.host, own.port),
        signer: org1.signer.clone(),
        started: 1,
    };
    let membership = Arc::new(Membership::new(own, org1.chaincodes.clone()));
    let gateway = Gateway::new(GatewayParts {
        endorser: org1.endorser.clone(),
        planner: Arc::new(Planner::new(membership)),
        orderers: Arc::new(Nobody(orderers)),
        peers: Arc::new(OnePeer(address)),
        timeouts: GatewayTimeouts {
            endorsement: patience,
            broadcast: patience,
            dial: Duration::from_secs(20),
        },
    });
    let gateway = GatewayService::new(gateway);
    Net {
        corpus: corpus.to_owned(),
        org1,
        org2,
        gateway,
        stop,
    }
}

impl Net {
    pub(super) fn recorded<M: Message + Default>(&self, name: &str) -> M {
        M::decode(read(self.corpus.join("gateway").join(name))).unwrap()
    }

    pub(super) fn both_at(&self, signed: &selvage_proto::peer::SignedProposal) {
        self.org1.at_time_of(signed);
        self.org2.at_time_of(signed);
    }

    pub(super) fn ask(
        &self,
        chaincode: &str,
        list: &[&str],
    ) -> selvage_proto::peer::SignedProposal {
        let user = identity(&self.corpus, "org1", "users", "User1");
        let ask = Ask {
            channel: "goldchannel",
            chaincode,
            args: args(list),
            time: 1_795_376_000_000_000_000,
        };
        let signed = propose(&user, &ask);
        self.both_at(&signed);
        signed
    }

    async fn endorse(&self, list: &[&str]) -> Result<EndorseResponse, Status> {
        let request = EndorseRequest {
            proposed_transaction: Some(self.ask("gold", list)),
            ..Default::default()
        };
        let answer = self.gateway.endorse(Request::new(request)).await;
        answer.map(|r| r.into_inner())
    }

    async fn evaluate(&self, chaincode: &str, list: &[&str]) -> Result<EvaluateResponse, Status> {
        let request = EvaluateRequest {
            proposed_transaction: Some(self.ask(chaincode, list)),
            ..Default::default()
        };
        let answer = self.gateway.evaluate(Request::new(request)).await;
        answer.map(|r| r.into_inner())
    }
}

/// What the status says of each node that failed.
pub(super) fn details(status: &Status) -> Vec<ErrorDetail> {
    let status = rpc::Status::decode(status.details()).unwrap();
    let details = status.details.iter();
    details
        .map(|any| ErrorDetail::decode(any.value.as_slice()).unwrap())
        .collect()
}

/// The parts of a transaction that do not hold random bytes, and who endorsed it.
fn parts(response: &EndorseResponse) -> (Vec<bytes::Bytes>, Vec<bytes::Bytes>) {
    let envelope = response.prepared_transaction.clone().unwrap();
    assert!(envelope.signature.is_empty());
    let payload = Payload::decode(envelope.payload).unwrap();
    let header = payload.header.unwrap();
    let action = Transaction::decode(payload.data).unwrap().actions.remove(0);
    let inner = ChaincodeActionPayload::decode(action.payload).unwrap();
    let endorsed = inner.action.unwrap();
    let mut endorsers: Vec<_> = endorsed
        .endorsements
        .into_iter()
        .map(|e| e.endorser)
        .collect();
    endorsers.sort();
    let parts = vec![
        header.channel_header,
        header.signature_header,
        action.header,
        inner.chaincode_proposal_payload,
        endorsed.proposal_response_payload,
    ];
    (parts, endorsers)
}

#[tokio::test]
async fn the_recorded_exchange_is_answered_as_it_was() {
    let Some(corpus) = super::corpus("golden gateway exchange") else {
        return;
    };
    let net = net(&corpus, Vec::new()).await;
    let request: EndorseRequest = net.recorded("endorse-request.bin");
    net.both_at(request.proposed_transaction.as_ref().unwrap());
    let found = net
        .gateway
        .endorse(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(parts(&found), parts(&net.recorded("endorse-response.bin")));
    let submitted: SubmitRequest = net.recorded("submit-request.bin");
    let refused = net
        .gateway
        .submit(Request::new(submitted))
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "no orderer nodes available");
    let request: SignedCommitStatusRequest = net.recorded("commit-status-request.bin");
    let waiting = net.gateway.commit_status(Request::new(request));
    let committing = async {
        tokio::task::yield_now().await;
        net.org1.commit_next();
    };
    let (status, ()) = tokio::join!(waiting, committing);
    let expected: CommitStatusResponse = net.recorded("commit-status-response.bin");
    assert_eq!(status.unwrap().into_inner(), expected);
    let request: EvaluateRequest = net.recorded("evaluate-request.bin");
    net.both_at(request.proposed_transaction.as_ref().unwrap());
    let found = net
        .gateway
        .evaluate(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found, net.recorded("evaluate-response.bin"));
}

#[tokio::test]
async fn failures_are_told_in_fabrics_words() {
    let Some(corpus) = super::corpus("golden gateway failures") else {
        return;
    };
    let net = net(&corpus, Vec::new()).await;
    for status in ["400", "500"] {
        let refused = net.endorse(&["fail", status, "said"]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        let text = "failed to endorse transaction, see attached details for more info";
        assert_eq!(refused.message(), text);
        let detail = &details(&refused)[0];
        assert_eq!(detail.message, format!("chaincode response {status}, said"));
        assert_eq!(detail.msp_id, "Org1MSP");
        let refused = net
            .evaluate("gold", &["fail", status, "said"])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unknown);
        let text =
            format!("evaluate call to endorser returned error: chaincode response {status}, said");
        assert_eq!(refused.message(), text);
    }
    let unknown = net.evaluate("ghost", &["get", "a"]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::FailedPrecondition);
    let text = "no peers available to evaluate chaincode ghost in channel goldchannel";
    assert_eq!(unknown.message(), text);
    // The other organisation's peer is gone: the details say which, and why.
    net.stop.cancel();
    let endorsed = async {
        loop {
            match net.endorse(&["put", "z72.lonely", "1"]).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(status) => break status,
            }
        }
    };
    let refused = endorsed.await;
    let text = "failed to collect enough transaction endorsements, see attached details for more \
                info";
    assert_eq!((refused.code(), refused.message()), (Code::Aborted, text));
    let detail = &details(&refused)[0];
    assert_eq!(detail.msp_id, "Org2MSP");
    assert!(
        detail
            .message
            .starts_with("rpc error: code = Unavailable desc = "),
        "{detail:?}"
    );
}

fn signed_events(net: &Net, after: &str, start: u64) -> SignedChaincodeEventsRequest {
    let user = identity(&net.corpus, "org1", "users", "User1");
    let specified = seek_position::Type::Specified(SeekSpecified { number: start });
    let request = ChaincodeEventsRequest {
        channel_id: "goldchannel".to_owned(),
        chaincode_id: "gold".to_owned(),
        identity: user.serialized(),
        start_position: Some(SeekPosition {
            r#type: Some(specified),
        }),
        after_transaction_id: after.to_owned(),
    };
    let bytes = bytes::Bytes::from(request.encode_to_vec());
    SignedChaincodeEventsRequest {
        signature: user.sign(&bytes).into(),
        request: bytes,
    }
}

#[tokio::test]
async fn events_are_replayed_from_a_block_or_after_a_transaction() {
    let Some(corpus) = super::corpus("golden chaincode events") else {
        return;
    };
    let net = net(&corpus, Vec::new()).await;
    let mut after = String::new();
    let mut names = Vec::new();
    let request = signed_events(&net, "", 0);
    let events = net.gateway.chaincode_events(Request::new(request)).await;
    let mut events = events.unwrap().into_inner();
    for block_number in [133, 134, 135] {
        let response = events.next().await.unwrap().unwrap();
        assert_eq!(
            (response.block_number, response.events.len()),
            (block_number, 1)
        );
        names.push(response.events[0].event_name.clone());
        if block_number == 133 {
            after = response.events[0].tx_id.clone();
        }
    }
    assert_eq!(names, ["made-dNN", "written", "empty"]);
    let request = signed_events(&net, &after, 0);
    let events = net.gateway.chaincode_events(Request::new(request)).await;
    let first = events.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(first.events[0].event_name, "written");
    let mut forged = signed_events(&net, "", 0);
    forged.signature = bytes::Bytes::from_static(b"x");
    let refused = net.gateway.chaincode_events(Request::new(forged)).await;
    assert_eq!(
        refused.err().map(|s| s.code()),
        Some(Code::PermissionDenied)
    );
}

#[tokio::test]
async fn orderers_that_are_gone_are_named() {
    let Some(corpus) = super::corpus("golden submit failures") else {
        return;
    };
    let gone = Server::bind("127.0.0.1:0", ServerOptions::grpc(None))
        .await
        .unwrap();
    let address = gone.local_addr().to_string();
    drop(gone);
    let net = net(&corpus, vec![address.clone()]).await;
    let request: SubmitRequest = net.recorded("submit-request.bin");
    let refused = net
        .gateway
        .submit(Request::new(request.clone()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(
        refused.message(),
        "no orderers could successfully process transaction"
    );
    let detail = &details(&refused)[0];
    assert_eq!(detail.address, address);
    assert!(
        detail
            .message
            .starts_with("rpc error: code = Unavailable desc = "),
        "{detail:?}"
    );
    let check = |request: SubmitRequest, code, text: &'static str| {
        let gateway = net.gateway.clone();
        async move {
            let refused = gateway.submit(Request::new(request)).await.unwrap_err();
            assert_eq!((refused.code(), refused.message()), (code, text));
        }
    };
    let empty = SubmitRequest::default();
    check(
        empty,
        Code::InvalidArgument,
        "a prepared transaction is required",
    )
    .await;
    let mut unsigned = request.clone();
    unsigned
        .prepared_transaction
        .as_mut()
        .unwrap()
        .signature
        .clear();
    check(
        unsigned,
        Code::InvalidArgument,
        "prepared transaction must be signed",
    )
    .await;
    let elsewhere = SubmitRequest {
        channel_id: "nowhere".to_owned(),
        ..request
    };
    let text = "failed to get config for channel [nowhere]: could not get last config for channel \
                nowhere";
    check(elsewhere, Code::FailedPrecondition, text).await;
}

#[tokio::test]
async fn transient_data_goes_only_to_members() {
    let Some(corpus) = super::corpus("transient data through the gateway") else {
        return;
    };
    let net = net(&corpus, Vec::new()).await;
    let request = |list: &[&str], transient, orgs: &[&str]| {
        let ask = Ask {
            channel: "goldchannel",
            chaincode: "gold",
            args: args(list),
            time: 1_795_376_000_000_000_000,
        };
        let user = identity(&net.corpus, "org1", "users", "User1");
        let signed = propose_with(&user, &ask, transient);
        net.both_at(&signed);
        let request = EndorseRequest {
            proposed_transaction: Some(signed),
            endorsing_organizations: orgs.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        net.gateway.endorse(Request::new(request))
    };
    let secret = Some("secret");
    // The policy asks for both organisations, but only one may see the collection.
    let refused = request(&["putPrivate", "collOrg1", "z72.t1"], secret, &[])
        .await
        .unwrap_err();
    let text = "requires endorsement from organisation(s) that are not in the distribution policy \
                of the private data collection(s): [collOrg1]; retry specifying trusted endorsing \
                organizations to protect transient data";
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, text)
    );
    let both = ["Org1MSP", "Org2MSP"];
    let trusted = request(&["putPrivate", "collOrg1", "z72.t2"], secret, &both)
        .await
        .unwrap();
    assert_eq!(parts(&trusted.into_inner()).1.len(), 2);
    let shared = request(&["putPrivate", "collTtl", "z72.t3"], secret, &[])
        .await
        .unwrap();
    assert_eq!(parts(&shared.into_inner()).1.len(), 2);
    let unknown = request(&["put", "z72.t4", "1"], None, &["Org9MSP"])
        .await
        .unwrap_err();
    let text = "failed to find any endorsing peers for org(s): Org9MSP";
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::Unavailable, text)
    );
    let nothing = net
        .gateway
        .endorse(Request::new(EndorseRequest::default()))
        .await
        .unwrap_err();
    let text = "the proposed transaction must contain a signed proposal";
    assert_eq!(
        (nothing.code(), nothing.message()),
        (Code::InvalidArgument, text)
    );
}
