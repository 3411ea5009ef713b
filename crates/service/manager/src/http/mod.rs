//! The server: API and console on one port.

mod agent;
mod authenticate;
mod bcs;
mod body;
mod chaincode;
mod console;
mod routes;
#[cfg(test)]
mod tests;
mod throttle;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use selvage_manager_api::{ApiError, ErrorCode};
use serde::Serialize;

use crate::service::Manager;
use crate::store::{InstanceRow, Principal, Project};
use authenticate::Claim;
use body::Pace;
use chaincode::{MOST_UPLOAD, Uploads};
use routes::{Endpoint, Guard, Params, Route};
use throttle::Throttle;

/// What every request meets.
struct Server {
    manager: Manager,
    routes: Vec<Route>,
    throttle: Throttle,
    uploads: Uploads,
    pace: Pace,
}

impl Server {
    fn new(manager: Manager) -> Self {
        Self {
            manager,
            routes: routes::routes(),
            throttle: Throttle::default(),
            uploads: Uploads::default(),
            pace: Pace::default(),
        }
    }
}

/// A request that may be answered.
struct Call {
    caller: Option<Principal>,
    params: Params,
    query: Params,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Call {
    fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// A query parameter that is there and not empty.
    fn asked(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, ApiError> {
        self.asked(name).map_or(Ok(default), |v| {
            v.parse()
                .map_err(|_| ApiError::bad(format!("{name} must be a whole number")))
        })
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.asked(name) {
            None => Ok(false),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(ApiError::bad(format!("{name} must be true or false"))),
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| ApiError::new(ErrorCode::BadJson, format!("JSON unmarshal error: {e}")))
    }

    fn caller(&self) -> Result<&Principal, ApiError> {
        self.caller.as_ref().ok_or_else(authenticate::refused)
    }
}

/// The router for [`selvage_net::server::Server`].
pub fn router(manager: Manager) -> Router {
    let server = Arc::new(Server::new(manager));
    Router::new().fallback(move |request: Request| {
        let server = Arc::clone(&server);
        async move { server.answer(request).await }
    })
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

impl Server {
    async fn answer(&self, request: Request) -> Response {
        let id = uuid::Uuid::new_v4().to_string();
        let what = format!("{} {}", request.method(), request.uri().path());
        // A defect in one request must not take the connection's other requests with it.
        let outcome = AssertUnwindSafe(self.handle(request)).catch_unwind().await;
        let mut response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::info!(request = id, what, %error, "refused");
                failure(&error)
            }
            Err(_) => {
                tracing::error!(request = id, what, "a request panicked");
                failure(&ApiError::new(ErrorCode::Internal, "Internal Server Error"))
            }
        };
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(&mut response, header::X_FRAME_OPTIONS, "DENY");
        response
    }

    async fn handle(&self, request: Request) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let Some((route, params)) = routes::find(&self.routes, parts.method.as_str(), path) else {
            return console::file(parts.method.as_str(), path, &parts.headers);
        };
        let claim = match route.guard {
            Guard::Public => None,
            Guard::Known | Guard::Project => {
                Some(authenticate::claim(&self.manager, &parts, body::is_empty(&body)).await?)
            }
        };
        let most = match (&claim, route.endpoint) {
            (None, _) => body::MOST_PUBLIC,
            (Some(Claim::Open(..)), _) => body::MOST_UNPROVEN,
            (Some(Claim::Proven(..)), Endpoint::InstallChaincode) => MOST_UPLOAD,
            (Some(Claim::Proven(..)), _) => body::MOST_PROVEN,
        };
        // Held until the request is answered: what was sent is in memory until then.
        let _turn = match &claim {
            Some(Claim::Proven(who, _)) if most == MOST_UPLOAD => {
                Some(self.uploads.turn(who).await?)
            }
            _ => None,
        };
        let body = self.pace.read(body, most).await?;
        let caller = match claim {
            None => None,
            Some(claim) => Some(claim.prove(&parts, &body)?),
        };
        if let (Guard::Project, Some(caller)) = (route.guard, &caller) {
            let project = params.get("project_id").map_or("", String::as_str);
            authenticate::project(caller, project, &parts.headers)?;
        }
        let query = routes::query(parts.uri.query().unwrap_or_default());
        let call = Call {
            caller,
            params,
            query,
            headers: parts.headers,
            body: body.bytes,
        };
        self.call(route.endpoint, &call).await
    }

    async fn call(&self, endpoint: Endpoint, call: &Call) -> Result<Response, ApiError> {
        match endpoint {
            Endpoint::Bcs(number) => self.bcs(number, call).await,
            Endpoint::Login => self.login(call).await,
            Endpoint::Logout => self.logout(call).await,
            Endpoint::WhoAmI => self.whoami(call),
            Endpoint::Health => Ok(json(&serde_json::json!({ "status": "OK" }))),
            Endpoint::AgentToken => self.agent_token(call).await,
            Endpoint::Peers => self.peers(call).await,
            Endpoint::Summary => self.summary(call).await,
            Endpoint::Blocks => self.blocks(call).await,
            Endpoint::Transactions => self.transactions(call).await,
            Endpoint::TransactionCount => self.transaction_count(call).await,
            Endpoint::BlockTransactions => self.block_transactions(call).await,
            Endpoint::TransactionDetail => self.transaction_detail(call).await,
            Endpoint::Search => self.search(call).await,
            Endpoint::Live => self.live(call).await,
            Endpoint::InstallChaincode => self.install_chaincode(call).await,
            Endpoint::InstantiateChaincode => self.instantiate_chaincode(call).await,
            Endpoint::Chaincodes => self.chaincodes(call).await,
            Endpoint::ChaincodeVersions => self.chaincode_versions(call).await,
            Endpoint::ChaincodeInstalls => self.chaincode_installs(call).await,
            Endpoint::ChaincodeInstantiations => self.chaincode_instantiations(call).await,
        }
    }

    async fn project(&self, call: &Call) -> Result<Project, ApiError> {
        let id = &call.caller()?.project_id;
        self.manager
            .inner
            .store
            .project(id)
            .await?
            .ok_or_else(authenticate::refused)
    }

    /// The instance named in the path, if it belongs to the caller's project.
    async fn instance(&self, call: &Call, id: &str) -> Result<InstanceRow, ApiError> {
        let project = &call.caller()?.project_id;
        let found = self.manager.inner.store.instance(id).await?;
        found
            .filter(|i| &i.project_id == project)
            .ok_or_else(ApiError::no_such_instance)
    }
}

/// A JSON answer.
fn json<T: Serialize>(value: &T) -> Response {
    reply(StatusCode::OK, value)
}

fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

fn failure(error: &ApiError) -> Response {
    let status =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, &error.body())
}
