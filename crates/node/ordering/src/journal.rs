//! The journal of an engine: its write-ahead log.
//!
//! An engine's promises (votes, accepted entries) have to survive a kill and a loss of power, or
//! it could break its word after a restart. The journal keeps opaque records in segment files
//! `<number>.journal`; only the newest segment counts. A checkpoint starts a new one, so the journal
//! stays as small as what the engine still needs.
//!
//! ```text
//! record: length u32 | checksum u32 | synced u64 | payload     (little endian)
//! ```
//!
//! The checksum (CRC-32C) covers the place in the file, the length, `synced` and the payload.
//! `synced` is the length of the file that was known to be durable when the record was written.
//! With it a restart can tell what a crash may leave behind from damage: bytes after the last sync
//! may be torn, missing or out of order, and are cut off; a bad record that a later one knows to
//! have been durable is damage, and the journal refuses to open, because an engine that forgot a
//! promise is worse than one that does not start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use selvage_env::{DirLock, Disk, DiskError, DiskFile, OpenMode};

use crate::engine::JournalWrite;
use crate::mistakes::{Mistake, made};

const HEADER: usize = 16;
const SUFFIX: &str = ".journal";
/// The largest record: a block of the largest size with room for framing.
const MAX_RECORD: usize = 128 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused an operation.
    #[error("a journal operation failed")]
    Disk(#[from] DiskError),
    /// Durable records were damaged later.
    #[error(
        "journal {path} is corrupt at byte {offset}, before what was once durable: this orderer \
         may have forgotten promises it made to the others; remove it from the channel's \
         consenters, remove the channel here, and add it again with a new certificate"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the first bad record starts.
        offset: u64,
    },
    /// A record is larger than a journal takes.
    #[error("a journal record of {0} bytes is larger than the limit of {MAX_RECORD}")]
    TooLarge(usize),
    /// An earlier write failed in a way that leaves the file's contents unknown.
    #[error("the journal failed before and takes no more records; restart the orderer")]
    Failed,
}

impl JournalError {
    /// True when there was no room and nothing was written: trying again later makes sense.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

/// An open journal. Not shared: one engine's driver appends to it.
pub struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment: u64,
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
    synced: u64,
    failed: bool,
    _lock: Box<dyn DirLock>,
}

impl Journal {
    /// Whether a folder holds a journal with at least one segment.
    pub fn exists(disk: &dyn Disk, folder: &Path) -> Result<bool, DiskError> {
        Ok(disk.exists(folder)? && !segments(disk, folder)?.is_empty())
    }

