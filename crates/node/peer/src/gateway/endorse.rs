//! `Endorse`: enough endorsements for a proposal, assembled into a transaction to sign
//! (Fabric: `endorse.go`).

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message;
use selvage_net::tonic::{Code, Status};
use selvage_proto::common::{ChannelHeader, Envelope, Header, Payload};
use selvage_proto::gateway::{EndorseRequest, EndorseResponse};
use selvage_proto::peer::{
    ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeInterest, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, Endorsement, Proposal, ProposalResponse, SignedProposal, Transaction,
    TransactionAction,
};

use super::deadline::Deadline;
use super::plan::{Endorser, Plan};
use super::{Gateway, advice, interest_in};
use crate::channels::PeerChannel;
use crate::details::with_details;
use crate::endorser::decode;

/// A proposal as far as the gateway looks into it.
pub(super) struct Opened {
    pub(super) channel_id: String,
    /// The chaincode of the invocation, or which part of its name is missing.
    pub(super) chaincode: Result<String, &'static str>,
    pub(super) has_transient: bool,
    header: Header,
    payload: ChaincodeProposalPayload,
}

impl Opened {
    pub(super) fn open(signed: &SignedProposal) -> Result<Self, String> {
        let proposal: Proposal = decode(&signed.proposal_bytes, "Proposal")?;
        let header: Header = decode(&proposal.header, "Header")?;
        let channel: ChannelHeader = decode(&header.channel_header, "ChannelHeader")?;
        let payload: ChaincodeProposalPayload =
            decode(&proposal.payload, "ChaincodeProposalPayload")?;
        let invocation: ChaincodeInvocationSpec =
            decode(&payload.input, "ChaincodeInvocationSpec")?;
        Ok(Self {
            channel_id: channel.channel_id,
            chaincode: chaincode_of(invocation),
            has_transient: !payload.transient_map.is_empty(),
            header,
            payload,
        })
    }

    /// The chaincode's name; empty where there is none, which no peer can run.
    fn chaincode_name(&self) -> &str {
        self.chaincode.as_deref().unwrap_or_default()
    }

    /// The transaction that carries the endorsements, for the client to sign.
    fn transaction(self, payload: Bytes, endorsements: Vec<Endorsement>) -> Envelope {
        let action = ChaincodeActionPayload {
            chaincode_proposal_payload: ChaincodeProposalPayload {
                input: self.payload.input,
                transient_map: Default::default(),
            }
            .encode_to_vec()
            .into(),
            action: Some(ChaincodeEndorsedAction {
                proposal_response_payload: payload,
                endorsements,
            }),
        };
        let transaction = Transaction {
            actions: vec![TransactionAction {
                header: self.header.signature_header.clone(),
                payload: action.encode_to_vec().into(),
            }],
        };
        let payload = Payload {
            header: Some(self.header),
            data: transaction.encode_to_vec().into(),
        };
        Envelope {
            payload: payload.encode_to_vec().into(),
            signature: Bytes::new(),
        }
    }
}

fn chaincode_of(invocation: ChaincodeInvocationSpec) -> Result<String, &'static str> {
    let spec = invocation.chaincode_spec.ok_or("spec")?;
    let id = spec.chaincode_id.ok_or("id")?;
    Some(id.name).filter(|name| !name.is_empty()).ok_or("name")
}

impl Gateway {
    pub(super) async fn endorse(
        &self,
        request: EndorseRequest,
        deadline: Deadline,
    ) -> Result<EndorseResponse, Status> {
        let signed = request.proposed_transaction.unwrap_or_default();
        if signed.proposal_bytes.is_empty() {
            let text = "the proposed transaction must contain a signed proposal";
            return Err(Status::invalid_argument(text));
        }
        let opened = Opened::open(&signed).map_err(Status::invalid_argument)?;
        let channel = self.channel(&opened.channel_id);
        let channel = channel.as_deref();
        let orgs = &request.endorsing_organizations;
        let mut plan = if orgs.is_empty() {
            let planning = self.plan_from_first(channel, &opened, &signed);
            let passed = "endorsement timeout expired while collecting first endorsement";
            deadline.hold(passed, planning).await??
        } else {
            // The client answers for these organisations satisfying the policy.
            let chaincode = opened.chaincode_name();
            self.plan_for_orgs(channel, chaincode, orgs)
                .map_err(|text| {
                    let advice = advice::nobody(channel.is_some(), &opened.channel_id, chaincode);
                    self.advised(Code::Unavailable, &text, advice)
                })?
        };
        while !plan.is_complete() {
            let Some(endorsers) = plan.endorsers() else {
                break;
            };
            let collecting = self.collect(channel, plan, endorsers, &signed);
            let passed = "endorsement timeout expired while collecting endorsements";
            plan = deadline.hold(passed, collecting).await?;
        }
        let (payload, endorsements) = plan.finish().map_err(|details| {
            let text = "failed to collect enough transaction endorsements, see attached details \
                        for more info";
            with_details(Code::Aborted, text, &details)
        })?;
        Ok(EndorseResponse {
            prepared_transaction: Some(opened.transaction(payload, endorsements)),
        })
    }

