//! `Evaluate`: one peer's answer, never ordered (Fabric: `evaluate.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_net::tonic::{Code, Status};
use selvage_proto::gateway::{EvaluateRequest, EvaluateResponse};
use selvage_proto::peer::{
    ChaincodeAction, ProposalResponse, ProposalResponsePayload, Response, SignedProposal,
};

use super::deadline::Deadline;
use super::endorse::Opened;
use super::plan::{Endorser, Plan};
use super::{Gateway, advice, no_config};
use crate::channels::PeerChannel;
use crate::details::with_details;

impl Gateway {
    pub(super) async fn evaluate(
        &self,
        request: EvaluateRequest,
        deadline: Deadline,
    ) -> Result<EvaluateResponse, Status> {
        let signed = request.proposed_transaction.unwrap_or_default();
        let invalid = |e: String| {
            Status::invalid_argument(format!("failed to unpack transaction proposal: {e}"))
        };
        if signed.proposal_bytes.is_empty() {
            return Err(invalid("a signed proposal is required".to_owned()));
        }
        let opened = Opened::open(&signed).map_err(invalid)?;
        let id = &opened.channel_id;
        if id.is_empty() {
            return Err(invalid("no channel id provided".to_owned()));
        }
        let chaincode = opened.chaincode.clone().map_err(|missing| {
            invalid(format!(
                "no chaincode {missing} is provided, channel id [{id}]"
            ))
        })?;
        let channel = self
            .channel(id)
            .ok_or_else(|| self.not_joined(Code::Unavailable, &no_config(id), id))?;
        let mut orgs = request.target_organizations;
        let guarded = opened.has_transient && orgs.is_empty();
        if guarded {
            orgs = vec![self.local_msp_id().to_owned()];
        }
        let plan = self
            .evaluators(&channel, &chaincode, &orgs)
            .ok_or_else(|| {
                let reason =
                    format!("no peers available to evaluate chaincode {chaincode} in channel {id}");
                let text = match guarded {
                    true => format!(
                        "no endorsers found in the gateway's organization; retry specifying target \
                     organization(s) to protect transient data: {reason}"
                    ),
                    false => reason,
                };
                let advice = advice::nobody(true, id, &chaincode);
                self.advised(Code::FailedPrecondition, &text, advice)
            })?;
        let asking = self.first_answer(&channel, plan, &signed);
        deadline.hold("evaluate timeout expired", asking).await?
    }

    /// The answer of the first peer that gives one.
    async fn first_answer(
        &self,
        channel: &PeerChannel,
        mut plan: Plan,
        signed: &SignedProposal,
    ) -> Result<EvaluateResponse, Status> {
        let mut details = Vec::new();
        let mut code = Code::Unavailable;
        let mut next = plan.endorsers().and_then(|peers| peers.into_iter().next());
        while let Some(endorser) = next {
            let trouble = match self.ask(Some(channel), &endorser, signed).await {
                Ok(response) => {
                    return Ok(EvaluateResponse {
                        result: Some(result_of(response)),
                    });
                }
                Err(trouble) => trouble,
            };
            let (message, retry) = (trouble.message.clone(), trouble.retry);
            code = trouble.code;
            details.extend(endorser.details(trouble));
            if !retry {
                let text = format!("evaluate call to endorser returned error: {message}");
                return Err(with_details(code, &text, &details));
            }
            next = plan.next_in_group(&endorser).ok();
        }
        let text = "failed to evaluate transaction, see attached details for more info";
        Err(with_details(code, text, &details))
    }

    /// The peers to try, one after the other, those of the own organisation first.
    fn evaluators(&self, channel: &PeerChannel, chaincode: &str, orgs: &[String]) -> Option<Plan> {
        let mut by_org = self.endorsers_by_org(channel, chaincode);
        if !orgs.is_empty() {
            by_org.retain(|org, _| orgs.contains(org));
        }
        let own = by_org.remove(self.local_msp_id()).unwrap_or_default();
        let all: Vec<Arc<Endorser>> = own
            .into_iter()
            .chain(by_org.into_values().flatten())
            .collect();
        (!all.is_empty()).then(|| Plan::one_of_each(BTreeMap::from([("g1".to_owned(), all)])))
    }
}

/// The response, with the result that was signed: the plain one need not carry it.
fn result_of(response: ProposalResponse) -> Response {
    let mut result = response.response.unwrap_or_default();
    if let Some(payload) = signed_result(response.payload) {
        result.payload = payload;
    }
    result
}

fn signed_result(payload: Bytes) -> Option<Bytes> {
    let payload = ProposalResponsePayload::decode(payload).ok()?;
    let action = ChaincodeAction::decode(payload.extension).ok()?;
    Some(action.response.unwrap_or_default().payload)
}