    /// Opens the journal in `folder`, created when missing, and returns its records.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<(Self, Vec<Bytes>), JournalError> {
        disk.create_dir_all(folder)?;
        let lock = disk.lock_dir(folder)?;
        let mut journal = Self {
            disk,
            folder: folder.to_owned(),
            segment: 0,
            file: None,
            length: 0,
            synced: 0,
            failed: false,
            _lock: lock,
        };
        let all = segments(journal.disk.as_ref(), folder)?;
        let Some((newest, older)) = all.split_last() else {
            return Ok((journal, Vec::new()));
        };
        journal.remove(older)?;
        journal.segment = *newest;
        let path = journal.path(*newest);
        let file = journal.disk.open(&path, OpenMode::Append)?;
        let records = journal.recover(&path, file.as_ref())?;
        journal.file = Some(file);
        Ok((journal, records))
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:010}{SUFFIX}"))
    }

    /// Reads the segment and cuts off what a crash left behind its last good record.
    fn recover(&mut self, path: &Path, file: &dyn DiskFile) -> Result<Vec<Bytes>, JournalError> {
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, 0)?;
        let data = Bytes::from(data);
        let mut records = Vec::new();
        let mut offset = 0;
        while let Some(record) = record_at(&data, offset) {
            records.push(data.slice(offset + HEADER..record.end));
            offset = record.end;
        }
        // A good record behind the bad one tells how much was durable when it was written.
        let known = (offset + 1..length)
            .filter_map(|at| record_at(&data, at))
            .map(|record| record.synced)
            .max();
        let torn = offset < length && made(Mistake::RefuseTornEnd);
        if torn || known.is_some_and(|synced| synced > offset as u64) {
            return Err(JournalError::Corrupt {
                path: path.to_owned(),
                offset: offset as u64,
            });
        }
        if offset < length {
            file.truncate(offset as u64)?;
        }
        // What was read may never have been synced; from here on it has been.
        file.sync_data()?;
        self.length = offset as u64;
        self.synced = self.length;
        Ok(records)
    }

    /// Appends writes in order, with one sync for all when one of them asks for it. On a full disk
    /// nothing of them stays and the call can be repeated; after any other error the journal is
    /// done for.
    pub fn append(&mut self, writes: &[JournalWrite]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed);
        }
        // Only what follows the newest checkpoint matters.
        let from = writes.iter().rposition(|write| write.checkpoint);
        let writes = &writes[from.unwrap_or(0)..];
        if let Some(large) = writes
            .iter()
            .flat_map(|write| &write.records)
            .map(Bytes::len)
            .find(|len| *len > MAX_RECORD)
        {
            return Err(JournalError::TooLarge(large));
        }
        if from.is_some() || self.file.is_none() {
            return self.start_segment(writes);
        }
        self.extend(writes)
    }

    fn extend(&mut self, writes: &[JournalWrite]) -> Result<(), JournalError> {
        let Some(file) = self.file.clone() else {
            return Err(JournalError::Failed);
        };
        let bytes = encode(writes, self.length, self.synced);
        if let Err(error) = file.append(&bytes) {
            // Take back what may have been written of it; then nothing happened.
            if file.truncate(self.length).is_err() || !error.is_full() {
                self.failed = true;
            }
            return Err(error.into());
        }
        self.length += bytes.len() as u64;
        if writes.iter().any(|write| write.sync) {
            if let Err(error) = file.sync_data() {
                self.failed = true;
                return Err(error.into());
            }
            self.synced = self.length;
        }
        Ok(())
    }

    /// Writes a new segment beside the old one, moves it into place and removes the old one.
    fn start_segment(&mut self, writes: &[JournalWrite]) -> Result<(), JournalError> {
        let next = match self.file {
            Some(_) => self.segment + 1,
            None => self.segment,
        };
        let bytes = encode(writes, 0, 0);
        let path = self.path(next);
        // Until the rename the old segment stands; a full disk can be tried again.
        self.disk.write_atomic(&path, &bytes)?;
        let old = self.file.take().map(|_| self.segment);
        self.segment = next;
        self.length = bytes.len() as u64;
        self.synced = self.length;
        match self.disk.open(&path, OpenMode::Append) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                self.failed = true;
                return Err(error.into());
            }
        }
        if let Some(old) = old
            && let Err(error) = self.remove(&[old])
        {
            // The old segment is not read any more; the next start removes it.
            let JournalError::Disk(error) = error else {
                return Err(error);
            };
            drop(error);
        }
        Ok(())
    }

    fn remove(&self, old: &[u64]) -> Result<(), JournalError> {
        for segment in old {
            self.disk.remove_file(&self.path(*segment))?;
        }
        if !old.is_empty() {
            self.disk.sync_dir(&self.folder)?;
        }
        Ok(())
    }
}

/// The numbers of the segments in a folder, ascending.
fn segments(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>, DiskError> {
    let names = disk.list(folder)?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
    let mut numbers: Vec<u64> = numbers.filter_map(|n| n.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

struct Found {
    end: usize,
    synced: u64,
}

/// The record that starts at `offset`, if a whole and undamaged one does.
fn record_at(data: &[u8], offset: usize) -> Option<Found> {
    let header = data.get(offset..offset + HEADER)?;
    let (length, rest) = header.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let synced = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_RECORD {
        return None;
    }
    let end = offset + HEADER + length;
    let payload = data.get(offset + HEADER..end)?;
    let sum = checksum_of(offset as u64, synced, payload);
    (sum == u32::from_le_bytes(*checksum)).then_some(Found { end, synced })
}

fn checksum_of(offset: u64, synced: u64, payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&offset.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &(payload.len() as u32).to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &synced.to_le_bytes());
    crc32c::crc32c_append(sum, payload)
}

fn encode(writes: &[JournalWrite], start: u64, synced: u64) -> Vec<u8> {
    let records = || writes.iter().flat_map(|write| &write.records);
    let size: usize = records().map(|record| HEADER + record.len()).sum();
    let mut bytes = Vec::with_capacity(size);
    for record in records() {
        let offset = start + bytes.len() as u64;
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum_of(offset, synced, record).to_le_bytes());
        bytes.extend_from_slice(&synced.to_le_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
