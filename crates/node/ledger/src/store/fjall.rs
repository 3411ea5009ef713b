//! The store on disk: one fjall database with one keyspace per channel.
//!
//! Settings are small on purpose: a peer should idle in 30 MB. The journal is written without a
//! sync, because the block files are the log that recovery replays; only private data, which is in
//! no block, asks for a sync of its own.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{Batch, Durability, Entries, Entry, Store, StoreError, View};

/// Memory and disk budgets of a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
}

pub(crate) struct Fjall {
    db: Database,
    space: Keyspace,
}

/// fjall accepts no smaller journal budget.
const JOURNAL_BYTES: u64 = 64 << 20;
const OPEN_FILES: usize = 128;
/// One may compact while the other writes out what was gathered in memory.
const WORKERS: usize = 2;

impl Fjall {
    pub(crate) fn open(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(limits.cache_bytes)
            .worker_threads(WORKERS)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(|e| failed("open", e))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(limits.memtable_bytes);
        let space = db
            .keyspace("ledger", options)
            .map_err(|e| failed("open", e))?;
        Ok(Self { db, space })
    }
}

fn failed(action: &'static str, source: fjall::Error) -> StoreError {
    match source {
        fjall::Error::Locked => StoreError::Locked,
        // fjall refuses writes after one failed; for the caller that is the same failure.
        other => StoreError::Database {
            action,
            source: Box::new(other),
        },
    }
}

struct FjallView {
    snapshot: Snapshot,
    space: Keyspace,
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.snapshot
            .get(&self.space, key)
            .map(|v| v.map(Bytes::from))
            .map_err(|e| failed("read", e))
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Entries {
        if start >= end {
            return Box::new(std::iter::empty());
        }
        Box::new(self.snapshot.range(&self.space, start..end).map(entry))
    }
}

fn entry(guard: Guard) -> Result<Entry, StoreError> {
    guard
        .into_inner()
        .map(|(k, v)| (Bytes::from(k), Bytes::from(v)))
        .map_err(|e| failed("read", e))
}

impl Store for Fjall {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.space
            .get(key)
            .map(|v| v.map(Bytes::from))
            .map_err(|e| failed("read", e))
    }

    fn view(&self) -> Box<dyn View> {
        Box::new(FjallView {
            snapshot: self.db.snapshot(),
            space: self.space.clone(),
        })
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut writes = self.db.batch();
        for (key, value) in batch.ops {
            match value {
                Some(value) => writes.insert(&self.space, key, value),
                None => writes.remove(&self.space, key),
            }
        }
        let mode = match durability {
            Durability::Buffered => None,
            Durability::Synced => Some(PersistMode::SyncData),
        };
        writes
            .durability(mode)
            .commit()
            .map_err(|e| failed("write", e))
    }
}
