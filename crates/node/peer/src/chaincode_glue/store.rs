//! The installed packages, one file each (Fabric: `core/chaincode/persistence`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use selvage_crypto::sha256;
use selvage_env::{Disk, DiskError};

/// Largest package that is kept, in bytes: no message could carry a larger one.
const MAX_PACKAGE_BYTES: usize = 100 * 1024 * 1024;
/// Ending of package files.
const SUFFIX: &str = ".tar.gz";

/// Why a package cannot be kept or given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such package.
    #[error("chaincode install package '{0}' not found")]
    NotFound(String),
    /// The package is larger than any message.
    #[error("chaincode install package has {0} bytes, more than {MAX_PACKAGE_BYTES}")]
    TooLarge(usize),
    /// The stored file is not what was installed.
    #[error("chaincode install package '{0}' is damaged on disk: its hash differs from its name")]
    Damaged(String),
    /// The disk failed.
    #[error("chaincode install packages")]
    Disk(#[source] DiskError),
}

/// The folder of installed packages. A package is there when its file is, whole and durable.
pub(crate) struct PackageStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Label of each package by its id.
    packages: RwLock<BTreeMap<String, String>>,
    /// Counts changes, for those who remember what they looked up here.
    generation: AtomicU64,
}

impl PackageStore {
    /// Opens the folder, creating it if need be. Files of other names are left alone.
    pub(crate) fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, StoreError> {
        disk.create_dir_all(folder).map_err(StoreError::Disk)?;
        let names = disk.list(folder).map_err(StoreError::Disk)?;
        let packages = names.iter().filter_map(|name| {
            let (label, hash) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
            let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            is_hash.then(|| (format!("{label}:{hash}"), label.to_owned()))
        });
        Ok(Self {
            packages: RwLock::new(packages.collect()),
            generation: AtomicU64::new(0),
            disk,
            folder: folder.to_owned(),
        })
    }

    /// The id a package has: its label and the hash of its bytes.
    pub(crate) fn id_of(label: &str, package: &[u8]) -> String {
        format!("{label}:{}", hex::encode(sha256(package)))
    }

    /// A number that changes with every change of the set of packages.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Every package id with its label.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let packages = self.packages.read();
        packages
            .iter()
            .map(|(id, label)| (id.clone(), label.clone()))
            .collect()
    }

    /// Whether the package is installed.
    pub(crate) fn contains(&self, package_id: &str) -> bool {
        self.packages.read().contains_key(package_id)
    }

    /// Keeps a package, durably, and gives its id. Keeping it again changes nothing.
    pub(crate) fn save(&self, label: &str, package: &[u8]) -> Result<String, StoreError> {
        if package.len() > MAX_PACKAGE_BYTES {
            return Err(StoreError::TooLarge(package.len()));
        }
        let id = Self::id_of(label, package);
        if !self.contains(&id) {
            let path = self.path_of(&id);
            self.disk
                .write_atomic(&path, package)
                .map_err(StoreError::Disk)?;
            self.packages.write().insert(id.clone(), label.to_owned());
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        Ok(id)
    }

    /// The bytes of a package, checked against its id.
    pub(crate) fn load(&self, package_id: &str) -> Result<Bytes, StoreError> {
        if !self.contains(package_id) {
            return Err(StoreError::NotFound(package_id.to_owned()));
        }
        let path = self.path_of(package_id);
        let bytes = self
            .disk
            .read(&path, MAX_PACKAGE_BYTES)
            .map_err(StoreError::Disk)?;
        let label = package_id.rsplit_once(':').map_or("", |(label, _)| label);
        if Self::id_of(label, &bytes) != package_id {
            return Err(StoreError::Damaged(package_id.to_owned()));
        }
        Ok(bytes.into())
    }

    /// Forgets a package.
    pub(crate) fn remove(&self, package_id: &str) -> Result<(), StoreError> {
        if self.packages.write().remove(package_id).is_some() {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.disk
                .remove_file(&self.path_of(package_id))
                .map_err(StoreError::Disk)?;
            self.disk.sync_dir(&self.folder).map_err(StoreError::Disk)?;
        }
        Ok(())
    }

    fn path_of(&self, package_id: &str) -> PathBuf {
        let name = match package_id.rsplit_once(':') {
            Some((label, hash)) => format!("{label}.{hash}{SUFFIX}"),
            None => format!("{package_id}{SUFFIX}"),
        };
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_env::{OpenMode, TestEnv};

    #[test]
    fn packages_survive_and_are_checked() {
        let env = TestEnv::new(1);
        let folder = Path::new("/peer/chaincodes");
        let store = PackageStore::open(env.disk.clone(), folder).unwrap();
        let id = store.save("basic_1.0", b"package").unwrap();
        assert_eq!(store.save("basic_1.0", b"package").unwrap(), id);
        let again = PackageStore::open(env.disk.clone(), folder).unwrap();
        assert_eq!(again.list(), [(id.clone(), "basic_1.0".to_owned())]);
        assert_eq!(again.load(&id).unwrap().as_ref(), b"package");
        let file = env
            .disk
            .open(&again.path_of(&id), OpenMode::Append)
            .unwrap();
        file.append(b"!").unwrap();
        assert!(matches!(again.load(&id), Err(StoreError::Damaged(_))));
        again.remove(&id).unwrap();
        let error = again.load(&id).unwrap_err().to_string();
        assert_eq!(error, format!("chaincode install package '{id}' not found"));
        assert!(
            PackageStore::open(env.disk.clone(), folder)
                .unwrap()
                .list()
                .is_empty()
        );
    }

    #[test]
    fn a_full_disk_leaves_no_package() {
        let env = TestEnv::new(1);
        let store = PackageStore::open(env.disk.clone(), Path::new("/p")).unwrap();
        let huge = vec![0; MAX_PACKAGE_BYTES + 1];
        assert!(matches!(
            store.save("a", &huge),
            Err(StoreError::TooLarge(_))
        ));
        assert!(store.list().is_empty());
    }
}
