//! Finished builds, by content, shared by all peers of a host.
//!
//! A build is complete when its manifest is in place; the manifest is the last file written, by
//! rename. Whoever finds a folder without one, because its builder was killed, starts over. Locks
//! are the kernel's (`flock`) and vanish with their holder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

const MANIFEST: &str = "manifest.json";
const QUEUE_LOCK: &str = "queue.lock";
/// Removing a folder in which a killed builder's children are just dying may need another go.
const REMOVE_ATTEMPTS: usize = 20;

/// How a finished build is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// `type` of the package.
    pub(super) kind: String,
    /// Working folder, below the build's own.
    pub(super) folder: String,
    /// A path below `folder` if it has a slash, else a tool.
    pub(super) program: String,
    /// Its arguments, before the peer's address.
    pub(super) args: Vec<String>,
}

/// A finished build. While this value lives the build is not evicted.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
    _in_use: File,
}

/// Why the cache could not be used, or the build itself.
#[derive(Debug)]
pub(super) enum CacheError<E> {
    Io(PathBuf, io::Error),
    Build(E),
}

#[derive(Debug)]
pub(super) struct BuildCache {
    root: PathBuf,
    keep: usize,
}

type At<E> = fn(PathBuf, io::Error) -> CacheError<E>;

impl BuildCache {
    pub(super) fn new(root: PathBuf, keep: usize) -> Self {
        Self { root, keep }
    }

    /// The finished build of `key`; builds it with `make` in a fresh folder if there is none.
    ///
    /// One build runs at a time on a host: toolchains need hundreds of megabytes.
    pub(super) fn get<E>(
        &self,
        key: &str,
        make: impl FnOnce(&Path) -> Result<Manifest, E>,
    ) -> Result<Built, CacheError<E>> {
        let at: At<E> = CacheError::Io;
        for folder in ["builds", "locks", "logs", "downloads"] {
            let path = self.root.join(folder);
            create_private(&path).map_err(|error| at(path, error))?;
        }
        let folder = self.folder(key);
        if let Some(built) = self.find(key).map_err(|error| at(folder.clone(), error))? {
            return Ok(built);
        }
        let _key_lock = self
            .lock(&format!("{key}.lock"))
            .map_err(|(path, e)| at(path, e))?;
        // Somebody else may have built it while we waited, for this lock and for the next.
        if let Some(built) = self.find(key).map_err(|error| at(folder.clone(), error))? {
            return Ok(built);
        }
        let _queue_lock = self
            .lock(QUEUE_LOCK)
            .map_err(|(path, error)| at(path, error))?;
        remove_folder(&folder).map_err(|error| at(folder.clone(), error))?;
        create_private(&folder).map_err(|error| at(folder.clone(), error))?;
        let manifest = match make(&folder) {
            Ok(manifest) => manifest,
            Err(error) => {
                // What is left is removed by the next attempt if not now.
                let _ = remove_folder(&folder);
                return Err(CacheError::Build(error));
            }
        };
        complete(&folder, &manifest).map_err(|error| at(folder.clone(), error))?;
        self.evict(key);
        match self.find(key) {
            Ok(Some(built)) => Ok(built),
            Ok(None) => Err(at(folder, io::ErrorKind::NotFound.into())),
            Err(error) => Err(at(folder, error)),
        }
    }

    /// The finished build of `key`, or `None`.
    pub(super) fn find(&self, key: &str) -> io::Result<Option<Built>> {
        let folder = self.folder(key);
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let in_use = self.open_lock(&format!("{key}.use"))?;
        in_use.lock_shared()?;
        // Looked at again under the lock: it may have been evicted in between.
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let manifest = serde_json::from_slice(&text).map_err(io::Error::other)?;
        // The age that eviction goes by; not being able to set it only makes a worse choice.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(Built {
            folder,
            manifest,
            _in_use: in_use,
        }))
    }

    /// The file with the output of the last build of a package.
    pub(super) fn log_path(&self, hash: &str) -> PathBuf {
        self.root.join("logs").join(format!("{hash}.log"))
    }

    /// Where tools keep what they downloaded, for the next build.
    pub(super) fn downloads(&self, tool: &str) -> io::Result<PathBuf> {
        let path = self.root.join("downloads").join(tool);
        create_private(&path)?;
        Ok(path)
    }

    fn folder(&self, key: &str) -> PathBuf {
        self.root.join("builds").join(key)
    }

    fn open_lock(&self, name: &str) -> io::Result<File> {
        let path = self.root.join("locks").join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
    }

    fn lock(&self, name: &str) -> Result<File, (PathBuf, io::Error)> {
        let locked = self
            .open_lock(name)
            .and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| (self.root.join("locks").join(name), error))
    }

    /// Removes the builds used least recently, beyond those to keep, unless they are in use.
    fn evict(&self, current: &str) {
        let Ok(entries) = fs::read_dir(self.root.join("builds")) else {
            return;
        };
        let mut finished: Vec<(SystemTime, String)> = entries
            .flatten()
            .filter_map(|entry| {
                let age = fs::metadata(entry.path().join(MANIFEST))
                    .ok()?
                    .modified()
                    .ok()?;
                Some((age, entry.file_name().into_string().ok()?))
            })
            .collect();
        finished.sort();
        let surplus = finished.len().saturating_sub(self.keep.max(1));
        for (_, key) in finished
            .into_iter()
            .filter(|(_, key)| key != current)
            .take(surplus)
        {
            let Ok(in_use) = self.open_lock(&format!("{key}.use")) else {
                continue;
            };
            if in_use.try_lock().is_ok() {
                tracing::info!(key, "removing an old chaincode build");
                let folder = self.folder(&key);
                // Without its manifest it is no build any more, whatever happens next.
                let _ = fs::remove_file(folder.join(MANIFEST));
                let _ = remove_folder(&folder);
            }
        }
    }
}

/// Makes everything below `folder` durable, then the manifest that says so.
fn complete(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let text = serde_json::to_vec(manifest).map_err(io::Error::other)?;
    let temporary = folder.join("manifest.tmp");
    let mut file = File::create_new(&temporary)?;
    file.write_all(&text)?;
    nix::unistd::syncfs(&file)?;
    fs::rename(&temporary, folder.join(MANIFEST))?;
    File::open(folder)?.sync_all()
}

pub(super) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a folder with everything in it; none is fine too.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    for _ in 0..REMOVE_ATTEMPTS {
        outcome = fs::remove_dir_all(path);
        match &outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(_) => return outcome,
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    outcome
}
