//! The few operations of our own that the console needs, under `/selvage/v1`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /selvage/v1/sessions`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct LoginRequest {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Answer of `POST /selvage/v1/sessions`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Value for the header `X-Auth-Token`.
    pub token: String,
    /// Unix milliseconds.
    pub expire_time: i64,
    /// User.
    pub user: String,
    /// Project for the paths under `/v2`.
    pub project_id: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Answer of `GET /selvage/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// User, or the access key for signed requests.
    pub user: String,
    /// Project.
    pub project_id: String,
    /// Version of the manager.
    pub version: String,
    /// Unix milliseconds of the manager's clock, so that a client sees its own skew.
    pub server_time: i64,
}
