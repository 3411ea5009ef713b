//! The block store: append-only segment files, each record with its length and checksum.
//!
//! It stands alone for an orderer and is the log from which a peer's state can always be rebuilt.
//! A block is acknowledged when its file is synced. On start the newest segment is checked from
//! end to end: what was never acknowledged is cut off, damage before that is refused by name.
//! Older segments are checked when they are read, or all at once by [`BlockStore::verify`].

mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use selvage_crypto::sha256;
use selvage_env::{DirLock, Disk, DiskFile, OpenMode};
use selvage_proto::block::header_bytes;
use selvage_proto::common::{Block, BlockHeader};

use crate::error::BlockStoreError;
use record::{MAX_BLOCK, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};

type Result<T> = std::result::Result<T, BlockStoreError>;

/// How block files are laid out.
#[derive(Debug, Clone)]
pub struct BlockStoreOptions {
    /// A segment that has grown to this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// Number of the first block of an empty store: 0, or the block after a snapshot.
    pub first_block: u64,
}

impl Default for BlockStoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_block: 0,
        }
    }
}

/// Height and newest hashes of a chain (Fabric: `common.BlockchainInfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainInfo {
    /// Number of the next block.
    pub height: u64,
    /// Hash of the newest block's header; empty when there is no block.
    pub current_hash: Bytes,
    /// Hash that the newest block names as its predecessor's.
    pub previous_hash: Bytes,
}

impl ChainInfo {
    fn check_next(&self, header: &BlockHeader) -> Result<()> {
        if header.number != self.height {
            return Err(BlockStoreError::OutOfOrder {
                got: header.number,
                expected: self.height,
            });
        }
        if !self.current_hash.is_empty() && header.previous_hash != self.current_hash {
            return Err(BlockStoreError::PreviousHash {
                number: header.number,
                got: hex::encode(&header.previous_hash),
                have: hex::encode(&self.current_hash),
            });
        }
        Ok(())
    }
}

/// A chain of blocks in a folder.
pub struct BlockStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: BlockStoreOptions,
    /// Serialises writers; `true` after a write failed in a way that leaves the file unknown.
    poisoned: Mutex<bool>,
    inner: RwLock<Inner>,
    /// Handles of finished segments that were read lately.
    handles: Mutex<VecDeque<(u64, Arc<dyn DiskFile>)>>,
    _lock: Box<dyn DirLock>,
}

struct Inner {
    /// First blocks of the finished segments, ascending.
    finished: Vec<u64>,
    active: Option<Active>,
    info: ChainInfo,
    recent: Recent,
}

/// The segment that grows.
struct Active {
    first: u64,
    file: Arc<dyn DiskFile>,
    offsets: Vec<u64>,
    end: u64,
}

/// The newest blocks, so that readers at the tip need no file.
#[derive(Default)]
struct Recent {
    blocks: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

const RECENT_BLOCKS: usize = 8;
const RECENT_BYTES: usize = 1 << 20;
const OPEN_SEGMENTS: usize = 8;

impl Recent {
    fn push(&mut self, number: u64, block: Bytes) {
        self.bytes += block.len();
        self.blocks.push_back((number, block));
        while self.blocks.len() > RECENT_BLOCKS || self.bytes > RECENT_BYTES {
            let Some((_, old)) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= old.len();
        }
    }

    fn get(&self, number: u64) -> Option<Bytes> {
        self.blocks
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, block)| block.clone())
    }
}

