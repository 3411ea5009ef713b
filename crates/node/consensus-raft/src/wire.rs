//! etcd's Raft messages (`raftpb`), as orderers exchange and keep them.
//!
//! The `raft` crate brings message types of its own, made by a protobuf library that is no longer
//! maintained and has a known weakness with hostile input. So bytes from the network and from the
//! journal are decoded by these types only, and converted.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::eraftpb;

/// `raftpb.Entry`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// 0 a block, 1 a change of membership.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The term in which a leader made it.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Its place in the log, from 1.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// An encoded block or [`ConfChange`]; empty for the first entry of a new leader.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// `raftpb.ConfState`: who votes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfState {
    /// The voting nodes.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub voters: Vec<u64>,
    /// Nodes that only listen.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
}

/// `raftpb.SnapshotMetadata`
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotMetadata {
    /// Who voted at that place.
    #[prost(message, optional, tag = "1")]
    pub conf_state: Option<ConfState>,
    /// The last entry that it stands for.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// That entry's term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

/// `raftpb.Snapshot`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Snapshot {
    /// The newest block that it stands for, encoded.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Its place in the log.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SnapshotMetadata>,
}

/// `raftpb.Message`. Fields 15 and 16 are the `raft` crate's own; etcd's nodes ignore them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// `MessageType`
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The receiver.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// The sender.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// The sender's term.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// See the `raft` crate's documentation of `Message` for this and what follows.
    #[prost(uint64, tag = "5")]
    pub log_term: u64,
    /// Place in the log.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// Entries to append.
    #[prost(message, repeated, tag = "7")]
    pub entries: Vec<Entry>,
    /// What the sender knows to be committed.
    #[prost(uint64, tag = "8")]
    pub commit: u64,
    /// A snapshot to start from.
    #[prost(message, optional, tag = "9")]
    pub snapshot: Option<Snapshot>,
    /// Whether the request is refused.
    #[prost(bool, tag = "10")]
    pub reject: bool,
    /// From where to try again.
    #[prost(uint64, tag = "11")]
    pub reject_hint: u64,
    /// Opaque.
    #[prost(bytes = "bytes", tag = "12")]
    pub context: Bytes,
    /// The term at `commit`.
    #[prost(uint64, tag = "15")]
    pub commit_term: u64,
    /// Election priority.
    #[prost(int64, tag = "16")]
    pub priority: i64,
}

/// `raftpb.HardState`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HardState {
    /// The newest term heard of.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Who got this node's vote in it; 0 nobody.
    #[prost(uint64, tag = "2")]
    pub vote: u64,
    /// What is known to be committed.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// `raftpb.ConfChange`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfChange {
    /// Unused.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 0 adds a node, 1 removes one.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// The node.
    #[prost(uint64, tag = "3")]
    pub node_id: u64,
    /// Unused.
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
}

/// [`ConfChange::kind`] and [`eraftpb::ConfChangeType`] agree on these two.
pub const ADD_NODE: u32 = 0;
/// See [`ADD_NODE`].
pub const REMOVE_NODE: u32 = 1;

/// The number is not one of the kinds that etcd and this crate agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0} in a Raft message")]
pub struct UnknownKind(i64);

impl Entry {
    pub(crate) fn from_raft(entry: &eraftpb::Entry) -> Self {
        Self {
            kind: entry.get_entry_type() as u32,
            term: entry.term,
            index: entry.index,
            data: entry.data.clone(),
        }
    }

    pub(crate) fn into_raft(self) -> Result<eraftpb::Entry, UnknownKind> {
        let mut entry = eraftpb::Entry::default();
        entry.set_entry_type(match self.kind {
            0 => eraftpb::EntryType::EntryNormal,
            1 => eraftpb::EntryType::EntryConfChange,
            other => return Err(UnknownKind(other.into())),
        });
        entry.term = self.term;
        entry.index = self.index;
        entry.data = self.data;
        Ok(entry)
    }
}

impl ConfState {
    /// Whether each node is named once, and none has number 0. The `raft` crate stops the process
    /// where that is not so.
    pub(crate) fn names_each_once(&self) -> bool {
        let mut seen = BTreeSet::new();
        let mut all = self.voters.iter().chain(&self.learners);
        all.all(|id| *id != 0 && seen.insert(*id))
    }

    pub(crate) fn from_raft(state: &eraftpb::ConfState) -> Self {
        Self {
            voters: state.voters.clone(),
            learners: state.learners.clone(),
        }
    }

    pub(crate) fn into_raft(self) -> eraftpb::ConfState {
        let mut state = eraftpb::ConfState::default();
        state.set_voters(self.voters);
        state.set_learners(self.learners);
        state
    }
}

impl Snapshot {
    /// The place in the log; 0 for a snapshot that says nothing.
    pub fn index(&self) -> u64 {
        self.metadata.as_ref().map_or(0, |m| m.index)
    }

    pub(crate) fn from_raft(snapshot: &eraftpb::Snapshot) -> Option<Self> {
        let metadata = snapshot.get_metadata();
        (metadata.index != 0).then(|| Self {
            data: snapshot.data.clone(),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(ConfState::from_raft(metadata.get_conf_state())),
                index: metadata.index,
                term: metadata.term,
            }),
        })
    }

    pub(crate) fn into_raft(self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        let given = self.metadata.unwrap_or_default();
        snapshot.data = self.data;
        let metadata = snapshot.mut_metadata();
        metadata.index = given.index;
        metadata.term = given.term;
        metadata.set_conf_state(given.conf_state.unwrap_or_default().into_raft());
        snapshot
    }
}

