//! The service `discovery.Discovery` (Fabric: `discovery/service.go`, `discovery/support`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_identity::SignedData;
use selvage_net::services::discovery_server::{Discovery as DiscoveryApi, DiscoveryServer};
use selvage_net::tonic::{self, Status};
use selvage_net::{Connection, MAX_MESSAGE_BYTES};
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::{ConfigGroup, MspPrincipal, MspRole};
use selvage_proto::discovery::query::Query as Asked;
use selvage_proto::discovery::query_result::Result as Answer;
use selvage_proto::discovery::{
    ChaincodeQuery, ChaincodeQueryResult, ConfigResult, EndorsementDescriptor, Endpoint, Endpoints,
    Error, Layout, Peer, PeerMembershipResult, Peers, Query, QueryResult, Request, Response,
    SignedRequest,
};
use selvage_proto::msp::{FabricMspConfig, MspConfig};
use selvage_proto::peer::ChaincodeInterest;

use super::membership::{Member, Membership};
use super::planner::{Planned, Planner};
use crate::channels::PeerChannel;
use crate::report;

/// Most queries in one request.
const MAX_QUERIES: usize = 100;
/// Most interests in one query.
const MAX_INTERESTS: usize = 100;
/// The one kind of membership service there is.
const FABRIC_MSP: i32 = 0;

/// Who may ask about the peer itself, and how requests are tied to their connection.
#[derive(Debug, Clone, Copy)]
pub struct DiscoverySettings {
    /// Requests must name the TLS certificate they come with; set when the peer speaks TLS.
    pub tls: bool,
    /// Members of the own organisation may ask for its peers, not only its administrators
    /// (`peer.discovery.orgMembersAllowedAccess`).
    pub org_members_allowed: bool,
}

/// Answers discovery requests.
#[derive(Clone)]
pub struct DiscoveryService {
    planner: Arc<Planner>,
    settings: DiscoverySettings,
}

impl DiscoveryService {
    /// Serves what the planner knows.
    pub fn new(planner: Arc<Planner>, settings: DiscoverySettings) -> Self {
        Self { planner, settings }
    }

