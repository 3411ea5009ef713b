//! What Raft wants done: records to keep, messages to send, entries to apply.
//!
//! Records go to the journal without waiting; messages that promise something about them leave once
//! they are durable. A leader's own messages may leave at once (Raft thesis, section 10.2.1).

use prost::Message as _;
use raft::eraftpb::{self, MessageType};
use raft::{Ready, SnapshotStatus};
use selvage_ordering::{Effect, JournalWrite};
use selvage_proto::common::Block;

use crate::engine::{Raft, Unpersisted};
use crate::log::{entry_record, hard_state_record};
use crate::wire;

impl Raft {
    /// Carries out everything that Raft has ready.
    pub(crate) fn drain(&mut self, out: &mut Vec<Effect>) {
        while !self.over && self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            self.note_leader(&ready, out);
            let messages = ready.take_messages();
            self.send(messages, out);
            self.keep(&mut ready, out);
            let committed = ready.take_committed_entries();
            self.node.advance_append_async(ready);
            if self.unpersisted.is_empty() {
                // Nothing had to be kept, or nothing that must be durable.
                self.node.on_persist_ready(number);
            }
            self.to_apply.extend(committed);
            self.apply_more(out);
        }
    }

    /// Hands records to the journal, and messages to the network or to the records they wait for.
    fn keep(&mut self, ready: &mut Ready, out: &mut Vec<Effect>) {
        let snapshot = wire::Snapshot::from_raft(ready.snapshot());
        let mut sync = ready.must_sync();
        let checkpoint = snapshot.is_some();
        let index = snapshot.as_ref().map(wire::Snapshot::index);
        if let Some(snapshot) = snapshot {
            self.restore(snapshot, out);
            sync = true;
        }
        let store = self.node.mut_store();
        store.append(ready.entries());
        let entries = ready.entries().iter().map(wire::Entry::from_raft);
        let mut records: Vec<_> = entries.map(|entry| entry_record(&entry)).collect();
        if let Some(state) = ready.hs() {
            store.set_hard_state(state);
            records.push(hard_state_record(&wire::HardState::from_raft(state)));
        }
        if checkpoint {
            records = store.checkpoint();
        }
        let messages = ready.take_persisted_messages();
        if !records.is_empty() {
            self.journal(records, checkpoint, sync, out);
        }
        if sync || !self.unpersisted.is_empty() {
            self.unpersisted.push_back(Unpersisted {
                sequence: self.journaled,
                number: ready.number(),
                snapshot: index,
                messages,
            });
        } else {
            self.send(messages, out);
        }
    }

    pub(crate) fn journal(
        &mut self,
        records: Vec<bytes::Bytes>,
        checkpoint: bool,
        sync: bool,
        out: &mut Vec<Effect>,
    ) {
        self.journaled += 1;
        out.push(Effect::Journal(JournalWrite {
            sequence: self.journaled,
            records,
            checkpoint,
            sync,
        }));
    }

    /// Records are durable: what waited for them happens.
    pub(crate) fn journaled(&mut self, sequence: u64, out: &mut Vec<Effect>) {
        while self
            .unpersisted
            .front()
            .is_some_and(|u| u.sequence <= sequence)
        {
            let Some(done) = self.unpersisted.pop_front() else {
                return;
            };
            self.node.on_persist_ready(done.number);
            if let Some(index) = done.snapshot
                && index > self.node.raft.raft_log.applied()
            {
                // Its blocks may still be on their way; to Raft it counts as applied.
                self.node.advance_apply_to(index);
            }
            self.send(done.messages, out);
        }
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>, out: &mut Vec<Effect>) {
        for message in messages {
            let to = message.to;
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let bytes = wire::Message::from_raft(&message).encode_to_vec();
            out.push(Effect::Send {
                to,
                message: bytes.into(),
            });
            if is_snapshot {
                // A lost one is sent again: the follower's next answer shows where it is.
                self.node.report_snapshot(to, SnapshotStatus::Finish);
            }
        }
    }

    fn note_leader(&mut self, ready: &Ready, out: &mut Vec<Effect>) {
        let Some(state) = ready.ss() else { return };
        let leader = state.leader_id;
        if leader == self.leader {
            return;
        }
        tracing::info!(
            "Raft leader changed: {} -> {leader} node={}",
            self.leader,
            self.id
        );
        let led = self.leading.is_some();
        self.leader = leader;
        self.heard = self.ticks;
        self.silent = false;
        out.push(Effect::Leader((leader != 0).then_some(leader)));
        if led {
            self.end_leading(out);
        }
        if leader != 0 {
            self.campaign = None;
        }
        if leader == self.id {
            self.begin_leading();
        } else {
            self.waiting.unplace_all();
            self.place_all(out);
        }
    }

    /// Continues behind a snapshot from the leader. Its block names how far this node is behind;
    /// the blocks themselves come from the other nodes' block stores.
    fn restore(&mut self, snapshot: wire::Snapshot, out: &mut Vec<Effect>) {
        let index = snapshot.index();
        self.to_apply.retain(|entry| entry.index > index);
        self.applied = self.applied.max(index);
        self.since_snapshot = 0;
        if let Some(voters) = snapshot
            .metadata
            .as_ref()
            .and_then(|m| m.conf_state.clone())
        {
            self.voters = voters.into_raft();
        }
        let block = Block::decode(snapshot.data.clone()).unwrap_or_default();
        self.node.mut_store().restart_from(snapshot);
        let through = block.header.map_or(0, |header| header.number);
        out.push(Effect::Snapshot { number: through });
        if through > self.tip.number() {
            tracing::info!(
                "a snapshot at block [{through}] came, this node is at [{}]: fetching blocks",
                self.tip.number()
            );
            self.catch_up(through, out);
        }
    }

    pub(crate) fn catch_up(&mut self, through: u64, out: &mut Vec<Effect>) {
        if self.catching_up.is_some_and(|to| to >= through) {
            return;
        }
        self.catching_up = Some(through);
        out.push(Effect::CatchUp { through });
    }
}
