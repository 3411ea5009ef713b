//! The service `gateway.Gateway`.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use prost::Message;
use selvage_net::MAX_MESSAGE_BYTES;
use selvage_net::services::gateway_server::{Gateway as GatewayApi, GatewayServer};
use selvage_net::tonic::{Code, Request, Response, Status};
use selvage_proto::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, CommitStatusResponse,
    EndorseRequest, EndorseResponse, EvaluateRequest, EvaluateResponse,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest, SubmitResponse,
};

use super::deadline::Deadline;
use super::{Gateway, events};
use crate::endorser::{Caller, acl_check};
use crate::report;

/// Answers gateway requests that come over the network.
#[derive(Clone)]
pub struct GatewayService {
    gateway: Gateway,
}

impl GatewayService {
    /// Serves a gateway.
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    /// The gRPC service, with Fabric's message size.
    pub fn into_service(self) -> GatewayServer<Self> {
        GatewayServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

impl Gateway {
    /// May the signer of a request use a resource of the channel?
    fn check(&self, channel: &str, resource: &str, caller: &Caller) -> Result<(), Status> {
        if channel.is_empty() {
            let text = "Invalid channel ID name during check policy on signed data. Name must be \
                        different from nil.";
            return Err(Status::permission_denied(text));
        }
        let config = self.channel(channel).map(|c| c.config());
        let local = self.inner.planner.membership().chaincodes().local_msp();
        acl_check(local, channel, config.as_deref(), resource, caller)
            .map_err(|denied| self.advised(Code::PermissionDenied, &denied.text, denied.advice))
    }

    async fn commit_status(
        &self,
        signed: SignedCommitStatusRequest,
        deadline: Deadline,
    ) -> Result<CommitStatusResponse, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument(
                "a commit status request is required",
            ));
        }
        let request = CommitStatusRequest::decode(signed.request.clone())
            .map_err(|e| Status::invalid_argument(format!("invalid status request: proto: {e}")))?;
        let id = &request.channel_id;
        let missing = if request.identity.is_empty() {
            Some("no identity provided")
        } else if id.is_empty() {
            Some("no channel ID provided")
        } else if request.transaction_id.is_empty() {
            Some("transaction ID should not be empty")
        } else {
            None
        };
        if let Some(missing) = missing {
            return Err(Status::invalid_argument(missing));
        }
        let caller = caller(signed.request, request.identity.clone(), signed.signature);
        self.check(id, "gateway/CommitStatus", &caller)?;
        let channel = self
            .channel(id)
            .ok_or_else(|| self.not_joined(Code::Aborted, &no_ledger(id), id))?;
        let waiting = channel.commit_status(&request.transaction_id);
        let status = deadline.hold("context deadline exceeded", waiting).await?;
        let status = status.map_err(|e| Status::aborted(report(&e)))?;
        Ok(CommitStatusResponse {
            result: status.code as i32,
            block_number: status.block_number,
        })
    }

    fn chaincode_events(
        &self,
        signed: SignedChaincodeEventsRequest,
    ) -> Result<EventStream, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument(
                "a chaincode events request is required",
            ));
        }
        let request = ChaincodeEventsRequest::decode(signed.request.clone()).map_err(|e| {
            Status::invalid_argument(format!("invalid chaincode events request: proto: {e}"))
        })?;
        let id = request.channel_id.clone();
        let caller = caller(signed.request, request.identity.clone(), signed.signature);
        self.check(&id, "gateway/ChaincodeEvents", &caller)?;
        let channel = self
            .channel(&id)
            .ok_or_else(|| self.not_joined(Code::NotFound, &no_ledger(&id), &id))?;
        Ok(Box::pin(events::follow(channel, request)?))
    }
}

fn caller(data: Bytes, creator: Bytes, signature: Bytes) -> Caller {
    Caller {
        data,
        creator,
        signature,
        verified: None,
    }
}

fn no_ledger(channel: &str) -> String {
    format!("channel does not exist: {channel}")
}

type EventStream = Pin<Box<dyn Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send>>;

#[selvage_net::tonic::async_trait]
impl GatewayApi for GatewayService {
    type ChaincodeEventsStream = EventStream;

    async fn endorse(
        &self,
        request: Request<EndorseRequest>,
    ) -> Result<Response<EndorseResponse>, Status> {
        let deadline = Deadline::of(&request);
        let answer = self.gateway.endorse(request.into_inner(), deadline).await;
        answer.map(Response::new)
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let deadline = Deadline::of(&request);
        let answer = self.gateway.submit(request.into_inner(), deadline).await;
        answer.map(Response::new)
    }

    async fn commit_status(
        &self,
        request: Request<SignedCommitStatusRequest>,
    ) -> Result<Response<CommitStatusResponse>, Status> {
        let deadline = Deadline::of(&request);
        let answer = self
            .gateway
            .commit_status(request.into_inner(), deadline)
            .await;
        answer.map(Response::new)
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let deadline = Deadline::of(&request);
        let answer = self.gateway.evaluate(request.into_inner(), deadline).await;
        answer.map(Response::new)
    }

    async fn chaincode_events(
        &self,
        request: Request<SignedChaincodeEventsRequest>,
    ) -> Result<Response<Self::ChaincodeEventsStream>, Status> {
        self.gateway
            .chaincode_events(request.into_inner())
            .map(Response::new)
    }
}
