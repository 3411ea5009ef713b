//! Reading the files a node is configured with, and claiming its data folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use selvage_env::Disk;

/// Files in an MSP folder; a folder with more is not one.
const MAX_FILES: usize = 10_000;
/// The largest certificate, key or revocation list.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// How deep an MSP folder nests.
const MAX_DEPTH: usize = 4;

/// A file or folder that a node needs and cannot use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused to read.
    #[error(
        "cannot read {}, which core.yaml or a CORE_ variable names: correct the path, or let this \
         process read it",
        path.display()
    )]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The peer's data folder is not one it can work in.
    #[error(
        "the data folder {} (peer.fileSystemPath) cannot be used: name another folder, or let this \
         process write there",
        path.display()
    )]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More or larger files than such a folder can have.
    #[error("{} is too large: {detail}", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Which limit it exceeds.
        detail: String,
    },
    /// Another process works on the folder.
    #[error(
        "{} is in use by another process: stop it, or set peer.fileSystemPath to another folder",
        path.display()
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
}

/// Reads one file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let error = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path).map_err(error)?.len();
    if size > MAX_FILE_BYTES {
        let detail = format!("{size} bytes, at most {MAX_FILE_BYTES} are read");
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            detail,
        });
    }
    fs::read(path).map_err(error)
}

/// Reads all files below a folder; keys are paths relative to it, with `/` between their parts.
pub(crate) fn read_tree(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, FileError> {
    let mut files = BTreeMap::new();
    collect(root, root, 0, &mut files)?;
    Ok(files)
}

fn collect(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), FileError> {
    let error = |source| FileError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_dir() {
            if depth < MAX_DEPTH {
                collect(root, &path, depth + 1, files)?;
            }
            continue;
        }
        if files.len() >= MAX_FILES {
            let detail = format!("more than {MAX_FILES} files");
            return Err(FileError::TooLarge {
                path: root.to_owned(),
                detail,
            });
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        files.insert(name, read(&path)?);
    }
    Ok(())
}

/// The exclusive right to a data folder, for as long as it is held. The system takes it back when
/// the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder if need be, durably, and claims it.
    pub(crate) fn claim(disk: &dyn Disk, folder: &Path) -> Result<Self, FileError> {
        let path = folder.join("LOCK");
        let error = |source| FileError::DataFolder {
            path: folder.to_owned(),
            source,
        };
        let made = disk.create_dir_all(folder);
        made.map_err(|failed| error(failed.source))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(error)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(FileError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => Err(error(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use selvage_env::RealDisk;

    use super::*;

    #[test]
    fn a_tree_is_read_by_relative_paths() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("signcerts")).unwrap();
        fs::write(dir.path().join("signcerts/cert.pem"), b"pem").unwrap();
        fs::write(dir.path().join("config.yaml"), b"NodeOUs:").unwrap();
        let files = read_tree(dir.path()).unwrap();
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["config.yaml", "signcerts/cert.pem"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = read_tree(Path::new("/nonexistent/msp"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "cannot read /nonexistent/msp, which core.yaml or a CORE_ variable names: correct the \
             path, or let this process read it"
        );
    }

    #[test]
    fn a_data_folder_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataLock::claim(&RealDisk, dir.path()).unwrap();
        let second = DataLock::claim(&RealDisk, dir.path())
            .unwrap_err()
            .to_string();
        assert!(second.contains("in use by another process"), "{second}");
        drop(held);
        DataLock::claim(&RealDisk, dir.path()).unwrap();
    }
}
