//! Calls to endorsers, and plans made of them (Fabric: `registry.go`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::tonic::Code;
use selvage_net::tonic::transport::Channel;
use selvage_net::{MAX_MESSAGE_BYTES, connect};
use selvage_proto::peer::{ChaincodeInterest, ProposalResponse, SignedProposal};

use super::errors::{CallError, Trouble, go_text, judge};
use super::plan::{Endorser, Layout, Plan};
use super::{Gateway, GatewayTimeouts, PeerEndpoints};
use crate::channels::PeerChannel;
use crate::details::advice_of;
use crate::discovery::{Member, Planned, belongs_to};
use crate::report;

/// Connections to other peers, by organisation and address. They depend on the channel only
/// through TLS roots, so the configuration they were made under is kept with them.
pub(super) struct PeerConnections {
    endpoints: Arc<dyn PeerEndpoints>,
    timeouts: GatewayTimeouts,
    known: Mutex<HashMap<(String, String), Connected>>,
}

struct Connected {
    /// Channel and sequence of its configuration.
    under: (String, u64),
    client: EndorserClient<Channel>,
}

impl PeerConnections {
    pub(super) fn new(endpoints: Arc<dyn PeerEndpoints>, timeouts: GatewayTimeouts) -> Self {
        Self {
            endpoints,
            timeouts,
            known: Mutex::default(),
        }
    }

    fn client(
        &self,
        channel: &PeerChannel,
        endorser: &Endorser,
    ) -> Result<EndorserClient<Channel>, String> {
        let config = channel.config();
        let key = (endorser.msp_id.clone(), endorser.address.clone());
        let under = (channel.id().to_owned(), config.sequence());
        let mut known = self.known.lock();
        if let Some(connected) = known.get(&key)
            && connected.under == under
        {
            return Ok(connected.client.clone());
        }
        let failed =
            |e: &dyn std::error::Error| format!("failed to create new connection: {}", report(e));
        let endpoint = self
            .endpoints
            .endpoint(&config, &endorser.msp_id, &endorser.address);
        let mut endpoint = endpoint.map_err(|e| failed(&e))?;
        endpoint.connect_timeout = self.timeouts.dial;
        let connection = connect(&endpoint).map_err(|e| failed(&e))?;
        let client = EndorserClient::new(connection)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let connected = Connected {
            under,
            client: client.clone(),
        };
        known.insert(key, connected);
        Ok(client)
    }

    fn remove(&self, endorser: &Endorser) {
        let key = (endorser.msp_id.clone(), endorser.address.clone());
        self.known.lock().remove(&key);
    }
}

impl Gateway {
    /// Asks one peer to endorse, and judges its answer.
    pub(super) async fn ask(
        &self,
        channel: Option<&PeerChannel>,
        endorser: &Endorser,
        signed: &SignedProposal,
    ) -> Result<ProposalResponse, Trouble> {
        let answer = match (endorser.local, channel) {
            (true, _) => self.ask_self(signed.clone()).await,
            (false, Some(channel)) => self.ask_other(channel, endorser, signed.clone()).await,
            (false, None) => Err(CallError::unanswered("the channel is gone")),
        };
        let judged = judge(answer);
        if let Err(trouble) = &judged {
            let (address, error) = (&endorser.address, &trouble.message);
            tracing::warn!(endorser = %address, %error, "call to endorser failed");
            if trouble.remove {
                self.inner.peers.remove(endorser);
            }
        }
        judged
    }

    async fn ask_self(&self, signed: SignedProposal) -> Result<ProposalResponse, CallError> {
        let answer = self.inner.endorser.process(signed).await;
        answer.map_err(|refusal| {
            let (text, advice) = (refusal.text, refusal.advice);
            match refusal.at_the_door {
                true => CallError::Unavailable { text, advice },
                false => CallError::Refused { text, advice },
            }
        })
    }

