mod mem;
mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use mem::{Crash, Fault, FaultKind, MemDisk};
pub use real::RealDisk;

/// What was being done to a file or folder when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Opening or creating a file.
    Open,
    /// Reading bytes.
    Read,
    /// Appending bytes.
    Append,
    /// Making bytes durable.
    Sync,
    /// Cutting a file.
    Truncate,
    /// Renaming a file.
    Rename,
    /// Making a folder's entries durable.
    SyncDir,
    /// Listing a folder.
    List,
    /// Removing a file or folder.
    Remove,
    /// Creating a folder.
    CreateDir,
    /// Asking for existence or length.
    Stat,
    /// Taking the lock of a folder.
    Lock,
}

impl std::fmt::Display for DiskOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DiskOp::Open => "open",
            DiskOp::Read => "read",
            DiskOp::Append => "write to",
            DiskOp::Sync => "make durable",
            DiskOp::Truncate => "truncate",
            DiskOp::Rename => "rename",
            DiskOp::SyncDir => "make the entries durable of folder",
            DiskOp::List => "list folder",
            DiskOp::Remove => "remove",
            DiskOp::CreateDir => "create folder",
            DiskOp::Stat => "look at",
            DiskOp::Lock => "lock folder",
        })
    }
}

/// A failed file operation: which one, on what, and the operating system's reason as source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub op: DiskOp,
    /// On which file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(op: DiskOp, path: &Path, source: io::Error) -> DiskError {
        DiskError {
            op,
            path: path.to_path_buf(),
            source,
        }
    }

    /// The operating system's error kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// True when the file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// True when the disk or the quota is full: the operator must make room.
    pub fn is_full(&self) -> bool {
        matches!(
            self.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file must exist.
    Read,
    /// Reading and appending; created when missing. The new entry is durable only after
    /// [`Disk::sync_dir`] of its folder.
    Append,
    /// Like [`OpenMode::Append`] but the file must not exist yet.
    CreateNew,
}

/// An open file: read anywhere, write only at the end.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; returns how many, 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError>;

    /// Appends all of `data`. On an error an unknown part of it may have been written.
    fn append(&self, data: &[u8]) -> Result<(), DiskError>;

    /// Makes contents and length durable. After an error nothing is known about what is on the
    /// disk, and trying again proves nothing: the caller must stop.
    fn sync_data(&self) -> Result<(), DiskError>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> Result<(), DiskError>;

    /// Length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// The path it was opened with.
    fn path(&self) -> &Path;

    /// True when the file has no bytes.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset`; an error of kind `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while done < buf.len() {
            let n = self.read_at(&mut buf[done..], offset + done as u64)?;
            if n == 0 {
                let eof = io::ErrorKind::UnexpectedEof.into();
                return Err(DiskError::new(DiskOp::Read, self.path(), eof));
            }
            done += n;
        }
        Ok(())
    }
}

/// Held by the one process that may use a folder; dropping it gives the folder back.
pub trait DirLock: Send + Sync + std::fmt::Debug {}

/// Files and folders. Paths are taken as given; relative ones belong to the process's folder.
pub trait Disk: Send + Sync {
    /// Creates a folder and its parents, durably. Nothing happens when it exists.
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Replaces `to` by `from` atomically; durable after [`Disk::sync_dir`] of both folders.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Makes creations, renames and removals inside this folder durable.
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Names (not paths) of the entries of a folder, sorted.
    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError>;

    /// Removes a file; durable after [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a folder with all it holds. An error of kind `NotFound` when it is missing.
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// True when a file or folder is there.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// Takes the folder for this process until the guard is dropped; an error of kind
    /// `WouldBlock` when somebody else has it.
    fn lock_dir(&self, path: &Path) -> Result<Box<dyn DirLock>, DiskError>;

    /// The whole of a file of at most `limit` bytes; kind `FileTooLarge` when it is longer.
    fn read(&self, path: &Path, limit: usize) -> Result<Vec<u8>, DiskError> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if len > limit {
            return Err(DiskError::new(
                DiskOp::Read,
                path,
                io::ErrorKind::FileTooLarge.into(),
            ));
        }
        let mut data = vec![0; len];
        file.read_exact_at(&mut data, 0)?;
        Ok(data)
    }

    /// Replaces a small file so that a reader, or the process after a crash, sees either all of
    /// the old contents or all of the new; durable on return. Uses `<path>.tmp` beside it.
    fn write_atomic(&self, path: &Path, data: &[u8]) -> Result<(), DiskError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        match self.remove_file(&temporary) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = self.open(&temporary, OpenMode::CreateNew)?;
        file.append(data)?;
        file.sync_data()?;
        drop(file);
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }
}

/// The folder a path lies in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}
