//! What the manager keeps: one SQLite file in the data folder, written through to the disk before
//! a request is answered.

mod access;
mod blocks;
mod chaincodes;
mod instances;
mod operations;

use std::path::Path;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::error::ManagerError;
use crate::files;

pub(crate) use access::{Principal, Project};
pub(crate) use blocks::BlockEntry;
pub(crate) use chaincodes::{ChaincodeRow, FailedRow};
pub(crate) use instances::{Added, InstanceRow, InstanceState, NewInstance};
pub(crate) use operations::{OperationFilter, OperationParams, OperationRow};

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the file, makes it if needed, and brings its tables up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, ManagerError> {
        if !path.exists() {
            // SQLite would create it readable for the group.
            files::write_private(path, b"")?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_secs(10))
            .foreign_keys(true)
            .pragma("cache_size", "-1000");
        let pool = SqlitePoolOptions::new()
            .max_connections(3)
            .connect_with(options)
            .await
            .map_err(ManagerError::store("open its file"))?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|e| ManagerError::Corrupt {
                what: "schema",
                reason: e.to_string(),
            })?;
        Ok(Self { pool })
    }

    /// Waits for open queries and closes the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Reads a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, ManagerError> {
    serde_json::from_str(text).map_err(|e| ManagerError::Corrupt {
        what,
        reason: e.to_string(),
    })
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, ManagerError> {
    serde_json::to_string(value).map_err(|e| ManagerError::Corrupt {
        what,
        reason: e.to_string(),
    })
}
