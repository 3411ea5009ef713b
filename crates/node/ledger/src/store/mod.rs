//! The small ordered key/value seam under state, indexes and history.
//!
//! One store holds everything of one channel, so that one atomic batch moves all of it from one
//! block height to the next. [`Fjall`](fjall::Fjall) keeps it on disk, [`Memory`](memory::Memory)
//! is its twin for tests.

pub(crate) mod fjall;
pub(crate) mod memory;
mod torn;

use std::collections::BTreeMap;

use bytes::Bytes;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database on disk failed.
    #[error("cannot {action} the state database: {}", advice(&**source))]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the database open.
    #[error("the state database is open in another process, stop that one first")]
    Locked,
}

impl StoreError {
    fn database(
        action: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let source = Box::new(source);
        Self::Database { action, source }
    }

    /// Whether the database's journal holds a batch that is not whole.
    pub(crate) fn is_torn(&self) -> bool {
        use ::fjall::Error;
        matches!(self, Self::Database { source, .. }
            if matches!(source.downcast_ref(), Some(Error::JournalRecovery(_))))
    }

    /// Whether what the disk holds is unknown now.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Database { action, .. } if *action == "write")
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => disk_is_full(&**source),
            Self::Locked => false,
        }
    }
}

fn disk_is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::StorageFull;
        }
        cause = error.source();
    }
    false
}

fn advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    if disk_is_full(error) {
        "the disk is full, make room on it and start the node again"
    } else {
        "check the disk under the data folder; the state folder can be removed, it is rebuilt from \
         the blocks"
    }
}

/// Puts and removals that become visible together. The last one of a key counts.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) ops: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.ops.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.ops.insert(key, None);
    }
}

/// Whether a batch must survive a power failure when `commit` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It may be lost with the power, but only together with everything after it.
    Buffered,
    /// It is on disk.
    Synced,
}

pub(crate) type Entries = Box<dyn DoubleEndedIterator<Item = Result<Entry, StoreError>> + Send>;

/// A key and its value.
pub(crate) type Entry = (Bytes, Bytes);

/// An unchanging view of a store.
pub(crate) trait View: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Entries with `start <= key < end`, in byte order. Empty when `start >= end`.
    fn range(&self, start: &[u8], end: &[u8]) -> Entries;
}

/// An ordered key/value store with snapshots and atomic batches.
pub(crate) trait Store: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    fn view(&self) -> Box<dyn View>;
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;
}
