//! What goes from node to node.

use bytes::Bytes;
use selvage_ordering::{Input, Submission};

use super::{Event, NOBODY, Seen, World};
use crate::bugs::Bug;
use crate::liars::{Liar, babble, is_forbidden, speak};
use crate::scenario::MS;

/// How long a link takes to find that it is broken.
const UNREACHABLE_AFTER: u64 = 20 * MS;
/// Old messages that liars may repeat.
const OVERHEARD: usize = 200;

impl World<'_> {
    pub(super) fn arrive(&mut self, node: usize, from: usize, message: Bytes) {
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        // Who is no member is not let in. Whoever came back is known by the newest number.
        let mut members = up.members.iter().rev();
        let Some((id, _)) = members.find(|(_, member)| **member == from) else {
            return;
        };
        let from = *id;
        self.note(message.len() as u64);
        self.input(node, Input::Receive { from, message });
    }

    /// A message that another node handed on passes this one's filters first.
    pub(super) fn arrive_forwarded(
        &mut self,
        node: usize,
        submission: Submission,
        is_config: bool,
    ) {
        if !self.passes(node, &submission.envelope) {
            return;
        }
        let message = &submission.envelope;
        self.watch(&Seen::HandedIn { message });
        let input = Input::Forwarded {
            submission,
            is_config,
        };
        self.input(node, input);
    }

    /// Whether a message gets past a node's filters, or past what a liar makes of them.
    pub(super) fn passes(&self, node: usize, envelope: &Bytes) -> bool {
        match &self.nodes[node].liar {
            Some(liar) if !liar.honest => !liar.ignores(envelope),
            _ => self.bug == Some(Bug::JudgeNothing) || !is_forbidden(envelope),
        }
    }

    /// Where messages from one slot to a consenter go.
    fn targets(&self, node: usize, to: u64) -> Vec<usize> {
        let Some(up) = &self.nodes[node].up else {
            return Vec::new();
        };
        let Some(identity) = up.members.get(&to) else {
            return Vec::new();
        };
        let slots = self.nodes.iter().filter(|n| n.identity == *identity);
        slots
            .map(|n| n.index)
            .filter(|slot| self.speak(node, *slot))
            .collect()
    }

    /// Whether two slots have to do with each other at all.
    pub(super) fn speak(&self, one: usize, other: usize) -> bool {
        let view = |slot: usize| (self.nodes[slot].identity, self.nodes[slot].liar.as_ref());
        speak(view(one), view(other))
    }

    pub(super) fn send(&mut self, node: usize, to: u64, message: Bytes) {
        let from = self.nodes[node].identity;
        self.see(
            node,
            &Seen::Sent {
                from,
                message: &message,
            },
        );
        for target in self.targets(node, to) {
            if let Some(liar) = self.nodes[node].liar.clone() {
                self.lie(node, target, &liar, &message);
                if liar.mute_to.contains(&self.nodes[target].identity) {
                    continue;
                }
            }
            self.post(node, target, message.clone());
            self.note_lost(node, target, to);
        }
    }

    /// A link that is cut or ends at a node that is down says so; once until the engine has heard.
    fn note_lost(&mut self, node: usize, target: usize, to: u64) {
        let (from, identity) = (self.nodes[node].identity, self.nodes[target].identity);
        let linked = self.network.passes(from, identity) && self.nodes[target].up.is_some();
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if !linked && up.unreachable.insert(to) {
            self.schedule(UNREACHABLE_AFTER, node, Event::Unreachable(to));
        }
    }

    /// An engine hears that something could not be sent.
    pub(super) fn miss(&mut self, node: usize, id: u64) {
        if let Some(up) = &mut self.nodes[node].up {
            up.unreachable.remove(&id);
        }
        self.input(node, Input::Unreachable { id });
    }

    fn post(&mut self, node: usize, target: usize, message: Bytes) {
        let (from, to) = (self.nodes[node].identity, self.nodes[target].identity);
        for after in self.network.carry(&self.dice, from, to) {
            let message = message.clone();
            self.schedule(after, target, Event::Arrive { from, message });
        }
    }

    /// What a liar says besides.
    fn lie(&mut self, node: usize, target: usize, liar: &Liar, message: &Bytes) {
        if liar.babble == 0 {
            return;
        }
        if self.overheard.len() < OVERHEARD {
            self.overheard.push(message.clone());
        } else if self.dice.chance(50) {
            let at = self.dice.below(OVERHEARD as u64) as usize;
            self.overheard[at] = message.clone();
        }
        if self.dice.chance(liar.babble) {
            let said = babble(&self.dice, message, &self.overheard);
            self.post(node, target, said);
        }
    }

    pub(super) fn forward(
        &mut self,
        node: usize,
        to: u64,
        submission: &Submission,
        is_config: bool,
    ) {
        let from = self.nodes[node].identity;
        for target in self.targets(node, to) {
            let to = self.nodes[target].identity;
            let liar = self.nodes[node].liar.as_ref();
            if liar.is_some_and(|liar| liar.mute_to.contains(&to)) {
                continue;
            }
            for after in self.network.carry(&self.dice, from, to) {
                let event = Event::Forwarded {
                    envelope: submission.envelope.clone(),
                    size: submission.size,
                    sequence: submission.sequence,
                    is_config,
                };
                self.schedule(after, target, event);
            }
        }
    }

    /// How often liars think of something else; 0 without liars.
    pub(super) fn whims(&self) -> u64 {
        match self.nodes.iter().any(|node| node.liar.is_some()) {
            true => 3_000 * MS,
            false => 0,
        }
    }

    /// Liars think of something else; both halves of one the same.
    pub(super) fn turn_liars(&mut self) {
        let after = self.dice.between(500, self.whims() / MS) * MS;
        self.schedule(after, NOBODY, Event::Whim);
        for slot in 0..self.identities {
            let Some(mut liar) = self.nodes[slot].liar.clone() else {
                continue;
            };
            liar.turn(&self.dice, self.identities);
            let twin = liar.twin();
            self.nodes[slot].liar = Some(liar);
            let mut slots = self.nodes.iter_mut().skip(self.identities);
            if let Some(second) = slots.find(|node| node.identity == slot) {
                second.liar = twin;
            }
        }
    }
}
