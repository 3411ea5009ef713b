//! The folder that holds everything the manager keeps: one manager at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::ManagerError;
use crate::files;

/// Space below which the manager does not start or create: blocks would soon fail to be written.
pub(crate) const NEEDED_MB: u64 = 200;

/// The data folder, held for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Opens or makes the folder and takes it for this process. Fails when another process has it,
    /// when it cannot be written, or when the volume is nearly full.
    pub fn open(path: &Path) -> Result<Self, ManagerError> {
        files::make_dir(path)?;
        let path = path
            .canonicalize()
            .map_err(|e| ManagerError::file("use the folder", path, e))?;
        let lock = path.join("lock");
        let file = lock_file(&path, &lock)?;
        let mut flock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(flock) => flock,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(ManagerError::Locked {
                    pid: holder(&path).unwrap_or(0),
                    path,
                });
            }
            Err((_, errno)) => return Err(ManagerError::file("lock", &lock, errno.into())),
        };
        let fail = |e| ManagerError::file("write", &lock, e);
        flock.set_len(0).map_err(fail)?;
        flock.rewind().map_err(fail)?;
        flock
            .write_all(std::process::id().to_string().as_bytes())
            .map_err(fail)?;
        check_space(&path)?;
        Ok(Self { path, _lock: flock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of an instance.
    pub(crate) fn instance(&self, id: &str) -> PathBuf {
        self.path.join("instances").join(id)
    }
}

/// The turn of one `selvage up` on a data folder: making a network, or finding it again, is one
/// command's work at a time.
#[derive(Debug)]
pub struct UpTurn {
    _lock: Flock<File>,
}

impl UpTurn {
    /// Takes the turn, in a folder that is made when it is not there; none while another command
    /// has it. The system gives it back when that command ends, however it ends.
    pub fn take(path: &Path) -> Result<Option<Self>, ManagerError> {
        files::make_dir(path)?;
        let lock = path.join("up.lock");
        match Flock::lock(lock_file(path, &lock)?, FlockArg::LockExclusiveNonblock) {
            Ok(flock) => Ok(Some(Self { _lock: flock })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(ManagerError::file("lock", &lock, errno.into())),
        }
    }
}

fn lock_file(folder: &Path, lock: &Path) -> Result<File, ManagerError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock)
        .map_err(|e| ManagerError::file("write in the folder", folder, e))
}

/// The process that has the folder, or had it last, if its id can be read.
#[must_use]
pub fn holder(path: &Path) -> Option<i32> {
    let mut text = String::new();
    File::open(path.join("lock"))
        .ok()?
        .take(32)
        .read_to_string(&mut text)
        .ok()?;
    text.trim().parse().ok()
}

/// Whether a process has the folder.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("lock")) else {
        return false;
    };
    matches!(
        Flock::lock(file, FlockArg::LockExclusiveNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

/// Fails when the volume of the folder is nearly full.
pub(crate) fn check_space(path: &Path) -> Result<(), ManagerError> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|e| ManagerError::file("measure the volume of", path, e.into()))?;
    let free_mb = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64)
        / (1024 * 1024);
    if free_mb < NEEDED_MB {
        return Err(ManagerError::DiskFull {
            path: path.to_owned(),
            free_mb,
            needed_mb: NEEDED_MB,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_manager_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = DataDir::open(dir.path()).expect("free folder");
        let error = DataDir::open(dir.path()).expect_err("taken folder");
        let text = error.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains(" down --data "), "{text}");
        drop(first);
        DataDir::open(dir.path()).expect("free again");
    }

    #[test]
    fn one_command_has_the_turn() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = dir.path().join("data");
        let first = UpTurn::take(&data).expect("a folder");
        assert!(first.is_some());
        assert!(UpTurn::take(&data).expect("a folder").is_none());
        DataDir::open(&data).expect("the turn is not the folder");
        drop(first);
        assert!(UpTurn::take(&data).expect("a folder").is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").expect("write");
        let error = DataDir::open(&file.join("data")).expect_err("a file is no folder");
        assert!(error.to_string().contains("file/data"), "{error}");
        let error = UpTurn::take(&file).expect_err("a file is no folder");
        assert!(error.to_string().contains("with --data"), "{error}");
    }
}
