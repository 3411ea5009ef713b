//! Streams of BFT channels begin with a signed request.

use bytes::Bytes;
use selvage_crypto::issue::NodeRole;
use selvage_net::services::cluster_node_service_client::ClusterNodeServiceClient;
use selvage_net::tonic::transport::Channel;
use selvage_net::tonic::{Code, Status};
use selvage_orderer::cluster::{BFT_VERSION, Kind, Ports};
use selvage_proto::common::Consenter;
use selvage_proto::orderer::cluster_node_service_step_request::Payload;
use selvage_proto::orderer::{
    ClusterNodeServiceStepRequest, NodeAuthRequest, NodeConsensusRequest,
};

use super::{Station, raw_channel, received, some_envelope, soon};
use crate::world::{CHANNEL, World};

fn consenter(station: &Station) -> Consenter {
    Consenter {
        id: u32::try_from(station.id).unwrap(),
        host: "127.0.0.1".to_owned(),
        port: station.port.into(),
        msp_id: "OrdererMSP".to_owned(),
        identity: station.signer.current().certificate().to_pem().into(),
        client_tls_cert: station.pair.certificate.clone().into(),
        server_tls_cert: station.pair.certificate.clone().into(),
    }
}

fn open(station: &Station, all: &[&Station]) -> Ports {
    let ports = station.links.open(CHANNEL);
    configure(station, all);
    ports
}

fn configure(station: &Station, all: &[&Station]) {
    let kind = Kind::Bft {
        own: station.id,
        consenters: all.iter().map(|s| consenter(s)).collect(),
    };
    let others = all.iter().filter(|other| other.id != station.id);
    let others: Vec<_> = others.map(|other| other.member()).collect();
    station.links.configure(CHANNEL, kind, &others);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_after_the_handshake() {
    let world = World::new();
    let (a, b) = (
        Station::start(&world, 1).await,
        Station::start(&world, 2).await,
    );
    let mut at_a = open(&a, &[&a, &b]);
    let mut at_b = open(&b, &[&a, &b]);
    for n in 0..10u8 {
        a.send(2, vec![n]);
        assert_eq!(received(&mut at_b).await.payload[..], [n]);
    }
    let sent = a.links.forward(CHANNEL, 2, some_envelope(3), 9);
    sent.unwrap();
    let got = soon(at_b.forwarded.recv()).await.unwrap();
    assert_eq!((got.from, got.sequence), (1, 9));
    assert_eq!(got.envelope, some_envelope(3));
    // Removed, it is not heard any more, on a stream that is open either.
    configure(&b, &[&b]);
    let refused = async {
        loop {
            a.send(2, "x");
            let wait = std::time::Duration::from_millis(50);
            let report = tokio::time::timeout(wait, at_a.unreachable.recv()).await;
            if report.is_ok() {
                return;
            }
        }
    };
    soon(refused).await;
    assert!(at_b.received.try_recv().is_err());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_as_somebody_else_is_refused() {
    let world = World::new();
    let a = Station::start(&world, 1).await;
    let b = Station::start(&world, 2).await;
    let mut at_a = open(&a, &[&a, &b]);
    let mut at_b = b.links.open(CHANNEL);
    let refused = async |ports: &mut Ports, own: u64, consenters: Vec<Consenter>, text: &str| {
        let kind = Kind::Bft {
            own,
            consenters: consenters.into(),
        };
        b.links.configure(CHANNEL, kind, &[a.member()]);
        a.links.close(CHANNEL);
        *ports = open(&a, &[&a, &b]);
        a.send(2, "x");
        assert_eq!(soon(ports.unreachable.recv()).await, 2, "{text}");
    };
    let (of_a, of_b) = (consenter(&a), consenter(&b));
    // The channel knows node 1 by another identity.
    let other = world.orderer_org.identity(NodeRole::Orderer);
    let forged = Consenter {
        identity: other.certificate().to_pem().into(),
        ..of_a.clone()
    };
    refused(&mut at_a, 2, vec![forged, of_b.clone()], "identity").await;
    // Meant for somebody else.
    refused(&mut at_a, 3, vec![of_a.clone(), of_b.clone()], "number").await;
    assert!(at_b.received.try_recv().is_err());
    // And right.
    let kind = Kind::Bft {
        own: 2,
        consenters: [of_a, of_b].into(),
    };
    b.links.configure(CHANNEL, kind, &[a.member()]);
    super::until_received(&a, 2, &mut at_b, b"y").await;
    a.stop().await;
    b.stop().await;
}

async fn step(channel: Channel, messages: Vec<Payload>) -> Result<(), Status> {
    let messages = messages
        .into_iter()
        .map(|payload| ClusterNodeServiceStepRequest {
            payload: Some(payload),
        });
    let mut client = ClusterNodeServiceClient::new(channel);
    let call = client.step(futures::stream::iter(messages));
    soon(call).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn orderers_of_fabric_are_refused_by_name() {
    let world = World::new();
    let a = Station::start(&world, 1).await;
    let b = Station::start(&world, 2).await;
    let _at_a = open(&a, &[&a, &b]);
    let mut at_b = open(&b, &[&a, &b]);
    let channel = raw_channel(&world, &b, Some(&a.pair)).await;
    let request = NodeAuthRequest {
        version: 0,
        from_id: 1,
        to_id: 2,
        channel: CHANNEL.to_owned(),
        ..Default::default()
    };
    let payload = Payload::NodeAuthrequest(request.clone());
    let status = step(channel.clone(), vec![payload]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    for part in ["Hyperledger Fabric", "version 0", "all orderers", CHANNEL] {
        assert!(status.message().contains(part), "{}", status.message());
    }
    // Everything else that is wrong is denied without a reason.
    let consensus = Payload::NodeConrequest(NodeConsensusRequest {
        payload: Bytes::from_static(b"x"),
        metadata: Bytes::new(),
    });
    let ours = NodeAuthRequest {
        version: BFT_VERSION,
        session_binding: vec![0; 32].into(),
        ..request
    };
    for first in [consensus.clone(), Payload::NodeAuthrequest(ours)] {
        let messages = vec![first, consensus.clone()];
        let status = step(channel.clone(), messages).await.unwrap_err();
        let got = (status.code(), status.message());
        assert_eq!(got, (Code::Unauthenticated, "access denied"));
    }
    assert!(at_b.received.try_recv().is_err());
    // Raft's service does not know the channel.
    use selvage_proto::orderer::{ConsensusRequest, StepRequest, step_request};
    let message = StepRequest {
        payload: Some(step_request::Payload::ConsensusRequest(ConsensusRequest {
            channel: CHANNEL.to_owned(),
            ..Default::default()
        })),
    };
    let mut client = selvage_net::services::cluster_client::ClusterClient::new(channel);
    let call = client.step(futures::stream::iter([message]));
    let status = soon(call).await.unwrap_err();
    assert_eq!(status.message(), format!("channel {CHANNEL} doesn't exist"));
    a.stop().await;
    b.stop().await;
}
