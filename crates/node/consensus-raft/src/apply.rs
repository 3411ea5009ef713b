//! Applying committed entries: blocks are written, membership changes take effect, clients hear.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{Entry, EntryType};
use selvage_channel::block::is_config_block;
use selvage_ordering::block::Tip;
use selvage_ordering::{Decision, Effect, Rejection};
use selvage_proto::common::Block;

use crate::engine::{KEPT_BEHIND_SNAPSHOT, Raft};
use crate::membership::{config_metadata, consensus_of_block};
use crate::wire;

/// What applying one entry came to.
enum Applied {
    Done,
    /// Blocks before it are missing here; they are being fetched.
    Behind,
}

impl Raft {
    /// Applies what is committed, as far as the blocks before it are here.
    pub(crate) fn apply_more(&mut self, out: &mut Vec<Effect>) {
        while !self.over
            && self.catching_up.is_none()
            && let Some(entry) = self.to_apply.pop_front()
        {
            let index = entry.index;
            let applied = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => Applied::Done,
                EntryType::EntryNormal => self.apply_block(&entry, out),
                EntryType::EntryConfChange => {
                    self.apply_change(&entry.data, out);
                    Applied::Done
                }
                EntryType::EntryConfChangeV2 => {
                    let reason = "the log holds a joint membership change, which Fabric's orderers \
                                  never make";
                    self.halt(reason.to_owned(), out);
                    return;
                }
            };
            if matches!(applied, Applied::Behind) {
                self.to_apply.push_front(entry);
                return;
            }
            self.applied = self.applied.max(index);
            if index > self.node.raft.raft_log.applied() {
                self.node.advance_apply_to(index);
            }
            self.snapshot_if_due(&entry, out);
        }
        if !self.over {
            self.lead_on(out);
        }
    }

    fn apply_block(&mut self, entry: &Entry, out: &mut Vec<Effect>) -> Applied {
        let Ok(block) = Block::decode(entry.data.clone()) else {
            self.halt(format!("log entry {} holds no block", entry.index), out);
            return Applied::Done;
        };
        let header = block.header.clone().unwrap_or_default();
        self.since_snapshot += entry.data.len() as u64;
        if let Some(leading) = &mut self.leading {
            leading.in_flight = leading.in_flight.saturating_sub(1);
        }
        if header.number <= self.tip.number() {
            // Written before a restart, or fetched.
            return Applied::Done;
        }
        if header.number > self.tip.number() + 1 {
            self.since_snapshot -= entry.data.len() as u64;
            self.catch_up(header.number - 1, out);
            return Applied::Behind;
        }
        if header.previous_hash != self.tip.hash() {
            let reason = format!(
                "block [{}] of the log does not follow the newest block here: this orderer's \
                 blocks are not those of the channel. Remove the channel here and join it again",
                header.number
            );
            self.halt(reason, out);
            return Applied::Done;
        }
        let envelopes: Vec<Bytes> = block.envelopes().to_vec();
        let is_config = is_config_block(&block);
        if is_config {
            self.apply_config(&block, out);
        }
        self.membership.metadata.raft_index = entry.index;
        self.tip = Tip::after(&header);
        out.push(Effect::Write(Decision {
            block,
            is_config,
            consenter_metadata: self.membership.block_metadata(entry.index),
            signatures: Vec::new(),
        }));
        if is_config {
            self.config_block = Some(header.number);
            if let Some(leading) = &mut self.leading {
                leading.config_in_flight = false;
            }
            out.push(self.members());
        }
        self.acknowledge(&envelopes, out);
        Applied::Done
    }

    /// Tells the clients that wait for these messages that a committed block holds them.
    pub(crate) fn acknowledge(&mut self, envelopes: &[Bytes], out: &mut Vec<Effect>) {
        let ordered = envelopes.iter();
        let done: Vec<_> = ordered.flat_map(|e| self.waiting.ordered(e)).collect();
        if !done.is_empty() {
            out.push(Effect::Accept(done));
        }
    }

    /// Takes over the consenters of a configuration block. Raft's voters follow by an entry of
    /// their own, which the leader proposes.
    fn apply_config(&mut self, block: &Block, out: &mut Vec<Effect>) {
        let Some(consensus) = consensus_of_block(block) else {
            return;
        };
        if consensus.r#type != selvage_channel::CONSENSUS_RAFT {
            return;
        }
        let change = config_metadata(&consensus.metadata)
            .and_then(|config| self.membership.change(&config.consenters));
        match change {
            Ok(change) => {
                let raft_index = self.membership.metadata.raft_index;
                let before = std::mem::replace(&mut self.membership, change.next);
                let after = &self.membership.consenters;
                let left = before.members().into_iter();
                let left = left.filter(|member| !after.contains_key(&member.id));
                self.leaving.extend(left.map(|member| (member, None)));
                // Whoever comes back is known by the new number.
                self.leaving.retain(|(member, _)| {
                    let mut now = after.values();
                    now.all(|consenter| consenter.client_tls_cert != member.client_tls_cert)
                });
                self.membership.metadata.raft_index = raft_index;
            }
            Err(error) => {
                let number = block.number();
                self.halt(
                    format!("configuration block [{number}] names no usable consenters: {error}"),
                    out,
                );
            }
        }
    }

    fn apply_change(&mut self, data: &Bytes, out: &mut Vec<Effect>) {
        let change = wire::ConfChange::decode(data.clone());
        let Some(change) = change.ok().and_then(|change| change.to_raft()) else {
            // An entry that cannot be read changes nothing, on any node.
            tracing::warn!("a membership change of the log cannot be read and is passed over");
            return;
        };
        let voters = match self.node.apply_conf_change(&change) {
            Ok(voters) => voters,
            Err(error) => {
                tracing::warn!(%error, "a membership change of the log has no effect");
                return;
            }
        };
        self.node.mut_store().set_voters(&voters);
        tracing::info!(?voters.voters, "Applied config change");
        let until = self.ticks + self.election_tick as u64;
        for (member, leaves) in &mut self.leaving {
            if leaves.is_none() && !voters.voters.contains(&member.id) {
                *leaves = Some(until);
            }
        }
        let was_voter = self.voters.voters.contains(&self.id);
        self.voters = voters;
        if was_voter && !self.voters.voters.contains(&self.id) {
            self.refuse_all(Rejection::NotConsenter, out);
            self.over = true;
            out.push(Effect::Evicted);
        }
    }

    /// Keeps the log short: from time to time the newest block stands for everything before it.
    fn snapshot_if_due(&mut self, entry: &Entry, out: &mut Vec<Effect>) {
        let is_block = entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty();
        if !is_block || self.since_snapshot < self.snapshot_interval || self.over {
            return;
        }
        self.since_snapshot = 0;
        let block = Block::decode(entry.data.clone()).unwrap_or_default();
        out.push(Effect::Snapshot {
            number: block.number(),
        });
        let voters = self.voters.clone();
        let store = self.node.mut_store();
        store.take_snapshot(
            entry.index,
            &voters,
            entry.data.clone(),
            KEPT_BEHIND_SNAPSHOT,
        );
        let records = store.checkpoint();
        self.journal(records, true, true, out);
    }
}
