//! What happens to journals besides crashes: bits that rot, and mistakes in reading them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvage_env::{Disk as _, MemDisk, OpenMode};

use crate::bugs::Bug;
use crate::dice::Dice;

/// Where a node's journal is.
pub const FOLDER: &str = "/ledger/journal";
/// Before each record: length, checksum, and how much of the file was durable by then.
const HEADER: usize = 16;
/// The first byte of a record in which a Raft node keeps its term and vote.
const HARD_STATE: u8 = 1;
/// Larger than any journal of a run.
const LIMIT: usize = 1 << 28;

fn newest(disk: &MemDisk) -> Option<PathBuf> {
    let mut names = disk.list(Path::new(FOLDER)).ok()?;
    names.retain(|name| name.ends_with(".journal"));
    names.sort();
    Some(Path::new(FOLDER).join(names.pop()?))
}

/// The journal's bytes, and where they are.
pub fn read(disk: &MemDisk) -> Option<(PathBuf, Vec<u8>)> {
    let path = newest(disk)?;
    let bytes = disk.read(&path, LIMIT).ok()?;
    Some((path, bytes))
}

/// The journal's length.
pub fn length(disk: &MemDisk) -> u64 {
    let length = || disk.open(&newest(disk)?, OpenMode::Read).ok()?.len().ok();
    length().unwrap_or(0)
}

/// Where records begin, and how much was known to be durable when the last one was written.
fn records(bytes: &[u8]) -> (Vec<usize>, usize) {
    let (mut starts, mut durable, mut at) = (Vec::new(), 0, 0);
    while let Some(header) = bytes.get(at..at + HEADER) {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if bytes.len() < at + HEADER + length {
            break;
        }
        let synced: [u8; 8] = header[8..].try_into().unwrap_or_default();
        durable = usize::try_from(u64::from_le_bytes(synced)).unwrap_or(0);
        starts.push(at);
        at += HEADER + length;
    }
    (starts, durable)
}

/// Flips a bit of a record that a later one knows to have been durable. False when there is none.
pub fn rot(disk: &MemDisk, dice: &Dice) -> bool {
    let Some((path, bytes)) = read(disk) else {
        return false;
    };
    let (starts, durable) = records(&bytes);
    let Some(last) = starts.last() else {
        return false;
    };
    let end = durable.min(*last);
    if end == 0 {
        return false;
    }
    let at = dice.below(end as u64) as usize;
    let flipped = bytes[at] ^ (1 << dice.below(8));
    disk.corrupt(&path, at, &[flipped]).is_ok()
}

/// Cuts a damaged journal off at the damage, which is a mistake.
pub fn cut(disk: &MemDisk, at: u64) -> bool {
    let Some(path) = newest(disk) else {
        return false;
    };
    let file = disk.open(&path, OpenMode::Append);
    file.and_then(|file| {
        file.truncate(at)?;
        file.sync_data()
    })
    .is_ok()
}

/// What an engine gets of its records.
pub fn misread(records: Vec<Bytes>, bug: Option<Bug>) -> Vec<Bytes> {
    match bug {
        Some(Bug::ForgetHardState) => {
            let kept = |record: &Bytes| record.first() != Some(&HARD_STATE);
            records.into_iter().filter(kept).collect()
        }
        Some(Bug::RestoreBackup) => {
            let kept = records.len().div_ceil(2);
            records.into_iter().take(kept).collect()
        }
        _ => records,
    }
}
