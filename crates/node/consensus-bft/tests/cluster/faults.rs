//! Clusters under faults: what is agreed stays agreed, what was accepted is in the chain, and once
//! the faults end, everything goes on.

use crate::harness::{CALM, Cluster, MS, Manner, SECOND, Weather};
use crate::world::Plain;
use crate::{run_seed, seeds};
use bytes::Bytes;
use selvage_consensus_bft::wire::{Body, Decided, Message, VERSION, Vote};
use selvage_env::Crash;
use selvage_ordering::{Input, Refused};
use selvage_proto::Message as _;
use selvage_proto::common::{Block, BlockMetadataIndex, Metadata, MetadataSignature};

fn cluster(nodes: u32, seed: u64) -> Cluster {
    Cluster::new(Plain::new(1..=nodes), seed)
}

#[test]
fn messages_become_blocks_on_every_node() {
    let mut cluster = cluster(4, 1);
    for n in 0..20 {
        cluster.submit(n % 4, &format!("message {n}"));
        cluster.run_for(7 * MS);
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_settled);
    cluster.check_once();
    // A stable leader: nobody was passed over.
    assert!(cluster.leaders.values().all(|leader| *leader == 1));
}

#[test]
fn an_idle_channel_makes_no_blocks_and_keeps_its_leader() {
    let mut cluster = cluster(4, 2);
    cluster.run_for(120 * SECOND);
    assert!(cluster.chain.is_empty());
    cluster.submit(2, "one");
    cluster.run_until("one is ordered", SECOND / 4, Cluster::is_settled);
    cluster.run_for(120 * SECOND);
    assert_eq!(cluster.chain.len(), 1);
    assert!(cluster.leaders.values().all(|leader| *leader == 1));
}

#[test]
fn a_node_decides_alone() {
    let mut cluster = cluster(1, 3);
    for n in 0..5 {
        cluster.submit(0, &format!("message {n}"));
    }
    cluster.run_until("all is ordered", SECOND, Cluster::is_settled);
    cluster.check_once();
}

#[test]
fn clients_that_tell_every_node_are_ordered_once() {
    let mut cluster = cluster(4, 4);
    cluster.weather.max_delay = 30 * MS;
    for n in 0..50 {
        cluster.submit_to_all(&format!("message {n}"));
        cluster.run_for(3 * MS);
        // A node that hears of it late.
        cluster.submit(3, &format!("message {}", n / 2));
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_settled);
    cluster.check_once();
}

/// Stops the leader and says how long nothing was accepted.
fn time_without(cluster: &mut Cluster, index: usize) -> u64 {
    let stopped = cluster.now;
    cluster.crash(index, Crash::LoseUnsynced);
    let survivor = (0..cluster.nodes.len())
        .find(|i| cluster.is_up(*i))
        .unwrap();
    for n in 0.. {
        cluster.submit(survivor, &format!("after the death of {index}: {n}"));
        cluster.run_for(20 * MS);
        if let Some(first) = cluster
            .accepted
            .values()
            .find(|at| **at > stopped + 10 * MS)
        {
            return first - stopped;
        }
        assert!(n < 1000, "nothing is accepted: {}", cluster.summary());
    }
    unreachable!()
}

#[test]
fn another_leader_takes_over_within_seconds() {
    for (nodes, deaths, limit) in [(4, 1, 3), (7, 2, 6)] {
        for seed in 0..20 {
            let mut cluster = cluster(nodes, seed);
            cluster.submit(1, "before");
            cluster.run_until("it starts", SECOND, Cluster::is_settled);
            // All leaders in line at once: the worst that can be survived.
            for index in 1..deaths {
                cluster.crash(index, Crash::LoseUnsynced);
            }
            let gap = time_without(&mut cluster, 0);
            assert!(
                gap <= limit * SECOND,
                "{nodes} nodes, seed {seed}: {gap} µs"
            );
            for index in 0..deaths {
                cluster.start(index);
            }
            cluster.run_until("all are back", 20 * SECOND, Cluster::is_settled);
            cluster.check_once();
        }
    }
}

