//! Asks the network which peers endorse, and who orders: Fabric's discovery service.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_net::deliver::Signer;
use selvage_net::tls::TlsIdentity;
use selvage_proto::discovery::query::Query as Asked;
use selvage_proto::discovery::query_result::Result as Answer;
use selvage_proto::discovery::{
    AuthInfo, ChaincodeQuery, ConfigQuery, ConfigResult, EndorsementDescriptor, Query, Request,
    SignedRequest,
};
use selvage_proto::gossip::GossipMessage;
use selvage_proto::gossip::gossip_message::Content;
use selvage_proto::peer::{ChaincodeCall, ChaincodeInterest};
use selvage_proto::{Message, msp};

use crate::BenchError;
use crate::connections::Connection;
use crate::target::{Node, Target};

/// Where a run sends what.
pub(crate) struct Plan {
    /// The peer that the file names.
    pub(crate) peer: Connection,
    /// One peer per needed endorsement.
    pub(crate) endorsers: Vec<Connection>,
    pub(crate) orderers: Vec<Connection>,
}

impl Plan {
    /// Asks the target's peer. A run through the gateway needs the answer too: it says whose
    /// processor time is the network's.
    pub(crate) async fn make(target: &Target, own: &TlsIdentity) -> Result<Self, BenchError> {
        let peer = Connection::open(&target.peer, own)?;
        let (config, descriptor) = ask(target, &peer, own).await?;
        let orderers = if target.orderers.is_empty() {
            orderers_of(&config)
        } else {
            target.orderers.clone()
        };
        if orderers.is_empty() {
            return Err(BenchError::Plan("the channel names no orderer".into()));
        }
        let endorsers = endorsers_of(target, &config, &descriptor, &peer, own)?;
        let orderers = orderers
            .iter()
            .map(|o| Connection::open(o, own))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            peer,
            endorsers,
            orderers,
        })
    }
}

async fn ask(
    target: &Target,
    peer: &Connection,
    own: &TlsIdentity,
) -> Result<(ConfigResult, EndorsementDescriptor), BenchError> {
    let failed = |reason: String| BenchError::Call {
        call: "Discover",
        address: peer.address.clone(),
        reason,
    };
    let call = ChaincodeCall {
        name: target.chaincode.clone(),
        ..Default::default()
    };
    let interest = ChaincodeInterest {
        chaincodes: vec![call],
    };
    let query = |asked| Query {
        channel: target.channel.clone(),
        query: Some(asked),
    };
    let request = Request {
        authentication: Some(AuthInfo {
            client_identity: target.user.creator(),
            client_tls_cert_hash: Bytes::copy_from_slice(&own.leaf_hash()),
        }),
        queries: vec![
            query(Asked::ConfigQuery(ConfigQuery {})),
            query(Asked::CcQuery(ChaincodeQuery {
                interests: vec![interest],
            })),
        ],
    };
    let payload: Bytes = request.encode_to_vec().into();
    let signature = target.user.sign(&payload).into();
    let response = peer
        .discovery()
        .discover(SignedRequest { payload, signature })
        .await
        .map_err(|status| failed(status.to_string()))?
        .into_inner();
    let mut config = None;
    let mut descriptor = None;
    for result in response.results {
        match result.result {
            Some(Answer::ConfigResult(found)) => config = Some(found),
            Some(Answer::CcQueryRes(found)) => descriptor = found.content.into_iter().next(),
            Some(Answer::Error(error)) => return Err(failed(error.content)),
            _ => {}
        }
    }
    match (config, descriptor) {
        (Some(config), Some(descriptor)) => Ok((config, descriptor)),
        _ => Err(failed(
            "the answer leaves out configuration or endorsers".into(),
        )),
    }
}

fn orderers_of(config: &ConfigResult) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (msp_id, endpoints) in &config.orderers {
        for endpoint in &endpoints.endpoint {
            nodes.push(Node {
                address: format!("{}:{}", endpoint.host, endpoint.port),
                tls_roots: tls_roots(config.msps.get(msp_id)),
                server_name: None,
            });
        }
    }
    nodes
}

/// The first layout, with the first peers of each of its groups.
fn endorsers_of(
    target: &Target,
    config: &ConfigResult,
    descriptor: &EndorsementDescriptor,
    named: &Connection,
    own: &TlsIdentity,
) -> Result<Vec<Connection>, BenchError> {
    let nobody = || BenchError::Plan(format!("no set of peers can endorse {}", target.chaincode));
    let layout = descriptor.layouts.first().ok_or_else(nobody)?;
    let mut chosen = Vec::new();
    for (group, count) in &layout.quantities_by_group {
        let peers = descriptor
            .endorsers_by_groups
            .get(group)
            .ok_or_else(nobody)?;
        let mut found: Vec<(String, Option<Vec<u8>>)> = peers
            .peers
            .iter()
            .filter_map(|p| endpoint_of(p, &config.msps))
            .collect();
        // The peer that the file names comes first: its address is known to be reachable.
        found.sort_by_key(|(address, _)| *address != named.address);
        if found.len() < *count as usize {
            return Err(nobody());
        }
        for (address, tls_roots) in found.into_iter().take(*count as usize) {
            if address == named.address {
                chosen.push(named.clone());
            } else {
                chosen.push(Connection::open(
                    &Node {
                        address,
                        tls_roots,
                        server_name: None,
                    },
                    own,
                )?);
            }
        }
    }
    Ok(chosen)
}

fn endpoint_of(
    peer: &selvage_proto::discovery::Peer,
    msps: &BTreeMap<String, msp::FabricMspConfig>,
) -> Option<(String, Option<Vec<u8>>)> {
    let envelope = peer.membership_info.as_ref()?;
    let message = GossipMessage::decode(envelope.payload.clone()).ok()?;
    let Some(Content::AliveMsg(alive)) = message.content else {
        return None;
    };
    let address = alive.membership?.endpoint;
    let identity = msp::SerializedIdentity::decode(peer.identity.clone()).ok()?;
    Some((address, tls_roots(msps.get(&identity.mspid))))
}

fn tls_roots(msp: Option<&msp::FabricMspConfig>) -> Option<Vec<u8>> {
    let roots = msp?.tls_root_certs.join(&b"\n"[..]);
    (!roots.is_empty()).then_some(roots)
}