    /// The gRPC service, with Fabric's message size.
    pub fn into_service(self) -> DiscoveryServer<Self> {
        DiscoveryServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn answer(
        &self,
        signed: SignedRequest,
        certificate_hash: Option<&[u8]>,
    ) -> Result<Response, String> {
        let request = Request::decode(signed.payload.clone())
            .map_err(|e| format!("failed parsing request: proto: {e}"))?;
        let authentication = request
            .authentication
            .ok_or("access denied, no authentication info in request")?;
        if authentication.client_identity.is_empty() {
            return Err("access denied, client identity wasn't supplied".to_owned());
        }
        if self.settings.tls {
            let computed = certificate_hash.ok_or("client didn't send a TLS certificate")?;
            if computed != authentication.client_tls_cert_hash {
                return Err(
                    "client claimed TLS hash doesn't match computed TLS hash from gRPC \
                            stream"
                        .to_owned(),
                );
            }
        }
        if request.queries.len() > MAX_QUERIES {
            return Err(format!("more than {MAX_QUERIES} queries in one request"));
        }
        let proof = SignedData {
            data: signed.payload,
            identity: authentication.client_identity,
            signature: signed.signature,
        };
        let results = request
            .queries
            .iter()
            .map(|query| self.query(query, &proof))
            .collect();
        Ok(Response { results })
    }

    fn query(&self, query: &Query, proof: &SignedData) -> QueryResult {
        let result = if query.channel.is_empty() {
            self.about_peer(query, proof)
        } else {
            self.about_channel(query, proof)
        };
        let result = result.unwrap_or_else(|content| Answer::Error(Error { content }));
        QueryResult {
            result: Some(result),
        }
    }

    fn about_peer(&self, query: &Query, proof: &SignedData) -> Result<Answer, String> {
        if !self.may_ask_peer(proof) {
            return Err("access denied".to_owned());
        }
        if !matches!(query.query, Some(Asked::LocalPeers(_))) {
            return Err("unknown or missing request type".to_owned());
        }
        let membership = self.membership();
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for channel in membership.chaincodes().channels().list() {
            for member in membership.of_channel(&channel) {
                members.entry(member.endpoint.clone()).or_insert(member);
            }
        }
        let members: Vec<Member> = members.into_values().collect();
        Ok(Answer::Members(self.by_org(&members, None)))
    }

    fn about_channel(&self, query: &Query, proof: &SignedData) -> Result<Answer, String> {
        let id = &query.channel;
        let denied = || "access denied".to_owned();
        let channel = self
            .membership()
            .chaincodes()
            .channel(id)
            .ok_or_else(denied)?;
        let config = channel.config();
        let writers = config.policy(selvage_channel::names::APPLICATION_WRITERS);
        let writers = writers.ok_or_else(denied)?;
        if let Err(error) = writers.evaluate(std::slice::from_ref(proof)) {
            tracing::warn!(channel = id, error = %report(&error), "discovery refused");
            return Err(denied());
        }
        match &query.query {
            Some(Asked::ConfigQuery(_)) => {
                let result = config_of(&config);
                let result = result.map_err(|e| {
                    tracing::error!(channel = id, error = e, "cannot describe the configuration");
                    format!("failed fetching config for channel {id}")
                })?;
                Ok(Answer::ConfigResult(result))
            }
            Some(Asked::PeerQuery(query)) => {
                let interest = query.filter.clone().unwrap_or_default();
                let mut members = self.planner.authorised(&channel, &config, &interest)?;
                let able = |m: &Member| {
                    let mut names = interest.chaincodes.iter().map(|c| c.name.as_str());
                    names.all(|name| self.membership().can_run(m, &channel, name))
                };
                members.retain(able);
                Ok(Answer::Members(self.by_org(&members, Some(&channel))))
            }
            Some(Asked::CcQuery(query)) => self.chaincodes(&channel, query),
            Some(Asked::LocalPeers(_)) | None => Err("unknown or missing request type".to_owned()),
        }
    }

    fn chaincodes(&self, channel: &PeerChannel, query: &ChaincodeQuery) -> Result<Answer, String> {
        check_interests(&query.interests)?;
        let mut content = Vec::with_capacity(query.interests.len());
        for interest in &query.interests {
            let planned = self.planner.plan(channel, interest).map_err(|e| {
                let channel = channel.id();
                tracing::error!(channel, error = e, "Failed constructing descriptor");
                format!("failed constructing descriptor for {}", text_of(interest))
            })?;
            content.push(self.descriptor(channel, interest, &planned));
        }
        Ok(Answer::CcQueryRes(ChaincodeQueryResult { content }))
    }

    fn descriptor(
        &self,
        channel: &PeerChannel,
        interest: &ChaincodeInterest,
        planned: &Planned,
    ) -> EndorsementDescriptor {
        let peers = |indexes: &Vec<usize>| Peers {
            peers: indexes
                .iter()
                .map(|i| self.peer(&planned.members[*i], Some(channel)))
                .collect(),
        };
        let groups = planned.descriptor.groups.iter();
        let layouts = planned.descriptor.layouts.iter().cloned();
        let first = interest.chaincodes.first();
        EndorsementDescriptor {
            chaincode: first.map(|c| c.name.clone()).unwrap_or_default(),
            endorsers_by_groups: groups.map(|(g, i)| (g.clone(), peers(i))).collect(),
            layouts: layouts
                .map(|quantities_by_group| Layout {
                    quantities_by_group,
                })
                .collect(),
        }
    }

    fn by_org(&self, members: &[Member], channel: Option<&PeerChannel>) -> PeerMembershipResult {
        let mut peers_by_org: BTreeMap<String, Peers> = BTreeMap::new();
        for member in members {
            let org = peers_by_org.entry(member.msp_id.clone()).or_default();
            org.peers.push(self.peer(member, channel));
        }
        PeerMembershipResult { peers_by_org }
    }

    fn peer(&self, member: &Member, channel: Option<&PeerChannel>) -> Peer {
        let membership = self.membership();
        Peer {
            state_info: channel.map(|c| membership.state_info(member, c)),
            membership_info: Some(membership.alive(member)),
            identity: member.identity_or_org(),
        }
    }

    fn membership(&self) -> &Membership {
        self.planner.membership()
    }

    fn may_ask_peer(&self, proof: &SignedData) -> bool {
        let local = self.membership().chaincodes().local_msp();
        let role = match self.settings.org_members_allowed {
            true => MspRoleType::Member,
            false => MspRoleType::Admin,
        };
        let role = MspRole {
            msp_identifier: local.msp_id().to_owned(),
            role: role as i32,
        };
        let principal = MspPrincipal {
            principal_classification: Classification::Role as i32,
            principal: role.encode_to_vec().into(),
        };
        local
            .msps()
            .deserialize(&proof.identity)
            .is_ok_and(|identity| {
                identity.satisfies(&principal).is_ok()
                    && identity.verify(&proof.data, &proof.signature).is_ok()
            })
    }
}

fn check_interests(interests: &[ChaincodeInterest]) -> Result<(), String> {
    if interests.is_empty() {
        return Err("chaincode query must have at least one chaincode interest".to_owned());
    }
    if interests.len() > MAX_INTERESTS {
        return Err(format!("more than {MAX_INTERESTS} interests in one query"));
    }
    for interest in interests {
        if interest.chaincodes.is_empty() {
            return Err("chaincode interest must contain at least one chaincode".to_owned());
        }
        if interest.chaincodes.iter().any(|c| c.name.is_empty()) {
            return Err("chaincode name in interest cannot be empty".to_owned());
        }
    }
    Ok(())
}

/// An interest as Go prints it.
fn text_of(interest: &ChaincodeInterest) -> String {
    let call = |c: &selvage_proto::peer::ChaincodeCall| {
        let collections = c.collection_names.iter();
        let collections: String = collections
            .map(|name| format!(" collection_names:{name:?}"))
            .collect();
        format!("chaincodes:{{name:{:?}{collections}}}", c.name)
    };
    let calls: Vec<String> = interest.chaincodes.iter().map(call).collect();
    calls.join(" ")
}

/// MSPs and orderer endpoints of a channel.
fn config_of(config: &ChannelConfig) -> Result<ConfigResult, String> {
    let root = config
        .config()
        .channel_group
        .as_ref()
        .ok_or("field Config.ChannelGroup is nil")?;
    let mut msps: BTreeMap<String, FabricMspConfig> = BTreeMap::new();
    for section in ["Orderer", "Application"] {
        let group = root
            .groups
            .get(section)
            .ok_or_else(|| format!("key Config.ChannelGroup.Groups[{section}] is missing"))?;
        for org in group.groups.values() {
            if let Some(msp) = fabric_msp(org)? {
                msps.entry(msp.name.clone()).or_insert(msp);
            }
        }
    }
    let orderer = config.orderer();
    let mut orderers: BTreeMap<String, Endpoints> = BTreeMap::new();
    let orgs = || orderer.into_iter().flat_map(|o| o.orgs().values());
    let own_endpoints = orgs().any(|org| !org.endpoints.is_empty());
    for org in orgs() {
        let endpoints: Vec<Endpoint> = match own_endpoints {
            true => org.endpoints.iter().filter_map(|e| endpoint(e)).collect(),
            false => config
                .orderer_endpoints()
                .into_iter()
                .filter_map(endpoint)
                .collect(),
        };
        orderers.insert(
            org.msp_id.clone(),
            Endpoints {
                endpoint: endpoints,
            },
        );
    }
    Ok(ConfigResult { msps, orderers })
}

fn fabric_msp(org: &ConfigGroup) -> Result<Option<FabricMspConfig>, String> {
    let value = org
        .values
        .get("MSP")
        .map(|v| v.value.clone())
        .unwrap_or_default();
    let failed = |e: prost::DecodeError| format!("failed parsing MSPConfig: {e}");
    let config = MspConfig::decode(value).map_err(failed)?;
    if config.r#type != FABRIC_MSP {
        return Ok(None);
    }
    FabricMspConfig::decode(config.config)
        .map(Some)
        .map_err(failed)
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    Some(Endpoint {
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: port.parse().ok()?,
    })
}

#[tonic::async_trait]
impl DiscoveryApi for DiscoveryService {
    async fn discover(
        &self,
        request: tonic::Request<SignedRequest>,
    ) -> Result<tonic::Response<Response>, Status> {
        let connection = Connection::of(request.extensions());
        let hash = connection.and_then(|c| c.certificate_hash().map(|h| Bytes::copy_from_slice(h)));
        let answer = self.answer(request.into_inner(), hash.as_deref());
        answer.map(tonic::Response::new).map_err(Status::unknown)
    }
}
