//! Who sent a request: a signature or a token, then the right to the project.

use axum::response::Response;
use http::request::Parts;
use selvage_manager_api::agent::AgentToken;
use selvage_manager_api::console::{LoginRequest, Session, WhoAmI};
use selvage_manager_api::{ApiError, ErrorCode};

use super::body::Came;
use super::{Call, Server, json};
use crate::auth::signature::{ALGORITHM, Authorization, Covered, SignedRequest};
use crate::clock;
use crate::service::{Manager, verify_password};
use crate::store::Principal;

/// User of an instance's own password.
const INSTANCE_USER: &str = "admin";

/// The refusal BCS documents for every failed authentication.
pub(super) fn refused() -> ApiError {
    ApiError::new(
        ErrorCode::Unauthenticated,
        "Incorrect token or token resolution failed",
    )
}

/// Somebody a request says it comes from.
pub(super) enum Claim {
    /// A token or a signature proved it.
    Proven(Principal, Covered),
    /// An access key was found: its signature covers a body that is still to be read.
    Open(Principal, String),
}

fn text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|v| v.to_str().ok())
}

/// Finds out who a request comes from, as far as that can be told before its body is read.
pub(super) async fn claim(
    manager: &Manager,
    parts: &Parts,
    is_empty: bool,
) -> Result<Claim, ApiError> {
    let store = &manager.inner.store;
    if let Some(header) = text(parts, "authorization").filter(|h| h.starts_with(ALGORITHM)) {
        let authorization = Authorization::parse(header).map_err(|e| explained(&e))?;
        let (secret, principal) =
            store
                .access_key(authorization.access)
                .await?
                .ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Unauthenticated,
                        "Incorrect token or token resolution failed: unknown access key",
                    )
                })?;
        let headers = headers_with_host(parts);
        let covered = signed(parts, &headers)
            .verify_head(&authorization, &secret, clock::now_s(), is_empty)
            .map_err(|e| explained(&e))?;
        return Ok(match covered {
            Some(covered) => Claim::Proven(principal, covered),
            None => Claim::Open(principal, secret),
        });
    }
    let token = text(parts, "x-auth-token").ok_or_else(refused)?;
    store
        .session(token)
        .await?
        .map(|principal| Claim::Proven(principal, Covered::Nothing))
        .ok_or_else(refused)
}

fn explained(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::Unauthenticated,
        format!("Incorrect token or token resolution failed: {error}"),
    )
}

/// The headers, with the host that HTTP/2 carries outside them.
fn headers_with_host(parts: &Parts) -> http::HeaderMap {
    let mut headers = parts.headers.clone();
    if !headers.contains_key("host")
        && let Some(authority) = parts.uri.authority()
        && let Ok(value) = authority.as_str().parse()
    {
        headers.insert("host", value);
    }
    headers
}

fn signed<'a>(parts: &'a Parts, headers: &'a http::HeaderMap) -> SignedRequest<'a> {
    SignedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
    }
}

impl Claim {
    /// Checks what is left to check once the body is there.
    pub(super) fn prove(self, parts: &Parts, body: &Came) -> Result<Principal, ApiError> {
        match self {
            Self::Proven(principal, covered) => {
                covered.check(&body.hash).map_err(|e| explained(&e))?;
                Ok(principal)
            }
            Self::Open(principal, secret) => {
                let header = text(parts, "authorization").unwrap_or_default();
                let authorization = Authorization::parse(header).map_err(|e| explained(&e))?;
                let headers = headers_with_host(parts);
                signed(parts, &headers)
                    .verify_body(&authorization, &secret, clock::now_s(), &body.hash)
                    .map_err(|e| explained(&e))?;
                Ok(principal)
            }
        }
    }
}

/// The project in the path must be the caller's, and `X-Project-Id` must agree when it is sent.
pub(super) fn project(
    caller: &Principal,
    in_path: &str,
    headers: &http::HeaderMap,
) -> Result<(), ApiError> {
    if caller.instance.is_some() {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "No permissions to request this method",
        ));
    }
    let header = headers.get("x-project-id");
    let agrees = header.is_none_or(|h| h.as_bytes() == in_path.as_bytes());
    if caller.project_id == in_path && agrees {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Forbidden,
        format!("forbidden to project [{in_path}]"),
    ))
}

impl Server {
    /// Checks a password; `found` is the hash it must have and who it lets in.
    async fn enter(
        &self,
        name: &str,
        password: &str,
        found: Option<(String, Principal)>,
    ) -> Result<Session, ApiError> {
        if password.is_empty() || password.len() > 128 || name.is_empty() || name.len() > 128 {
            return Err(refused());
        }
        self.throttle.begin(name, clock::now_ms())?;
        let right = match found {
            None => None,
            Some((hash, principal)) => verify_password(password.to_owned(), hash)
                .await?
                .then_some(principal),
        };
        let Some(principal) = right else {
            return Err(ApiError::new(
                ErrorCode::Unauthenticated,
                "Incorrect user name or password",
            ));
        };
        self.throttle.succeeded(name);
        let (token, expire_time) = self.manager.inner.store.open_session(&principal).await?;
        Ok(Session {
            token,
            expire_time,
            user: principal.name,
            project_id: principal.project_id,
        })
    }

    /// `POST /selvage/v1/sessions`.
    pub(super) async fn login(&self, call: &Call) -> Result<Response, ApiError> {
        let request: LoginRequest = call.json()?;
        let found = self.manager.inner.store.user(&request.user).await?;
        Ok(json(
            &self.enter(&request.user, &request.password, found).await?,
        ))
    }

    /// `DELETE /selvage/v1/sessions`.
    pub(super) async fn logout(&self, call: &Call) -> Result<Response, ApiError> {
        if let Some(token) = call
            .headers
            .get("x-auth-token")
            .and_then(|v| v.to_str().ok())
        {
            self.manager.inner.store.close_session(token).await?;
        }
        Ok(json(&serde_json::json!({ "result": "success" })))
    }

    /// `GET /v2/agent/apis/tokens`: a user's password, or with `blockchain_id` the resource
    /// password that the instance was made with, under the name `admin`.
    pub(super) async fn agent_token(&self, call: &Call) -> Result<Response, ApiError> {
        let header = |name| {
            call.headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let (user, password) = (header("x-auth-user"), header("x-auth-pass"));
        let store = &self.manager.inner.store;
        let session = match call.asked("blockchain_id") {
            None => {
                let found = store.user(user).await?;
                self.enter(user, password, found).await?
            }
            Some(id) => {
                let row = store.instance(id).await?.filter(|_| user == INSTANCE_USER);
                let found = row.map(|r| {
                    let principal = Principal {
                        name: INSTANCE_USER.to_owned(),
                        project_id: r.project_id,
                        instance: Some(r.id),
                    };
                    (r.password_hash, principal)
                });
                let name: String = format!("{user}@{id}").chars().take(100).collect();
                self.enter(&name, password, found).await?
            }
        };
        Ok(json(&AgentToken {
            user: session.user,
            token: session.token,
            expire_time: session.expire_time,
        }))
    }

    /// `GET /selvage/v1/whoami`.
    pub(super) fn whoami(&self, call: &Call) -> Result<Response, ApiError> {
        let caller = call.caller()?;
        Ok(json(&WhoAmI {
            user: caller.name.clone(),
            project_id: caller.project_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server_time: clock::now_ms(),
        }))
    }
}
