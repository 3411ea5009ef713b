//! Asks the network which peers endorse, and who orders and how: Fabric's discovery service, and the
//! channel's configuration.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_client::{ClientError, PeerAdmin};
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
use selvage_proto::orderer::ConsensusType;
use selvage_proto::peer::{ChaincodeCall, ChaincodeInterest};
use selvage_proto::{Message, msp};

use crate::BenchError;
use crate::broadcast::Trust;
use crate::connections::Connection;
use crate::target::{Node, Target};

/// The consensus type of channels whose orderers may lie.
const BFT: &str = "BFT";

/// Where a run sends what.
pub(crate) struct Plan {
    /// The peer that the file names.
    pub(crate) peer: Connection,
    /// One peer per needed endorsement; none where only ordering is measured.
    pub(crate) endorsers: Vec<Connection>,
    pub(crate) orderers: Vec<Connection>,
    /// Which orderers a client has to hear from, where only ordering is measured.
    pub(crate) trust: Trust,
}

impl Plan {
    /// Asks the target's peer. A run through the gateway needs the answer too: it says whose
    /// processor time is the network's. Without a chaincode only ordering is planned.
    pub(crate) async fn make(
        target: &Target,
        chaincode: Option<&str>,
        own: &TlsIdentity,
    ) -> Result<Self, BenchError> {
        let peer = Connection::open(&target.peer, own)?;
        let (config, descriptor) = ask(target, chaincode, &peer, own).await?;
        let orderers = if target.orderers.is_empty() {
            orderers_of(&config)
        } else {
            target.orderers.clone()
        };
        if orderers.is_empty() {
            return Err(BenchError::Plan("the channel names no orderer".into()));
        }
        let endorsers = match (chaincode, &descriptor) {
            (Some(name), Some(found)) => endorsers_of(name, &config, found, &peer, own)?,
            _ => Vec::new(),
        };
        let orderers: Vec<_> = orderers
            .iter()
            .map(|o| Connection::open(o, own))
            .collect::<Result<_, _>>()?;
        let trust = match chaincode {
            None if is_bft(target, &peer).await? => Trust::bft(orderers.len()),
            _ => Trust::One,
        };
        Ok(Self {
            peer,
            endorsers,
            orderers,
            trust,
        })
    }
}

/// Whether orderers of the channel may lie. Discovery does not say it.
async fn is_bft(target: &Target, peer: &Connection) -> Result<bool, BenchError> {
    let failed = |reason: String| BenchError::Call {
        call: "GetChannelConfig",
        address: peer.address.clone(),
        reason,
    };
    let asked = async {
        let admin = PeerAdmin::new(peer.events()?, target.user.clone());
        admin.channel_config(&target.channel).await
    };
    let config = asked.await.map_err(|e: ClientError| failed(e.text()))?;
    let root = config.channel_group.unwrap_or_default();
    let value = root
        .groups
        .get("Orderer")
        .and_then(|group| group.values.get("ConsensusType"))
        .ok_or_else(|| failed("the configuration names no consensus".into()))?;
    let consensus =
        ConsensusType::decode(value.value.clone()).map_err(|e| failed(e.to_string()))?;
    Ok(consensus.r#type == BFT)
}

async fn ask(
    target: &Target,
    chaincode: Option<&str>,
    peer: &Connection,
    own: &TlsIdentity,
) -> Result<(ConfigResult, Option<EndorsementDescriptor>), BenchError> {
    let failed = |reason: String| BenchError::Call {
        call: "Discover",
        address: peer.address.clone(),
        reason,
    };
    let query = |asked| Query {
        channel: target.channel.clone(),
        query: Some(asked),
    };
    let mut queries = vec![query(Asked::ConfigQuery(ConfigQuery {}))];
    if let Some(name) = chaincode {
        let call = ChaincodeCall {
            name: name.into(),
            ..Default::default()
        };
        let interest = ChaincodeInterest {
            chaincodes: vec![call],
        };
        queries.push(query(Asked::CcQuery(ChaincodeQuery {
            interests: vec![interest],
        })));
    }
    let request = Request {
        authentication: Some(AuthInfo {
            client_identity: target.user.creator(),
            client_tls_cert_hash: Bytes::copy_from_slice(&own.leaf_hash()),
        }),
        queries,
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
        (Some(config), found) if found.is_some() || chaincode.is_none() => Ok((config, found)),
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
    chaincode: &str,
    config: &ConfigResult,
    descriptor: &EndorsementDescriptor,
    named: &Connection,
    own: &TlsIdentity,
) -> Result<Vec<Connection>, BenchError> {
    let nobody = || BenchError::Plan(format!("no set of peers can endorse {chaincode}"));
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