#[test]
fn a_leader_that_says_nothing_is_passed_over() {
    let mut cluster = cluster(4, 5);
    cluster.nodes[0].manner = Manner::Silent;
    for n in 0..10 {
        cluster.submit(1 + n % 3, &format!("message {n}"));
    }
    cluster.run_until("all is ordered", 5 * SECOND, Cluster::is_settled);
    cluster.check_once();
    assert_eq!(cluster.leaders[&1], 2);
}

#[test]
fn a_leader_that_leaves_a_message_out_is_passed_over() {
    let mut cluster = cluster(4, 6);
    cluster.nodes[0].deaf_to = Some("unwanted".to_owned());
    cluster.submit(2, "unwanted");
    // It goes on ordering everything else.
    for n in 0..260 {
        cluster.submit(n % 4, &format!("message {n}"));
        cluster.run_for(100 * MS);
    }
    let unwanted = cluster.world.message("unwanted");
    let at = cluster.accepted.get(&unwanted).copied();
    assert!(at.is_some_and(|at| at > 20 * SECOND), "{at:?}");
    cluster.run_until("all is ordered", 10 * SECOND, Cluster::is_settled);
    assert!(cluster.leaders[&2] != 1);
    cluster.check_once();
}

#[test]
fn a_block_with_a_forbidden_message_gets_no_vote() {
    let mut cluster = cluster(4, 7);
    // The leader's own filters let it through: it proposes what the others refuse.
    cluster.submit(0, "forbidden");
    cluster.submitted.clear();
    cluster.run_for(100 * MS);
    cluster.submit(1, "wanted");
    cluster.run_until("the rest is ordered", 6 * SECOND, |cluster| {
        cluster.accepted.len() == 1
    });
    let refused = &cluster.nodes[1].refused;
    let blocks = refused.get(&Refused::Block);
    assert!(blocks.is_some_and(|count| *count > 0), "{refused:?}");
    assert_eq!(cluster.ordered().len(), 1);
}

#[test]
fn an_equivocating_leader_changes_nothing() {
    for seed in seeds(30) {
        let mut cluster = cluster(4, seed);
        // Two nodes with one identity: one speaks with the second node, the other with the third
        // and fourth. Each believes itself to be honest.
        cluster.nodes[0].trusted = false;
        let twin = cluster.add_node(1, false);
        cluster.nodes[twin].trusted = false;
        cluster.cut.extend([(0, 2), (0, 3), (0, twin), (1, twin)]);
        for n in 0..40 {
            cluster.submit(0, &format!("to one twin {n}"));
            cluster.submit(twin, &format!("to the other {n}"));
            cluster.submit(1 + n % 3, &format!("message {n}"));
            let pause = cluster.dice(40 * MS);
            cluster.run_for(pause);
        }
        cluster.run_until("honest messages are ordered", 40 * SECOND, |cluster| {
            let honest = |e: &bytes::Bytes| e.windows(8).any(|w| w == b"message ");
            let mut wanted = cluster.submitted.iter().filter(|e| honest(e));
            wanted.all(|envelope| cluster.accepted.contains_key(envelope))
        });
        cluster.check_accepted();
    }
}

#[test]
fn whoever_signs_two_things_is_counted() {
    let mut cluster = cluster(4, 3);
    // Two nodes with one identity, which everybody else hears, and which do not hear each other.
    cluster.nodes[0].trusted = false;
    let twin = cluster.add_node(1, false);
    cluster.nodes[twin].trusted = false;
    cluster.cut.insert((0, twin));
    for n in 0..20 {
        cluster.submit(0, &format!("to one twin {n}"));
        cluster.submit(twin, &format!("to the other {n}"));
        cluster.run_for(20 * MS);
    }
    for honest in 1..4 {
        let refused = &cluster.nodes[honest].refused;
        assert!(refused.contains_key(&Refused::Equivocation), "{refused:?}");
    }
    cluster.check_accepted();
}

