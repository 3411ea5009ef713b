//! The service `protos.Endorser`.

use selvage_net::MAX_MESSAGE_BYTES;
use selvage_net::services::endorser_server::{Endorser as EndorserApi, EndorserServer};
use selvage_net::tonic::{Code, Request, Response, Status};
use selvage_proto::gateway::ErrorDetail;
use selvage_proto::peer::{ProposalResponse, SignedProposal};

use super::{Endorser, Refusal};
use crate::details::with_details;

/// Answers proposals that come over the network.
#[derive(Clone)]
pub struct EndorserService {
    endorser: Endorser,
    /// How this peer is called in details.
    address: String,
}

impl EndorserService {
    /// Serves an endorser; `address` is where others reach this peer.
    pub fn new(endorser: Endorser, address: impl Into<String>) -> Self {
        Self {
            endorser,
            address: address.into(),
        }
    }

    /// Go's gRPC gives errors without a code of their own this one.
    fn status(&self, refusal: Refusal) -> Status {
        let detail = refusal.advice.map(|message| ErrorDetail {
            address: self.address.clone(),
            msp_id: self.endorser.parts.signer.msp_id().to_owned(),
            message,
        });
        with_details(Code::Unknown, &refusal.text, detail.as_slice())
    }

    /// The gRPC service, with Fabric's message size.
    pub fn into_service(self) -> EndorserServer<Self> {
        EndorserServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[selvage_net::tonic::async_trait]
impl EndorserApi for EndorserService {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, Status> {
        let answer = self.endorser.process(request.into_inner()).await;
        answer
            .map(Response::new)
            .map_err(|refusal| self.status(refusal))
    }
}
