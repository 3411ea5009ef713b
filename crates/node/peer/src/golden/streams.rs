//! Chaincode over real connections: processes that dial in over mutual TLS, services dialled.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use prost::Message;
use selvage_chaincode::ccaas::{ServerClientAuth, ServerEndpoint, ServerTls as ServiceTls};
use selvage_chaincode::runtime::{CertificateIssuer, ClientCertificate, ServerDialler};
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::{Clock, System};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::chaincode_server::{Chaincode, ChaincodeServer};
use selvage_net::services::chaincode_support_client::ChaincodeSupportClient;
use selvage_net::tls::certificates_from_pem;
use selvage_net::tls::{ClientAuth, ClientRoots, ClientTls, ServerTls, TlsIdentity};
use selvage_net::tokio_stream::wrappers::ReceiverStream;
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{Request, Response, Status, Streaming};
use selvage_net::{CancellationToken, Endpoint, connect};
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{ChaincodeMessage, ProposalResponse, SignedProposal};
use tokio::sync::mpsc;

use super::contract;
use super::endorse::compare;
use super::peer::{GoldenPeer, Listening, read};
use crate::chaincode_glue::{ChaincodeAuthority, ChaincodeListener, ServiceDialler};

/// Both ends of a stream as queues.
type Ends = (
    mpsc::Sender<ChaincodeMessage>,
    mpsc::Receiver<ChaincodeMessage>,
);

/// Turns the peer's half of a stream into queues for the contract.
fn ends(
    mut from_peer: Streaming<ChaincodeMessage>,
    to_peer: mpsc::Sender<ChaincodeMessage>,
) -> Ends {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(Ok(message)) = from_peer.next().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    (to_peer, receiver)
}

/// Opens `Register` on a chaincode listener, as the shim of a started process does.
pub(super) async fn register(
    address: &str,
    certificate: Option<&ClientCertificate>,
) -> Result<Ends, Status> {
    let tls = certificate.map(|c| {
        let (chain, key) = (c.certificate_pem.as_bytes(), c.key_pem.as_bytes());
        let identity = TlsIdentity::from_pem("test", chain, key).unwrap();
        ClientTls::from_pem("test", c.root_pem.as_bytes(), Some(identity)).unwrap()
    });
    let channel = connect(&Endpoint::new(address, tls)).unwrap();
    let (to_peer, outgoing) = mpsc::channel(16);
    let mut client = ChaincodeSupportClient::new(channel);
    let incoming = client
        .register(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    Ok(ends(incoming, to_peer))
}

#[tokio::test]
async fn processes_prove_their_package_over_mutual_tls() {
    let Some(corpus) = super::corpus("chaincode over TLS") else {
        return;
    };
    let clock: Arc<dyn Clock> = Arc::new(System);
    let authority = Arc::new(ChaincodeAuthority::new(clock).unwrap());
    let tls = authority.server_tls(&["127.0.0.1"]).unwrap();
    let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(Some(tls)))
        .await
        .unwrap();
    let address = server.local_addr().to_string();
    let listening = Listening {
        authority: authority.clone(),
        address: address.clone(),
    };
    let peer = GoldenPeer::with(&corpus, "org1", Some(listening));
    let service = ChaincodeListener::new(peer.chaincodes.clone()).into_service();
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(Routes::new(service).into_axum_router(), stop.clone()));
    while peer.channel().height() < 107 {
        peer.commit_next();
    }
    let step = corpus.join("txs/128-put");
    let signed = SignedProposal::decode(read(step.join("proposal.bin"))).unwrap();
    let expected = ProposalResponse::decode(read(step.join("response-Org1MSP.bin"))).unwrap();
    peer.at_time_of(&signed);
    let found = peer.endorser.process(signed).await.unwrap();
    compare(found, expected).unwrap();
    // A certificate of this peer's making, but for another package.
    let package_id = peer.package_id("gold");
    let stranger = authority.issue("other:00").unwrap();
    let (to_peer, from_peer) = register(&address, Some(&stranger)).await.unwrap();
    let refused = contract::serve(package_id, to_peer, from_peer);
    tokio::time::timeout(Duration::from_secs(20), refused)
        .await
        .unwrap();
    // Without a certificate there is not even a handshake.
    assert!(register(&address, None).await.is_err());
    stop.cancel();
}

/// A chaincode that runs as a service.
struct Service;

#[selvage_net::tonic::async_trait]
impl Chaincode for Service {
    type ConnectStream =
        Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send + 'static>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (to_peer, outgoing) = mpsc::channel(16);
        let (to_peer, from_peer) = ends(request.into_inner(), to_peer);
        tokio::spawn(contract::serve("gold:01".to_owned(), to_peer, from_peer));
        Ok(Response::new(Box::pin(
            ReceiverStream::new(outgoing).map(Ok),
        )))
    }
}

#[tokio::test]
async fn services_are_dialled_over_mutual_tls() {
    let validity = Validity::ten_years(System.unix_seconds());
    let authority = Authority::new_root(&Subject::named("services"), validity).unwrap();
    let leaf = |host: &str| {
        let profile = LeafProfile::tls(host, &[host], validity);
        let (certificate, key) = authority.issue_new(&profile).unwrap();
        (
            certificate.to_pem(),
            key.to_pkcs8_pem().unwrap().to_string(),
        )
    };
    let root_pem = authority.certificate().to_pem();
    let (certificate, key) = leaf("service.example.com");
    let identity = TlsIdentity::from_pem("test", certificate.as_bytes(), key.as_bytes()).unwrap();
    let roots = ClientRoots::new(certificates_from_pem("test", root_pem.as_bytes()).unwrap());
    let tls = ServerTls::new(identity, ClientAuth::Require(roots));
    let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(Some(tls)))
        .await
        .unwrap();
    let address = server.local_addr().to_string();
    let stop = CancellationToken::new();
    let router = Routes::new(ChaincodeServer::new(Service)).into_axum_router();
    tokio::spawn(server.serve(router, stop.clone()));
    let (certificate_pem, key_pem) = leaf("peer.example.com");
    let endpoint = |root_pem: String| ServerEndpoint {
        package_id: "gold:01".to_owned(),
        address: address.clone(),
        dial_timeout: Duration::from_secs(20),
        tls: Some(ServiceTls {
            root_pem,
            client: Some(ServerClientAuth {
                certificate_pem: certificate_pem.clone(),
                key_pem: key_pem.clone(),
            }),
            server_name: Some("service.example.com".to_owned()),
        }),
    };
    let mut stream = ServiceDialler.dial(endpoint(root_pem)).await.unwrap();
    let first = stream.inbound.recv().await.unwrap();
    assert_eq!(first.r#type, Type::Register as i32);
    let id = selvage_proto::peer::ChaincodeId::decode(first.payload).unwrap();
    assert_eq!(id.name, "gold:01");
    let other = Authority::new_root(&Subject::named("others"), validity).unwrap();
    let refused = ServiceDialler
        .dial(endpoint(other.certificate().to_pem()))
        .await;
    assert!(refused.is_err());
    stop.cancel();
}
