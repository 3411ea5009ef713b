//! The first tenant: made at the first start, its access kept in a file for the owner only, so that
//! `selvage up` can print it again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth::password;
use crate::error::ManagerError;
use crate::files::{read_limited, write_private};
use crate::random;
use crate::store::{Project, Store};

/// Instances the first project may have.
const QUOTA: i64 = 5;
/// Letters of access keys.
const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Letters of secret keys.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// How to get in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Console user.
    pub user: String,
    /// Its first password.
    pub password: String,
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
    /// Project.
    pub project_id: String,
    /// Tenant.
    pub domain_id: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("user", &self.user)
            .field("project_id", &self.project_id)
            .finish_non_exhaustive()
    }
}

/// Reads the access of the first tenant, or makes the tenant.
pub(crate) async fn first_tenant(store: &Store, folder: &Path) -> Result<Access, ManagerError> {
    let path = folder.join("access.json");
    let access = if path.exists() {
        serde_json::from_slice(&read_limited(&path, 64 * 1024)?).map_err(|e| {
            ManagerError::Corrupt {
                what: "access.json",
                reason: e.to_string(),
            }
        })?
    } else {
        let access = Access {
            user: "admin".to_owned(),
            password: random::password(),
            ak: random::text::<20>(CAPITALS),
            sk: random::text::<40>(LETTERS),
            project_id: random::hex::<16>(),
            domain_id: random::hex::<16>(),
        };
        let text = serde_json::to_vec_pretty(&access).map_err(|e| ManagerError::Corrupt {
            what: "access.json",
            reason: e.to_string(),
        })?;
        write_private(&path, &text)?;
        access
    };
    if store.user(&access.user).await?.is_none() {
        let project = Project {
            project_id: access.project_id.clone(),
            domain_id: access.domain_id.clone(),
            quota: QUOTA,
        };
        let hash = password::hash(&access.password)?;
        store
            .add_tenant(&project, (&access.ak, &access.sk), (&access.user, &hash))
            .await?;
    }
    Ok(access)
}
