//! The store on disk: one fjall database with one keyspace per channel.
//!
//! Settings are small on purpose: a peer should idle in 30 MB. The journal is written without a
//! sync, because the block files are the log that recovery replays; only private data, which is in
//! no block, asks for a sync of its own.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use selvage_env::{Disk, DiskError, RealDisk};

use super::{Batch, Durability, Entries, Entry, Store, StoreError, View, torn};

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

/// Names that fjall gives: the file that it writes when a database has been made, and the folder of
/// the keyspaces that it makes after that.
const MADE: &str = "version";
const KEYSPACES: &str = "keyspaces";

impl Fjall {
    pub(crate) fn open(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let disk = |error| StoreError::database("open", error);
        prepare(dir).map_err(disk)?;
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
        // fjall syncs what is in a keyspace and not that it is there; without it, what the journal
        // holds of it is passed over at the next start.
        RealDisk.sync_dir(&dir.join(KEYSPACES)).map_err(disk)?;
        Ok(Self { db, space })
    }

    /// As [`Fjall::open`], for a database each of whose batches was synced. After a power failure
    /// the last one, which nobody was told of, may be torn in its middle, with its end in place;
    /// fjall refuses that.
    pub(crate) fn open_synced(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        match Self::open(dir, limits) {
            Err(error) if error.is_torn() => {
                tracing::warn!(
                    folder = %dir.display(),
                    "dropping the last batch of a database, which a power failure left unfinished"
                );
                let cut = torn::cut_last_batch(dir);
                cut.map_err(|error| StoreError::database("mend", error))?;
                Self::open(dir, limits)
            }
            other => other,
        }
    }
}

/// Makes the folder durable. What is left of a database that was never finished goes: fjall would
/// neither open it nor make another one.
fn prepare(dir: &Path) -> Result<(), DiskError> {
    let made = dir.join(MADE).metadata().is_ok_and(|m| m.len() > 0);
    let keyspaces = dir.join(KEYSPACES);
    let is_empty = || Ok(!RealDisk.exists(&keyspaces)? || RealDisk.list(&keyspaces)?.is_empty());
    if RealDisk.exists(dir)? && !made && is_empty()? {
        RealDisk.remove_dir_all(dir)?;
    }
    RealDisk.create_dir_all(dir)
}

fn failed(action: &'static str, source: fjall::Error) -> StoreError {
    match source {
        fjall::Error::Locked => StoreError::Locked,
        // fjall refuses writes after one failed; for the caller that is the same failure.
        other => StoreError::database(action, other),
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const LIMITS: Limits = Limits {
        cache_bytes: 1 << 20,
        memtable_bytes: 4 << 20,
    };

    /// Twenty thousand bytes that do not get smaller when fjall compresses them.
    fn noise(letter: u8) -> Vec<u8> {
        let hash = |n: u32| selvage_crypto::sha256(&[&n.to_be_bytes()[..], &[letter]].concat());
        (0..625).flat_map(hash).collect()
    }

    /// A database with three synced batches of a large value each.
    fn database() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = dir.path().join("db");
        let db = Fjall::open_synced(&folder, LIMITS).expect("made");
        for letter in [b'a', b'b', b'c'] {
            let mut batch = Batch::default();
            batch.put(vec![letter], noise(letter));
            db.commit(batch, Durability::Synced).expect("written");
        }
        drop(db);
        (dir, folder)
    }

    /// Takes a page out of a value in the journal.
    fn tear(folder: &Path, letter: u8) {
        let path = folder.join("0.jnl");
        let mut journal = std::fs::read(&path).expect("a journal");
        let part = &noise(letter)[8000..8064];
        let found = journal.windows(64).position(|window| window == part);
        let at = found.expect("the value");
        journal[at..at + 4096].fill(0);
        std::fs::write(&path, journal).expect("written");
    }

    #[test]
    fn a_torn_last_batch_is_dropped_and_nothing_else() {
        let (_dir, folder) = database();
        tear(&folder, b'c');
        let db = Fjall::open_synced(&folder, LIMITS).expect("opens");
        let has = |db: &Fjall, letter: u8| db.get(&[letter]).expect("read").is_some();
        assert!(has(&db, b'a') && has(&db, b'b') && !has(&db, b'c'));
        let mut batch = Batch::default();
        batch.put(vec![b'd'], vec![1]);
        db.commit(batch, Durability::Synced).expect("written");
        drop(db);
        let db = Fjall::open_synced(&folder, LIMITS).expect("opens");
        assert!(has(&db, b'b') && has(&db, b'd'));
    }

    #[test]
    fn damage_in_what_was_synced_is_refused() {
        let (_dir, folder) = database();
        tear(&folder, b'a');
        let error = Fjall::open_synced(&folder, LIMITS).err().expect("refused");
        assert!(error.is_torn(), "{error:?}");
    }

    #[test]
    fn a_database_that_was_never_finished_is_made_anew() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = dir.path().join("db");
        std::fs::create_dir_all(folder.join(KEYSPACES)).expect("folders");
        for name in ["lock", "0.jnl", MADE] {
            std::fs::write(folder.join(name), b"").expect("file");
        }
        Fjall::open(&folder, LIMITS).map(|_| ()).expect("opens");
        // One that holds something is not thrown away, whatever it lacks.
        std::fs::remove_file(folder.join(MADE)).expect("removed");
        assert!(Fjall::open(&folder, LIMITS).is_err());
    }
}
