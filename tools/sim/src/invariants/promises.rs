//! A node votes for one candidate a term, and a term has one leader (Election Safety, Raft
//! figure 3), across restarts. It reads what nodes send, not what they say of themselves.

use std::collections::BTreeMap;

use prost::Message as _;
use selvage_consensus_raft::wire;

use super::{Invariant, Seen};

const APPEND: i32 = 3;
const VOTE: i32 = 6;

/// Who voted for whom and who led, by term.
#[derive(Debug, Default)]
pub struct Promises {
    votes: BTreeMap<(u64, u64), u64>,
    leaders: BTreeMap<u64, u64>,
}

impl Invariant for Promises {
    fn name(&self) -> &'static str {
        "promises"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Sent { message, .. } = seen else {
            return Ok(());
        };
        let Ok(message) = wire::Message::decode((*message).clone()) else {
            return Ok(());
        };
        let (term, from, to) = (message.term, message.from, message.to);
        match message.kind {
            VOTE if !message.reject => {
                let vote = *self.votes.entry((term, from)).or_insert(to);
                if vote != to {
                    return Err(format!(
                        "consenter {from} voted for {vote} and for {to} in term {term}"
                    ));
                }
            }
            APPEND => {
                let leader = *self.leaders.entry(term).or_insert(from);
                if leader != from {
                    return Err(format!("consenters {leader} and {from} lead term {term}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