impl HardState {
    pub(crate) fn from_raft(state: &eraftpb::HardState) -> Self {
        Self {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        }
    }

    pub(crate) fn to_raft(self) -> eraftpb::HardState {
        eraftpb::HardState {
            term: self.term,
            vote: self.vote,
            commit: self.commit,
            ..eraftpb::HardState::default()
        }
    }
}

impl ConfChange {
    /// The `raft` crate's form; none for the kinds that Fabric's orderers do not use, whose numbers
    /// the crate and etcd do not agree on.
    pub(crate) fn to_raft(&self) -> Option<eraftpb::ConfChange> {
        let mut change = eraftpb::ConfChange {
            id: self.id,
            node_id: self.node_id,
            context: self.context.clone(),
            ..eraftpb::ConfChange::default()
        };
        change.set_change_type(match self.kind {
            ADD_NODE => eraftpb::ConfChangeType::AddNode,
            REMOVE_NODE => eraftpb::ConfChangeType::RemoveNode,
            _ => return None,
        });
        Some(change)
    }
}

impl Message {
    pub(crate) fn from_raft(message: &eraftpb::Message) -> Self {
        Self {
            kind: message.get_msg_type() as i32,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.iter().map(Entry::from_raft).collect(),
            commit: message.commit,
            snapshot: Snapshot::from_raft(message.get_snapshot()),
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.clone(),
            commit_term: message.commit_term,
            priority: message.priority,
        }
    }

    /// The `raft` crate's form. Kinds that only pass inside a node are refused.
    pub(crate) fn into_raft(self) -> Result<eraftpb::Message, UnknownKind> {
        use eraftpb::MessageType as T;
        let mut message = eraftpb::Message::default();
        let kinds = [
            T::MsgAppend,
            T::MsgAppendResponse,
            T::MsgRequestVote,
            T::MsgRequestVoteResponse,
            T::MsgSnapshot,
            T::MsgHeartbeat,
            T::MsgHeartbeatResponse,
            T::MsgTimeoutNow,
            T::MsgRequestPreVote,
            T::MsgRequestPreVoteResponse,
        ];
        let kind = kinds.into_iter().find(|kind| *kind as i32 == self.kind);
        message.set_msg_type(kind.ok_or(UnknownKind(self.kind.into()))?);
        message.to = self.to;
        message.from = self.from;
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        let entries = self.entries.into_iter().map(Entry::into_raft);
        message.set_entries(entries.collect::<Result<Vec<_>, _>>()?.into());
        message.commit = self.commit;
        if let Some(snapshot) = self.snapshot.filter(|snapshot| snapshot.index() != 0) {
            message.set_snapshot(snapshot.into_raft());
        }
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.context = self.context;
        message.commit_term = self.commit_term;
        message.priority = self.priority;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// Bytes made by etcd's own `raftpb` 3.6, which always writes its scalar fields.
    fn bytes(hex: &str) -> Bytes {
        let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn message(hex: &str) -> Message {
        Message::decode(bytes(hex)).expect("a message")
    }

    #[test]
    fn etcds_entries_are_read() {
        let entry = Entry::decode(bytes("0801100118022206080010001802")).unwrap();
        assert_eq!((entry.kind, entry.term, entry.index), (1, 1, 2));
        let change = ConfChange::decode(entry.data).unwrap();
        assert_eq!((change.kind, change.node_id), (ADD_NODE, 2));
        let state = HardState::decode(bytes("080410011863")).unwrap();
        assert_eq!((state.term, state.vote, state.commit), (4, 1, 99));
    }

    #[test]
    fn etcds_messages_are_read() {
        let append =
            message("0803100218012003280230083a0d0800100318092205626c6f636b4007500058006800");
        assert_eq!((append.kind, append.to, append.from), (3, 2, 1));
        assert_eq!((append.term, append.log_term, append.index), (3, 2, 8));
        assert_eq!((append.commit, append.entries.len()), (7, 1));
        assert_eq!(append.entries[0].data, "block");

        let reject = message("0804100118032004280130064000500158026800");
        assert!(reject.reject);
        assert_eq!(
            (reject.reject_hint, reject.log_term, reject.index),
            (2, 1, 6)
        );

        let snapshot = message(
            "08071002180120042800300040004a180a066e6577657374120e0a08080108020803280010641804500058\
             006800",
        );
        let snapshot = snapshot.snapshot.expect("a snapshot");
        assert_eq!(snapshot.index(), 100);
        let voters = snapshot.metadata.and_then(|m| m.conf_state);
        assert_eq!(voters.unwrap_or_default().voters, [1, 2, 3]);
    }

    #[test]
    fn messages_go_through_the_crates_form_unchanged() {
        for hex in [
            "0803100218012003280230083a0d0800100318092205626c6f636b4007500058006800",
            "0808100318012004280030004005500058006200 6800",
            "0804100118032004280130064000500158026800",
            "0811100118032005280430064000500058006800",
        ] {
            let message = message(&hex.replace(' ', ""));
            let back = Message::from_raft(&message.clone().into_raft().unwrap());
            assert_eq!(back, message);
        }
    }

    #[test]
    fn messages_inside_a_node_and_unknown_ones_are_refused() {
        // MsgHup, MsgBeat, MsgProp, MsgTransferLeader, and what etcd has that the crate has not.
        for kind in [0, 1, 2, 10, 13, 15, 16, 19, 22, -1] {
            let message = Message {
                kind,
                ..Message::default()
            };
            assert!(message.into_raft().is_err(), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::decode(data.as_slice()) {
                let _ = message.into_raft();
            }
        }
    }
}
