//! Carrying out what engines ask for.

use selvage_ordering::{Decision, Effect, Input, JournalWrite, Member, Submission, Ticket};

use super::{Event, Seen, World};
use crate::bugs::Bug;
use crate::cluster::node_at;
use crate::oracle::Fate;
use crate::scenario::MS;

impl World<'_> {
    pub(crate) fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let effects = match self.bug {
            Some(bug) => bug.corrupt(effects, &self.dice),
            None => effects,
        };
        for effect in effects {
            if self.nodes[node].up.is_none() {
                return;
            }
            let last = matches!(effect, Effect::Evicted);
            self.carry_out_one(node, effect);
            if last {
                return;
            }
        }
    }

    fn carry_out_one(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::StartTimer { generation, after } => {
                let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                self.set_timer(node, Some(generation));
                self.schedule(after, node, Event::Timer(generation));
            }
            Effect::CancelTimer => self.set_timer(node, None),
            Effect::Write(decision) => self.write(node, decision),
            Effect::Accept(tickets) => tickets
                .into_iter()
                .for_each(|ticket| self.tell(node, ticket, Fate::Accepted)),
            Effect::Refuse(ticket, _) => self.tell(node, ticket, Fate::Refused),
            Effect::Revalidate {
                submission,
                is_config,
            } => self.revalidate(node, submission, is_config),
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Forward {
                to,
                submission,
                is_config,
            } => self.forward(node, to, &submission, is_config),
            Effect::Journal(write) => self.journal(node, write),
            Effect::CatchUp { through } => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.catching_up = Some(through);
                }
                self.schedule(MS, node, Event::Fetch);
            }
            Effect::Members(members) => self.meet(node, &members),
            Effect::Leader(leader) => {
                let since = leader.is_none().then_some(self.now);
                if let Some(up) = &mut self.nodes[node].up {
                    up.leaderless = since;
                }
            }
            Effect::Active(_)
            | Effect::Unheard { .. }
            | Effect::BatchBegun
            | Effect::BatchCut
            | Effect::Snapshot { .. } => {}
            Effect::Evicted => {
                if !self.nodes[node].demote(0) {
                    self.crash(node);
                }
            }
            Effect::Halt(reason) => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.engine = None;
                }
                self.nodes[node].failed = Some(reason.clone());
                self.halted(node, &reason);
            }
        }
    }

    fn set_timer(&mut self, node: usize, generation: Option<u64>) {
        if let Some(up) = &mut self.nodes[node].up {
            up.timer = generation;
        }
    }

    fn write(&mut self, node: usize, decision: Decision) {
        let number = decision.block.number();
        let early = self.bug == Some(Bug::PersistBeforeWriting) && !decision.is_config;
        let early = early.then_some(Input::Persisted {
            number,
            parameters: None,
        });
        if let Some(up) = &mut self.nodes[node].up {
            up.to_store.push_back(decision);
        }
        self.begin_storing(node);
        if let Some(input) = early {
            self.nodes[node].reported = number + 1;
            self.input(node, input);
        }
    }

    fn journal(&mut self, node: usize, write: JournalWrite) {
        let sequence = write.sequence;
        if let Some(up) = &mut self.nodes[node].up {
            up.to_journal.push_back(write);
        }
        self.begin_journaling(node);
        if self.bug == Some(Bug::ReportBeforeWriting) {
            self.input(node, Input::Journaled { sequence });
        }
    }

    fn meet(&mut self, node: usize, members: &[Member]) {
        let deaf = self.bug == Some(Bug::ForgetMembers);
        let members = members
            .iter()
            .filter_map(|member| Some((member.id, node_at(&member.host)?)));
        if let Some(up) = &mut self.nodes[node].up
            && (!deaf || up.members.is_empty())
        {
            up.members = members.collect();
        }
    }

    pub(super) fn tell(&mut self, node: usize, ticket: Ticket, fate: Fate) {
        let lies = self.nodes[node].lies();
        let up = self.nodes[node].up.as_mut();
        // What a liar says is worth nothing.
        if let Some(bytes) = up.and_then(|up| up.tickets.remove(&ticket))
            && !lies
        {
            self.oracle.told(&bytes, fate);
            if fate == Fate::Accepted {
                self.watch(&Seen::Accepted { message: &bytes });
            }
        }
    }

    /// Filters again: every normal message passes, a configuration made for an older one does not.
    fn revalidate(&mut self, node: usize, submission: Submission, is_config: bool) {
        if is_config {
            return self.tell(node, submission.ticket, Fate::Refused);
        }
        // After what else the engine asked for: its effects keep their order.
        let again = Event::Again(submission.ticket.0, submission.envelope, submission.size);
        self.schedule(0, node, again);
    }
}
