use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirLock, Disk, DiskError, DiskFile, DiskOp, OpenMode, parent};
use crate::{Rng, SeededRng};

/// What an injected failure looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The device reports an error; an append has written half of its bytes.
    Io,
    /// The disk is full; an append has written half of its bytes.
    Full,
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which changing operation fails, counted from 0 as [`MemDisk::operations`] counts.
    pub at: u64,
    /// How it fails.
    pub kind: FaultKind,
    /// True when every later changing operation fails too, as for a dead disk or process. On a full
    /// disk those that need no room go on: cutting, removing, making durable.
    pub sticky: bool,
}

/// What a power cut does to data that was never made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Only the process died: all that was written is still there.
    Process,
    /// Everything that was not made durable is gone.
    LoseUnsynced,
    /// Some of it reached the disk: of each file some part of the unsynced tail, perhaps with
    /// zeros or noise in it, and of the folder changes the first few. The seed decides.
    Torn(u64),
}

/// A disk in memory that remembers what was made durable, fails on demand and loses power.
///
/// Every operation that changes something (creating, appending, syncing, cutting, renaming,
/// removing) counts as one; [`MemDisk::set_fault`] makes the n-th fail. [`MemDisk::crash`] gives
/// the disk as the next start of the process would find it.
#[derive(Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    now: Names,
    durable: Names,
    pending: Vec<Change>,
    nodes: Vec<Node>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveTree(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Node {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// How far from the beginning the two are known to be the same.
    same: usize,
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(path, node) => {
                self.files.insert(path.clone(), *node);
            }
            Change::Unlink(path) => {
                self.files.remove(path);
            }
            Change::Rename(from, to) => {
                if let Some(node) = self.files.remove(from) {
                    self.files.insert(to.clone(), node);
                }
            }
            Change::RemoveTree(top) => {
                self.files.retain(|path, _| !path.starts_with(top));
                self.folders.retain(|path| !path.starts_with(top));
            }
        }
    }
}

impl Change {
    fn touches(&self, folder: &Path) -> bool {
        match self {
            Change::Link(path, _) | Change::Unlink(path) | Change::RemoveTree(path) => {
                parent(path) == folder
            }
            Change::Rename(from, to) => parent(from) == folder || parent(to) == folder,
        }
    }
}

impl State {
    /// Counts one changing operation; says how it must fail, if it must.
    fn count(&mut self, op: DiskOp) -> Option<io::Error> {
        let this = self.operations;
        self.operations += 1;
        let fault = self.fault?;
        if this < fault.at || (this > fault.at && !fault.sticky) {
            return None;
        }
        if fault.sticky && fault.kind == FaultKind::Full && !needs_room(op) {
            return None;
        }
        Some(match fault.kind {
            FaultKind::Io => io::Error::other("injected input/output error"),
            FaultKind::Full => io::ErrorKind::StorageFull.into(),
        })
    }

    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.pending.push(change);
    }

    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("/") || path == Path::new(".") || self.now.folders.contains(path)
    }
}

/// Whether an operation cannot be done on a disk that is full.
fn needs_room(op: DiskOp) -> bool {
    matches!(op, DiskOp::Open | DiskOp::CreateDir | DiskOp::Append)
}

/// `a/./b` and `a/b` are one file.
fn clean(path: &Path) -> PathBuf {
    let kept: PathBuf = path
        .components()
        .filter(|c| *c != Component::CurDir)
        .collect();
    if kept.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        kept
    }
}

