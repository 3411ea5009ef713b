//! Files that must be whole or absent, and readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::ManagerError;

/// Makes a folder and its parents, for the owner only, durably: what is synced in a folder that
/// goes with the power is lost with it. An existing folder is left as it is.
pub(crate) fn make_dir(path: &Path) -> Result<(), ManagerError> {
    make_durable(path).map_err(|e| ManagerError::file("make the folder", path, e))
}

fn make_durable(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    if above != path && !above.exists() {
        make_durable(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Somebody else made it just now.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

/// As [`make_dir`], without waiting for the disk.
fn make_dir_unsynced(path: &Path) -> Result<(), ManagerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| ManagerError::file("make the folder", path, e))
}

/// Writes a file so that a crash leaves the old content or the new, never half of it: a temporary
/// file beside it, synced, renamed over it, then the folder synced. Mode 0600.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), ManagerError> {
    write_mode(path, content, PRIVATE)
}

/// As [`write_private`], readable by everyone: for certificates.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> Result<(), ManagerError> {
    write_mode(path, content, PUBLIC)
}

fn write_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), ManagerError> {
    let fail = |e| ManagerError::file("write", path, e);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_dir(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = folder.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)?;
    File::open(folder).and_then(|d| d.sync_all()).map_err(fail)
}

/// Mode of keys and of everything else that is nobody's business.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of certificates.
pub(crate) const PUBLIC: u32 = 0o644;

/// Writes a file without waiting for the disk; for many files that [`sync_volume`] covers together.
pub(crate) fn write_unsynced(path: &Path, content: &[u8], mode: u32) -> Result<(), ManagerError> {
    let fail = |e| ManagerError::file("write", path, e);
    make_dir_unsynced(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)
}

/// Waits until everything written to the volume of a folder is on the disk.
pub(crate) fn sync_volume(folder: &Path) -> Result<(), ManagerError> {
    let fail = |e| ManagerError::file("sync", folder, e);
    let folder = File::open(folder).map_err(fail)?;
    nix::unistd::syncfs(&folder).map_err(|e| fail(e.into()))
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, ManagerError> {
    let fail = |e| ManagerError::file("read", path, e);
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > limit {
        return Err(fail(std::io::Error::other(format!(
            "{size} bytes, more than {limit}"
        ))));
    }
    fs::read(path).map_err(fail)
}

/// The last lines of a log that are not empty, out of its last `bytes`.
pub(crate) fn tail(path: &Path, bytes: u64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(bytes)))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    lines.map(str::to_owned).collect()
}

/// Removes a folder with everything in it; absent is fine.
pub(crate) fn remove_dir(path: &Path) -> Result<(), ManagerError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(ManagerError::file("remove the folder", path, e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_whole_and_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a/b/key");
        write_private(&path, b"one").expect("first");
        write_private(&path, b"two").expect("second");
        assert_eq!(read_limited(&path, 3).expect("read"), b"two");
        assert!(read_limited(&path, 2).is_err());
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path().join("a/b"))
                .expect("folder")
                .count(),
            1
        );
        remove_dir(&dir.path().join("a")).expect("remove");
        remove_dir(&dir.path().join("a")).expect("remove twice");
    }
}
