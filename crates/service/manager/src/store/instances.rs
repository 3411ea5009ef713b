//! Instances and the ports they hold.

use selvage_manager_api::validate::CreateSpec;
use selvage_manager_api::{ApiError, ErrorCode};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{OperationRow, Store, from_json, to_json};
use crate::error::ManagerError;
use crate::network::Network;

/// What should be going on with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstanceState {
    /// An operation makes it.
    Creating,
    /// Its nodes should run.
    Ready,
    /// An operation removes it.
    Deleting,
}

impl InstanceState {
    fn wire(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }

    fn from_wire(text: &str) -> Result<Self, ManagerError> {
        match text {
            "creating" => Ok(Self::Creating),
            "ready" => Ok(Self::Ready),
            "deleting" => Ok(Self::Deleting),
            other => Err(ManagerError::Corrupt {
                what: "instance state",
                reason: other.to_owned(),
            }),
        }
    }
}

/// An instance as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct InstanceRow {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) created_ns: i64,
    pub(crate) state: InstanceState,
    pub(crate) spec: CreateSpec,
    pub(crate) network: Option<Network>,
    pub(crate) password_hash: String,
}

impl InstanceRow {
    /// Refuses, in BCS's words, an instance that is being made or unmade.
    pub(crate) fn require_ready(&self) -> Result<(), ApiError> {
        match self.state {
            InstanceState::Ready => Ok(()),
            InstanceState::Creating => Err(ApiError::new(
                ErrorCode::BeingCreated,
                "Operation failed. The BCS service is being created.",
            )),
            InstanceState::Deleting => Err(ApiError::new(
                ErrorCode::BeingDeleted,
                "Operation failed. The BCS service is being deleted.",
            )),
        }
    }
}

/// An instance to be added together with the operation that creates it.
#[derive(Debug)]
pub(crate) struct NewInstance<'a> {
    pub(crate) id: &'a str,
    pub(crate) project_id: &'a str,
    pub(crate) created_ns: i64,
    pub(crate) spec: &'a CreateSpec,
    pub(crate) password_hash: &'a str,
}

const COLUMNS: &str =
    "SELECT id, project_id, created_ns, state, spec, network, password_hash FROM instances";

fn read(row: &SqliteRow) -> Result<InstanceRow, ManagerError> {
    let network: Option<String> = row.get(5);
    Ok(InstanceRow {
        id: row.get(0),
        project_id: row.get(1),
        created_ns: row.get(2),
        state: InstanceState::from_wire(row.get(3))?,
        spec: from_json("instance spec", row.get(4))?,
        network: network
            .map(|n| from_json("instance network", &n))
            .transpose()?,
        password_hash: row.get(6),
    })
}

/// What adding an instance came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is there.
    Yes,
    /// The name is taken in this project.
    NameTaken,
    /// The project has no quota left.
    NoQuota,
}

impl Store {
    /// Adds an instance and its operation in one transaction.
    pub(crate) async fn add_instance(
        &self,
        new: &NewInstance<'_>,
        operation: &OperationRow,
        quota: i64,
    ) -> Result<Added, ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        let used: i64 = sqlx::query_scalar("SELECT count(*) FROM instances WHERE project_id = ?")
            .bind(new.project_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(fail("count instances"))?;
        if used >= quota {
            return Ok(Added::NoQuota);
        }
        let inserted = sqlx::query(
            "INSERT INTO instances (id, project_id, name, created_ns, state, spec, password_hash) \
             VALUES (?, ?, ?, ?, 'creating', ?, ?) ON CONFLICT (project_id, name) DO NOTHING",
        )
        .bind(new.id)
        .bind(new.project_id)
        .bind(&new.spec.name)
        .bind(new.created_ns)
        .bind(to_json("instance spec", new.spec)?)
        .bind(new.password_hash)
        .execute(&mut *tx)
        .await
        .map_err(fail("add an instance"))?;
        if inserted.rows_affected() == 0 {
            return Ok(Added::NameTaken);
        }
        Self::insert_operation(&mut tx, operation).await?;
        tx.commit().await.map_err(fail("add an instance"))?;
        Ok(Added::Yes)
    }

    /// Every instance, or those of one project, oldest first.
    pub(crate) async fn instances(
        &self,
        project_id: Option<&str>,
    ) -> Result<Vec<InstanceRow>, ManagerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE (?1 IS NULL OR project_id = ?1) ORDER BY created_ns"
        ));
        let rows = sqlx::query(sql)
            .bind(project_id)
            .fetch_all(&self.pool)
            .await
            .map_err(ManagerError::store("list instances"))?;
        rows.iter().map(read).collect()
    }

    /// One instance.
    pub(crate) async fn instance(&self, id: &str) -> Result<Option<InstanceRow>, ManagerError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = ?")))
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(ManagerError::store("read an instance"))?;
        row.as_ref().map(read).transpose()
    }

    /// Keeps the names and ports of an instance.
    pub(crate) async fn set_network(
        &self,
        id: &str,
        network: &Network,
    ) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        for port in network.ports() {
            sqlx::query("INSERT INTO ports VALUES (?, ?)")
                .bind(i64::from(port))
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(fail("keep a port"))?;
        }
        sqlx::query("UPDATE instances SET network = ? WHERE id = ?")
            .bind(to_json("instance network", network)?)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(fail("keep a network"))?;
        tx.commit().await.map_err(fail("keep a network"))
    }

    /// Forgets the names and ports of an instance.
    pub(crate) async fn clear_network(&self, id: &str) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        sqlx::query("DELETE FROM ports WHERE blockchain_id = ?")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(fail("free ports"))?;
        sqlx::query("UPDATE instances SET network = NULL WHERE id = ?")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(fail("forget a network"))?;
        tx.commit().await.map_err(fail("forget a network"))
    }

    /// Ports that instances hold.
    pub(crate) async fn ports(&self) -> Result<Vec<u16>, ManagerError> {
        let rows: Vec<i64> = sqlx::query_scalar("SELECT port FROM ports")
            .fetch_all(&self.pool)
            .await
            .map_err(ManagerError::store("list ports"))?;
        Ok(rows
            .into_iter()
            .filter_map(|p| u16::try_from(p).ok())
            .collect())
    }

    /// Changes what should be going on with an instance.
    pub(crate) async fn set_state(
        &self,
        id: &str,
        state: InstanceState,
    ) -> Result<(), ManagerError> {
        sqlx::query("UPDATE instances SET state = ? WHERE id = ?")
            .bind(state.wire())
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(ManagerError::store("change an instance"))?;
        Ok(())
    }

    /// Removes an instance with its ports and what the browser counted; its operation records stay.
    pub(crate) async fn remove_instance(&self, id: &str) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        for sql in [
            "DELETE FROM ports WHERE blockchain_id = ?",
            "DELETE FROM blocks WHERE blockchain_id = ?",
            "DELETE FROM sessions WHERE blockchain_id = ?",
            "DELETE FROM chaincodes WHERE blockchain_id = ?",
            "DELETE FROM failed_instantiations WHERE blockchain_id = ?",
            "DELETE FROM instances WHERE id = ?",
        ] {
            sqlx::query(sql)
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(fail("remove an instance"))?;
        }
        tx.commit().await.map_err(fail("remove an instance"))
    }
}
