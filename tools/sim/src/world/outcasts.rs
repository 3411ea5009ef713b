//! A consenter that is cut off, is taken out meanwhile, hears so, and then hears only orderers that
//! lag: it must not begin again where it voted before. All of that seldom comes together by chance.

use std::collections::BTreeSet;

use super::{Event, NOBODY, World};
use crate::cluster::nodes_of;
use crate::scenario::MS;

/// How often it is looked after.
const STEP: u64 = 100 * MS;
/// When it is over at the latest.
const AT_MOST: u64 = 15_000 * MS;
/// How long it hears nobody but those that lag.
const LEFT_FOR: u64 = 5_000 * MS;

#[derive(Debug, Clone)]
pub(super) struct Outcast {
    node: usize,
    /// It and those that lag with it.
    behind: BTreeSet<usize>,
    since: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The others do not hear it, and take it out.
    CutOff,
    /// It hears the others, and so that it is out.
    Told,
    /// It has given up its journal, and hears only those that lag until then.
    Left(u64),
}

impl World<'_> {
    /// When the first one is cut off at the latest; 0 for never.
    pub(super) fn outcast_pause(&self) -> u64 {
        match self.plan.outcast {
            true => self.plan.chaos / 2,
            false => 0,
        }
    }

    /// The next step.
    pub(super) fn cast_out(&mut self) {
        if !self.chaos {
            return;
        }
        self.schedule(STEP, NOBODY, Event::Outcast);
        let Some(mut outcast) = self.outcast.take() else {
            return self.choose_outcast();
        };
        let over = match outcast.stage {
            Stage::CutOff => {
                self.take_out(&mut outcast);
                false
            }
            Stage::Told => {
                let up = self.nodes[outcast.node].up.as_ref();
                if up.is_some_and(|up| up.engine.is_none()) {
                    self.troubles.outcasts += 1;
                    outcast.stage = Stage::Left(self.now + LEFT_FOR);
                    self.keep_apart(&outcast, true);
                }
                false
            }
            Stage::Left(until) => self.now >= until,
        };
        if over || self.now > outcast.since + AT_MOST {
            self.network.keep_apart([]);
            return;
        }
        self.outcast = Some(outcast);
    }

    fn choose_outcast(&mut self) {
        let Some(members) = self.newest_members(None) else {
            return;
        };
        let honest: Vec<usize> = members
            .iter()
            .copied()
            .filter(|n| self.nodes.get(*n).is_some_and(|node| node.liar.is_none()))
            .collect();
        let (count, faulty) = (members.len(), self.cluster.faulty(members.len()));
        // Enough others to go on without them.
        let majority = match faulty {
            0 => count / 2 + 1,
            _ => (count + faulty + 1).div_ceil(2),
        };
        let spare = count.saturating_sub(majority);
        if spare == 0 || honest.len() < 2 {
            return;
        }
        let mut behind = BTreeSet::new();
        let wanted = self.dice.between(1, spare.min(3) as u64) as usize;
        let node = honest[self.dice.below(honest.len() as u64) as usize];
        behind.insert(node);
        while behind.len() < wanted.min(honest.len()) {
            behind.insert(honest[self.dice.below(honest.len() as u64) as usize]);
        }
        let outcast = Outcast {
            node,
            behind,
            since: self.now,
            stage: Stage::CutOff,
        };
        self.keep_apart(&outcast, true);
        self.outcast = Some(outcast);
    }

    /// Has the others take it out; once it is, lets it hear of that.
    fn take_out(&mut self, outcast: &mut Outcast) {
        let Some(mut members) = self.newest_members(Some(&outcast.behind)) else {
            return;
        };
        if !members.contains(&outcast.node) {
            outcast.stage = Stage::Told;
            return self.keep_apart(outcast, false);
        }
        // Not in every step: the first one may be on its way.
        let asked = (self.now - outcast.since) / STEP;
        let serving = self.serving();
        let others: Vec<usize> = serving
            .filter(|n| !outcast.behind.contains(n) && !self.nodes[*n].lies())
            .collect();
        if !asked.is_multiple_of(10) || others.is_empty() {
            return;
        }
        let asked = others[self.dice.below(others.len() as u64) as usize];
        members.retain(|member| *member != outcast.node);
        self.configure(asked, &members);
    }

    /// The consenters of the newest configuration that an honest node has, of those not excepted.
    fn newest_members(&self, except: Option<&BTreeSet<usize>>) -> Option<Vec<usize>> {
        let nodes = self.nodes.iter().filter(|node| !node.lies());
        let nodes = nodes.filter(|n| except.is_none_or(|except| !except.contains(&n.index)));
        let up = nodes.filter_map(|node| node.up.as_ref());
        let newest = up.max_by_key(|up| up.parameters.sequence)?;
        Some(nodes_of(&newest.parameters))
    }

    /// Keeps those that are behind and the others apart; `deaf` says whether the outcast does not
    /// hear the others either.
    fn keep_apart(&mut self, outcast: &Outcast, deaf: bool) {
        let mut pairs = Vec::new();
        for one in 0..self.identities {
            for other in 0..self.identities {
                let hears = !deaf && other == outcast.node;
                if outcast.behind.contains(&one) != outcast.behind.contains(&other) && !hears {
                    pairs.push((one, other));
                }
            }
        }
        self.network.keep_apart(pairs);
    }
}
