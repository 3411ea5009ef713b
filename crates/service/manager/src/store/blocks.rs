//! What the block browser counted.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, from_json, to_json};
use crate::error::ManagerError;

/// One block in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) number: u64,
    pub(crate) hash: Vec<u8>,
    pub(crate) data_hash: Vec<u8>,
    pub(crate) previous_hash: Vec<u8>,
    /// Time of the first transaction, unix milliseconds.
    pub(crate) time_ms: i64,
    pub(crate) tx_count: u32,
    /// Transactions up to and including this block.
    pub(crate) tx_total: u64,
    /// Creator's MSP id to transactions.
    pub(crate) creators: BTreeMap<String, u32>,
}

const COLUMNS: &str = "SELECT number, hash, data_hash, previous_hash, time_ms, tx_count, \
                       tx_total, creators FROM blocks WHERE blockchain_id = ? AND channel = ?";

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn read(row: &SqliteRow) -> Result<BlockEntry, ManagerError> {
    Ok(BlockEntry {
        number: unsigned(row.get(0)),
        hash: row.get(1),
        data_hash: row.get(2),
        previous_hash: row.get(3),
        time_ms: row.get(4),
        tx_count: row.get(5),
        tx_total: unsigned(row.get(6)),
        creators: from_json("block creators", row.get(7))?,
    })
}

impl Store {
    /// Adds blocks in one transaction; blocks that are there already stay as they are.
    pub(crate) async fn add_blocks(
        &self,
        blockchain_id: &str,
        channel: &str,
        blocks: &[BlockEntry],
    ) -> Result<(), ManagerError> {
        let fail = ManagerError::store;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(fail("begin"))?;
        for block in blocks {
            sqlx::query("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
                .bind(blockchain_id)
                .bind(channel)
                .bind(signed(block.number))
                .bind(&block.hash)
                .bind(&block.data_hash)
                .bind(&block.previous_hash)
                .bind(block.time_ms)
                .bind(block.tx_count)
                .bind(signed(block.tx_total))
                .bind(to_json("block creators", &block.creators)?)
                .execute(&mut *tx)
                .await
                .map_err(fail("add a block"))?;
        }
        tx.commit().await.map_err(fail("add blocks"))
    }

    /// The newest block in the index.
    pub(crate) async fn last_block(
        &self,
        blockchain_id: &str,
        channel: &str,
    ) -> Result<Option<BlockEntry>, ManagerError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} ORDER BY number DESC LIMIT 1"));
        let row = sqlx::query(sql)
            .bind(blockchain_id)
            .bind(channel)
            .fetch_optional(&self.pool)
            .await
            .map_err(ManagerError::store("read a block"))?;
        row.as_ref().map(read).transpose()
    }

    /// A page of blocks, newest first.
    pub(crate) async fn blocks(
        &self,
        blockchain_id: &str,
        channel: &str,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<BlockEntry>, ManagerError> {
        let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} ORDER BY number DESC LIMIT ? OFFSET ?"));
        let rows = sqlx::query(sql)
            .bind(blockchain_id)
            .bind(channel)
            .bind(limit)
            .bind(signed(offset))
            .fetch_all(&self.pool)
            .await
            .map_err(ManagerError::store("list blocks"))?;
        rows.iter().map(read).collect()
    }

    /// Blocks that hold the transactions numbered `first..=last` (counted from 1), oldest first.
    pub(crate) async fn blocks_of_transactions(
        &self,
        blockchain_id: &str,
        channel: &str,
        first: u64,
        last: u64,
    ) -> Result<Vec<BlockEntry>, ManagerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} AND tx_total >= ? AND tx_total - tx_count < ? ORDER BY number"
        ));
        let rows = sqlx::query(sql)
            .bind(blockchain_id)
            .bind(channel)
            .bind(signed(first))
            .bind(signed(last))
            .fetch_all(&self.pool)
            .await
            .map_err(ManagerError::store("list blocks"))?;
        rows.iter().map(read).collect()
    }

    /// Blocks and transactions per interval since a time: (start of the interval, blocks,
    /// transactions), intervals without blocks left out.
    pub(crate) async fn block_rates(
        &self,
        blockchain_id: &str,
        channel: &str,
        since_ms: i64,
        interval_ms: i64,
    ) -> Result<Vec<(i64, u64, u64)>, ManagerError> {
        let rows = sqlx::query(
            "SELECT time_ms / ?4 * ?4 AS slot, count(*), sum(tx_count) FROM blocks \
             WHERE blockchain_id = ?1 AND channel = ?2 AND time_ms >= ?3 \
             GROUP BY slot ORDER BY slot",
        )
        .bind(blockchain_id)
        .bind(channel)
        .bind(since_ms)
        .bind(interval_ms)
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("count blocks"))?;
        Ok(rows
            .iter()
            .map(|r| (r.get(0), unsigned(r.get(1)), unsigned(r.get(2))))
            .collect())
    }

    /// Transactions by creator's MSP id.
    pub(crate) async fn creators(
        &self,
        blockchain_id: &str,
        channel: &str,
    ) -> Result<BTreeMap<String, u64>, ManagerError> {
        let rows = sqlx::query(
            "SELECT j.key, sum(j.value) FROM blocks, json_each(blocks.creators) j \
             WHERE blockchain_id = ? AND channel = ? GROUP BY j.key",
        )
        .bind(blockchain_id)
        .bind(channel)
        .fetch_all(&self.pool)
        .await
        .map_err(ManagerError::store("count creators"))?;
        Ok(rows
            .iter()
            .map(|r| (r.get(0), unsigned(r.get(1))))
            .collect())
    }
}
