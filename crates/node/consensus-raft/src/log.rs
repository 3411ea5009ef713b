//! The Raft log of one channel in memory, and how it is kept in the journal.
//!
//! Entries since the newest snapshot stay in memory; a snapshot is just the newest block, since the
//! blocks before it are in every orderer's block store (Fabric: `etcdraft/storage.go`).

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb;
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use thiserror::Error;

use crate::wire;

const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;
const SNAPSHOT: u8 = 3;

/// Why the records of a journal make no log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// A record is of a kind this version does not know.
    #[error("the journal has a record of unknown kind {0}; was it written by a newer version?")]
    UnknownRecord(u8),
    /// A record does not decode.
    #[error("a journal record does not decode: {0}")]
    Malformed(String),
    /// Entries do not follow each other.
    #[error("the journal's entries have a gap: entry {got} after {last}")]
    Gap {
        /// The entry that came.
        got: u64,
        /// The last before it.
        last: u64,
    },
}

/// A record of the journal.
pub(crate) fn hard_state_record(state: &wire::HardState) -> Bytes {
    tagged(HARD_STATE, state)
}

/// See [`hard_state_record`].
pub(crate) fn entry_record(entry: &wire::Entry) -> Bytes {
    tagged(ENTRY, entry)
}

/// See [`hard_state_record`].
pub(crate) fn snapshot_record(snapshot: &wire::Snapshot) -> Bytes {
    tagged(SNAPSHOT, snapshot)
}

fn tagged(tag: u8, message: &impl prost::Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(tag);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.into()
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    hard_state: eraftpb::HardState,
    /// Who votes at the snapshot, and from the first change on, who votes now.
    conf_state: eraftpb::ConfState,
    /// The newest snapshot; index 0 for none.
    snapshot: wire::Snapshot,
    /// The entry before the first one that is kept, and its term.
    before: (u64, u64),
    entries: VecDeque<eraftpb::Entry>,
}

impl Log {
    /// Rebuilds the log from a journal's records.
    pub(crate) fn replay(records: &[Bytes]) -> Result<Self, LogError> {
        let mut log = Self::default();
        for record in records {
            let (tag, body) = record.split_first().ok_or(LogError::UnknownRecord(0))?;
            let body = record.slice_ref(body);
            let malformed = |error: prost::DecodeError| LogError::Malformed(error.to_string());
            match *tag {
                HARD_STATE => {
                    let state = wire::HardState::decode(body).map_err(malformed)?;
                    log.hard_state = state.to_raft();
                }
                ENTRY => {
                    let entry = wire::Entry::decode(body).map_err(malformed)?;
                    let entry = entry
                        .into_raft()
                        .map_err(|error| LogError::Malformed(error.to_string()))?;
                    if entry.index > log.last().saturating_add(1) {
                        return Err(LogError::Gap {
                            got: entry.index,
                            last: log.last(),
                        });
                    }
                    if entry.index > log.before.0 {
                        log.append(&[entry]);
                    }
                }
                SNAPSHOT => {
                    let snapshot = wire::Snapshot::decode(body).map_err(malformed)?;
                    let metadata = snapshot.metadata.as_ref();
                    let voters = metadata.and_then(|m| m.conf_state.as_ref());
                    if voters.is_some_and(|voters| !voters.names_each_once()) {
                        let reason = "a snapshot names a voter twice, or number 0";
                        return Err(LogError::Malformed(reason.to_owned()));
                    }
                    log.restart_from(snapshot);
                }
                other => return Err(LogError::UnknownRecord(other)),
            }
        }
        // Without a synced commit index the entries are there all the same; never claim more.
        log.hard_state.commit = log.hard_state.commit.clamp(log.before.0, log.last());
        Ok(log)
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        self.last() == 0 && self.hard_state.term == 0
    }

    pub(crate) fn last(&self) -> u64 {
        self.entries.back().map_or(self.before.0, |e| e.index)
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.index()
    }

    pub(crate) fn latest_snapshot(&self) -> &wire::Snapshot {
        &self.snapshot
    }

    /// Who votes from now on. A snapshot for another node names them instead of those at its place:
    /// a node that was added since would otherwise not find itself in it.
    pub(crate) fn set_voters(&mut self, conf_state: &eraftpb::ConfState) {
        self.conf_state = conf_state.clone();
    }

    pub(crate) fn set_hard_state(&mut self, state: &eraftpb::HardState) {
        self.hard_state = state.clone();
    }

    pub(crate) fn hard_state(&self) -> wire::HardState {
        wire::HardState::from_raft(&self.hard_state)
    }

