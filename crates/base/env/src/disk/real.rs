use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirLock, Disk, DiskError, DiskFile, DiskOp, OpenMode, parent};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

/// The lock is the kernel's, on an open file: it goes when the process does, however it ends.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DirLock for RealLock {}

fn context(op: DiskOp, path: &Path) -> impl FnOnce(io::Error) -> DiskError + '_ {
    move |source| DiskError::new(op, path, source)
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        loop {
            match self.file.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(context(DiskOp::Read, &self.path)),
            }
        }
    }

    fn append(&self, data: &[u8]) -> Result<(), DiskError> {
        // The file is open with O_APPEND: the kernel puts each write at the end.
        (&self.file)
            .write_all(data)
            .map_err(context(DiskOp::Append, &self.path))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file
            .sync_data()
            .map_err(context(DiskOp::Sync, &self.path))
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.file
            .set_len(len)
            .map_err(context(DiskOp::Truncate, &self.path))
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self
            .file
            .metadata()
            .map_err(context(DiskOp::Stat, &self.path))?
            .len())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        if path.is_dir() {
            return Ok(());
        }
        let above = parent(path);
        if above != path && !above.exists() {
            self.create_dir_all(above)?;
        }
        match std::fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(DiskError::new(DiskOp::CreateDir, path, e)),
            Ok(()) => self.sync_dir(above),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Append => {
                options.append(true).create(true);
            }
            OpenMode::CreateNew => {
                options.append(true).create_new(true);
            }
        }
        let file = options.open(path).map_err(context(DiskOp::Open, path))?;
        Ok(Arc::new(RealFile {
            file,
            path: path.to_path_buf(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        std::fs::rename(from, to).map_err(context(DiskOp::Rename, from))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let folder = File::open(path).map_err(context(DiskOp::SyncDir, path))?;
        folder.sync_all().map_err(context(DiskOp::SyncDir, path))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(context(DiskOp::List, path))? {
            let entry = entry.map_err(context(DiskOp::List, path))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_file(path).map_err(context(DiskOp::Remove, path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_dir_all(path).map_err(context(DiskOp::Remove, path))
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        path.try_exists().map_err(context(DiskOp::Stat, path))
    }

    fn lock_dir(&self, path: &Path) -> Result<Box<dyn DirLock>, DiskError> {
        let name = path.join("LOCK");
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&name)
            .map_err(context(DiskOp::Lock, path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(DiskError::new(
                DiskOp::Lock,
                path,
                io::ErrorKind::WouldBlock.into(),
            )),
            Err(TryLockError::Error(e)) => Err(DiskError::new(DiskOp::Lock, path, e)),
        }
    }
}
