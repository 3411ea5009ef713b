//! A disk in memory that goes wrong when it is told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use selvage_env::{DirLock, Disk, DiskError, DiskFile, DiskOp, Env, MemDisk, OpenMode, System};

/// What it does.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(crate) enum Mood {
    Well,
    /// Nothing can be added to files, everything else works.
    Full,
    /// Everything works but `fsync`.
    NeverSynced,
    /// Nothing can be moved.
    Fixed,
}

#[derive(Clone)]
pub(crate) struct BadDisk {
    inner: Arc<dyn Disk>,
    mood: Arc<AtomicU8>,
}

struct BadFile {
    inner: Arc<dyn DiskFile>,
    mood: Arc<AtomicU8>,
}

pub(crate) fn simulated(disk: Arc<dyn Disk>) -> Env {
    Env {
        clock: Arc::new(System),
        rng: Arc::new(System),
        disk,
    }
}

impl BadDisk {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemDisk::new()))
    }

    pub(crate) fn over(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            mood: Arc::new(AtomicU8::new(Mood::Well as u8)),
        }
    }

    pub(crate) fn turns(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// An environment with it.
    pub(crate) fn env(&self) -> Env {
        simulated(Arc::new(self.clone()))
    }
}

/// Fails when the disk is in this mood.
fn check(now: &AtomicU8, mood: Mood, op: DiskOp, path: &Path) -> Result<(), DiskError> {
    if now.load(Ordering::SeqCst) != mood as u8 {
        return Ok(());
    }
    let kind = match mood {
        Mood::Full => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    Err(DiskError {
        op,
        path: path.to_owned(),
        source: io::Error::from(kind),
    })
}

impl DiskFile for BadFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        self.inner.read_at(buf, offset)
    }

    fn append(&self, data: &[u8]) -> Result<(), DiskError> {
        check(&self.mood, Mood::Full, DiskOp::Append, self.path())?;
        self.inner.append(data)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        check(&self.mood, Mood::NeverSynced, DiskOp::Sync, self.path())?;
        self.inner.sync_data()
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.inner.truncate(len)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

impl Disk for BadDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(Arc::new(BadFile {
            inner: self.inner.open(path, mode)?,
            mood: self.mood.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        check(&self.mood, Mood::Fixed, DiskOp::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.inner.list(path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.inner.exists(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<Box<dyn DirLock>, DiskError> {
        self.inner.lock_dir(path)
    }
}