fn failed<T>(op: DiskOp, path: &Path, source: impl Into<io::Error>) -> Result<T, DiskError> {
    Err(DiskError::new(op, path, source.into()))
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// How many changing operations there have been.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Arms a failure, or disarms with `None`.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Changes bytes of a file behind everybody's back, durably: what bit rot does.
    ///
    /// # Errors
    /// Kind `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
    pub fn corrupt(&self, path: &Path, offset: usize, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let Some(&node) = state.now.files.get(&clean(path)) else {
            return failed(DiskOp::Append, path, io::ErrorKind::NotFound);
        };
        let node = &mut state.nodes[node];
        for data in [&mut node.data, &mut node.durable] {
            match data.get_mut(offset..offset + bytes.len()) {
                Some(place) => place.copy_from_slice(bytes),
                None => return failed(DiskOp::Append, path, io::ErrorKind::UnexpectedEof),
            }
        }
        Ok(())
    }

    /// The disk as found after the process or the machine stopped at this moment. No fault is
    /// armed on it and nobody holds a lock. This disk is not changed.
    pub fn crash(&self, how: Crash) -> MemDisk {
        let state = self.state.lock();
        let mut names = match how {
            Crash::Process => state.now.clone(),
            Crash::LoseUnsynced | Crash::Torn(_) => state.durable.clone(),
        };
        let mut nodes = state.nodes.clone();
        match how {
            Crash::Process => {}
            Crash::LoseUnsynced => nodes.iter_mut().for_each(|n| n.data = n.durable.clone()),
            Crash::Torn(seed) => {
                let rng = SeededRng::new(seed);
                // Journalling file systems write folder changes in order: a prefix survives.
                let kept = below(&rng, state.pending.len() + 1);
                state.pending[..kept]
                    .iter()
                    .for_each(|change| names.apply(change));
                nodes.iter_mut().for_each(|node| tear(node, &rng));
            }
        }
        for node in &mut nodes {
            node.durable = node.data.clone();
            node.same = node.data.len();
        }
        let after = State {
            now: names.clone(),
            durable: names,
            nodes,
            ..State::default()
        };
        MemDisk {
            state: Arc::new(Mutex::new(after)),
        }
    }
}

fn below(rng: &SeededRng, limit: usize) -> usize {
    (rng.next_u64() % limit.max(1) as u64) as usize
}

/// Leaves of the unsynced changes of one file what a power cut may leave.
fn tear(node: &mut Node, rng: &SeededRng) {
    let common = node
        .data
        .iter()
        .zip(&node.durable)
        .take_while(|(a, b)| a == b)
        .count();
    if node.data.len() <= common {
        // A pending cut happened or it did not.
        if rng.next_u64().is_multiple_of(2) {
            node.data = node.durable.clone();
        }
        return;
    }
    let tail = node.data.len() - common;
    node.data.truncate(common + below(rng, tail + 1));
    let torn = &mut node.data[common..];
    if torn.is_empty() {
        return;
    }
    let from = below(rng, torn.len());
    match rng.next_u64() % 3 {
        0 => {}
        1 => torn[from..].fill(0),
        _ => rng.fill(&mut torn[from..]),
    }
}

struct MemFile {
    state: Arc<Mutex<State>>,
    node: usize,
    path: PathBuf,
    writable: bool,
}

impl MemFile {
    fn start(&self, op: DiskOp, state: &mut State) -> Result<Option<io::Error>, DiskError> {
        if !self.writable {
            return failed(op, &self.path, io::ErrorKind::PermissionDenied);
        }
        Ok(state.count(op))
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let state = self.state.lock();
        let data = &state.nodes[self.node].data;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let n = buf.len().min(data.len() - from);
        buf[..n].copy_from_slice(&data[from..from + n]);
        Ok(n)
    }

    fn append(&self, data: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        match self.start(DiskOp::Append, &mut state)? {
            None => state.nodes[self.node].data.extend_from_slice(data),
            Some(error) => {
                let half = &data[..data.len() / 2];
                state.nodes[self.node].data.extend_from_slice(half);
                return failed(DiskOp::Append, &self.path, error);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if let Some(error) = self.start(DiskOp::Sync, &mut state)? {
            return failed(DiskOp::Sync, &self.path, error);
        }
        let Node {
            data,
            durable,
            same,
        } = &mut state.nodes[self.node];
        durable.truncate(*same);
        durable.extend_from_slice(&data[*same..]);
        *same = data.len();
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if let Some(error) = self.start(DiskOp::Truncate, &mut state)? {
            return failed(DiskOp::Truncate, &self.path, error);
        }
        let Ok(len) = usize::try_from(len) else {
            return failed(DiskOp::Truncate, &self.path, io::ErrorKind::FileTooLarge);
        };
        let node = &mut state.nodes[self.node];
        node.data.resize(len, 0);
        node.same = node.same.min(len);
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.state.lock().nodes[self.node].data.len() as u64)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct MemLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl std::fmt::Debug for MemLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemLock({})", self.path.display())
    }
}

impl DirLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}