    /// Appends entries, replacing what stood at their places and behind.
    pub(crate) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|e| e.index >= first.index) {
            self.entries.pop_back();
        }
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets everything and continues behind a snapshot from the leader.
    pub(crate) fn restart_from(&mut self, snapshot: wire::Snapshot) {
        let metadata = snapshot.metadata.clone().unwrap_or_default();
        self.entries.clear();
        self.before = (metadata.index, metadata.term);
        self.conf_state = metadata.conf_state.unwrap_or_default().into_raft();
        self.hard_state.commit = self.hard_state.commit.max(metadata.index);
        self.hard_state.term = self.hard_state.term.max(metadata.term);
        self.snapshot = snapshot;
    }

    /// Takes a snapshot at an applied entry and drops the entries before it but the last `keep`.
    pub(crate) fn take_snapshot(
        &mut self,
        index: u64,
        conf_state: &eraftpb::ConfState,
        block: Bytes,
        keep: u64,
    ) {
        let Some(term) = self.term_at(index) else {
            return;
        };
        self.snapshot = wire::Snapshot {
            data: block,
            metadata: Some(wire::SnapshotMetadata {
                conf_state: Some(wire::ConfState::from_raft(conf_state)),
                index,
                term,
            }),
        };
        let first = index.saturating_sub(keep).max(self.before.0);
        while self.entries.front().is_some_and(|e| e.index <= first) {
            if let Some(entry) = self.entries.pop_front() {
                self.before = (entry.index, entry.term);
            }
        }
    }

    /// What a journal has to hold, and nothing more, for [`Log::replay`] to give this log: the
    /// snapshot and the entries behind it.
    pub(crate) fn checkpoint(&self) -> Vec<Bytes> {
        let index = self.snapshot_index();
        let mut records = vec![snapshot_record(&self.snapshot)];
        let behind = self.entries.iter().filter(|e| e.index > index);
        records.extend(behind.map(|e| entry_record(&wire::Entry::from_raft(e))));
        records.push(hard_state_record(&self.hard_state()));
        records
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        if index == self.snapshot_index() {
            return self.snapshot.metadata.as_ref().map(|m| m.term);
        }
        let first = self.entries.front()?.index;
        let offset = usize::try_from(index.checked_sub(first)?).ok()?;
        self.entries.get(offset).map(|e| e.term)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let first = self.before.0 + 1;
        let range = (low - first) as usize..(high - first) as usize;
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let mut found = Vec::new();
        for entry in self.entries.range(range) {
            size += entry.data.len() as u64 + 24;
            // At least one, whatever its size.
            if size > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        self.term_at(index)
            .ok_or(Error::Store(StorageError::Compacted))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot_index() == 0 || self.snapshot_index() < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = self.snapshot.clone().into_raft();
        snapshot
            .mut_metadata()
            .set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> eraftpb::Entry {
        wire::Entry {
            kind: 0,
            term,
            index,
            data: Bytes::from(format!("{index}@{term}")),
        }
        .into_raft()
        .unwrap()
    }

    fn places(log: &Log) -> Vec<(u64, u64)> {
        log.entries.iter().map(|e| (e.index, e.term)).collect()
    }

    #[test]
    fn a_snapshot_that_names_a_voter_twice_is_refused() {
        let snapshot = |voters: &[u64]| wire::Snapshot {
            data: Bytes::new(),
            metadata: Some(wire::SnapshotMetadata {
                conf_state: Some(wire::ConfState {
                    voters: voters.to_vec(),
                    learners: vec![4],
                }),
                index: 7,
                term: 2,
            }),
        };
        let replay = |voters: &[u64]| Log::replay(&[snapshot_record(&snapshot(voters))]);
        assert_eq!(replay(&[1, 2, 3]).expect("a log").last(), 7);
        for voters in [&[1, 2, 2][..], &[1, 0], &[1, 4]] {
            let refused = replay(voters).expect_err("no such voters");
            assert!(matches!(refused, LogError::Malformed(_)), "{voters:?}");
        }
    }

    #[test]
    fn later_entries_replace_what_stood_there() {
        let mut log = Log::default();
        assert!(log.is_empty());
        log.append(&[entry(1, 1), entry(2, 1), entry(3, 1)]);
        log.append(&[entry(2, 2)]);
        assert_eq!(places(&log), [(1, 1), (2, 2)]);
        assert_eq!(log.term(2).unwrap(), 2);
        assert!(log.term(3).is_err());
        assert_eq!(log.last_index().unwrap(), 2);
    }

    #[test]
    fn a_snapshot_keeps_a_tail_for_slow_followers() {
        let mut log = Log::default();
        log.append(&(1..=10).map(|i| entry(i, 1)).collect::<Vec<_>>());
        let voters = eraftpb::ConfState::from((vec![1, 2, 3], vec![]));
        log.take_snapshot(8, &voters, Bytes::from_static(b"block"), 3);
        assert_eq!(log.first_index().unwrap(), 6);
        assert_eq!(log.term(5).unwrap(), 1);
        assert!(
            log.entries(5, 7, None, GetEntriesContext::empty(false))
                .is_err()
        );
        let read = log.entries(6, 11, None, GetEntriesContext::empty(false));
        assert_eq!(read.unwrap().len(), 5);
        let one = log.entries(6, 11, 1, GetEntriesContext::empty(false));
        assert_eq!(one.unwrap().len(), 1);
        let snapshot = log.snapshot(0, 2).unwrap();
        assert_eq!(snapshot.get_metadata().index, 8);

        // A restart remembers the snapshot and what is behind it.
        let back = Log::replay(&log.checkpoint()).unwrap();
        assert_eq!(places(&back), [(9, 1), (10, 1)]);
        assert_eq!(back.snapshot_index(), 8);
        assert_eq!(back.conf_state.voters, [1, 2, 3]);
    }

    #[test]
    fn records_make_the_log_again() {
        let mut log = Log::default();
        let entries = [entry(1, 1), entry(2, 1), entry(2, 3)];
        let mut records: Vec<Bytes> = entries
            .iter()
            .map(|e| entry_record(&wire::Entry::from_raft(e)))
            .collect();
        for e in &entries {
            log.append(std::slice::from_ref(e));
        }
        let state = wire::HardState {
            term: 3,
            vote: 2,
            commit: 9,
        };
        records.push(hard_state_record(&state));
        let back = Log::replay(&records).unwrap();
        assert_eq!(places(&back), places(&log));
        assert_eq!((back.hard_state.term, back.hard_state.vote), (3, 2));
        assert_eq!(back.hard_state.commit, 2, "no more than there is");
        assert!(Log::replay(&[entry_record(&wire::Entry::from_raft(&entry(4, 1)))]).is_err());
        assert!(Log::replay(&[Bytes::from_static(b"\xff")]).is_err());
        assert!(Log::replay(&[Bytes::new()]).is_err());
    }
}
