//! One segment file: scanning it at start, finding where its blocks lie.

use std::path::{Path, PathBuf};

use crc32c::crc32c;
use selvage_env::{Disk, DiskFile};

use super::record::{self, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};
use crate::error::BlockStoreError;

pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("blocks-{first:020}.seg"))
}

fn index_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("blocks-{first:020}.idx"))
}

/// The first block's number in a segment's file name; `None` for other files.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("blocks-")?.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// What a scan found.
pub(crate) struct Scan {
    /// Where the records start.
    pub(crate) offsets: Vec<u64>,
    /// End of the last intact record.
    pub(crate) end: u64,
    /// Length of the file.
    pub(crate) len: u64,
    /// Whether the segment header itself is whole.
    pub(crate) started: bool,
}

impl Scan {
    /// Whether the file ends in something that was never acknowledged.
    pub(crate) fn is_torn(&self) -> bool {
        self.end < self.len
    }
}

/// Checks every record of a segment whose first block is `first`.
///
/// What does not check out is a torn tail when nothing that was written later follows it, and
/// damage otherwise.
pub(crate) fn scan(file: &dyn DiskFile, first: u64) -> Result<Scan, BlockStoreError> {
    let len = file.len()?;
    let mut scan = Scan {
        offsets: Vec::new(),
        end: 0,
        len,
        started: false,
    };
    let mut head = [0u8; SEGMENT_HEADER];
    let whole = len >= SEGMENT_HEADER as u64;
    if whole {
        file.read_exact_at(&mut head, 0)?;
    }
    if !whole || record::read_segment_header(&head) != Some(first) {
        // The header was made durable before any block, so any block proves that it was whole.
        refuse_damage(file, 0, len, first, first)?;
        return Ok(scan);
    }
    scan.started = true;
    scan.end = SEGMENT_HEADER as u64;
    let mut block = Vec::new();
    while scan.end < len {
        let number = first.saturating_add(scan.offsets.len() as u64);
        let Some(header) = read_record(file, scan.end, len, number, &mut block)? else {
            refuse_damage(file, scan.end, len, number, number.saturating_add(1))?;
            break;
        };
        scan.offsets.push(scan.end);
        scan.end += header.total();
    }
    Ok(scan)
}

/// The record at `offset` when it is intact and holds block `number`.
fn read_record(
    file: &dyn DiskFile,
    offset: u64,
    len: u64,
    number: u64,
    block: &mut Vec<u8>,
) -> Result<Option<RecordHeader>, BlockStoreError> {
    if len - offset < RECORD_HEADER as u64 {
        return Ok(None);
    }
    let mut head = [0u8; RECORD_HEADER];
    file.read_exact_at(&mut head, offset)?;
    let Some(header) = RecordHeader::decode(&head) else {
        return Ok(None);
    };
    if header.number != number || len - offset < header.total() {
        return Ok(None);
    }
    block.resize(header.len as usize, 0);
    file.read_exact_at(block, offset + RECORD_HEADER as u64)?;
    Ok((crc32c(block) == header.crc).then_some(header))
}

/// An error when what is broken at `offset` was whole once: when an intact record follows that was
/// written by a write starting at block `proof` or later.
fn refuse_damage(
    file: &dyn DiskFile,
    offset: u64,
    len: u64,
    number: u64,
    proof: u64,
) -> Result<(), BlockStoreError> {
    let mut rest = vec![0; (len - offset) as usize];
    file.read_exact_at(&mut rest, offset)?;
    // The broken record itself starts at the first byte; only what follows can prove damage.
    let later = rest.get(1..).and_then(record::find_record);
    match later {
        Some(later) if later.write_start() >= proof => Err(BlockStoreError::Corrupt {
            path: file.path().to_path_buf(),
            offset,
            block: number,
            detail: "the record does not match its checksum, and later blocks follow",
        }),
        _ => Ok(()),
    }
}

const INDEX_MAGIC: [u8; 8] = *b"SELVIDX1";
const INDEX_HEADER: usize = 20;

/// Writes the offsets of a finished segment beside it, so that a start need not scan it.
pub(crate) fn write_index(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
    offsets: &[u64],
) -> Result<(), BlockStoreError> {
    let mut bytes = INDEX_MAGIC.to_vec();
    bytes.extend_from_slice(&(offsets.len() as u64).to_le_bytes());
    let check = crc32c(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    for offset in offsets {
        bytes.extend_from_slice(&offset.to_le_bytes());
    }
    disk.write_atomic(&index_path(dir, first), &bytes)?;
    Ok(())
}

/// Whether the index of a finished segment lists exactly `count` blocks.
pub(crate) fn index_is_whole(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
    count: u64,
) -> Result<bool, BlockStoreError> {
    let path = index_path(dir, first);
    if !disk.exists(&path)? {
        return Ok(false);
    }
    let file = disk.open(&path, selvage_env::OpenMode::Read)?;
    let expected = count.checked_mul(8).map(|n| n + INDEX_HEADER as u64);
    if Some(file.len()?) != expected {
        return Ok(false);
    }
    let mut head = [0u8; INDEX_HEADER];
    file.read_exact_at(&mut head, 0)?;
    Ok(head[..8] == INDEX_MAGIC
        && record::u64_at(&head, 8) == count
        && record::u32_at(&head, 16) == crc32c(&head[..16]))
}

/// Where block `number` starts in a finished segment.
pub(crate) fn indexed_offset(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
    number: u64,
) -> Result<u64, BlockStoreError> {
    let file = disk.open(&index_path(dir, first), selvage_env::OpenMode::Read)?;
    let mut offset = [0u8; 8];
    file.read_exact_at(&mut offset, INDEX_HEADER as u64 + 8 * (number - first))?;
    Ok(u64::from_le_bytes(offset))
}