    /// Asks the peers of one layout at once, and others of their groups where they fail.
    async fn collect(
        &self,
        channel: Option<&PeerChannel>,
        plan: Plan,
        endorsers: Vec<Arc<Endorser>>,
        signed: &SignedProposal,
    ) -> Plan {
        let plan = Mutex::new(plan);
        let mut asking: FuturesUnordered<_> = endorsers
            .into_iter()
            .map(|endorser| self.ask_group(channel, &plan, endorser, signed))
            .collect();
        let mut used_up = Vec::new();
        while let Some(outcome) = asking.next().await {
            used_up.extend(outcome.err());
        }
        drop(asking);
        let mut plan = plan.into_inner();
        plan.abandon(&used_up);
        plan
    }

    /// Asks a peer and, while it fails, the next one of its group; the error is a group that is
    /// used up.
    async fn ask_group(
        &self,
        channel: Option<&PeerChannel>,
        plan: &Mutex<Plan>,
        mut endorser: Arc<Endorser>,
        signed: &SignedProposal,
    ) -> Result<(), String> {
        loop {
            match self.ask(channel, &endorser, signed).await {
                Ok(response) => {
                    if plan.lock().endorsed(&endorser, response) {
                        return Ok(());
                    }
                }
                Err(trouble) => {
                    let mut plan = plan.lock();
                    endorser.details(trouble).for_each(|d| plan.failed(d));
                }
            }
            endorser = plan.lock().next_in_group(&endorser)?;
        }
    }

    /// Lets a peer of the own organisation simulate first: its answer tells which policies count.
    async fn plan_from_first(
        &self,
        channel: Option<&PeerChannel>,
        opened: &Opened,
        signed: &SignedProposal,
    ) -> Result<Plan, Status> {
        let id = opened.channel_id.as_str();
        let default = interest_in(opened.chaincode_name());
        let chaincode = &default.chaincodes[0].name;
        let own = [self.local_msp_id().to_owned()];
        let mut plan = match self.plan_for_orgs(channel, chaincode, &own) {
            Ok(plan) => plan,
            Err(_) if opened.has_transient => {
                return Err(Status::failed_precondition(
                    "no endorsers found in the gateway's organization; retry specifying \
                     endorsing organization(s) to protect transient data",
                ));
            }
            Err(_) => self
                .plan_for_interest(id, channel, &default, None)
                .map_err(|text| {
                    let advice = advice::nobody(channel.is_some(), id, chaincode);
                    self.advised(Code::FailedPrecondition, &text, advice)
                })?,
        };
        let (first, response) = self.first_endorsement(channel, &mut plan, signed).await?;
        let interest = response
            .interest
            .clone()
            .filter(|i| !i.chaincodes.is_empty());
        let interest = interest.unwrap_or(default);
        let mut plan = self.plan_with(channel, opened, interest, &first)?;
        plan.endorsed(&first, response);
        Ok(plan)
    }

    async fn first_endorsement(
        &self,
        channel: Option<&PeerChannel>,
        plan: &mut Plan,
        signed: &SignedProposal,
    ) -> Result<(Arc<Endorser>, ProposalResponse), Status> {
        let mut details = Vec::new();
        let mut next = plan.endorsers().and_then(|peers| peers.into_iter().next());
        while let Some(endorser) = next {
            match self.ask(channel, &endorser, signed).await {
                Ok(response) => return Ok((endorser, response)),
                Err(trouble) => details.extend(endorser.details(trouble)),
            }
            next = plan.next_in_group(&endorser).ok();
        }
        let text = "failed to endorse transaction, see attached details for more info";
        Err(with_details(Code::Aborted, text, &details))
    }

    /// Plans for what was touched. Transient data goes only to organisations that may see the
    /// collections it was written to.
    fn plan_with(
        &self,
        channel: Option<&PeerChannel>,
        opened: &Opened,
        interest: ChaincodeInterest,
        first: &Endorser,
    ) -> Result<Plan, Status> {
        let id = opened.channel_id.as_str();
        let mut guarded = interest.clone();
        let mut protected: Vec<String> = Vec::new();
        if opened.has_transient {
            for call in guarded.chaincodes.iter_mut().filter(|c| c.no_private_reads) {
                call.no_private_reads = false;
                protected.extend(call.collection_names.iter().cloned());
            }
        }
        let refused = match self.plan_for_interest(id, channel, &guarded, Some(first)) {
            Ok(plan) => return Ok(plan),
            Err(refused) => refused,
        };
        if !protected.is_empty()
            && self
                .plan_for_interest(id, channel, &interest, Some(first))
                .is_ok()
        {
            let protected = protected.join(" ");
            return Err(Status::failed_precondition(format!(
                "requires endorsement from organisation(s) that are not in the distribution \
                 policy of the private data collection(s): [{protected}]; retry specifying \
                 trusted endorsing organizations to protect transient data"
            )));
        }
        let advice = Some(advice::TOO_FEW_PEERS);
        Err(self.advised(Code::FailedPrecondition, &refused, advice))
    }
}
