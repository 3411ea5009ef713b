//! The thread that signs blocks and stores them, several with one sync when several wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvage_channel::block::is_config_block;
use selvage_env::random_array;
use selvage_ordering::block::{set_signatures, sign_block, signed_value};
use selvage_ordering::{Decision, Parameters};
use selvage_proto::common::{Block, BlockHeader};
use tokio::sync::mpsc;

use super::engines::parameters;
use super::{Chain, config_after, encoded};
use crate::in_full;

/// Blocks that share one sync at most.
const GROUP: usize = 32;
/// Bytes of blocks that share one sync at most.
const GROUP_BYTES: usize = 16 << 20;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A block to store.
pub(super) enum Job {
    /// Completed and signed by this node.
    Decide(Decision),
    /// From another node, verified; stored as it is.
    Keep(Block),
}

/// A block has become durable.
pub(super) struct Report {
    pub(super) block: Arc<Block>,
    /// Whether it came from another node.
    pub(super) fetched: bool,
    /// What is in force now, after a configuration block.
    pub(super) parameters: Option<Parameters>,
}

pub(super) fn spawn(
    chain: Arc<Chain>,
    jobs: mpsc::Receiver<Job>,
    reports: mpsc::Sender<Report>,
    last_config: u64,
) {
    let writer = Writer { chain, last_config };
    // Not a task: it signs, writes and syncs. It ends when the channel's task drops its queue.
    tokio::task::spawn_blocking(move || writer.run(jobs, reports));
}

struct Writer {
    chain: Arc<Chain>,
    last_config: u64,
}

/// A signed block, ready to be stored.
struct Ready {
    header: BlockHeader,
    block: Arc<Block>,
    raw: Bytes,
    is_config: bool,
    fetched: bool,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>, reports: mpsc::Sender<Report>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![self.complete(first)];
            let mut bytes = group[0].raw.len();
            while group.len() < GROUP
                && bytes < GROUP_BYTES
                && group.last().is_some_and(|ready| !ready.is_config)
            {
                let Ok(next) = jobs.try_recv() else {
                    break;
                };
                let ready = self.complete(next);
                bytes += ready.raw.len();
                group.push(ready);
            }
            if !self.store(&group) {
                return;
            }
            for ready in group {
                let Some(parameters) = self.publish(&ready) else {
                    return;
                };
                let report = Report {
                    block: ready.block,
                    fetched: ready.fetched,
                    parameters,
                };
                if reports.blocking_send(report).is_err() {
                    return;
                }
            }
        }
    }

    fn complete(&mut self, job: Job) -> Ready {
        match job {
            Job::Decide(decision) => self.sign(decision),
            Job::Keep(block) => {
                let is_config = is_config_block(&block);
                if is_config {
                    self.last_config = block.number();
                }
                Ready {
                    header: block.header.clone().unwrap_or_default(),
                    raw: encoded(&block),
                    block: Arc::new(block),
                    is_config,
                    fetched: true,
                }
            }
        }
    }

    fn sign(&mut self, decision: Decision) -> Ready {
        let Decision {
            mut block,
            is_config,
            consenter_metadata,
            signatures,
        } = decision;
        if is_config {
            self.last_config = block.number();
        }
        if signatures.is_empty() {
            let shared = &self.chain.shared;
            let nonce = random_array(shared.env.rng.as_ref());
            let signer = shared.signer.current();
            sign_block(
                &mut block,
                self.last_config,
                consenter_metadata,
                &signer,
                nonce,
            );
        } else {
            let value = signed_value(self.last_config, consenter_metadata);
            set_signatures(&mut block, self.last_config, value, signatures);
        }
        Ready {
            header: block.header.clone().unwrap_or_default(),
            raw: encoded(&block),
            block: Arc::new(block),
            is_config,
            fetched: false,
        }
    }

    /// Stores the group durably. A full disk is waited for; any other failure ends the node,
    /// because what the disk kept is unknown. False when the channel is over.
    fn store(&self, group: &[Ready]) -> bool {
        let blocks: Vec<_> = group
            .iter()
            .map(|ready| (ready.header.clone(), ready.raw.clone()))
            .collect();
        loop {
            if self.chain.is_stopped() {
                return false;
            }
            let begun = Instant::now();
            let error = match self.chain.store.append_encoded(&blocks) {
                Ok(()) => {
                    self.chain.metrics.stored(blocks.len(), begun.elapsed());
                    self.chain.note_room();
                    return true;
                }
                Err(error) => error,
            };
            let reason = in_full(&error);
            if error.is_full() && !error.is_fatal() {
                self.chain.note_full(&reason);
                std::thread::sleep(RETRY);
                continue;
            }
            self.chain
                .fail(format!("the orderer cannot write: {reason}"));
            return false;
        }
    }

    /// Shows a durable block to readers, and its configuration to everyone. `None` when the
    /// configuration cannot be applied, which the filters rule out.
    fn publish(&self, ready: &Ready) -> Option<Option<Parameters>> {
        let chain = &self.chain;
        let mut changed = None;
        if ready.is_config {
            match config_after(&chain.config(), &ready.block) {
                Ok(config) => {
                    changed = parameters(&config);
                    chain.config.store(Arc::new(config));
                    (chain.shared.config_changed)();
                }
                Err(reason) => {
                    chain.fail(format!("configuration block cannot be applied: {reason}"));
                    return None;
                }
            }
        }
        let height = ready.header.number + 1;
        chain
            .recent
            .lock()
            .push(ready.block.clone(), ready.raw.len());
        chain.height.send_replace(height);
        chain.height_gauge.set(height as i64);
        tracing::debug!(
            channel = chain.id,
            "Wrote block [{}] with {} messages",
            ready.header.number,
            ready.block.envelopes().len()
        );
        Some(changed)
    }
}