    async fn ask_other(
        &self,
        channel: &PeerChannel,
        endorser: &Endorser,
        signed: SignedProposal,
    ) -> Result<ProposalResponse, CallError> {
        let client = self.inner.peers.client(channel, endorser);
        let mut client = client.map_err(CallError::unanswered)?;
        let limit = self.inner.timeouts.endorsement;
        let answer = tokio::time::timeout(limit, client.process_proposal(signed)).await;
        let response = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                let text = go_text(&status);
                return Err(match advice_of(&status) {
                    None if status.code() == Code::Unavailable => CallError::unanswered(text),
                    advice => CallError::Unavailable { text, advice },
                });
            }
            Err(_) => {
                let text = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
                return Err(CallError::unanswered(text));
            }
        };
        if let Some(endorsement) = &response.endorsement {
            let config = channel.config();
            let identity = &endorsement.endorser;
            if belongs_to(identity, &endorser.msp_id, config.msp_manager()) {
                self.inner
                    .planner
                    .membership()
                    .learn(&endorser.address, identity);
            }
        }
        Ok(response)
    }

    /// The peers that can run a chaincode, by organisation; this peer is the first of its own.
    pub(super) fn endorsers_by_org(
        &self,
        channel: &PeerChannel,
        chaincode: &str,
    ) -> BTreeMap<String, Vec<Arc<Endorser>>> {
        let membership = self.inner.planner.membership();
        let mut by_org: BTreeMap<String, Vec<Arc<Endorser>>> = BTreeMap::new();
        for member in membership.of_channel(channel) {
            if membership.can_run(&member, channel, chaincode) {
                let org = by_org.entry(member.msp_id.clone()).or_default();
                org.push(Arc::new(endorser_of(&member)));
            }
        }
        by_org
    }

    /// One peer of each organisation. The error says which have none.
    pub(super) fn plan_for_orgs(
        &self,
        channel: Option<&PeerChannel>,
        chaincode: &str,
        orgs: &[String],
    ) -> Result<Plan, String> {
        let mut by_org = channel
            .map(|c| self.endorsers_by_org(c, chaincode))
            .unwrap_or_default();
        let missing = orgs.iter().filter(|org| !by_org.contains_key(*org));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!(
                "failed to find any endorsing peers for org(s): {missing}"
            ));
        }
        by_org.retain(|org, _| orgs.contains(org));
        Ok(Plan::one_of_each(by_org))
    }

    /// Layouts for an interest, those with the preferred peer first.
    pub(super) fn plan_for_interest(
        &self,
        channel_id: &str,
        channel: Option<&PeerChannel>,
        interest: &ChaincodeInterest,
        preferred: Option<&Endorser>,
    ) -> Result<Plan, String> {
        let planned = match channel {
            Some(channel) => self.inner.planner.plan(channel, interest),
            None => {
                let name = interest.chaincodes.first().map_or("", |c| c.name.as_str());
                Err(format!(
                    "No metadata was found for chaincode {name} in channel {channel_id}"
                ))
            }
        };
        let planned = planned.map_err(|e| {
            format!(
                "no combination of peers can be derived which satisfy the endorsement policy: {e}"
            )
        })?;
        let plan = plan_of(&planned, preferred);
        plan.ok_or_else(|| {
            "failed to select a set of endorsers that satisfy the endorsement policy due to \
             unavailability of peers: []"
                .to_owned()
        })
    }
}

fn endorser_of(member: &Member) -> Endorser {
    Endorser {
        address: member.endpoint.clone(),
        msp_id: member.msp_id.clone(),
        local: member.local,
    }
}

fn plan_of(planned: &Planned, preferred: Option<&Endorser>) -> Option<Plan> {
    let endorsers: Vec<Arc<Endorser>> = planned
        .members
        .iter()
        .map(|m| Arc::new(endorser_of(m)))
        .collect();
    let mut groups = BTreeMap::new();
    let mut preferred_group = None;
    for (group, indexes) in &planned.descriptor.groups {
        let mut members: Vec<usize> = indexes.clone();
        // The highest ledgers first; of equals, this peer.
        members.sort_by_key(|i| {
            let member = &planned.members[*i];
            (std::cmp::Reverse(member.height), !member.local)
        });
        if members.iter().any(|i| Some(&*endorsers[*i]) == preferred) {
            preferred_group = Some(group);
        }
        let members: Vec<_> = members.into_iter().map(|i| endorsers[i].clone()).collect();
        groups.insert(group.clone(), members);
    }
    let layouts = planned.descriptor.layouts.iter().map(|quantities| {
        let required = quantities.iter().map(|(g, n)| (g.clone(), *n as usize));
        Layout::new(required.collect())
    });
    let (mut first, rest): (Vec<Layout>, Vec<Layout>) = layouts
        .filter(|layout| !layout.required.is_empty())
        .partition(|layout| preferred_group.is_some_and(|g| layout.required.contains_key(g)));
    first.extend(rest);
    (!first.is_empty()).then(|| Plan::new(first, groups))
}
