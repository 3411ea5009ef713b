//! `grpc.health.v1.Health`, for those who watch nodes over gRPC.

use std::collections::BTreeSet;
use std::pin::Pin;

use futures::Stream;
use tonic::{Request, Response, Status};

use crate::services::health::health_check_response::ServingStatus;
use crate::services::health::health_server::{Health, HealthServer};
use crate::services::health::{HealthCheckRequest, HealthCheckResponse};

/// Says that a node serves, as a whole and each of its services.
#[derive(Debug, Clone)]
pub struct Serving {
    services: BTreeSet<String>,
}

impl Serving {
    /// The health service of a node with these services, by full name.
    pub fn of(services: impl IntoIterator<Item = &'static str>) -> HealthServer<Self> {
        let mut services: BTreeSet<String> = services.into_iter().map(str::to_owned).collect();
        services.insert(String::new());
        HealthServer::new(Self { services })
    }
}

type Watch = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Serving {
    type WatchStream = Watch;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.services.contains(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving as i32,
        }))
    }

    /// The state now, and an open stream: a node that stops closes it.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let status = if self.services.contains(&request.get_ref().service) {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        let now = HealthCheckResponse {
            status: status as i32,
        };
        let stream =
            futures::StreamExt::chain(futures::stream::iter([Ok(now)]), futures::stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }
}
