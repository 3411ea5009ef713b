//! An honest node never signs two different things for one block number, round and kind, across
//! restarts. It reads what nodes send, not what they say of themselves.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use prost::Message as _;
use selvage_consensus_bft::wire::{self, Body, Certificate, Message, Vote};

use super::{Invariant, Seen};

/// Like the kinds of votes, which are 1 and 2.
const PROPOSAL: u32 = 3;
const PREVOTE: u32 = 1;
const PRECOMMIT: u32 = 2;

/// Something of which a node says one thing: who, block number, round, kind.
type Place = (u32, u64, u32, u32);

/// What each node said, as a hash.
#[derive(Debug, Default)]
pub struct Votes {
    said: BTreeMap<Place, u64>,
    /// One message goes to many.
    last: Bytes,
}

fn hash(bytes: &[u8]) -> u64 {
    // With the same keys in every process.
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Votes {
    fn said(&mut self, place: Place, what: &[u8]) -> Result<(), String> {
        let what = hash(what);
        if *self.said.entry(place).or_insert(what) == what {
            return Ok(());
        }
        let (who, number, round, kind) = place;
        let kind = ["", "prevotes", "precommits", "proposals"][kind.min(PROPOSAL) as usize];
        Err(format!(
            "consenter {who} signed two {kind} for block {number}, round {round}"
        ))
    }

    fn vote(&mut self, vote: &Vote, sender: u32, at: (u64, u32, u32)) -> Result<(), String> {
        let (number, round, kind) = at;
        if vote.voter != sender {
            return Ok(());
        }
        let value = vote.value.as_ref().map(|value| value.encode_to_vec());
        self.said((sender, number, round, kind), &value.unwrap_or_default())
    }

    fn certificate(&mut self, votes: &Certificate, sender: u32, kind: u32) -> Result<(), String> {
        let kind_of = |vote: &Vote| match vote.kind {
            0 => kind,
            kind => kind,
        };
        let (number, round) = (votes.height, votes.round);
        votes
            .votes
            .iter()
            .try_for_each(|vote| self.vote(vote, sender, (number, round, kind_of(vote))))
    }
}

impl Invariant for Votes {
    fn name(&self) -> &'static str {
        "votes"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Sent { from, message } = seen else {
            return Ok(());
        };
        if message.as_ptr() == self.last.as_ptr() && message.len() == self.last.len() {
            return Ok(());
        }
        self.last = (*message).clone();
        let sender = *from as u32 + 1;
        let body = Message::decode((*message).clone())
            .ok()
            .and_then(|m| m.body);
        match body {
            Some(Body::Vote(vote)) => {
                self.vote(&vote, sender, (vote.height, vote.round, vote.kind))
            }
            Some(Body::Proposal(proposal)) if proposal.proposer == sender => {
                let place = (sender, proposal.height, proposal.round, PROPOSAL);
                let what = wire::Proposal {
                    signature: Bytes::new(),
                    ..proposal
                };
                self.said(place, &what.encode_to_vec())
            }
            Some(Body::Polka(votes)) => self.certificate(&votes, sender, PREVOTE),
            Some(Body::Precommits(votes)) => self.certificate(&votes, sender, PRECOMMIT),
            Some(Body::Skip(votes)) => self.certificate(&votes, sender, 0),
            _ => Ok(()),
        }
    }
}