#[test]
fn babble_is_refused_and_counted() {
    for seed in 0..10 {
        let mut cluster = cluster(4, seed);
        cluster.nodes[2].manner = Manner::Babbling;
        for n in 0..60 {
            cluster.submit(n % 4, &format!("message {n}"));
            let pause = cluster.dice(30 * MS);
            cluster.run_for(pause);
        }
        cluster.run_until("all is ordered", 20 * SECOND, Cluster::is_settled);
        cluster.check_once();
        let refused = &cluster.nodes[0].refused;
        assert!(refused.values().sum::<u64>() > 20, "{refused:?}");
        assert!(refused.len() >= 2, "{refused:?}");
    }
}

#[test]
fn a_minority_cut_off_catches_up() {
    for seed in 0..10 {
        let mut cluster = cluster(7, seed);
        cluster.submit(0, "before");
        cluster.run_until("it starts", SECOND, Cluster::is_settled);
        for outside in [5, 6] {
            cluster.cut.extend((0..5).map(|inside| (inside, outside)));
        }
        for n in 0..30 {
            cluster.submit(n % 7, &format!("message {n}"));
            cluster.run_for(20 * MS);
        }
        assert!(cluster.nodes[6].blocks.len() < cluster.nodes[0].blocks.len());
        cluster.cut.clear();
        cluster.run_until("all agree again", 10 * SECOND, Cluster::is_settled);
        cluster.check_once();
    }
}

/// The worst place for a decision to be known: at one node, which stopped since and has nothing
/// but its blocks, while the others wait for its vote and one of them says nothing.
#[test]
fn a_block_that_one_node_has_reaches_the_others() {
    let newest = |cluster: &Cluster| -> Vec<u64> {
        let engines = cluster.nodes.iter().map(|node| node.engine.as_ref());
        engines
            .map(|engine| engine.map_or(0, |e| e.newest()))
            .collect()
    };
    let mut alone = 0;
    for seed in 0..40 {
        let mut cluster = cluster(4, seed);
        cluster.submit(0, "before");
        cluster.run_until("it starts", SECOND, Cluster::is_settled);
        cluster.submit(0, "known to one");
        while newest(&cluster).iter().all(|newest| *newest == 1) {
            cluster.run_for(MS / 50);
        }
        let first = newest(&cluster)
            .iter()
            .position(|newest| *newest == 2)
            .unwrap();
        if newest(&cluster).iter().sum::<u64>() != 5 {
            continue;
        }
        alone += 1;
        // What is on its way is lost.
        let all = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b)));
        cluster.cut.extend(all);
        cluster.drop_messages();
        cluster.run_for(20 * MS);
        cluster.crash(first, Crash::LoseUnsynced);
        cluster.start(first);
        cluster.nodes[(first + 1) % 4].manner = Manner::Silent;
        cluster.cut.clear();
        cluster.run_until("all have it", 10 * SECOND, |cluster| {
            cluster.heights().iter().all(|height| *height == 3)
        });
        cluster.check_accepted();
    }
    assert!(alone > 5, "{alone}");
}

