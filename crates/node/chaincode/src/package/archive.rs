//! Reading gzipped tars that strangers wrote.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::PackageError;

/// A path in an archive longer than this is not a source file.
const PATH_LIMIT: usize = 1024;
/// Archives this small may compress as well as they like.
const RATIO_FREE: u64 = 16 << 20;

/// What is accepted of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the package file.
    pub file: u64,
    /// Bytes of everything in it, headers included.
    pub expanded: u64,
    /// Number of entries.
    pub entries: u64,
    /// Expanded bytes per compressed byte, once more than 16 MiB are expanded.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: 100 << 20,
            expanded: 1 << 30,
            entries: 100_000,
            ratio: 200,
        }
    }
}

impl Limits {
    /// The most a file of `compressed` bytes may expand to, and the error for more.
    pub(super) fn budget(&self, compressed: u64) -> (u64, PackageError) {
        let by_ratio = compressed.saturating_mul(self.ratio).max(RATIO_FREE);
        if by_ratio < self.expanded {
            (by_ratio, PackageError::Bomb(self.ratio))
        } else {
            let what = "the total size of its files";
            (
                self.expanded,
                PackageError::Limit {
                    what,
                    limit: self.expanded,
                },
            )
        }
    }
}

/// Stops a decompressor that yields more than its budget.
struct Budgeted<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.exceeded = true;
                Err(io::Error::other("more data than is accepted"))
            }
        }
    }
}

type Source<'a> = Budgeted<MultiGzDecoder<&'a [u8]>>;

/// A file of an archive, while it is being read.
pub(super) struct WalkEntry<'r> {
    pub(super) name: String,
    pub(super) executable: bool,
    pub(super) folder: bool,
    reader: &'r mut dyn Read,
}

impl WalkEntry<'_> {
    pub(super) fn contents(self) -> Result<Bytes, PackageError> {
        let mut contents = Vec::new();
        self.reader
            .read_to_end(&mut contents)
            .map_err(|error| PackageError::Entry(self.name, error.to_string()))?;
        Ok(Bytes::from(contents))
    }
}

/// Runs `visit` over a gzipped tar and turns its end into the right error.
fn with_tar<'a>(
    compressed: &'a [u8],
    limits: &Limits,
    visit: impl FnOnce(&mut Archive<Source<'a>>) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    if compressed.len() as u64 > limits.file {
        let what = "the size of the file";
        return Err(PackageError::Limit {
            what,
            limit: limits.file,
        });
    }
    check_gzip(compressed)?;
    let (budget, too_much) = limits.budget(compressed.len() as u64);
    let source = Budgeted {
        inner: MultiGzDecoder::new(compressed),
        left: budget,
        exceeded: false,
    };
    let mut archive = Archive::new(source);
    let result = visit(&mut archive);
    let mut source = archive.into_inner();
    // The tar ends before the gzip does, whose checksum tells a whole file from a damaged one.
    let result = result.and_then(|()| {
        io::copy(&mut source, &mut io::sink())
            .map(drop)
            .map_err(tar_error)
    });
    if source.exceeded {
        Err(too_much)
    } else {
        result
    }
}

fn check_gzip(compressed: &[u8]) -> Result<(), PackageError> {
    // The decoder would report this only while the first tar header is read.
    if compressed.len() < 10 {
        return Err(PackageError::Gzip("unexpected EOF".to_owned()));
    }
    if !compressed.starts_with(&[0x1f, 0x8b, 8]) {
        return Err(PackageError::Gzip("gzip: invalid header".to_owned()));
    }
    Ok(())
}

/// Visits the top level of a package: regular files only, as Fabric demands.
pub(super) fn walk_outer(
    file: &[u8],
    limits: &Limits,
    mut visit: impl FnMut(&str, Bytes) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    with_tar(file, limits, |archive| {
        let mut count = 0;
        for entry in archive.entries().map_err(tar_error)? {
            let mut entry = entry.map_err(tar_error)?;
            count_entry(&mut count, limits)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if !matches!(kind, EntryType::Regular) {
                return Err(PackageError::NotRegular(name, kind.as_byte()));
            }
            let mut contents = Vec::new();
            let error = |error: io::Error| PackageError::Entry(name.clone(), error.to_string());
            let size = entry.header().size().map_err(error)?;
            entry.read_to_end(&mut contents).map_err(error)?;
            if contents.len() as u64 != size {
                return Err(PackageError::Entry(name, "unexpected EOF".to_owned()));
            }
            visit(&name, Bytes::from(contents))?;
        }
        Ok(())
    })
}

/// Visits every entry of a code archive in its order, after checking its name and type.
pub(super) fn walk(
    code: &[u8],
    limits: &Limits,
    mut visit: impl FnMut(WalkEntry<'_>) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    with_tar(code, limits, |archive| {
        let mut count = 0;
        let mut seen = HashSet::new();
        for entry in archive.entries().map_err(tar_error)? {
            let mut entry = entry.map_err(tar_error)?;
            count_entry(&mut count, limits)?;
            let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let folder = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => false,
                EntryType::Directory => true,
                // Comments of `git archive` and the like; the tar library applies local ones.
                EntryType::XGlobalHeader => continue,
                _ => return Err(PackageError::Special(raw)),
            };
            let name = relative_path(&raw).ok_or_else(|| PackageError::Traversal(raw.clone()))?;
            if name.is_empty() {
                continue;
            }
            if !folder && !seen.insert(name.clone()) {
                return Err(PackageError::Duplicate(name));
            }
            let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
            visit(WalkEntry {
                name: name.clone(),
                executable,
                folder,
                reader: &mut entry,
            })?;
            // Also what was not asked for is read, so that a truncated archive is found out.
            io::copy(&mut entry, &mut io::sink())
                .map_err(|error| PackageError::Entry(name, error.to_string()))?;
        }
        Ok(())
    })
}

/// Unpacks a code archive. Every file is new and every folder is ours, so no name can lead astray.
pub(super) fn unpack(code: &[u8], folder: &Path, limits: &Limits) -> Result<(), PackageError> {
    walk(code, limits, |entry| {
        let target = folder.join(&entry.name);
        let name = entry.name.clone();
        let failed = |error: io::Error| PackageError::Unpack(name.clone(), error.to_string());
        if entry.folder {
            return fs::create_dir_all(&target).map_err(failed);
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mode = if entry.executable { 0o755 } else { 0o644 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&target)
            .map_err(failed)?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = entry
                .reader
                .read(&mut buffer)
                .map_err(|error| PackageError::Entry(name.clone(), error.to_string()))?;
            if read == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..read]).map_err(failed)?;
        }
    })
}

fn count_entry(count: &mut u64, limits: &Limits) -> Result<(), PackageError> {
    *count += 1;
    if *count > limits.entries {
        return Err(PackageError::Limit {
            what: "the number of entries",
            limit: limits.entries,
        });
    }
    Ok(())
}

fn tar_error(error: io::Error) -> PackageError {
    PackageError::Tar(error.to_string())
}

/// A path in normal form, or `None` if it is absolute, climbs, or could mean something else to
/// another reader. The empty string is the archive's own folder.
pub(super) fn relative_path(raw: &str) -> Option<String> {
    if raw.len() > PATH_LIMIT || raw.starts_with('/') {
        return None;
    }
    if raw
        .chars()
        .any(|c| c.is_control() || c == '\\' || c == char::REPLACEMENT_CHARACTER)
    {
        return None;
    }
    // A drive letter, for whoever unpacks on Windows.
    if raw.as_bytes().get(1) == Some(&b':') {
        return None;
    }
    let mut parts = Vec::new();
    for part in raw.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
