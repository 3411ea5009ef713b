use raft::{Config, RawNode};

use super::*;
use crate::logger;

/// Node 1 of three, with entries 1 to 5 of term 1, of which 1 to 3 are committed.
fn node() -> RawNode<Log> {
    let mut log = Log::default();
    for index in 1..=5 {
        let change = wire::ConfChange {
            kind: wire::ADD_NODE,
            node_id: index,
            ..Default::default()
        };
        let entry = wire::Entry {
            kind: u32::from(index <= 3),
            term: 1,
            index,
            data: change.encode_to_vec().into(),
        };
        log.append(&[entry.into_raft().unwrap()]);
    }
    let state = wire::HardState {
        term: 1,
        vote: 0,
        commit: 3,
    };
    log.set_hard_state(&state.to_raft());
    let config = Config {
        id: 1,
        election_tick: 10,
        heartbeat_tick: 1,
        ..Config::default()
    };
    RawNode::new(&config, log, &logger::to_tracing()).unwrap()
}

fn message(kind: MessageType) -> wire::Message {
    wire::Message {
        kind: kind as i32,
        to: 1,
        from: 2,
        term: 2,
        ..Default::default()
    }
}

fn entries(places: &[(u64, u64)]) -> Vec<wire::Entry> {
    let entry = |(index, term): &(u64, u64)| wire::Entry {
        kind: 0,
        term: *term,
        index: *index,
        data: Bytes::new(),
    };
    places.iter().map(entry).collect()
}

/// `ok`, or the beginning of what is said.
fn check_one(message: wire::Message, expected: &str) {
    let verdict = check(&node(), 1, 2, message.encode_to_vec().into());
    let text = match verdict {
        Ok(_) => "ok".to_owned(),
        Err(Verdict::Ignore(_, reason)) => format!("ignored: {reason}"),
        Err(Verdict::Halt(reason)) => format!("halt: {reason}"),
    };
    assert!(text.starts_with(expected), "{text:?}, not {expected:?}");
}

#[test]
fn senders_and_receivers_are_who_they_say() {
    let heartbeat = message(MessageType::MsgHeartbeat);
    check_one(heartbeat.clone(), "ok");
    let forged = wire::Message {
        from: 3,
        ..heartbeat.clone()
    };
    check_one(forged, "ignored: it claims to come from 3");
    let astray = wire::Message { to: 3, ..heartbeat };
    check_one(astray, "ignored: it is meant for 3");
    let inner = message(MessageType::MsgHup);
    check_one(inner, "ignored: unknown kind 0");
    // Raft would stop the process when it answers this one.
    let timeless = wire::Message {
        term: 0,
        ..message(MessageType::MsgRequestPreVote)
    };
    check_one(timeless, "ignored: it has no term");
    let verdict = check(&node(), 1, 2, Bytes::from_static(b"\xff\xff"));
    let malformed = matches!(verdict, Err(Verdict::Ignore(Refused::Malformed, _)));
    assert!(malformed, "{verdict:?}");
}

#[test]
fn entries_follow_each_other_and_agree_with_what_is_committed() {
    let append = |index, log_term, places: &[(u64, u64)]| wire::Message {
        index,
        log_term,
        entries: entries(places),
        ..message(MessageType::MsgAppend)
    };
    check_one(append(5, 1, &[(6, 2), (7, 2)]), "ok");
    check_one(append(4, 1, &[(5, 2)]), "ok");
    check_one(
        append(5, 1, &[(7, 2)]),
        "ignored: its entries do not follow",
    );
    check_one(
        append(5, 2, &[(6, 1)]),
        "ignored: its entries do not follow",
    );
    check_one(
        append(5, 1, &[(6, 3)]),
        "ignored: its entries do not follow",
    );
    check_one(append(5, 3, &[]), "ignored: its entries cannot be");
    // Places that are not there have term 0 for Raft: it would commit what it does not have.
    check_one(append(6, 0, &[]), "ignored: its entries cannot be");
    check_one(append(0, 1, &[]), "ignored: its entries cannot be");
    check_one(append(0, 0, &[]), "ok");
    check_one(
        append(0, 0, &[(1, 0)]),
        "ignored: its entries do not follow",
    );
    check_one(
        append(u64::MAX, 1, &[(0, 2)]),
        "ignored: its entries cannot be",
    );
    check_one(
        append(2, 1, &[(3, 2)]),
        "halt: entry 3 is committed here in another form",
    );
}

#[test]
fn nobody_acknowledges_or_commits_what_is_not_there() {
    let answer = wire::Message {
        index: 6,
        ..message(MessageType::MsgAppendResponse)
    };
    check_one(answer, "ignored: it acknowledges more");
    let beat = wire::Message {
        commit: 6,
        ..message(MessageType::MsgHeartbeat)
    };
    check_one(
        beat,
        "halt: the leader knows that this orderer had 6 entries",
    );
}

#[test]
fn snapshots_hold_a_block_and_name_voters() {
    let snapshot = |index, voters: &[u64], data: Vec<u8>| wire::Message {
        snapshot: Some(wire::Snapshot {
            data: data.into(),
            metadata: Some(wire::SnapshotMetadata {
                conf_state: Some(wire::ConfState {
                    voters: voters.to_vec(),
                    learners: Vec::new(),
                }),
                index,
                term: 1,
            }),
        }),
        ..message(MessageType::MsgSnapshot)
    };
    let block = Block {
        header: Some(Default::default()),
        ..Default::default()
    };
    let block = block.encode_to_vec();
    check_one(snapshot(9, &[1, 2, 3], block.clone()), "ok");
    check_one(
        snapshot(0, &[1], block.clone()),
        "ignored: its snapshot has no place",
    );
    let mut timeless = snapshot(9, &[1, 2, 3], block.clone());
    if let Some(snapshot) = &mut timeless.snapshot {
        snapshot.metadata = snapshot
            .metadata
            .take()
            .map(|m| wire::SnapshotMetadata { term: 0, ..m });
    }
    check_one(timeless, "ignored: its snapshot has no place");
    check_one(
        snapshot(9, &[], block.clone()),
        "ignored: its snapshot names no voters",
    );
    check_one(
        snapshot(9, &[1, 0], block.clone()),
        "ignored: its snapshot names no voters",
    );
    check_one(
        snapshot(9, &[1, 2, 2], block),
        "ignored: its snapshot names no voters, or one twice",
    );
    check_one(
        snapshot(9, &[1], Vec::new()),
        "ignored: its snapshot holds no block",
    );
}
