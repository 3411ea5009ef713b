//! What is kept about chaincodes beside what the peers know.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Store;
use crate::error::ManagerError;

/// A version of a chaincode, as it was installed through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChaincodeRow {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) package_id: String,
    pub(crate) language: String,
    pub(crate) description: String,
    pub(crate) install_ns: i64,
    pub(crate) update_ns: i64,
}

/// The last attempt to instantiate a chaincode in a channel, when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedRow {
    pub(crate) channel: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) detail: String,
}

fn read(row: &SqliteRow) -> ChaincodeRow {
    ChaincodeRow {
        name: row.get(0),
        version: row.get(1),
        package_id: row.get(2),
        language: row.get(3),
        description: row.get(4),
        install_ns: row.get(5),
        update_ns: row.get(6),
    }
}

impl Store {
    /// Keeps a version. One that is there keeps the time of its installation.
    pub(crate) async fn put_chaincode(
        &self,
        blockchain_id: &str,
        row: &ChaincodeRow,
    ) -> Result<(), ManagerError> {
        sqlx::query(
            "INSERT INTO chaincodes (blockchain_id, name, version, package_id, language, \
             description, install_ns, update_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET package_id = excluded.package_id, \
             language = excluded.language, description = excluded.description, \
             update_ns = excluded.update_ns",
        )
        .bind(blockchain_id)
        .bind(&row.name)
        .bind(&row.version)
        .bind(&row.package_id)
        .bind(&row.language)
        .bind(&row.description)
        .bind(row.install_ns)
        .bind(row.update_ns)
        .execute(&self.pool)
        .await
        .map_err(ManagerError::store("keep a chaincode"))?;
        Ok(())
    }

    /// Every version of every chaincode of an instance.
    pub(crate) async fn chaincodes(
        &self,
        blockchain_id: &str,
    ) -> Result<Vec<ChaincodeRow>, ManagerError> {
        let rows = sqlx::query(
            "SELECT name, version, package_id, language, description, install_ns, update_ns \
             FROM chaincodes WHERE blockchain_id = ? ORDER BY name, install_ns",
        )
        .bind(blockchain_id)
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("list chaincodes"))?;
        Ok(rows.iter().map(read).collect())
    }

    /// Keeps why instantiating failed.
    pub(crate) async fn put_failed_instantiation(
        &self,
        blockchain_id: &str,
        row: &FailedRow,
    ) -> Result<(), ManagerError> {
        sqlx::query(
            "INSERT INTO failed_instantiations (blockchain_id, channel, name, version, code, \
             reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             version = excluded.version, code = excluded.code, reason = excluded.reason, \
             detail = excluded.detail",
        )
        .bind(blockchain_id)
        .bind(&row.channel)
        .bind(&row.name)
        .bind(&row.version)
        .bind(&row.code)
        .bind(&row.reason)
        .bind(&row.detail)
        .execute(&self.pool)
        .await
        .map_err(ManagerError::store("keep a failed instantiation"))?;
        Ok(())
    }

    /// Forgets that instantiating failed, and dates the version that succeeded.
    pub(crate) async fn instantiated(
        &self,
        blockchain_id: &str,
        channel: &str,
        name: &str,
        version: &str,
        now_ns: i64,
    ) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        sqlx::query(
            "DELETE FROM failed_instantiations WHERE blockchain_id = ? AND channel = ? AND name = ?",
        )
        .bind(blockchain_id)
        .bind(channel)
        .bind(name)
        .execute(&self.pool)
        .await
        .map_err(fail("forget a failed instantiation"))?;
        sqlx::query(
            "UPDATE chaincodes SET update_ns = ? WHERE blockchain_id = ? AND name = ? \
             AND version = ?",
        )
        .bind(now_ns)
        .bind(blockchain_id)
        .bind(name)
        .bind(version)
        .execute(&self.pool)
        .await
        .map_err(fail("date a chaincode"))?;
        Ok(())
    }

    /// Every failed attempt of an instance.
    pub(crate) async fn failed_instantiations(
        &self,
        blockchain_id: &str,
    ) -> Result<Vec<FailedRow>, ManagerError> {
        let rows = sqlx::query(
            "SELECT channel, name, version, code, reason, detail FROM failed_instantiations \
             WHERE blockchain_id = ?",
        )
        .bind(blockchain_id)
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("list failed instantiations"))?;
        let read = |row: &SqliteRow| FailedRow {
            channel: row.get(0),
            name: row.get(1),
            version: row.get(2),
            code: row.get(3),
            reason: row.get(4),
            detail: row.get(5),
        };
        Ok(rows.iter().map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_version_keeps_its_first_date_and_a_success_forgets_the_failure() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&dir.path().join("db")).await.expect("opens");
        let row = ChaincodeRow {
            name: "assets".into(),
            version: "1.0".into(),
            package_id: "assets_1.0:aa".into(),
            language: "golang".into(),
            description: "first".into(),
            install_ns: 1,
            update_ns: 1,
        };
        store.put_chaincode("i", &row).await.expect("kept");
        let again = ChaincodeRow {
            install_ns: 5,
            update_ns: 5,
            ..row.clone()
        };
        store.put_chaincode("i", &again).await.expect("kept");
        let all = store.chaincodes("i").await.expect("list");
        assert_eq!((all.len(), all[0].install_ns, all[0].update_ns), (1, 1, 5));
        assert!(store.chaincodes("other").await.expect("list").is_empty());

        let failed = FailedRow {
            channel: "c".into(),
            name: "assets".into(),
            version: "1.0".into(),
            code: "6999".into(),
            reason: "why".into(),
            detail: "literally".into(),
        };
        for _ in 0..2 {
            let put = store.put_failed_instantiation("i", &failed).await;
            put.expect("kept");
        }
        let all = store.failed_instantiations("i").await.expect("list");
        assert_eq!(all, [failed]);
        let done = store.instantiated("i", "c", "assets", "1.0", 9).await;
        done.expect("kept");
        assert_eq!(store.failed_instantiations("i").await.expect("list"), []);
        assert_eq!(store.chaincodes("i").await.expect("list")[0].update_ns, 9);
    }
}
