//! What only a leader does: propose blocks, changes of membership, and its own successor.

use prost::Message as _;
use raft::ProgressState;
use selvage_ordering::mistakes::{Mistake, made};
use selvage_ordering::{Effect, Submission};
use selvage_proto::common::Envelope;

use crate::engine::{Leading, Raft};
use crate::membership::{config_metadata, consensus_of};
use crate::wire::{ADD_NODE, ConfChange, REMOVE_NODE};
use selvage_ordering::waiting::Place;

impl Raft {
    /// Begins to lead: nothing is proposed before everything in the log is applied.
    pub(crate) fn begin_leading(&mut self) {
        self.waiting.unplace_all();
        self.leading = Some(Leading {
            proposed: None,
            serve_from: self.node.raft.raft_log.last_index(),
            in_flight: 0,
            batches: Default::default(),
            conf_proposed_at: 0,
            abdicating: false,
            config_in_flight: false,
        });
    }

    /// Ends leading: what was gathered goes to the next leader.
    pub(crate) fn end_leading(&mut self, out: &mut Vec<Effect>) {
        let leading = self.leading.take();
        self.handing_on = leading.is_some_and(|leading| leading.abdicating);
        let _ = self.batcher.flush(out);
        self.waiting.unplace_all();
    }

    /// A configuration stands alone in its block, behind what was gathered before it. One that
    /// takes this node out, or its certificate, is left to another leader.
    pub(crate) fn take_config(
        &mut self,
        place: Place,
        submission: Submission,
        out: &mut Vec<Effect>,
    ) {
        if self.leaves_me_out(&submission) && self.abdicate() {
            if let Some(held) = self.waiting.get_mut(place) {
                held.placed = None;
            }
            return;
        }
        let gathered = self.batcher.flush(out);
        let batches = gathered.into_iter().chain([vec![submission]]);
        if let Some(leading) = &mut self.leading {
            leading.config_in_flight = true;
        }
        if made(Mistake::AwaitLostConfig) {
            // Until a configuration block is stored, whoever leads then.
            self.config_block = Some(u64::MAX);
        }
        self.propose_batches(batches.collect());
    }

    fn leaves_me_out(&self, submission: &Submission) -> bool {
        let Ok(envelope) = Envelope::decode(submission.envelope.clone()) else {
            return false;
        };
        let Some(consensus) = consensus_of(&envelope) else {
            return false;
        };
        let Ok(config) = config_metadata(&consensus.metadata) else {
            return false;
        };
        let Some(me) = self.membership.consenters.get(&self.id) else {
            return false;
        };
        let mut new = config.consenters.iter();
        !new.any(|consenter| consenter.client_tls_cert == me.client_tls_cert)
    }

    /// Hands leadership to a follower that keeps up. False when there is none.
    pub(crate) fn abdicate(&mut self) -> bool {
        let mut fit: Vec<(u64, u64)> = self
            .node
            .raft
            .prs()
            .iter()
            .filter(|(id, p)| {
                **id != self.id && p.recent_active && p.state == ProgressState::Replicate
            })
            .map(|(id, p)| (p.matched, *id))
            .collect();
        fit.sort_unstable();
        let Some((_, successor)) = fit.pop() else {
            return false;
        };
        if let Some(leading) = &mut self.leading {
            leading.abdicating = true;
        }
        tracing::info!(to = successor, "Transferring leadership to {successor}");
        self.node.transfer_leader(successor);
        true
    }

    /// Queues batches and proposes as many as there is room for among the blocks in flight.
    pub(crate) fn propose_batches(&mut self, batches: Vec<Vec<Submission>>) {
        if let Some(leading) = &mut self.leading {
            leading.batches.extend(batches);
        }
        self.propose_more();
    }

    /// Proposes batches while there is room.
    pub(crate) fn propose_more(&mut self) {
        while let Some(leading) = &mut self.leading {
            if leading.in_flight >= self.max_in_flight {
                return;
            }
            let Some(tip) = &mut leading.proposed else {
                return;
            };
            let Some(batch) = leading.batches.pop_front() else {
                return;
            };
            let envelopes = batch.into_iter().map(|s| s.envelope).collect();
            let block = tip.next_block(envelopes);
            if self
                .node
                .propose(Vec::new(), block.encode_to_vec())
                .is_err()
            {
                self.start_over();
                return;
            }
            leading.in_flight += 1;
        }
    }

    /// A proposal was not taken: waits until everything in the log is applied and begins again
    /// with what still waits.
    fn start_over(&mut self) {
        let last = self.node.raft.raft_log.last_index();
        let Some(leading) = &mut self.leading else {
            return;
        };
        leading.proposed = None;
        leading.serve_from = last;
        leading.in_flight = 0;
        leading.batches.clear();
        leading.config_in_flight = false;
        // What the batcher holds is among what waits; it is gathered again.
        let mut timers = Vec::new();
        let _ = self.batcher.flush(&mut timers);
        self.waiting.unplace_all();
    }

    /// What a leader does after entries were applied: proposes an outstanding change of
    /// membership, begins to serve, and proposes what waits.
    pub(crate) fn lead_on(&mut self, out: &mut Vec<Effect>) {
        let (applied, settled) = (self.applied, self.settled());
        if self.catching_up.is_some() {
            return;
        }
        let Some(leading) = &mut self.leading else {
            return;
        };
        if applied < leading.serve_from {
            return;
        }
        if !settled {
            if applied >= leading.conf_proposed_at {
                self.propose_membership();
            }
            return;
        }
        if leading.proposed.is_none() && !leading.abdicating {
            leading.proposed = Some(self.tip.clone());
            tracing::info!(
                "Start accepting requests as Raft leader at block [{}]",
                self.tip.number()
            );
            self.place_all(out);
        }
        self.propose_more();
        let idle = self
            .leading
            .as_ref()
            .is_some_and(|l| l.proposed.is_some() && l.in_flight == 0 && l.batches.is_empty());
        if idle && let Some(batch) = self.batcher.idle(&self.parameters, out) {
            self.propose_batches(vec![batch]);
        }
    }

    /// Proposes one step from Raft's voters towards the consenters of the configuration.
    fn propose_membership(&mut self) {
        let ids = &self.membership.metadata.consenter_ids;
        let voters = &self.voters.voters;
        let missing = ids.iter().find(|id| !voters.contains(id));
        let surplus = voters.iter().find(|id| !ids.contains(id));
        let (kind, node_id) = match (missing, surplus) {
            (Some(id), _) => (ADD_NODE, *id),
            (None, Some(id)) => (REMOVE_NODE, *id),
            (None, None) => return,
        };
        let change = ConfChange {
            kind,
            node_id,
            ..ConfChange::default()
        };
        let Some(change) = change.to_raft() else {
            return;
        };
        match self.node.propose_conf_change(Vec::new(), change) {
            Ok(()) => {
                let last = self.node.raft.raft_log.last_index();
                if let Some(leading) = &mut self.leading {
                    leading.conf_proposed_at = last;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot propose a change of membership yet"),
        }
    }
}
