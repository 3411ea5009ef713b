//! The network between the nodes: what it does to messages.

use std::collections::BTreeSet;

use crate::dice::Dice;

/// How bad the network is, in parts of a thousand and microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Messages that vanish.
    pub loss: u64,
    /// Messages that arrive twice.
    pub doubled: u64,
    /// Messages that take ten times as long, and so are overtaken.
    pub slow: u64,
    /// The shortest way.
    pub delay_min: u64,
    /// The longest way.
    pub delay_max: u64,
}

impl Faults {
    /// A quiet network on one machine.
    pub const NONE: Self = Self {
        loss: 0,
        doubled: 0,
        slow: 0,
        delay_min: 50,
        delay_max: 500,
    };
}

/// The network.
#[derive(Debug)]
pub struct Network {
    /// What happens to messages at the moment.
    pub faults: Faults,
    /// Pairs that cannot hear each other: (from, to), so one direction can be cut alone.
    cut: BTreeSet<(usize, usize)>,
    /// The same, for longer than a split.
    apart: BTreeSet<(usize, usize)>,
}

impl Network {
    /// A network with these faults.
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            cut: BTreeSet::new(),
            apart: BTreeSet::new(),
        }
    }

    /// Splits the nodes: those in `side` and the others no longer hear each other. `one_way` leaves
    /// the way from the others to `side` open.
    pub fn split(&mut self, nodes: usize, side: &BTreeSet<usize>, one_way: bool) {
        for a in 0..nodes {
            for b in 0..nodes {
                if side.contains(&a) && !side.contains(&b) {
                    self.cut.insert((a, b));
                    if !one_way {
                        self.cut.insert((b, a));
                    }
                }
            }
        }
    }

    /// Everybody hears everybody again, but for those that are kept apart.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Keeps these pairs (from, to) apart, and no others, until told otherwise.
    pub fn keep_apart(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        self.apart = pairs.into_iter().collect();
    }

    /// Whether messages pass from one node to another.
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let pair = (from, to);
        !self.cut.contains(&pair) && !self.apart.contains(&pair)
    }

    /// After how long a message arrives, once or twice or never.
    pub fn carry(&self, dice: &Dice, from: usize, to: usize) -> Vec<u64> {
        if !self.passes(from, to) || dice.chance(self.faults.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(dice.chance(self.faults.doubled));
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let delay = dice.between(self.faults.delay_min, self.faults.delay_max);
            let slow = dice.chance(self.faults.slow);
            arrivals.push(if slow { delay * 10 } else { delay });
        }
        arrivals
    }
}
