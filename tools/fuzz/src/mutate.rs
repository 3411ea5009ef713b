//! Changing inputs: bytes at random, or the fields of a protobuf message with their lengths kept
//! right.

use selvage_env::{Rng, SeededRng};

use crate::protobuf;

/// Numbers at which decoders have their edges.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A choice of chance.
pub(crate) struct Chance(SeededRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededRng::new(seed))
    }

    /// A number below `end`; 0 when there is none.
    pub(crate) fn below(&self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % (end.max(1) as u64)).unwrap_or(0)
    }

    pub(crate) fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn edge(&self) -> u64 {
        EDGES[self.below(EDGES.len())]
    }

    fn byte(&self) -> u8 {
        self.below(256) as u8
    }
}

/// Changes an input a little, in a way that follows from `seed`. Parts of `other` may enter it.
pub fn mutate(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let chance = Chance::new(seed);
    let mut out = input.to_vec();
    for _ in 0..=chance.below(4) {
        out = if chance.one_in(2) {
            bytes(out, other, &chance)
        } else {
            // Many targets take a choice first, then a message.
            let before = chance.below(2).min(out.len());
            let message = out.split_off(before);
            let leaf = |leaf| bytes(leaf, other, &chance);
            out.extend(protobuf::change(&message, &chance, &leaf));
            out
        };
    }
    out.truncate(crate::MAX_INPUT);
    out
}

/// Changes bytes without knowing what they mean.
fn bytes(mut input: Vec<u8>, other: &[u8], chance: &Chance) -> Vec<u8> {
    if input.is_empty() {
        let count = 1 + chance.below(16);
        return (0..count).map(|_| chance.byte()).collect();
    }
    let at = chance.below(input.len());
    let length = 1 + chance.below((input.len() - at).min(1 << chance.below(8)));
    match chance.below(9) {
        0 => input[at] ^= 1 << chance.below(8),
        1 => input[at] = chance.byte(),
        2 => {
            input.drain(at..at + length);
        }
        3 => {
            let again = input[at..at + length].to_vec();
            input.splice(at..at, again);
        }
        4 => {
            let new: Vec<u8> = (0..length).map(|_| chance.byte()).collect();
            input.splice(at..at, new);
        }
        5 => input.truncate(at),
        6 => {
            // A number, as long as it fits, in either order of bytes.
            let width = [1, 2, 4, 8][chance.below(4)].min(input.len() - at);
            let number = chance.edge();
            let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
            if chance.one_in(2) {
                input[at..at + width].copy_from_slice(&big[8 - width..]);
            } else {
                input[at..at + width].copy_from_slice(&little[..width]);
            }
        }
        7 if !other.is_empty() => {
            let from = chance.below(other.len());
            let to = from + 1 + chance.below((other.len() - from).min(256));
            input.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            let second = chance.below(input.len());
            input.swap(at, second);
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_change_and_others_make_others() {
        let input = b"an input that is long enough".as_slice();
        assert_eq!(mutate(input, b"other", 7), mutate(input, b"other", 7));
        let kinds: std::collections::BTreeSet<_> =
            (0..100).map(|seed| mutate(input, b"other", seed)).collect();
        assert!(kinds.len() > 80, "{} different changes", kinds.len());
    }

    #[test]
    fn inputs_stay_short() {
        let long = vec![1; crate::MAX_INPUT];
        for seed in 0..50 {
            assert!(mutate(&long, &long, seed).len() <= crate::MAX_INPUT);
        }
    }
}
