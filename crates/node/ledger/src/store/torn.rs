//! Cutting an unfinished batch off a database's journal.
//!
//! fjall ends a journal where it cannot read on, but refuses it when a batch has its end and not
//! the contents that the end's checksum is of. Pages reach a disk in any order, so a power failure
//! during a write can leave exactly that.
//!
//! ```text
//! batch: 1 | count u32 | number u64       (little endian), then items, then
//!        3 | checksum u64 | magic 4 bytes
//! item:  2 | kind u8 | compression u8 | keyspace u64 | key u16 | value u32 | stored u32 | key | stored
//!    or  4 | keyspace u64
//! ```

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const START: usize = 1 + 4 + 8;
const END: usize = 1 + 8 + 4;
const CLEAR: usize = 1 + 8;
const ITEM: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const SUFFIX: &str = ".jnl";

/// Cuts the last batch that has an end off the newest journal in `dir`, and all behind it. It is
/// for the caller to know that none of the others can be unfinished: when one is, opening the
/// database fails as before.
pub(super) fn cut_last_batch(dir: &Path) -> io::Result<()> {
    let Some(path) = newest(dir)? else {
        return Ok(());
    };
    let journal = fs::read(&path)?;
    let (mut last, mut next) = (None, 0);
    while let Some(end) = batch_end(&journal, next) {
        last = Some(next);
        next = end;
    }
    if let Some(start) = last {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(start as u64)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Where the batch that starts at `at` ends, if it has an end.
fn batch_end(journal: &[u8], at: usize) -> Option<usize> {
    if *journal.get(at)? != 1 {
        return None;
    }
    let mut at = at.checked_add(START)?;
    loop {
        let length = match journal.get(at)? {
            2 => {
                let field = |from: usize| journal.get(at + from..at + ITEM);
                let key = u16::from_le_bytes(*field(11)?.first_chunk()?);
                let stored = u32::from_le_bytes(*field(17)?.first_chunk()?);
                ITEM + usize::from(key) + stored as usize
            }
            3 => {
                let end = at.checked_add(END)?;
                return (end <= journal.len()).then_some(end);
            }
            4 => CLEAR,
            _ => return None,
        };
        at = at.checked_add(length)?;
    }
}

fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(number) = number.and_then(|n| n.parse::<u64>().ok()) {
            newest = newest.max(Some(number));
        }
    }
    Ok(newest.map(|number| dir.join(format!("{number}{SUFFIX}"))))
}
