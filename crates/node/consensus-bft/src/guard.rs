//! No node says two things.
//!
//! Everything this node signs at a height is remembered here, by round and kind; what the journal
//! holds is remembered from the start. A second, different thing is not signed, whatever the state
//! machine asks for.

use std::collections::BTreeMap;

use malachite_types::{Round, VoteType};
use selvage_crypto::sha256;

/// What is signed once a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Proposal,
    Prevote,
    Precommit,
}

impl From<VoteType> for Kind {
    fn from(kind: VoteType) -> Self {
        match kind {
            VoteType::Prevote => Self::Prevote,
            VoteType::Precommit => Self::Precommit,
        }
    }
}

#[derive(Debug)]
struct Said {
    digest: [u8; 32],
    kept: bool,
}

/// What this node has signed at one height.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    said: BTreeMap<(Round, Kind), Said>,
}

/// Something else was signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction;

impl Guard {
    /// Asks to sign these bytes.
    pub(crate) fn sign(
        &mut self,
        round: Round,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<(), Contradiction> {
        let digest = sha256(bytes);
        let new = Said {
            digest,
            kept: false,
        };
        match self.said.entry((round, kind)).or_insert(new).digest == digest {
            true => Ok(()),
            false => Err(Contradiction),
        }
    }

    /// A record of something signed goes to the journal, or is there already.
    pub(crate) fn keep(
        &mut self,
        round: Round,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<(), Contradiction> {
        self.sign(round, kind, bytes)?;
        if let Some(said) = self.said.get_mut(&(round, kind)) {
            said.kept = true;
        }
        Ok(())
    }

    /// Whether the journal has what was signed.
    pub(crate) fn is_kept(&self, round: Round, kind: Kind) -> bool {
        self.said.get(&(round, kind)).is_some_and(|said| said.kept)
    }

    /// Whether anything of this kind was signed.
    pub(crate) fn has(&self, round: Round, kind: Kind) -> bool {
        self.said.contains_key(&(round, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice_in_different_words() {
        let mut guard = Guard::default();
        let round = Round::new(2);
        guard.sign(round, Kind::Prevote, b"a").unwrap();
        guard.sign(round, Kind::Prevote, b"a").unwrap();
        assert!(!guard.is_kept(round, Kind::Prevote));
        guard.keep(round, Kind::Prevote, b"a").unwrap();
        assert!(guard.is_kept(round, Kind::Prevote));
        assert_eq!(guard.sign(round, Kind::Prevote, b"b"), Err(Contradiction));
        assert_eq!(guard.keep(round, Kind::Prevote, b"b"), Err(Contradiction));
        guard.sign(round, Kind::Precommit, b"b").unwrap();
        guard.sign(Round::new(3), Kind::Prevote, b"b").unwrap();
        assert!(guard.has(round, Kind::Precommit));
        assert!(!guard.has(round, Kind::Proposal));
    }
}
