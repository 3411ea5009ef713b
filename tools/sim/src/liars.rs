//! Nodes that lie: what they do instead of what they should.
//!
//! A liar runs real engines, so that it knows what to lie about. One that says different things to
//! different nodes runs two with one key, each of which believes itself to be honest: two slots of
//! the simulation with one identity, of which either speaks with its half of the others only.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::dice::Dice;

/// What the filters of honest nodes do not let pass.
const FORBIDDEN: &[u8] = b"forbidden";

/// Whether honest nodes refuse a message.
pub fn is_forbidden(envelope: &Bytes) -> bool {
    // Near the beginning: behind the headers.
    let start = &envelope[..envelope.len().min(120)];
    start.windows(FORBIDDEN.len()).any(|w| w == FORBIDDEN)
}

/// The half of the others that one of two slots speaks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// Those that the second slot speaks with.
    pub others: BTreeSet<usize>,
    /// Whether this is the second slot.
    pub second: bool,
}

/// How a node lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Liar {
    /// Nodes that it says nothing to.
    pub mute_to: BTreeSet<usize>,
    /// Damaged, random and old messages, in parts of a thousand of its own.
    pub babble: u64,
    /// Whether it starts without a memory after each crash, and so votes again.
    pub forgets: bool,
    /// Whether it leaves out half of the messages.
    pub censors: bool,
    /// Whether the blocks that it gives to others are damaged.
    pub spoils: bool,
    /// Whether it says different things to different nodes.
    pub half: Option<Half>,
    /// Whether it is watched like an honest node: an orderer that somebody runs twice.
    pub honest: bool,
}

impl Liar {
    /// Draws one among so many nodes.
    pub fn draw(dice: &Dice, nodes: usize) -> Self {
        let mut liar = Self {
            babble: if dice.chance(400) {
                dice.between(5, 500)
            } else {
                0
            },
            forgets: dice.chance(300),
            censors: dice.chance(300),
            spoils: dice.chance(500),
            ..Self::default()
        };
        if dice.chance(600) {
            liar.half = Some(Half {
                others: BTreeSet::new(),
                second: false,
            });
        }
        liar.turn(dice, nodes);
        liar
    }

    /// Draws one that says different things to different nodes.
    pub fn equivocator(dice: &Dice, nodes: usize) -> Self {
        let mut liar = Self {
            half: Some(Half {
                others: BTreeSet::new(),
                second: false,
            }),
            ..Self::default()
        };
        liar.turn(dice, nodes);
        liar
    }

    /// It thinks of something else.
    pub fn turn(&mut self, dice: &Dice, nodes: usize) {
        let share = [0, 0, 300, 1000][dice.below(4) as usize];
        self.mute_to = (0..nodes).filter(|_| dice.chance(share)).collect();
        if let Some(half) = &mut self.half {
            half.others = (0..nodes).filter(|_| dice.chance(500)).collect();
            self.mute_to.clear();
        }
    }

    /// The same liar's other half.
    pub fn twin(&self) -> Option<Self> {
        let half = self.half.as_ref()?;
        let half = Half {
            second: true,
            ..half.clone()
        };
        Some(Self {
            half: Some(half),
            ..self.clone()
        })
    }

    /// Whether it takes no notice of a message.
    pub fn ignores(&self, envelope: &Bytes) -> bool {
        self.censors && envelope.iter().fold(0u8, |sum, byte| sum ^ byte) % 2 == 1
    }
}

/// Whether a slot speaks with another.
pub fn speak(a: (usize, Option<&Liar>), b: (usize, Option<&Liar>)) -> bool {
    let half = |liar: Option<&'_ Liar>| liar.and_then(|liar| liar.half.clone());
    match (half(a.1), half(b.1)) {
        (None, None) => true,
        (Some(half), None) => half.others.contains(&b.0) == half.second,
        (None, Some(half)) => half.others.contains(&a.0) == half.second,
        (Some(one), Some(other)) => one.second == other.second,
    }
}

/// Something that should not be said.
pub fn babble(dice: &Dice, message: &Bytes, overheard: &[Bytes]) -> Bytes {
    let mut bytes = message.to_vec();
    match dice.below(4) {
        0 => {
            bytes = (0..dice.below(200))
                .map(|_| dice.below(256) as u8)
                .collect()
        }
        1 if !overheard.is_empty() => {
            return overheard[dice.below(overheard.len() as u64) as usize].clone();
        }
        2 => bytes.truncate(dice.below(bytes.len() as u64) as usize),
        _ => {
            for _ in 0..=dice.below(4) {
                let at = dice.below(bytes.len() as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    bytes.into()
}