/// One node knows a quorum of precommits and has gone on to the next round. The others lack its
/// own, which is for a block, while theirs are for none; a certificate does not carry it as they
/// need it.
#[test]
fn a_node_that_went_on_takes_the_others_with_it() {
    let mut cluster = cluster(4, 11);
    cluster.submit(0, "before");
    cluster.run_until("it starts", SECOND, Cluster::is_settled);
    cluster.lost = |from, to, message| {
        let message = Message::decode(message.clone()).expect("a message");
        let kind = match message.body {
            Some(Body::Vote(vote)) if vote.round == 0 => vote.kind,
            Some(Body::Status(_)) => return false,
            Some(Body::Proposal(_)) => 0,
            _ => 3,
        };
        match (from, to) {
            // The last node hears of no block, and only the two in the middle hear its prevote.
            (0, 3) | (3, 0) => true,
            (3, _) => kind != 1,
            // The leader is heard with its block only.
            (0, _) => kind != 0,
            _ => false,
        }
    };
    cluster.submit(0, "message");
    cluster.run_for(4 * SECOND);
    let round = |cluster: &Cluster, index: usize| {
        let engine = cluster.nodes[index].engine.as_ref();
        engine.map(selvage_consensus_bft::Bft::round)
    };
    let rounds = [0, 1, 2].map(|index| round(&cluster, index));
    assert_eq!(rounds, [Some(1), Some(0), Some(0)]);
    cluster.crash(3, Crash::LoseUnsynced);
    cluster.lost = |_, _, _| false;
    cluster.run_until("it goes on", 10 * SECOND, Cluster::is_accepted);
    cluster.start(3);
    cluster.run_until("all are level", 10 * SECOND, Cluster::is_settled);
    cluster.check_once();
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let mut cluster = cluster(4, 10);
    cluster.submit(0, "before");
    cluster.run_until("it starts", SECOND, Cluster::is_settled);
    let vote = |height, round| Vote {
        kind: 1,
        height,
        round,
        voter: 2,
        signature: vec![1; 70].into(),
        ..Vote::default()
    };
    let message = |vote| Message {
        version: VERSION,
        body: Some(Body::Vote(vote)),
    };
    let other = Message {
        version: VERSION + 1,
        ..message(vote(2, 0))
    };
    let empty = Message {
        version: VERSION,
        body: None,
    };
    let bytes = |message: Message| Bytes::from(message.encode_to_vec());
    let mut check = |from: u64, message: Bytes, why: Refused| {
        let refused = |cluster: &Cluster| cluster.nodes[2].refused.get(&why).copied().unwrap_or(0);
        let before = refused(&cluster);
        cluster.step(2, Input::Receive { from, message });
        assert_eq!(refused(&cluster), before + 1, "{why}");
    };
    check(9, bytes(message(vote(2, 0))), Refused::Stranger);
    check(u64::MAX, bytes(message(vote(2, 0))), Refused::Stranger);
    // Nobody speaks to this node in its own name.
    check(3, bytes(message(vote(2, 0))), Refused::Stranger);
    check(2, vec![0; (110 << 20) + 1].into(), Refused::TooLarge);
    check(2, Bytes::from_static(&[0xff; 9]), Refused::Malformed);
    check(2, bytes(empty), Refused::Malformed);
    check(2, bytes(other), Refused::Version);
    check(2, bytes(message(vote(2, 0))), Refused::Signature);
    check(2, bytes(message(vote(2, 11))), Refused::TooFar);
    // For the block after the next one only so much is kept of each.
    for n in 0..64 {
        let early = message(vote(3, n));
        let message = bytes(early);
        cluster.step(2, Input::Receive { from: 2, message });
    }
    let last = bytes(message(vote(3, 0)));
    let input = Input::Receive {
        from: 2,
        message: last,
    };
    cluster.step(2, input);
    assert_eq!(cluster.nodes[2].refused.get(&Refused::TooMany), Some(&1));
    cluster.submit(1, "after");
    cluster.run_until("it goes on", SECOND, Cluster::is_settled);
    // Of the newest block votes still come in; those of older ones somebody replays.
    let stale = |cluster: &Cluster| cluster.nodes[2].refused.get(&Refused::Stale).copied();
    assert_eq!(stale(&cluster), None);
    for (height, count) in [(2, None), (1, Some(1)), (1, Some(2))] {
        let message = bytes(message(vote(height, 0)));
        cluster.step(2, Input::Receive { from: 2, message });
        assert_eq!(stale(&cluster), count);
    }
}

#[test]
fn a_block_without_a_quorum_is_no_proof() {
    let mut cluster = cluster(4, 9);
    cluster.submit(0, "before");
    cluster.run_until("it starts", SECOND, Cluster::is_settled);
    cluster.cut.extend([(0, 3), (1, 3), (2, 3)]);
    cluster.submit(0, "decided");
    cluster.run_for(SECOND);
    let block = cluster.chain[&2].clone();
    let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
    let signatures = Metadata::decode(slot).unwrap().signatures;
    let bare = Block {
        metadata: None,
        ..block
    };
    let decided = |signatures: &[MetadataSignature], round| Message {
        version: VERSION,
        body: Some(Body::Decided(Decided {
            height: 2,
            round,
            view: 0,
            block: bare.encode_to_vec().into(),
            signatures: signatures.to_vec(),
        })),
    };
    let same = vec![signatures[0].clone(); 4];
    for spoilt in [
        decided(&signatures[..2], 0),
        decided(&same, 0),
        decided(&signatures, 1),
    ] {
        let message = spoilt.encode_to_vec().into();
        cluster.step(3, Input::Receive { from: 1, message });
        assert_eq!(cluster.nodes[3].engine.as_ref().unwrap().newest(), 1);
    }
    assert_eq!(cluster.nodes[3].refused[&Refused::Signature], 3);
    let message = decided(&signatures, 0).encode_to_vec().into();
    cluster.step(3, Input::Receive { from: 1, message });
    assert_eq!(cluster.nodes[3].engine.as_ref().unwrap().newest(), 2);
}

