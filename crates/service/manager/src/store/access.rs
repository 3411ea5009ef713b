//! Projects, access keys, users, sessions.

use sqlx::Row;

use super::Store;
use crate::clock;
use crate::error::ManagerError;
use crate::random;

/// How long a token is good, as in the cloud: 24 hours.
pub(crate) const TOKEN_MS: i64 = 24 * 60 * 60 * 1000;
/// Tokens of one project; the oldest go.
const TOKENS_PER_PROJECT: i64 = 1000;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Principal {
    /// User name or access key.
    pub(crate) name: String,
    /// The project it may act in.
    pub(crate) project_id: String,
    /// The one instance it may look at, for who came in with an instance's password.
    pub(crate) instance: Option<String>,
}

impl Principal {
    fn of_project(name: &str, project_id: String) -> Self {
        Self {
            name: name.to_owned(),
            project_id,
            instance: None,
        }
    }
}

/// A project and the tenant that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) project_id: String,
    pub(crate) domain_id: String,
    pub(crate) quota: i64,
}

fn token_hash(token: &str) -> Vec<u8> {
    selvage_crypto::sha256(token.as_bytes()).to_vec()
}

impl Store {
    /// Adds a project with an access key and a user, in one step. Nothing happens if the user is
    /// there already.
    pub(crate) async fn add_tenant(
        &self,
        project: &Project,
        key: (&str, &str),
        user: (&str, &str),
    ) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self.pool.begin().await.map_err(fail("begin"))?;
        let taken = sqlx::query("SELECT 1 FROM users WHERE name = ?")
            .bind(user.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fail("read a user"))?;
        if taken.is_some() {
            return Ok(());
        }
        sqlx::query("INSERT INTO projects VALUES (?, ?, ?, ?)")
            .bind(&project.project_id)
            .bind(&project.domain_id)
            .bind("default")
            .bind(project.quota)
            .execute(&mut *tx)
            .await
            .map_err(fail("add a project"))?;
        sqlx::query("INSERT INTO access_keys VALUES (?, ?, ?)")
            .bind(key.0)
            .bind(key.1)
            .bind(&project.project_id)
            .execute(&mut *tx)
            .await
            .map_err(fail("add an access key"))?;
        sqlx::query("INSERT INTO users VALUES (?, ?, ?)")
            .bind(user.0)
            .bind(user.1)
            .bind(&project.project_id)
            .execute(&mut *tx)
            .await
            .map_err(fail("add a user"))?;
        tx.commit().await.map_err(fail("add a tenant"))
    }

    /// The project of this id.
    pub(crate) async fn project(&self, id: &str) -> Result<Option<Project>, ManagerError> {
        let row =
            sqlx::query("SELECT project_id, domain_id, quota FROM projects WHERE project_id = ?")
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .map_err(ManagerError::store("read a project"))?;
        Ok(row.map(|r| Project {
            project_id: r.get(0),
            domain_id: r.get(1),
            quota: r.get(2),
        }))
    }

    /// Secret key and project of an access key.
    pub(crate) async fn access_key(
        &self,
        ak: &str,
    ) -> Result<Option<(String, Principal)>, ManagerError> {
        let row = sqlx::query("SELECT sk, project_id FROM access_keys WHERE ak = ?")
            .bind(ak)
            .fetch_optional(&self.pool)
            .await
            .map_err(ManagerError::store("read an access key"))?;
        Ok(row.map(|r| (r.get(0), Principal::of_project(ak, r.get(1)))))
    }

    /// Password hash and project of a user.
    pub(crate) async fn user(
        &self,
        name: &str,
    ) -> Result<Option<(String, Principal)>, ManagerError> {
        let row = sqlx::query("SELECT password_hash, project_id FROM users WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(ManagerError::store("read a user"))?;
        Ok(row.map(|r| (r.get(0), Principal::of_project(name, r.get(1)))))
    }

    /// Makes a token for somebody who proved who they are; answers it with its end in unix
    /// milliseconds.
    pub(crate) async fn open_session(
        &self,
        principal: &Principal,
    ) -> Result<(String, i64), ManagerError> {
        let token = random::hex::<32>();
        let now = clock::now_ms();
        let expires = now + TOKEN_MS;
        let fail = ManagerError::store;
        let mut tx = self.pool.begin().await.map_err(fail("begin"))?;
        sqlx::query("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)")
            .bind(token_hash(&token))
            .bind(&principal.name)
            .bind(&principal.project_id)
            .bind(&principal.instance)
            .bind(expires)
            .execute(&mut *tx)
            .await
            .map_err(fail("add a session"))?;
        sqlx::query(
            "DELETE FROM sessions WHERE expires_ms < ?1 OR (project_id = ?2 AND token_hash NOT IN \
             (SELECT token_hash FROM sessions WHERE project_id = ?2 \
              ORDER BY expires_ms DESC LIMIT ?3))",
        )
        .bind(now)
        .bind(&principal.project_id)
        .bind(TOKENS_PER_PROJECT)
        .execute(&mut *tx)
        .await
        .map_err(fail("drop old sessions"))?;
        tx.commit().await.map_err(fail("add a session"))?;
        Ok((token, expires))
    }

    /// Who holds a token.
    pub(crate) async fn session(&self, token: &str) -> Result<Option<Principal>, ManagerError> {
        let row = sqlx::query(
            "SELECT user_name, project_id, blockchain_id FROM sessions \
             WHERE token_hash = ? AND expires_ms > ?",
        )
        .bind(token_hash(token))
        .bind(clock::now_ms())
        .fetch_optional(&self.pool)
        .await
        .map_err(ManagerError::store("read a session"))?;
        Ok(row.map(|r| Principal {
            name: r.get(0),
            project_id: r.get(1),
            instance: r.get(2),
        }))
    }

    /// Ends a session.
    pub(crate) async fn close_session(&self, token: &str) -> Result<(), ManagerError> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = ?")
            .bind(token_hash(token))
            .execute(&self.pool)
            .await
            .map_err(ManagerError::store("end a session"))?;
        Ok(())
    }
}