impl Disk for MemDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if state.is_folder(&path) {
            return Ok(());
        }
        if let Some(error) = state.count(DiskOp::CreateDir) {
            return failed(DiskOp::CreateDir, &path, error);
        }
        for folder in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            if state.now.files.contains_key(folder) {
                return failed(DiskOp::CreateDir, &path, io::ErrorKind::AlreadyExists);
            }
        }
        for folder in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            state.now.folders.insert(folder.to_path_buf());
            state.durable.folders.insert(folder.to_path_buf());
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if state.is_folder(&path) {
            return failed(DiskOp::Open, &path, io::ErrorKind::IsADirectory);
        }
        let node = match (state.now.files.get(&path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => {
                return failed(DiskOp::Open, &path, io::ErrorKind::AlreadyExists);
            }
            (Some(node), _) => node,
            (None, OpenMode::Read) => {
                return failed(DiskOp::Open, &path, io::ErrorKind::NotFound);
            }
            (None, _) => {
                if !state.is_folder(parent(&path)) {
                    return failed(DiskOp::Open, &path, io::ErrorKind::NotFound);
                }
                if let Some(error) = state.count(DiskOp::Open) {
                    return failed(DiskOp::Open, &path, error);
                }
                state.nodes.push(Node::default());
                let node = state.nodes.len() - 1;
                state.change(Change::Link(path.clone(), node));
                node
            }
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemFile {
            state: self.state.clone(),
            node,
            path,
            writable,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let (from, to) = (clean(from), clean(to));
        if !state.now.files.contains_key(&from) || !state.is_folder(parent(&to)) {
            return failed(DiskOp::Rename, &from, io::ErrorKind::NotFound);
        }
        if let Some(error) = state.count(DiskOp::Rename) {
            return failed(DiskOp::Rename, &from, error);
        }
        state.change(Change::Rename(from, to));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if !state.is_folder(&path) {
            return failed(DiskOp::SyncDir, &path, io::ErrorKind::NotFound);
        }
        if let Some(error) = state.count(DiskOp::SyncDir) {
            return failed(DiskOp::SyncDir, &path, error);
        }
        let (settled, pending) = std::mem::take(&mut state.pending)
            .into_iter()
            .partition(|c| c.touches(&path));
        state.pending = pending;
        let settled: Vec<Change> = settled;
        settled
            .iter()
            .for_each(|change| state.durable.apply(change));
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        let path = clean(path);
        if !state.is_folder(&path) {
            return failed(DiskOp::List, &path, io::ErrorKind::NotFound);
        }
        let inside = |p: &&PathBuf| parent(p) == path && **p != path;
        let files = state.now.files.keys().filter(inside);
        let folders = state.now.folders.iter().filter(inside);
        let mut names: Vec<String> = files
            .chain(folders)
            .filter_map(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if !state.now.files.contains_key(&path) {
            return failed(DiskOp::Remove, &path, io::ErrorKind::NotFound);
        }
        if let Some(error) = state.count(DiskOp::Remove) {
            return failed(DiskOp::Remove, &path, error);
        }
        state.change(Change::Unlink(path));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if !state.is_folder(&path) {
            return failed(DiskOp::Remove, &path, io::ErrorKind::NotFound);
        }
        if let Some(error) = state.count(DiskOp::Remove) {
            return failed(DiskOp::Remove, &path, error);
        }
        state.change(Change::RemoveTree(path));
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let state = self.state.lock();
        let path = clean(path);
        Ok(state.is_folder(&path) || state.now.files.contains_key(&path))
    }

    fn lock_dir(&self, path: &Path) -> Result<Box<dyn DirLock>, DiskError> {
        let mut state = self.state.lock();
        let path = clean(path);
        if !state.is_folder(&path) {
            return failed(DiskOp::Lock, &path, io::ErrorKind::NotFound);
        }
        if !state.locks.insert(path.clone()) {
            return failed(DiskOp::Lock, &path, io::ErrorKind::WouldBlock);
        }
        Ok(Box::new(MemLock {
            state: self.state.clone(),
            path,
        }))
    }
}
