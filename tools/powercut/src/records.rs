//! The records that the shim keeps; `shim.c` says what they look like.

use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Name of the record of one file or folder.
pub(crate) type Key = String;

/// What an entry of a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A symbolic link with its target.
    Link(PathBuf),
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
}

impl Entry {
    pub(crate) fn permissions(&self) -> Permissions {
        Permissions::from_mode(self.mode)
    }
}

/// The record's name of a file or folder.
pub(crate) fn key_of(metadata: &Metadata) -> io::Result<Key> {
    let born = metadata.created()?.duration_since(UNIX_EPOCH);
    let born = born.map_err(io::Error::other)?.as_nanos();
    Ok(format!(
        "{:x}-{:x}-{born:x}",
        metadata.dev(),
        metadata.ino()
    ))
}

/// The entries that a folder has now. Sockets and the like belong to running processes only.
pub(crate) fn entries_of(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        let kind = metadata.file_type();
        let kind = if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Folder
        } else if kind.is_symlink() {
            Kind::Link(fs::read_link(entry.path())?)
        } else {
            continue;
        };
        entries.push(Entry {
            name: entry.file_name(),
            key: key_of(&metadata)?,
            kind,
            mode: metadata.mode() & 0o7777,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The entries that a folder had when it was last synced; none when it never was.
pub(crate) fn synced_entries(shadow: &Path, key: &str) -> io::Result<Vec<Entry>> {
    let record = synced_content(shadow, key)?;
    let mut fields = record.split(|byte| *byte == 0).filter(|f| !f.is_empty());
    let mut entries = Vec::new();
    while let Some(field) = fields.next() {
        let damaged = || io::Error::other(format!("the record {key} is damaged"));
        let mut parts = field.splitn(4, |byte| *byte == b' ');
        let mut text = || parts.next().ok_or_else(damaged);
        let (kind, mode, own, name) = (text()?, text()?, text()?, text()?);
        let path = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| damaged());
        let kind = match kind {
            b"f" => Kind::File,
            b"d" => Kind::Folder,
            b"l" => Kind::Link(path(fields.next().ok_or_else(damaged)?).into()),
            _ => return Err(damaged()),
        };
        entries.push(Entry {
            name: path(name),
            key: utf8(own)?.to_owned(),
            kind,
            mode: u32::from_str_radix(utf8(mode)?, 8).map_err(|_| damaged())?,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// What a file held when it was last synced; nothing when it never was.
pub(crate) fn synced_content(shadow: &Path, key: &str) -> io::Result<Vec<u8>> {
    match fs::read(shadow.join(key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        content => content,
    }
}

/// Records a folder and all below it as it is now.
pub(crate) fn write_all(shadow: &Path, folder: &Path) -> io::Result<()> {
    let mut record = Vec::new();
    for entry in entries_of(folder)? {
        let path = folder.join(&entry.name);
        let letter = match entry.kind {
            Kind::File => 'f',
            Kind::Folder => 'd',
            Kind::Link(_) => 'l',
        };
        record.extend(format!("{letter} {:o} {} ", entry.mode, entry.key).bytes());
        record.extend(entry.name.as_bytes());
        record.push(0);
        match entry.kind {
            Kind::File => crate::pages::write(&shadow.join(&entry.key), &fs::read(&path)?)?,
            Kind::Folder => write_all(shadow, &path)?,
            Kind::Link(target) => {
                record.extend(target.as_os_str().as_bytes());
                record.push(0);
            }
        }
    }
    fs::write(shadow.join(key_of(&fs::metadata(folder)?)?), record)
}
