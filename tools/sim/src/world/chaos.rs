//! What goes wrong, and what clients do meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvage_env::{Crash, Fault, FaultKind};
use selvage_ordering::{Input, Submission, Ticket};

use super::{Event, NOBODY, Seen, World};
use crate::bugs::Bug;
use crate::cluster::{config_envelope, nodes_of};
use crate::journals::rot;
use crate::scenario::MS;

impl World<'_> {
    /// A client sends a message to some node.
    pub(super) fn client(&mut self) {
        let pace = self.plan.pace;
        if self.chaos {
            let after = self.dice.between(pace / 2, pace + pace / 2);
            self.schedule(after, NOBODY, Event::Client);
        }
        let up: Vec<usize> = self.serving().collect();
        let Some(node) = up.get(self.dice.below(up.len() as u64) as usize).copied() else {
            return;
        };
        let size = self.dice.between(20, 600) as usize;
        let kind = match self.nodes[node].lies() && self.dice.chance(100) {
            true => "forbidden message",
            false => "message",
        };
        let bytes = self.new_message(node, kind, size);
        if self.bug != Some(Bug::MakeUp) || self.dice.chance(950) {
            self.made(&bytes);
        }
        // Clients of BFT channels tell several nodes, some of them late.
        if self.cluster.faulty(self.plan.nodes) > 0 && self.dice.chance(300) {
            for other in up.into_iter().filter(|other| *other != node) {
                let after = self.dice.below(300) * MS;
                let event = Event::Submit(bytes.clone());
                self.schedule(after, other, event);
            }
        }
        self.submit(node, bytes, false);
    }

    pub(super) fn submit(&mut self, node: usize, envelope: Bytes, is_config: bool) {
        if !self.passes(node, &envelope) {
            return;
        }
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let ticket = Ticket(up.next_ticket);
        up.next_ticket += 1;
        up.tickets.insert(ticket, envelope.clone());
        let message = &envelope;
        let sequence = up.parameters.sequence;
        self.watch(&Seen::HandedIn { message });
        let submission = Submission {
            ticket,
            size: envelope.len() as u32,
            envelope,
            sequence,
        };
        if self.bug == Some(Bug::HandInTwice) {
            self.input(node, Input::Order(submission.clone()));
        }
        let input = match is_config {
            true => Input::Configure(submission),
            false => Input::Order(submission),
        };
        self.input(node, input);
    }

    /// The nodes whose engines run.
    pub(super) fn serving(&self) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter();
        let up = nodes.filter(|n| n.up.as_ref().is_some_and(|up| up.engine.is_some()));
        up.map(|n| n.index)
    }

    /// Stops a node, now or in the middle of one of its next writes, or fills its disk for a while.
    pub(super) fn crash_somebody(&mut self) {
        if !self.chaos {
            return;
        }
        let pause = self.plan.crashes;
        let after = self.dice.between(pause / 2, pause + pause / 2);
        self.schedule(after, NOBODY, Event::Crash);
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        if self.nodes[node].up.is_none() {
            return;
        }
        let disk = self.nodes[node].disk.clone();
        let at = disk.operations() + self.dice.below(12);
        if self.dice.chance(self.plan.full_disks) {
            // Some are full for long, whatever the node does meanwhile.
            let longest = [500, 10_000][self.dice.below(2) as usize];
            let after = self.dice.between(10, longest) * MS;
            self.troubles.full += 1;
            self.nodes[node].fill_disk(Some(at));
            self.schedule(after, NOBODY, Event::Room(node));
        } else if self.dice.chance(500) {
            disk.set_fault(Some(Fault {
                at,
                kind: FaultKind::Io,
                sticky: true,
            }));
        } else {
            self.crash(node);
        }
    }

    /// The node's process or machine stops at this moment.
    pub(super) fn crash(&mut self, index: usize) {
        self.troubles.crashes += 1;
        let how = match self.dice.below(3) {
            0 => Crash::Process,
            1 => Crash::LoseUnsynced,
            _ => Crash::Torn(self.dice.seed()),
        };
        let after = match self.chaos {
            true => self.dice.between(MS, self.plan.downtime),
            false => MS,
        };
        let node = &mut self.nodes[index];
        node.up = None;
        node.life += 1;
        node.torn |= matches!(how, Crash::Torn(_));
        node.disk = Arc::new(node.disk.crash(how));
        if node.full {
            node.fill_disk(Some(0));
        }
        self.crash_peer(index, how);
        self.spoil(index);
        self.schedule(after, index, Event::Start);
    }

    /// What happens to the journal of a node that stopped.
    fn spoil(&mut self, index: usize) {
        let node = &self.nodes[index];
        let forgets = node.liar.as_ref().is_some_and(|liar| liar.forgets)
            || self.bug == Some(Bug::StartWithoutJournal) && self.dice.chance(250);
        if forgets {
            self.nodes[index].forget();
        }
        // Once, and not to one that is as good as spoilt. Behind a torn end nothing may be left that
        // knows what was durable.
        let due = self.plan.rot && self.chaos && self.nodes.iter().all(|node| !node.spoilt);
        let sound = !self.nodes[index].lies() && !self.nodes[index].torn;
        if due && sound && rot(&self.nodes[index].disk, &self.dice) {
            self.nodes[index].spoilt = true;
            self.troubles.rotten += 1;
        }
    }

    /// Splits the network for a while.
    pub(super) fn split(&mut self) {
        if !self.chaos {
            return;
        }
        let pause = self.plan.splits;
        let after = self.dice.between(pause / 2, pause + pause / 2);
        self.schedule(after, NOBODY, Event::Split);
        let count = self.identities;
        let side: BTreeSet<usize> = (0..count).filter(|_| self.dice.chance(400)).collect();
        let one_way = self.dice.chance(300);
        self.network.split(count, &side, one_way);
        self.troubles.splits += 1;
        let after = self.dice.between(pause / 4, pause);
        self.schedule(after, NOBODY, Event::Heal);
    }

    /// An administrator adds a consenter, or takes one out.
    pub(super) fn change(&mut self) {
        if !self.chaos {
            return;
        }
        let pause = self.plan.changes;
        let after = self.dice.between(pause / 2, pause + pause / 2);
        self.schedule(after, NOBODY, Event::Change);
        let serving: Vec<usize> = self.serving().filter(|n| !self.nodes[*n].lies()).collect();
        let chosen = self.dice.below(serving.len() as u64) as usize;
        let Some(node) = serving.get(chosen).copied() else {
            return;
        };
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        if let Some(members) = self.changed(nodes_of(&up.parameters)) {
            self.configure(node, &members);
        }
    }

    /// An administrator gives a node a configuration with these consenters.
    pub(super) fn configure(&mut self, node: usize, members: &[usize]) {
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        let sequence = match self.bug {
            Some(Bug::OldSequence) => up.parameters.sequence,
            _ => up.parameters.sequence + 1,
        };
        let parameters = self.cluster.parameters(sequence, members);
        let bytes = Bytes::from(config_envelope(&parameters).encode_to_vec());
        self.made(&bytes);
        self.submit(node, bytes, true);
    }

    /// What an administrator makes of the consenters: one comes, or one goes. One whose journal was
    /// damaged is taken out, and comes back under another name.
    fn changed(&self, mut members: Vec<usize>) -> Option<Vec<usize>> {
        let absent = (0..self.identities).find(|n| !members.contains(n));
        let gone = match self.plan.rot {
            true => {
                let spoilt = self.nodes.iter().find(|node| node.spoilt)?.identity;
                members.iter().position(|node| *node == spoilt)
            }
            false if absent.is_some() => None,
            false => Some(self.dice.below(members.len() as u64) as usize),
        };
        match (gone, absent) {
            (Some(gone), _) => drop(members.remove(gone)),
            // The name that stands ready, not the one that was taken out.
            (None, _) if self.plan.rot => {
                let new = self.plan.nodes;
                if members.contains(&new) {
                    return None;
                }
                members.push(new);
            }
            (None, new) => members.extend(new),
        }
        Some(members)
    }
}
