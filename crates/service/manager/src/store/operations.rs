//! Operation records.

use selvage_manager_api::operation::RecordDetailInfo;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use super::{Store, from_json, to_json};
use crate::error::ManagerError;

/// Records a query answers at most.
const MOST: i64 = 1000;

/// An operation as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperationRow {
    pub(crate) started_ns: i64,
    /// Whether the operation failed and is taking its steps back.
    pub(crate) undoing: bool,
    /// What the operation was asked to do, beyond what the instance says.
    pub(crate) params: OperationParams,
    pub(crate) record: RecordDetailInfo,
}

/// Options of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct OperationParams {
    /// A deletion removes ledgers and keys too.
    #[serde(default)]
    pub(crate) with_storage: bool,
}

/// The filters of operation 25; empty ones match everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperationFilter {
    pub(crate) operation_id: Option<String>,
    pub(crate) blockchain_id: Option<String>,
    pub(crate) operation_status: Option<String>,
    pub(crate) resource_type: Option<String>,
    pub(crate) operation_type: Option<String>,
}

fn read(row: &SqliteRow) -> Result<OperationRow, ManagerError> {
    Ok(OperationRow {
        started_ns: row.get(0),
        undoing: row.get::<i64, _>(1) != 0,
        params: from_json("operation options", row.get(2))?,
        record: from_json("operation record", row.get(3))?,
    })
}

impl Store {
    pub(super) async fn insert_operation(
        tx: &mut Transaction<'_, Sqlite>,
        row: &OperationRow,
    ) -> Result<(), ManagerError> {
        sqlx::query("INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(&row.record.operation_id)
            .bind(&row.record.blockchain_id)
            .bind(&row.record.project_id)
            .bind(&row.record.resource_type)
            .bind(&row.record.operation_type)
            .bind(row.record.operation_status.wire())
            .bind(i64::from(row.undoing))
            .bind(row.started_ns)
            .bind(to_json("operation options", &row.params)?)
            .bind(to_json("operation record", &row.record)?)
            .execute(&mut **tx)
            .await
            .map_err(ManagerError::store("add an operation"))?;
        Ok(())
    }

    /// Adds an operation on an instance that exists and sets what should go on with it. False when
    /// another operation is running on it.
    pub(crate) async fn begin_operation(
        &self,
        row: &OperationRow,
        state: super::InstanceState,
    ) -> Result<bool, ManagerError> {
        let fail = ManagerError::store;
        let id = &row.record.blockchain_id;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        let running: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM operations WHERE blockchain_id = ? \
             AND status IN ('waiting', 'processing')",
        )
        .bind(id)
        .fetch_one(&mut *tx)
        .await
        .map_err(fail("look for operations"))?;
        if running > 0 {
            return Ok(false);
        }
        Self::insert_operation(&mut tx, row).await?;
        let word = match state {
            super::InstanceState::Creating => "creating",
            super::InstanceState::Ready => "ready",
            super::InstanceState::Deleting => "deleting",
        };
        sqlx::query("UPDATE instances SET state = ? WHERE id = ?")
            .bind(word)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(fail("change an instance"))?;
        tx.commit().await.map_err(fail("add an operation"))?;
        Ok(true)
    }

    /// Keeps the progress of an operation.
    pub(crate) async fn save_operation(&self, row: &OperationRow) -> Result<(), ManagerError> {
        sqlx::query(
            "UPDATE operations SET status = ?, undoing = ?, record = ? WHERE operation_id = ?",
        )
        .bind(row.record.operation_status.wire())
        .bind(i64::from(row.undoing))
        .bind(to_json("operation record", &row.record)?)
        .bind(&row.record.operation_id)
        .execute(&self.pool)
        .await
        .map_err(ManagerError::store("keep an operation"))?;
        Ok(())
    }

    /// Operations that a crash or stop interrupted.
    pub(crate) async fn unfinished_operations(&self) -> Result<Vec<OperationRow>, ManagerError> {
        let rows = sqlx::query(
            "SELECT started_ns, undoing, params, record FROM operations \
             WHERE status IN ('waiting', 'processing') ORDER BY started_ns",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("list operations"))?;
        rows.iter().map(read).collect()
    }

    /// Records of a project, newest first, with the number of all that match.
    pub(crate) async fn operations(
        &self,
        project_id: &str,
        filter: &OperationFilter,
    ) -> Result<(i64, Vec<OperationRow>), ManagerError> {
        let rows = sqlx::query(
            "SELECT started_ns, undoing, params, record, count(*) OVER () FROM operations \
             WHERE project_id = ?1 \
             AND (?2 IS NULL OR operation_id = ?2) AND (?3 IS NULL OR blockchain_id = ?3) \
             AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR resource_type = ?5) \
             AND (?6 IS NULL OR operation_type = ?6) ORDER BY started_ns DESC LIMIT ?7",
        )
        .bind(project_id)
        .bind(&filter.operation_id)
        .bind(&filter.blockchain_id)
        .bind(&filter.operation_status)
        .bind(&filter.resource_type)
        .bind(&filter.operation_type)
        .bind(MOST)
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("list operations"))?;
        let count = rows.first().map_or(0, |r| r.get(4));
        Ok((count, rows.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether an operation is over, and how it ended.
    pub(crate) async fn operation(
        &self,
        operation_id: &str,
    ) -> Result<Option<OperationRow>, ManagerError> {
        let row = sqlx::query(
            "SELECT started_ns, undoing, params, record FROM operations WHERE operation_id = ?",
        )
        .bind(operation_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(ManagerError::store("read an operation"))?;
        row.as_ref().map(read).transpose()
    }
}
