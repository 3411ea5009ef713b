//! The discovery service over the recorded channel.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_net::services::discovery_server::Discovery;
use selvage_net::tonic;
use selvage_proto::discovery::query::Query as Asked;
use selvage_proto::discovery::query_result::Result as Answer;
use selvage_proto::discovery::{
    AuthInfo, ChaincodeQuery, ConfigQuery, LocalPeerQuery, PeerMembershipQuery, Query, Request,
    SignedRequest,
};
use selvage_proto::gossip::{GossipMessage, gossip_message};
use selvage_proto::peer::{ChaincodeCall, ChaincodeInterest};

use super::client::identity;
use super::peer::GoldenPeer;
use crate::discovery::{DiscoveryService, DiscoverySettings, Membership, OwnPeer, Planner};

struct Net {
    peer: GoldenPeer,
    service: DiscoveryService,
    corpus: std::path::PathBuf,
}

impl Net {
    fn new(corpus: &std::path::Path) -> Self {
        let peer = GoldenPeer::new(corpus, "org1");
        while peer.channel().height() < 100 {
            peer.commit_next();
        }
        let config = peer.channel().config();
        let own = &config.application().unwrap().orgs()["Org1MSP"].anchor_peers[0];
        let own = OwnPeer {
            endpoint: format!("{}:{}", own.host, own.port),
            signer: peer.signer.clone(),
            started: 1,
        };
        let membership = Arc::new(Membership::new(own, peer.chaincodes.clone()));
        let settings = DiscoverySettings {
            tls: false,
            org_members_allowed: false,
        };
        let service = DiscoveryService::new(Arc::new(Planner::new(membership)), settings);
        Self {
            peer,
            service,
            corpus: corpus.to_owned(),
        }
    }

    async fn ask(&self, who: &str, channel: &str, query: Asked) -> Answer {
        let (org, name) = who.split_once('/').unwrap();
        let signer = identity(&self.corpus, org, "users", name);
        let request = Request {
            authentication: Some(AuthInfo {
                client_identity: signer.serialized(),
                client_tls_cert_hash: Bytes::new(),
            }),
            queries: vec![Query {
                channel: channel.to_owned(),
                query: Some(query),
            }],
        };
        let payload = Bytes::from(request.encode_to_vec());
        let signed = SignedRequest {
            signature: signer.sign(&payload).into(),
            payload,
        };
        let answer = self
            .service
            .discover(tonic::Request::new(signed))
            .await
            .unwrap();
        answer.into_inner().results.remove(0).result.unwrap()
    }
}

fn interest(chaincode: &str, collections: &[&str]) -> Asked {
    let call = ChaincodeCall {
        name: chaincode.to_owned(),
        collection_names: collections.iter().map(|c| (*c).to_owned()).collect(),
        ..Default::default()
    };
    Asked::CcQuery(ChaincodeQuery {
        interests: vec![ChaincodeInterest {
            chaincodes: vec![call],
        }],
    })
}

fn error(answer: Answer) -> String {
    match answer {
        Answer::Error(error) => error.content,
        other => panic!("{other:?} is no error"),
    }
}

#[tokio::test]
async fn a_channel_describes_itself_to_its_members() {
    let Some(corpus) = super::corpus("discovery") else {
        return;
    };
    let net = Net::new(&corpus);
    let config = net
        .ask(
            "org2/User1",
            "goldchannel",
            Asked::ConfigQuery(ConfigQuery {}),
        )
        .await;
    let Answer::ConfigResult(config) = config else {
        panic!("{config:?}")
    };
    assert!(
        ["Org1MSP", "Org2MSP"]
            .iter()
            .all(|id| config.msps.contains_key(*id))
    );
    assert_eq!(config.orderers.len(), 1);
    let peers = Asked::PeerQuery(PeerMembershipQuery::default());
    let peers = net.ask("org1/User1", "goldchannel", peers).await;
    let Answer::Members(peers) = peers else {
        panic!("{peers:?}")
    };
    assert_eq!(peers.peers_by_org.len(), 2);
    let own = &peers.peers_by_org["Org1MSP"].peers[0];
    assert_eq!(own.identity, net.peer.signer.serialized());
    let state = GossipMessage::decode(own.state_info.clone().unwrap().payload).unwrap();
    let Some(gossip_message::Content::StateInfo(state)) = state.content else {
        panic!()
    };
    let properties = state.properties.unwrap();
    assert_eq!(properties.ledger_height, 100);
    assert!(
        properties
            .chaincodes
            .iter()
            .any(|c| c.name == "gold" && c.version == "1")
    );
    let other = Asked::ConfigQuery(ConfigQuery {});
    assert_eq!(
        error(net.ask("org3/User1", "goldchannel", other.clone()).await),
        "access denied"
    );
    assert_eq!(
        error(net.ask("org1/User1", "nowhere", other).await),
        "access denied"
    );
    let local = Asked::LocalPeers(LocalPeerQuery {});
    assert_eq!(
        error(net.ask("org1/User1", "", local.clone()).await),
        "access denied"
    );
    assert!(matches!(
        net.ask("org1/Admin", "", local).await,
        Answer::Members(_)
    ));
}

#[tokio::test]
async fn chaincodes_are_planned_for() {
    let Some(corpus) = super::corpus("discovery plans") else {
        return;
    };
    let net = Net::new(&corpus);
    // Layouts and groups, by chaincode and collections.
    for (chaincode, collections, layouts, groups) in [
        ("gold", &[][..], 1, 2),
        ("sec", &[], 2, 2),
        ("other", &[], 1, 2),
        ("gold", &["collTtl"], 2, 2),
        ("gold", &["_implicit_org_Org1MSP"], 1, 1),
        ("_lifecycle", &[], 1, 2),
    ] {
        let found = net
            .ask(
                "org1/User1",
                "goldchannel",
                interest(chaincode, collections),
            )
            .await;
        let Answer::CcQueryRes(found) = found else {
            panic!("{found:?}")
        };
        let plan = &found.content[0];
        let counted = (plan.layouts.len(), plan.endorsers_by_groups.len());
        assert_eq!(
            counted,
            (layouts, groups),
            "{chaincode} {collections:?}: {plan:?}"
        );
    }
    // Only the own organisation sees the collection, but the policy asks for both.
    for (chaincode, collections) in [("gold", &["collOrg1"][..]), ("ghost", &[])] {
        let found = net
            .ask(
                "org1/User1",
                "goldchannel",
                interest(chaincode, collections),
            )
            .await;
        let text = error(found);
        let start = format!("failed constructing descriptor for chaincodes:{{name:{chaincode:?}");
        assert!(text.starts_with(&start), "{text}");
    }
    let empty = Asked::CcQuery(ChaincodeQuery::default());
    let text = "chaincode query must have at least one chaincode interest";
    assert_eq!(
        error(net.ask("org1/User1", "goldchannel", empty).await),
        text
    );
}
