//! What nodes write: journals and blocks, with the time that it takes.

use bytes::Bytes;
use prost::Message as _;
use selvage_ordering::{Input, JournalWrite};
use selvage_proto::common::{Block, BlockHeader};

use super::{Event, GROUP, Seen, World};
use crate::bugs::Bug;
use crate::node::complete;
use crate::scenario::MS;

impl World<'_> {
    pub(super) fn begin_journaling(&mut self, node: usize) {
        let after = self.dice.between(MS / 10, self.plan.disk_delay);
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.journaling || up.to_journal.is_empty() {
            return;
        }
        up.journaling = true;
        self.schedule(after, node, Event::JournalWritten);
    }

    /// The records are with the system, and perhaps partly on the disk.
    pub(super) fn journal_written(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let Some(journal) = &mut up.journal else {
            return;
        };
        let writes: Vec<JournalWrite> = up
            .to_journal
            .iter()
            .map(|write| JournalWrite {
                sync: false,
                ..write.clone()
            })
            .collect();
        match journal.append(&writes) {
            Ok(()) => {
                up.to_journal.clear();
                up.journal_through = writes.last().map_or(0, |write| write.sequence);
                let after = self.dice.between(MS / 10, self.plan.disk_delay);
                self.schedule(after, node, Event::JournalSynced);
            }
            Err(error) if error.is_full() => {
                self.schedule(100 * MS, node, Event::JournalWritten);
            }
            Err(_) => self.crash(node),
        }
    }

    pub(super) fn journal_synced(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let Some(journal) = &mut up.journal else {
            return;
        };
        let sync = JournalWrite {
            sequence: 0,
            records: Vec::new(),
            checkpoint: false,
            sync: true,
        };
        match journal.append(&[sync]) {
            Ok(()) => {
                let sequence = up.journal_through;
                up.journaling = false;
                self.input(node, Input::Journaled { sequence });
                self.begin_journaling(node);
            }
            Err(error) if error.is_full() => {
                self.schedule(100 * MS, node, Event::JournalSynced);
            }
            Err(_) => self.crash(node),
        }
    }

    pub(super) fn begin_storing(&mut self, node: usize) {
        let after = self.dice.between(MS / 10, self.plan.disk_delay);
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.storing || up.to_store.is_empty() {
            return;
        }
        up.storing = true;
        self.schedule(after, node, Event::BlocksStored);
    }

    pub(super) fn blocks_stored(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let mut blocks = Vec::new();
        let mut last_config = up.last_config;
        for decision in up.to_store.iter().take(GROUP) {
            if decision.is_config && self.bug != Some(Bug::OldLastConfig) {
                last_config = decision.block.number();
            }
            blocks.push(complete(decision, last_config));
        }
        let encoded: Vec<(BlockHeader, Bytes)> = blocks
            .iter()
            .map(|block| {
                let header = block.header.clone().unwrap_or_default();
                (header, block.encode_to_vec().into())
            })
            .collect();
        if let Err(error) = up.store.append_encoded(&encoded) {
            if error.is_full() && !error.is_fatal() {
                self.schedule(100 * MS, node, Event::BlocksStored);
            } else {
                self.crash(node);
            }
            return;
        }
        up.to_store.drain(..blocks.len());
        up.storing = false;
        for block in blocks {
            self.stored(node, &block);
        }
        self.begin_storing(node);
    }

    pub(super) fn stored(&mut self, node: usize, block: &Block) {
        let number = block.number();
        self.note(number);
        let header = block.header.as_ref();
        for byte in header.iter().flat_map(|header| &header.data_hash) {
            self.note((*byte).into());
        }
        self.see(node, &Seen::Stored { node, block });
        self.deliver(node);
        let first = self.nodes.iter().all(|n| n.reported <= number);
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let mut parameters = up.take_over(block);
        self.troubles.changes += u64::from(first && parameters.is_some());
        self.nodes[node].reported = number + 1;
        if self.bug == Some(Bug::KeepConfiguration) {
            parameters = None;
        }
        if self.bug != Some(Bug::PersistBeforeWriting) || parameters.is_some() {
            self.input(node, Input::Persisted { number, parameters });
        }
    }
}