#[test]
fn nothing_is_decided_without_a_quorum() {
    let mut cluster = cluster(4, 8);
    cluster.submit(0, "before");
    cluster.run_until("it starts", SECOND, Cluster::is_settled);
    cluster.cut.extend([(0, 2), (0, 3), (1, 2), (1, 3)]);
    cluster.submit(0, "on one side");
    cluster.submit(3, "on the other");
    cluster.run_for(10 * SECOND);
    assert_eq!(cluster.chain.len(), 1);
    cluster.cut.clear();
    cluster.run_until("it goes on", 20 * SECOND, Cluster::is_settled);
    cluster.check_once();
}

/// Everything at once, for a while; then it ends.
fn storm(nodes: u32, seed: u64) {
    let mut cluster = cluster(nodes, seed);
    let faulty = (nodes as usize - 1) / 3;
    cluster.weather = Weather {
        loss: cluster.dice(150),
        doubled: cluster.dice(100),
        max_delay: MS + cluster.dice(120 * MS),
    };
    for n in 0..150 {
        let to = cluster.dice(nodes.into()) as usize;
        if cluster.is_up(to) {
            cluster.submit(to, &format!("message {n}"));
        }
        let pause = cluster.dice(120 * MS);
        cluster.run_for(pause);
        let one = cluster.dice(nodes.into()) as usize;
        let two = cluster.dice(nodes.into()) as usize;
        match cluster.dice(14) {
            0 | 1 if cluster.is_up(one) => {
                let seed = cluster.dice(u64::MAX);
                let how = [Crash::LoseUnsynced, Crash::Process, Crash::Torn(seed)];
                let how = how[cluster.dice(3) as usize];
                cluster.crash(one, how);
            }
            0..=3 if !cluster.is_up(one) => cluster.start(one),
            4 => {
                cluster.cut.insert((one.min(two), one.max(two)));
            }
            5 => cluster.cut.clear(),
            // The power goes out everywhere.
            6 if n % 7 == 0 => {
                for index in 0..nodes as usize {
                    if cluster.is_up(index) {
                        let seed = cluster.dice(u64::MAX);
                        cluster.crash(index, Crash::Torn(seed));
                    }
                }
            }
            7 if n % 3 == 0 => {
                // Nobody is faulty for longer than it takes to be counted as such.
                let silent = cluster.nodes.iter().filter(|n| n.manner != Manner::Honest);
                let manner = match silent.count() < faulty {
                    true => Manner::Silent,
                    false => Manner::Honest,
                };
                cluster.nodes[one].manner = manner;
            }
            _ => {}
        }
    }
    cluster.weather = CALM;
    cluster.cut.clear();
    for index in 0..nodes as usize {
        cluster.nodes[index].manner = Manner::Honest;
        if !cluster.is_up(index) {
            cluster.start(index);
        }
    }
    cluster.submit(0, "after the storm");
    let last = cluster.world.message("after the storm");
    cluster.run_until("it goes on", 60 * SECOND, |cluster| {
        let heights = cluster.heights();
        cluster.accepted.contains_key(&last) && heights.iter().all(|h| *h == heights[0])
    });
    cluster.check_accepted();
}

#[test]
fn storms_of_four() {
    // The last two found something once.
    for seed in seeds(150).chain([1051, 5595]) {
        run_seed("storm of four", seed, || storm(4, seed));
    }
}

#[test]
fn storms_of_seven() {
    for seed in seeds(60).chain([1218]) {
        run_seed("storm of seven", seed, || storm(7, seed));
    }
}
