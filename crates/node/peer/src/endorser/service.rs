//! The service `protos.Endorser`.

use selvage_net::MAX_MESSAGE_BYTES;
use selvage_net::services::endorser_server::{Endorser as EndorserApi, EndorserServer};
use selvage_net::tonic::{Request, Response, Status};
use selvage_proto::peer::{ProposalResponse, SignedProposal};

use super::Endorser;

/// Answers proposals that come over the network.
#[derive(Clone)]
pub struct EndorserService {
    endorser: Endorser,
}

impl EndorserService {
    /// Serves an endorser.
    pub fn new(endorser: Endorser) -> Self {
        Self { endorser }
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
        // Go's gRPC gives errors without a code of their own this one.
        answer
            .map(Response::new)
            .map_err(|refusal| Status::unknown(refusal.to_string()))
    }
}