impl BlockStore {
    /// Opens the chain in `dir`, creating it when it is missing, and checks its newest segment.
    ///
    /// # Errors
    /// When the folder is in use, the disk fails, or blocks that were acknowledged are damaged.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: BlockStoreOptions) -> Result<Self> {
        disk.create_dir_all(dir)?;
        let lock = disk.lock_dir(dir)?;
        let mut store = Self {
            disk,
            dir: dir.to_path_buf(),
            poisoned: Mutex::new(false),
            inner: RwLock::new(Inner {
                finished: Vec::new(),
                active: None,
                info: ChainInfo {
                    height: options.first_block,
                    ..ChainInfo::default()
                },
                recent: Recent::default(),
            }),
            options,
            handles: Mutex::new(VecDeque::new()),
            _lock: lock,
        };
        store.load()?;
        Ok(store)
    }

    fn load(&mut self) -> Result<()> {
        let mut firsts: Vec<u64> = self
            .disk
            .list(&self.dir)?
            .iter()
            .filter_map(|name| segment::parse_name(name))
            .collect();
        firsts.sort_unstable();
        while let Some(first) = firsts.pop() {
            let path = segment::segment_path(&self.dir, first);
            let file = self.disk.open(&path, OpenMode::Append)?;
            let scan = segment::scan(&*file, first)?;
            if !scan.started {
                // Its creation was cut short: nothing in it was acknowledged.
                drop(file);
                self.disk.remove_file(&path)?;
                self.disk.sync_dir(&self.dir)?;
                continue;
            }
            if scan.is_torn() {
                file.truncate(scan.end)?;
                file.sync_data()?;
            }
            let inner = self.inner.get_mut();
            inner.info.height = first.saturating_add(scan.offsets.len() as u64);
            inner.active = Some(Active {
                first,
                file,
                offsets: scan.offsets,
                end: scan.end,
            });
            break;
        }
        self.check_finished(&firsts)?;
        self.inner.get_mut().finished = firsts;
        self.load_info()
    }

    /// Every finished segment must end where the next one starts.
    fn check_finished(&self, firsts: &[u64]) -> Result<()> {
        let inner = self.inner.read();
        let Some(active) = inner.active.as_ref() else {
            return Ok(());
        };
        let ends = firsts.iter().skip(1).copied().chain([active.first]);
        for (&first, next) in firsts.iter().zip(ends) {
            let count = next - first;
            if segment::index_is_whole(&*self.disk, &self.dir, first, count)? {
                continue;
            }
            let path = segment::segment_path(&self.dir, first);
            let file = self.disk.open(&path, OpenMode::Read)?;
            let scan = segment::scan(&*file, first)?;
            if scan.is_torn() || scan.offsets.len() as u64 != count {
                return Err(BlockStoreError::Gap {
                    path: self.dir.clone(),
                    expected: first + scan.offsets.len() as u64,
                });
            }
            segment::write_index(&*self.disk, &self.dir, first, &scan.offsets)?;
        }
        Ok(())
    }

    fn load_info(&mut self) -> Result<()> {
        let height = self.height();
        if height == self.first_block() {
            return Ok(());
        }
        let number = height - 1;
        let header = self.block(number)?.header.unwrap_or_default();
        if header.number != number {
            // What follows counts on from the number inside the block.
            let (file, offset) = self.locate(number)?;
            let detail = "the number inside the block is another than its record's";
            return Err(corrupt(&*file, offset, number, detail));
        }
        self.inner.get_mut().info = info_after(&header);
        Ok(())
    }

    /// Number of the next block.
    pub fn height(&self) -> u64 {
        self.inner.read().info.height
    }

    /// Number of the oldest block here: 0 unless the chain starts at a snapshot.
    pub fn first_block(&self) -> u64 {
        let inner = self.inner.read();
        let finished = inner.finished.first().copied();
        finished
            .or(inner.active.as_ref().map(|a| a.first))
            .unwrap_or(self.options.first_block)
    }

    /// Height and newest hashes.
    pub fn info(&self) -> ChainInfo {
        self.inner.read().info.clone()
    }

    /// Adds the next block and returns its stored bytes once they are durable.
    ///
    /// # Errors
    /// When the block does not follow the newest one, or the disk fails.
    pub fn append(&self, block: &Block) -> Result<Bytes> {
        let header = block.header.clone().unwrap_or_default();
        let raw = Bytes::from(block.encode_to_vec());
        self.append_encoded(&[(header, raw.clone())])?;
        Ok(raw)
    }

    /// Adds several encoded blocks with one write and one sync. Each comes with its own header.
    ///
    /// # Errors
    /// As [`BlockStore::append`]; then none of them is added.
    pub fn append_encoded(&self, blocks: &[(BlockHeader, Bytes)]) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut poisoned = self.poisoned.lock();
        if *poisoned {
            return Err(BlockStoreError::Poisoned);
        }
        let info = self.check_order(blocks)?;
        self.roll_if_full()?;
        let (file, end) = self.active_file()?;
        let mut data = Vec::with_capacity(
            blocks
                .iter()
                .map(|(_, raw)| raw.len() + RECORD_HEADER)
                .sum(),
        );
        let mut offsets = Vec::with_capacity(blocks.len());
        for (before, (header, raw)) in blocks.iter().enumerate() {
            offsets.push(end + data.len() as u64);
            RecordHeader::of(header.number, before as u32, raw).encode(&mut data);
            data.extend_from_slice(raw);
        }
        if let Err(error) = file.append(&data) {
            // Part of it may be there. Without it the file is as it was.
            *poisoned = file.truncate(end).is_err();
            return Err(error.into());
        }
        if let Err(error) = file.sync_data() {
            *poisoned = true;
            return Err(error.into());
        }
        let mut inner = self.inner.write();
        let active = inner.active.as_mut().expect("active_file made it");
        active.offsets.extend(offsets);
        active.end = end + data.len() as u64;
        for (header, raw) in blocks {
            inner.recent.push(header.number, raw.clone());
        }
        inner.info = info;
        Ok(())
    }

    /// The chain after `blocks`, when they follow it and each other.
    fn check_order(&self, blocks: &[(BlockHeader, Bytes)]) -> Result<ChainInfo> {
        let mut info = self.info();
        for (header, raw) in blocks {
            info.check_next(header)?;
            if raw.len() > MAX_BLOCK {
                return Err(BlockStoreError::TooLarge {
                    number: header.number,
                    size: raw.len(),
                    limit: MAX_BLOCK,
                });
            }
            info = info_after(header);
        }
        Ok(info)
    }

    /// An error unless a block with this header can be added now.
    pub(crate) fn check_follows(&self, header: &BlockHeader) -> Result<()> {
        self.inner.read().info.check_next(header)
    }

    /// Finishes the active segment when it is large enough. The next write makes a new one.
    fn roll_if_full(&self) -> Result<()> {
        let (first, offsets) = {
            let inner = self.inner.read();
            match inner.active.as_ref() {
                Some(a) if a.end >= self.options.segment_bytes && !a.offsets.is_empty() => {
                    (a.first, a.offsets.clone())
                }
                _ => return Ok(()),
            }
        };
        segment::write_index(&*self.disk, &self.dir, first, &offsets)?;
        let mut inner = self.inner.write();
        inner.finished.push(first);
        inner.active = None;
        Ok(())
    }

    fn active_file(&self) -> Result<(Arc<dyn DiskFile>, u64)> {
        let first = {
            let inner = self.inner.read();
            if let Some(active) = inner.active.as_ref() {
                return Ok((active.file.clone(), active.end));
            }
            inner.info.height
        };
        let path = segment::segment_path(&self.dir, first);
        let file = self.disk.open(&path, OpenMode::Append)?;
        // A leftover of an attempt that failed half-way holds nothing that counts.
        file.truncate(0)?;
        file.append(&record::segment_header(first))?;
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        let end = SEGMENT_HEADER as u64;
        self.inner.write().active = Some(Active {
            first,
            file: file.clone(),
            offsets: Vec::new(),
            end,
        });
        Ok((file, end))
    }

    /// The stored bytes of a block, checked against their checksum. They are the protobuf encoding
    /// of `common.Block`.
    ///
    /// # Errors
    /// [`BlockStoreError::NotFound`], or [`BlockStoreError::Corrupt`] when they are damaged.
    pub fn raw_block(&self, number: u64) -> Result<Bytes> {
        if let Some(block) = self.inner.read().recent.get(number) {
            return Ok(block);
        }
        let (file, offset) = self.locate(number)?;
        let header = self.record_header(&*file, offset, number)?;
        let mut block = vec![0; header.len as usize];
        file.read_exact_at(&mut block, offset + RECORD_HEADER as u64)?;
        if crc32c(&block) != header.crc {
            return Err(corrupt(&*file, offset, number, "checksum of the block"));
        }
        Ok(block.into())
    }

    /// A block, decoded. Its envelopes share one buffer.
    ///
    /// # Errors
    /// As [`BlockStore::raw_block`].
    pub fn block(&self, number: u64) -> Result<Block> {
        Block::decode(self.raw_block(number)?)
            .map_err(|source| BlockStoreError::Decode { number, source })
    }

    /// The newest block, or `None` when there is none.
    ///
    /// # Errors
    /// As [`BlockStore::raw_block`].
    pub fn last_block(&self) -> Result<Option<Block>> {
        let height = self.height();
        if height == self.first_block() {
            return Ok(None);
        }
        self.block(height - 1).map(Some)
    }

    /// Part of a block's bytes. The caller knows its checksum, so the rest need not be read.
    pub(crate) fn raw_part(&self, number: u64, part: std::ops::Range<u64>) -> Result<Bytes> {
        if let Some(block) = self.inner.read().recent.get(number) {
            let range = part.start as usize..part.end as usize;
            if range.end <= block.len() && range.start <= range.end {
                return Ok(block.slice(range));
            }
            return Err(BlockStoreError::NotFound { number });
        }
        let (file, offset) = self.locate(number)?;
        let header = self.record_header(&*file, offset, number)?;
        if part.end > u64::from(header.len) || part.start > part.end {
            return Err(corrupt(&*file, offset, number, "length of the block"));
        }
        let mut bytes = vec![0; (part.end - part.start) as usize];
        file.read_exact_at(&mut bytes, offset + RECORD_HEADER as u64 + part.start)?;
        Ok(bytes.into())
    }

    /// Reads every block and checks checksums, numbers and hashes. For an operator's check.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn verify(&self) -> Result<()> {
        let mut hash = Bytes::new();
        for number in self.first_block()..self.height() {
            let header = self.block(number)?.header.unwrap_or_default();
            if header.number != number {
                return Err(BlockStoreError::OutOfOrder {
                    got: header.number,
                    expected: number,
                });
            }
            if !hash.is_empty() && header.previous_hash != hash {
                return Err(BlockStoreError::PreviousHash {
                    number,
                    got: hex::encode(&header.previous_hash),
                    have: hex::encode(&hash),
                });
            }
            hash = info_after(&header).current_hash;
        }
        Ok(())
    }

    fn record_header(&self, file: &dyn DiskFile, offset: u64, number: u64) -> Result<RecordHeader> {
        let mut head = [0u8; RECORD_HEADER];
        file.read_exact_at(&mut head, offset)?;
        match RecordHeader::decode(&head) {
            Some(header) if header.number == number => Ok(header),
            _ => Err(corrupt(file, offset, number, "record header")),
        }
    }

    /// The file that holds a block, and where its record starts.
    fn locate(&self, number: u64) -> Result<(Arc<dyn DiskFile>, u64)> {
        let first = {
            let inner = self.inner.read();
            if number >= inner.info.height {
                return Err(BlockStoreError::NotFound { number });
            }
            if let Some(active) = inner.active.as_ref()
                && number >= active.first
            {
                let offset = active.offsets.get((number - active.first) as usize);
                let offset = *offset.ok_or(BlockStoreError::NotFound { number })?;
                return Ok((active.file.clone(), offset));
            }
            let after = inner.finished.partition_point(|&first| first <= number);
            let Some(&first) = after.checked_sub(1).and_then(|i| inner.finished.get(i)) else {
                return Err(BlockStoreError::NotFound { number });
            };
            first
        };
        let offset = segment::indexed_offset(&*self.disk, &self.dir, first, number)?;
        Ok((self.finished_file(first)?, offset))
    }

    fn finished_file(&self, first: u64) -> Result<Arc<dyn DiskFile>> {
        let mut handles = self.handles.lock();
        if let Some((_, file)) = handles.iter().find(|(n, _)| *n == first) {
            return Ok(file.clone());
        }
        let path = segment::segment_path(&self.dir, first);
        let file = self.disk.open(&path, OpenMode::Read)?;
        handles.push_back((first, file.clone()));
        if handles.len() > OPEN_SEGMENTS {
            handles.pop_front();
        }
        Ok(file)
    }
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockStore")
            .field("dir", &self.dir)
            .field("height", &self.height())
            .finish_non_exhaustive()
    }
}

fn corrupt(file: &dyn DiskFile, offset: u64, block: u64, detail: &'static str) -> BlockStoreError {
    BlockStoreError::Corrupt {
        path: file.path().to_path_buf(),
        offset,
        block,
        detail,
    }
}

fn info_after(header: &BlockHeader) -> ChainInfo {
    ChainInfo {
        height: header.number.saturating_add(1),
        current_hash: sha256(&header_bytes(header)).to_vec().into(),
        previous_hash: header.previous_hash.clone(),
    }
}
