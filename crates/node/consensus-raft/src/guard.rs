//! What has to hold of a message before Raft sees it.
//!
//! The `raft` crate trusts its peers and stops the process where their messages cannot be true.
//! Here such a message is ignored, or, where it shows that this node has lost what it once had,
//! ends the channel with a sentence that says so.

use bytes::Bytes;
use prost::Message as _;
use raft::RawNode;
use raft::eraftpb::{self, MessageType};
use selvage_ordering::Refused;
use selvage_proto::common::Block;

use crate::log::Log;
use crate::wire;

/// What to do with a message that Raft must not see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ignore(Refused, String),
    Halt(String),
}

/// The message cannot be true.
fn ignore<T>(reason: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Ignore(Refused::Impossible, reason.into()))
}

/// Decodes and checks a message that came from consenter `from`.
pub(crate) fn check(
    node: &RawNode<Log>,
    me: u64,
    from: u64,
    message: Bytes,
) -> Result<eraftpb::Message, Verdict> {
    let message = wire::Message::decode(message)
        .map_err(|error| Verdict::Ignore(Refused::Malformed, error.to_string()))?;
    if message.from != from {
        let reason = format!("it claims to come from {}", message.from);
        return Err(Verdict::Ignore(Refused::Forged, reason));
    }
    if message.to != me {
        let reason = format!("it is meant for {}", message.to);
        return Err(Verdict::Ignore(Refused::Misdirected, reason));
    }
    let message = message
        .into_raft()
        .map_err(|error| Verdict::Ignore(Refused::Malformed, error.to_string()))?;
    if message.term == 0 {
        // To Raft that is a message of this node to itself; it would answer one without a term.
        return ignore("it has no term");
    }
    let log = &node.raft.raft_log;
    match message.get_msg_type() {
        MessageType::MsgAppend => check_append(node, &message)?,
        MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
            if message.index > log.last_index() =>
        {
            return ignore("it acknowledges more than there is");
        }
        MessageType::MsgHeartbeat
            if message.term >= node.raft.term && message.commit > log.last_index() =>
        {
            return Err(Verdict::Halt(format!(
                "the leader knows that this orderer had {} entries in its log, but it has {}: the \
                 log was lost or is an older copy. Remove this orderer from the channel's \
                 consenters, remove the channel here, and add it again with a new certificate",
                message.commit,
                log.last_index()
            )));
        }
        MessageType::MsgSnapshot => check_snapshot(&message)?,
        _ => {}
    }
    Ok(message)
}

/// Entries follow each other, are no newer than their leader's term, and agree with what is
/// committed here. Only the place before the first entry has term 0; the `raft` crate takes that
/// for the term of every place it does not have, and would find entries there.
fn check_append(node: &RawNode<Log>, message: &eraftpb::Message) -> Result<(), Verdict> {
    let log = &node.raft.raft_log;
    let (mut index, mut term) = (message.index, message.log_term);
    let has_end = index.checked_add(message.entries.len() as u64).is_some();
    if term > message.term || (term == 0) != (index == 0) || !has_end {
        return ignore("its entries cannot be");
    }
    for entry in message.entries.iter() {
        index += 1;
        if entry.index != index || entry.term < term.max(1) || entry.term > message.term {
            return ignore("its entries do not follow each other");
        }
        term = entry.term;
        let conflict = entry.index <= log.committed
            && entry.index > node.store().snapshot_index()
            && log.term(entry.index).is_ok_and(|have| have != entry.term);
        if conflict && message.term >= node.raft.term {
            return Err(Verdict::Halt(format!(
                "entry {} is committed here in another form than the leader has: this orderer's \
                 log does not belong to this channel's history. Remove the channel here and \
                 join it again",
                entry.index
            )));
        }
    }
    Ok(())
}

fn check_snapshot(message: &eraftpb::Message) -> Result<(), Verdict> {
    let snapshot = message.get_snapshot();
    let metadata = snapshot.get_metadata();
    if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
        return ignore("its snapshot has no place in the log");
    }
    let voters = wire::ConfState::from_raft(metadata.get_conf_state());
    if voters.voters.is_empty() || !voters.names_each_once() {
        return ignore("its snapshot names no voters, or one twice");
    }
    match Block::decode(snapshot.data.clone()) {
        Ok(block) if block.header.is_some() => Ok(()),
        _ => ignore("its snapshot holds no block"),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
